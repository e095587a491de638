"""The whole reproduction with real training, small; and its command line."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from helpers.command_runner import Command, run
from helpers.made_up_runs import contents, damage

from experiments.studies.paper.reproduction import reproduce
from experiments.studies.paper.scale import Scale
from haepo_jax.analysis.verdicts import VERDICTS

SMALLEST = Scale(
    quick=False,
    seeds=2,
    tuning_seeds=1,
    arms=(3,),
    bernoulli=False,
    instances=2,
    instance_seeds=2,
    tuning_instances=1,
    tuning_instance_seeds=1,
    deep_seas=(4,),
    batches=4,
    budget=0.025,
    runs=115,
)

BAD = {
    "no workdir": ([], "paper: --workdir is missing: give the run a folder"),
    "a stray argument": (["--workdir=W", "stray"], "paper: 'stray' is not a flag: flags begin with --"),
    "an unknown flag": (["--workdir=W", "--quikc"], "paper: --quikc is not a flag; did you mean quick?"),
    "a config": (["--workdir=W", "--config=configs/cartpole.py"], "paper: --config is not a flag"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case, tmp_path):
    arguments, sentence = BAD[case]
    finished = run("experiments.paper", *(argument.replace("=W", f"={tmp_path / 'w'}") for argument in arguments))
    assert finished.code == 2
    assert sentence in finished.err
    assert len(finished.err.strip().splitlines()) == 1
    assert not (tmp_path / "w").exists()


def test_a_folder_that_cannot_be_made_gets_one_sentence():
    refused = run("experiments.paper", "--workdir=/proc/nowhere")
    assert refused.code == 2
    assert refused.err == "paper: --workdir /proc/nowhere cannot be written: No such file or directory.\n"


def test_help_names_the_flags():
    finished = run("experiments.paper", "--help")
    assert finished.code == 0
    assert "--workdir: " in finished.out and "--quick: " in finished.out
    assert "python -m experiments.paper --workdir=" in finished.out


@pytest.fixture
def read_only(tmp_path):
    """A file system that nothing can be written to; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,ro"]
    mounted = subprocess.run(["mount", *options, "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_folder_that_is_read_only_gets_one_sentence(read_only):
    refused = run("experiments.paper", f"--workdir={read_only / 'w'}")
    assert refused.code == 2
    assert refused.err == f"paper: --workdir {read_only / 'w'} cannot be written: Read-only file system.\n"


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced")
    assert reproduce(folder, SMALLEST).page == folder / "report.html"
    return folder


def kept(folder):
    return {name: file for name, file in contents(folder).items() if name.startswith(("runs", "computed"))}


def written(folder):
    """The page and all that is quoted from it, but for the times at which runs were done."""
    files = {name: content for name, (content, _) in contents(folder).items() if not name.startswith("runs")}
    del files["report.json"]
    files["report.html"] = re.sub(
        rb'<section id="provenance">.*?</section>', b"", files["report.html"], flags=re.DOTALL
    )
    return files


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything_is_written(reproduced):
    verdicts = json.loads((reproduced / "verdicts.json").read_text())
    assert "HAEPO and its baselines on CartPole-v1" in verdicts["headline"]
    assert len(verdicts["claims"]) >= 9
    assert all(claim["verdict"] in VERDICTS and claim["evidence"] for claim in verdicts["claims"])
    tables = json.loads((reproduced / "tables.json").read_text())
    slugs = {"bandits", "random-walk", "cartpole", "deep-sea", "ablations", "references", "gradients"}
    assert set(tables) == slugs | {"sharpness"} and all(tables.values())
    figures = [path for path in (reproduced / "figures").glob("*.svg") if path.name != "claims.svg"]
    assert len(figures) == 16 and {path.name.rpartition("-")[0] for path in figures} == slugs
    page = (reproduced / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "<title>" in page
    runs = list((reproduced / "runs").rglob("seal.json"))
    assert len(runs) == len(list((reproduced / "runs").rglob("config.json"))) == SMALLEST.runs
    assert not list((reproduced / "runs").rglob("checkpoints"))
    assert all(f"<code>{path.parent.relative_to(reproduced / 'runs')}</code>" in page for path in runs)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_second_call_does_nothing(reproduced):
    before, pages = kept(reproduced), written(reproduced)
    reproduce(reproduced, SMALLEST)
    assert kept(reproduced) == before
    assert written(reproduced) == pages


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_damaged_run_is_done_again_alone(reproduced):
    before, pages = kept(reproduced), written(reproduced)
    damage(next((reproduced / "runs" / "cartpole" / "grpo" / "metrics").iterdir()))
    reproduce(reproduced, SMALLEST)
    after = kept(reproduced)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed and all(name.startswith("runs/cartpole/grpo/") for name in changed)
    now = written(reproduced)
    # What a run did is the same again; how long it took is not, and CartPole's table shows it.
    for name in ("verdicts.json", "computed/gradients.json", "figures/cartpole-1.svg"):
        assert now[name] == pages[name]


def sealed(folder):
    return sorted(path.parent for path in folder.rglob("seal.json"))


def wait_for(condition, command, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert command.running and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_an_interrupted_reproduction_resumes(tmp_path, number, code):
    arguments = ("experiments.paper", f"--workdir={tmp_path}", "--quick")
    command = Command(*arguments)
    wait_for(
        lambda: len(sealed(tmp_path)) >= 1 and list((tmp_path / "runs" / "cartpole").glob("*/.lock"))[1:], command
    )
    os.kill(command.pid, number)
    stopped = command.wait()
    assert stopped.code == code
    assert "Traceback" not in stopped.err
    done = sealed(tmp_path)
    before = {path: contents(path) for path in done}
    command = Command(*arguments)
    wait_for(lambda: len(sealed(tmp_path)) > len(done), command)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    assert {path: contents(path) for path in done} == before
