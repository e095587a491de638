"""Every sentence that bad input gets, with exit code 2; a traceback is a failure."""

import os
import subprocess
import sys

import pytest
from helpers.command_runner import ROOT, run

from experiments.cli import flag_help
from haepo_jax.config import ExperimentConfig, OptimizerConfig, setting_names
from haepo_jax.config.meanings import settings_of
from haepo_jax.config.sweep import sweep_setting_names
from haepo_jax.language.config import setting_names as language_setting_names

CARTPOLE = "--config=configs/cartpole.py"

BAD = {
    "no config": (["--workdir=W"], "--config is missing: give a shipped config or a config file"),
    "no workdir": ([CARTPOLE], "--workdir is missing: give the run a folder"),
    "a config that does not exist": (["--config=configs/cartpol.py", "--workdir=W"], "did you mean cartpole?"),
    "an unknown flag": ([CARTPOLE, "--wrkdir=W"], "--wrkdir is not a flag; did you mean workdir?"),
    "an unknown setting": (
        [CARTPOLE, "--workdir=W", "--config.num_sedes=3"],
        "--config.num_sedes is not a setting; did you mean num_seeds",
    ),
    "an unknown nested setting": (
        [CARTPOLE, "--workdir=W", "--config.haepo.scoer=sum"],
        "--config.haepo.scoer is not a setting; did you mean haepo.score?",
    ),
    "a setting unlike any": ([CARTPOLE, "--workdir=W", "--config.qqqqqq=1"], "is not a setting; there are ['env',"),
    "a group in place of a setting": (
        [CARTPOLE, "--workdir=W", "--config.haepo=3"],
        "--config.haepo is not a setting",
    ),
    "overrides without a config": (["--workdir=W", "--config.seed=1"], "--config.seed needs --config=FILE"),
    "a stray argument": ([CARTPOLE, "--workdir=W", "stray"], "'stray' is not a flag: flags begin with --"),
    "text for a whole number": (
        [CARTPOLE, "--workdir=W", "--config.num_seeds=many"],
        "--config.num_seeds=many cannot be used: it must be a whole number.",
    ),
    "a fraction for a whole number": (
        [CARTPOLE, "--workdir=W", "--config.num_seeds=1.5"],
        "--config.num_seeds=1.5 cannot be used: it must be a whole number.",
    ),
    "text for a number": (
        [CARTPOLE, "--workdir=W", "--config.discount=high"],
        "--config.discount=high cannot be used: it must be a number.",
    ),
    "a flag without its value": ([CARTPOLE, "--workdir=W", "--config.seed"], "Missing value for flag --config.seed"),
    "a wrong choice": (
        [CARTPOLE, "--workdir=W", "--config.haepo.score=max"],
        "config.haepo.score 'max' is not known; allowed: sum, mean, log_ratio, or one of your own as "
        "package.module:attribute.",
    ),
    "an unknown environment": (
        [CARTPOLE, "--workdir=W", "--config.env=CartPol-v1"],
        "env 'CartPol-v1' is not known; did you mean CartPole-v1",
    ),
    "one trajectory": (
        [CARTPOLE, "--workdir=W", "--config.num_trajectories=1"],
        "config.num_trajectories must be at least 2, got 1.",
    ),
    "a horizon of 0": ([CARTPOLE, "--workdir=W", "--config.horizon=0"], "config.horizon must be at least 1, got 0."),
    "a negative horizon": (
        [CARTPOLE, "--workdir=W", "--config.horizon=-5"],
        "config.horizon must be at least 1, got -5.",
    ),
    "a learning rate of 0": (
        [CARTPOLE, "--workdir=W", "--config.optimizer.learning_rate=0"],
        "config.optimizer.learning_rate must be above 0.0, got 0.0.",
    ),
    "a reference that is needed and not there": (
        [CARTPOLE, "--workdir=W", "--config.haepo.reference=none"],
        "needs a reference policy, but config.haepo.reference is none",
    ),
    "a folder that cannot be made": (
        [CARTPOLE, "--workdir=/proc/nowhere"],
        "--workdir /proc/nowhere cannot be written",
    ),
    "no environment steps": (
        [CARTPOLE, "--workdir=W", "--config.max_env_steps=0"],
        "config.max_env_steps must be at least 1, got 0.",
    ),
    "a parameter that the environment has not": (
        [CARTPOLE, "--workdir=W", "--config.env_params.force_mg=0.1"],
        "config.env_params.force_mg is not a parameter of CartPole-v1; did you mean force_mag?",
    ),
    "a parameter unlike any": (
        [CARTPOLE, "--workdir=W", "--config.env_params.slip", "0.1"],
        "config.env_params.slip is not a parameter of CartPole-v1; allowed: gravity, masscart,",
    ),
    "text for a parameter": (
        [CARTPOLE, "--workdir=W", "--config.env_params.gravity=strong"],
        "config.env_params.gravity must be a number, got 'strong'.",
    ),
    "a parameter without its value": (
        [CARTPOLE, "--workdir=W", "--config.env_params.gravity"],
        "Missing value for flag --config.env_params.gravity.",
    ),
    "an infinite parameter": (
        [CARTPOLE, "--workdir=W", "--config.env_params.gravity=1e39"],
        "config.env_params.gravity must be finite in float32, got 1e+39.",
    ),
    "a fraction for a whole parameter": (
        [CARTPOLE, "--workdir=W", "--config.env=RandomWalk-haepo", "--config.env_params.length=2.5"],
        "config.env_params.length of RandomWalk-haepo must be a whole number, got 2.5.",
    ),
    "the limit of the environment": (
        [CARTPOLE, "--workdir=W", "--config.env_params.max_steps_in_episode=9"],
        "config.env_params.max_steps_in_episode cannot be set; config.horizon cuts episodes short.",
    ),
    "a number for all parameters": (
        [CARTPOLE, "--workdir=W", "--config.env_params=3"],
        "--config.env_params=3 cannot be used: it must be a group of settings, such as {'name': 0.1}.",
    ),
    "an argument that the environment has not": (
        [CARTPOLE, "--workdir=W", "--config.env_kwargs.size=3"],
        "config.env_kwargs.size is not an argument of CartPole-v1, which has none.",
    ),
    "an argument of another type": (
        [CARTPOLE, "--workdir=W", "--config.env=DeepSea-bsuite", "--config.env_kwargs.size=large"],
        "config.env_kwargs.size of DeepSea-bsuite must be of type int, got 'large'.",
    ),
    "several values for an argument": (
        [CARTPOLE, "--workdir=W", "--config.env=DeepSea-bsuite", "--config.env_kwargs.size=(1,2)"],
        "config.env_kwargs.size of DeepSea-bsuite must be of type int, got (1, 2).",
    ),
    "a swept parameter that the environment has not": (
        [CARTPOLE, "--workdir=W", "--config.sweep.env_params.gravty=(1.0,2.0)"],
        "config.env_params.gravty is not a parameter of CartPole-v1; did you mean gravity?",
    ),
    "a sweep over one value": (
        [CARTPOLE, "--workdir=W", "--config.sweep.discount=1"],
        "config.sweep.discount must be a tuple of values, got 1.",
    ),
    "a sweep over what cannot be swept": (
        [CARTPOLE, "--workdir=W", "--config.sweep.haepo.score=('sum','mean')"],
        "config.sweep.haepo.score cannot be swept in one program",
    ),
    "minibatches that do not come out even": (
        [CARTPOLE, "--workdir=W", "--config.algorithm=ppo", "--config.ppo.num_minibatches=7"],
        "config.ppo.num_minibatches 7 does not divide the 2048 steps of an update",
    ),
    "a negative interval": (
        [CARTPOLE, "--workdir=W", "--checkpoint_seconds=-1"],
        "--checkpoint_seconds=-1 cannot be used",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case, tmp_path):
    arguments, sentence = BAD[case]
    finished = run("experiments.train", *(argument.replace("=W", f"={tmp_path / 'run'}") for argument in arguments))
    assert finished.code == 2
    assert sentence in finished.err
    assert len(finished.err.strip().splitlines()) == 1
    assert finished.out in ("", "train: loading ...\n")  # a slow machine says so
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["file", "folder"])
def test_a_config_file_that_fails_is_refused_by_name(tmp_path, name):
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module\n" if name == "file" else "def get_config():\n    return 1 / 0\n")
    finished = run("experiments.train", f"--config={broken}", f"--workdir={tmp_path / 'run'}")
    assert finished.code == 2
    assert "The config file could not be loaded" in finished.err
    assert "Traceback" not in finished.err


