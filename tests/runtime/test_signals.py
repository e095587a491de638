"""What SIGINT and SIGTERM do at every stage of a command, and to a run within a program."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import held_stages
from helpers.command_runner import ROOT
from helpers.run_folders import checkpoints, wait_for

from haepo_jax.config import ExperimentConfig
from haepo_jax.runs import experiment
from haepo_jax.runs.files import is_complete
from haepo_jax.runtime import signals

LONG, SHORT = 60.0, 1.0  # seconds for which a stage is held: where its end is not waited for, and where it is
AT_ONCE = "train: Stopped at once; "
NO_CHECKPOINT = AT_ONCE + "there is no checkpoint yet, so the same command starts from the first update.\n"
FROM_CHECKPOINT = AT_ONCE + "the same command resumes from the last checkpoint.\n"
REST = AT_ONCE + "the same command does what is left.\n"
STOPPING = "train: Stopping after this chunk of updates, with a checkpoint; once more to stop at once.\n"
STOPPED = r"train: Stopped after update \d+ of 1000; the same command resumes from there.\n"

# Stage, how many signals come, how long it is held, and what is said, the last as a pattern.
TABLE = [
    ("tracing", 1, LONG, [NO_CHECKPOINT]),
    ("compiling", 1, LONG, [NO_CHECKPOINT]),
    ("first chunk", 1, SHORT, [STOPPING, STOPPED]),
    ("first chunk", 2, LONG, [STOPPING, NO_CHECKPOINT]),
    ("saving", 1, SHORT, [STOPPING, STOPPED]),
    ("saving", 2, LONG, [STOPPING, NO_CHECKPOINT]),
    ("summary", 1, LONG, [FROM_CHECKPOINT]),
    ("drawing", 1, LONG, [REST]),
]
QUICK = {("compiling", 1, "SIGTERM"), ("tracing", 1, "SIGINT")}


def row(stage, times, held, words, name):
    marks = [] if (stage, times, name) in QUICK else [pytest.mark.slow]
    return pytest.param(stage, times, held, words, name, marks=marks, id=f"{stage}, {times} {name}")


@pytest.mark.parametrize("stage", held_stages.STAGES)
def test_each_stage_has_its_function(stage):
    assert callable(getattr(*held_stages.find(held_stages.STAGES[stage])))


@pytest.mark.parametrize(
    ("stage", "times", "held", "words", "name"),
    [row(*cells, name) for name in ("SIGINT", "SIGTERM") for cells in TABLE],
)
def test_a_signal_ends_each_stage_with_its_code_and_true_words(tmp_path, stage, times, held, words, name):
    workdir, number = tmp_path / "run", signal.Signals[name]
    long = [] if stage in ("summary", "drawing") else ["--config.num_updates=1000"]
    arguments = (*held_stages.TINY, *long, f"--workdir={workdir}")
    command = held_stages.started(
        "experiments.train", *arguments, stage=stage, seconds=held, marker=tmp_path / "there"
    )
    for _ in range(times):
        clock = time.monotonic()
        os.kill(command.pid, number)
        time.sleep(0.3)  # two at once are one
    stopped = command.wait()
    seconds = time.monotonic() - clock
    assert stopped.code == 128 + number, stopped
    said = [line for line in stopped.err.splitlines(keepends=True) if line.startswith("train: ")]
    assert said[:-1] == words[:-1] and re.fullmatch(words[-1], said[-1]) and "Traceback" not in stopped.err
    if held == LONG:
        assert seconds < 2 + 0.3
    assert bool(checkpoints(workdir)) == (NO_CHECKPOINT not in words)


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_during_imports_ends_them_with_its_code_and_a_sentence(name):
    number = signal.Signals[name]
    command = [sys.executable, "-m", "experiments.train", *held_stages.TINY, "--workdir=/proc/nowhere"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: _catches(process.pid, signal.SIGTERM))
        process.send_signal(number)
        _, err = process.communicate()
    assert (process.returncode, err) == (128 + number, "train: Stopped while loading; nothing was changed.\n")


def _catches(pid, number):
    with open(f"/proc/{pid}/status") as status:
        (mask,) = [int(line.split()[1], 16) for line in status if line.startswith("SigCgt")]
    return mask >> (number - 1) & 1


class TestWithinAProgram:
    def test_a_signal_is_collected_wherever_it_comes(self):
        with signals.collected() as received:
            gc.callbacks.append(lambda *_: gc.callbacks.clear() or os.kill(os.getpid(), signal.SIGTERM))
            gc.collect()
            assert received == [signal.SIGTERM]

    def test_the_second_one_has_its_usual_effect(self):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with signals.collected() as received:
                signal.raise_signal(signal.SIGINT)
                assert received == [signal.SIGINT]
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_handlers_are_those_of_before_once_the_run_has_ended(self):
        before = signal.getsignal(signal.SIGTERM)
        with signals.collected():
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before

    def test_a_thread_other_than_the_main_one_has_none(self):
        before, seen = signal.getsignal(signal.SIGTERM), []

        def collect():
            with signals.collected() as received:
                seen.append((received, signal.getsignal(signal.SIGTERM)))

        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()
        assert seen == [([], before)]

    @pytest.mark.slow
    def test_a_run_works_in_any_thread(self, tmp_path):
        config = ExperimentConfig(num_seeds=1, num_updates=2, num_trajectories=2)
        thread = threading.Thread(target=experiment.run, args=(config, tmp_path / "run"))
        thread.start()
        thread.join()
        assert is_complete(tmp_path / "run")


def test_a_child_is_asked_to_stop_with_its_parent(tmp_path):
    pid_file = tmp_path / "pid"
    script = (
        "import sys\nfrom haepo_jax.runtime import signals\n"
        "signals.watch(lambda sentence: print(sentence, file=sys.stderr))\n"
        f"signals.run_child('echo $$ >{pid_file}; exec sleep 60', shell=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True) as parent:
        wait_for(lambda: pid_file.exists() and pid_file.read_text())
        parent.send_signal(signal.SIGTERM)
        _, err = parent.communicate()
    assert (parent.returncode, err) == (143, "Stopped at once; the same command does what is left.\n")
    wait_for(lambda: not os.path.exists(f"/proc/{pid_file.read_text().strip()}"), seconds=10)