def test_a_config_file_with_an_unknown_field(tmp_path):
    file = tmp_path / "unknown.py"
    file.write_text(
        "from haepo_jax.config import default_config\n"
        "def get_config():\n    c = default_config()\n    c.lerning_rate = 1.0\n    return c\n"
    )
    finished = run("experiments.train", f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert finished.code == 2
    assert "config.lerning_rate is not a setting" in finished.err


@pytest.mark.parametrize(
    ("module", "given", "sentence"),
    [
        ("train", "tldr_generated", "of language models, for python -m experiments.tldr; this command takes others"),
        pytest.param(
            "tldr",
            "cartpole",
            "of runs on environments, for python -m experiments.train and python -m experiments.sweep; this command "
            "takes others, such as --config=tldr_generated.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_config_of_another_kind_is_refused_with_the_commands_that_take_it(tmp_path, module, given, sentence):
    finished = run(f"experiments.{module}", f"--config={given}", f"--workdir={tmp_path / 'run'}")
    assert finished.code == 2 and finished.err.count("\n") == 1
    assert finished.err.startswith(f"{module}: --config={given} is a config {sentence}")
    assert not (tmp_path / "run").exists()


def test_evaluate_needs_a_run(tmp_path):
    finished = run("experiments.evaluate", f"--workdir={tmp_path}")
    assert finished.code == 2
    assert "holds no run: there is no config.json in it." in finished.err


def test_evaluate_takes_no_settings(tmp_path):
    finished = run("experiments.evaluate", f"--workdir={tmp_path}", "--config.env_params.gravity=3")
    assert finished.code == 2
    assert "--config.env_params.gravity needs --config=FILE" in finished.err


def test_help_is_as_wide_as_the_terminal_and_names_the_shipped_configs():
    settings = {setting.name: setting for setting in settings_of(ExperimentConfig())}
    purpose = "Trains.\n\npython -m experiments.train --config=cartpole --workdir=runs/a --config.num_seeds=64"
    for width in (50, 80, 500):
        text = flag_help.format_help(purpose, [], settings, ("acrobot", "cartpole"), width)
        longest = max(text.splitlines()[4:], key=lambda line: len(line) if len(line.split()) > 2 else 0)
        assert 40 < len(longest) <= min(width, flag_help.WIDEST), longest
        assert purpose in text and "Shipped configs: acrobot, cartpole\n" in text


COMMANDS = sorted(
    path.stem for path in (ROOT / "experiments").glob("*.py") if "command_line.define_workdir" in path.read_text()
)
"""Those that work on the folder of a run; `results` works on the project's own."""
QUICK = ("evaluate", "train")
EVERY_COMMAND = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]


def test_the_commands_are_those_that_are_known():
    assert {*QUICK, "sweep", "tldr", "report", "summarize", "paper", "tldr_report", "benchmark"} <= set(COMMANDS)


@pytest.mark.parametrize("module", EVERY_COMMAND)
def test_help_names_the_flags(module):
    finished = run(f"experiments.{module}", "--help")
    assert finished.code == 0 and finished.err == ""
    assert "--workdir: Run folder" in finished.out
    assert f"python -m experiments.{module}" in finished.out
    assert ("--loggers: " in finished.out) == (module in ("train", "sweep", "tldr"))


SLOW_WAYS = [pytest.param(asked, marks=pytest.mark.slow) for asked in ("-h", "--helpshort")]
SLOW_COMMANDS = [pytest.param(module, marks=pytest.mark.slow) for module in ("sweep", "tldr")]


@pytest.mark.parametrize("asked", ["--helpfull", *SLOW_WAYS])
@pytest.mark.parametrize("module", ["train", *SLOW_COMMANDS])
def test_help_has_every_setting_with_its_allowed_values_and_meaning(module, asked):
    every = {"train": setting_names, "sweep": sweep_setting_names, "tldr": language_setting_names}[module]()
    finished = run(f"experiments.{module}", asked)
    assert finished.code == 0
    printed = " ".join(finished.out.split())
    for name in every:
        group = ".NAME" if name in ("sweep", "pbt.perturb") or name.endswith(("_kwargs", "_params")) else ""
        coefficient, of_schedule, rest = name.partition("_schedule")
        if of_schedule and "optimizer" not in name and coefficient in every:
            entry = printed.partition(f"--config.{coefficient}: ")[2].partition(" --config.")[0]
            entry = entry.partition(" Settings beside each X ")[0]
            assert entry.endswith("; has a schedule)") and f"  --config.X_schedule{rest}{group}: " in finished.out
        else:
            assert f"  --config.{name}{group}: " in finished.out
    configs = printed.partition("Shipped configs: ")[2].partition(" Settings")[0].split(", ")
    assert ("tldr_qwen3" in configs, "cartpole" in configs) == (module == "tldr", module != "tldr")
    rate = OptimizerConfig().learning_rate
    assert f"What the transformed gradient is multiplied by. (number above 0; default: {rate}" in printed


@pytest.mark.parametrize("module", EVERY_COMMAND)
def test_a_folder_that_cannot_be_one_is_refused_by_every_command(module, tmp_path):
    (tmp_path / "file").touch()
    config = {"train": [CARTPOLE], "sweep": [CARTPOLE], "tldr": ["--config=configs/tldr_generated.py", "--stage=sft"]}
    for workdir, sentence in (
        ("~nosuchuser/x", "begins with the home folder of a user whom this machine does not know."),
        (tmp_path / ("a" * 300), "cannot be a folder: File name too long."),
        (tmp_path / "file", "is a file; give a folder."),
    )[: 1 if module in QUICK else None]:
        finished = run(f"experiments.{module}", *config.get(module, []), f"--workdir={workdir}")
        assert (finished.code, finished.err.count("\n")) == (2, 1), finished.err
        assert finished.err.startswith(f"{module}: --workdir=") and sentence in finished.err


@pytest.mark.slow
@pytest.mark.parametrize("module", COMMANDS)
def test_flag_files_that_are_not_there_and_flags_given_twice_are_refused_by_every_command(module):
    flag = "output" if module == "report" else "workdir"  # it compares the runs of several folders
    for arguments, sentence in (
        (["--flagfile=/nonexistent"], "A --flagfile cannot be read: No such file or directory: '/nonexistent'."),
        ([f"--{flag}=a", f"--{flag}=b"], f"--{flag} is given twice; give it once."),
    ):
        command = [sys.executable, "-m", f"experiments.{module}", *arguments]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (finished.returncode, finished.stderr) == (2, f"{module}: {sentence}\n")


def test_escapes_in_arguments_are_shown_and_not_obeyed(tmp_path):
    finished = run("experiments.train", CARTPOLE, f"--workdir={tmp_path}", "--config.num_seeds=\x1b[31m\u202e")
    assert finished.code == 2 and "\x1b" not in finished.err
    assert r"--config.num_seeds=\x1b[31m\u202e cannot be used: it must be a whole number." in finished.err


def test_a_config_file_that_computes_with_jax_has_all_devices(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax, jax.numpy as jnp\nfrom configs import cartpole\n"
        "def get_config():\n    c = cartpole.get_config()\n    c.optimizer.learning_rate = float(jnp.sqrt(1e-6))\n"
        "    c.num_trajectories = 1 - len(jax.devices())\n    return c\n"
    )
    finished = run("experiments.train", f"--config={file}", f"--workdir={tmp_path / 'run'}")
    number = 1 - len(os.sched_getaffinity(0))
    assert finished.err == f"train: config.num_trajectories must be at least 2, got {number}.\n"


def test_the_module_runs_as_a_plain_process(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--config.seed=1", CARTPOLE, "--workdir=/proc/nowhere"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr == "train: --workdir /proc/nowhere cannot be written: No such file or directory.\n"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_that_no_run_catches_is_reported(name, code):
    script = (
        "import gc, os, signal\nfrom experiments.cli import command_line\n"
        # Where the tests themselves run in the background of a shell, it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # Where an exception would be lost: JAX has such a callback too.
        f"gc.callbacks.append(lambda *_: gc.callbacks.clear() or os.kill(os.getpid(), signal.{name}))\n"
        "command_line.run(lambda: 0 * gc.collect())"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == code
    assert finished.stderr == "-c: Stopped at once; the same command does what is left.\n"
