"""What a command does before its heavy imports."""

import os
import subprocess
import sys
import time

import pytest
from helpers.command_runner import ROOT

START = "import sys, time\nfrom experiments.cli import launch\nlaunch.start({options})\n"


def run(options, then, **environment):
    command = [sys.executable, "-c", START.format(options=options) + then]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("options", "then", "words"),
    [
        ("", "time.sleep(1.4)", "-c: loading ...\n"),
        ("", "time.sleep(0.1)", ""),
        ("", "print('something', flush=True); launch.cancel_notice(); time.sleep(1.4)", "something\n"),
        ("prints_results=True", "time.sleep(1.4)", ""),
    ],
)
def test_a_command_that_loads_for_long_says_so_unless_its_output_is_a_result(options, then, words):
    started = time.monotonic()
    finished = run(options, then)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, words, "")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline"])
def test_figures_need_no_backend_of_the_users(backend):
    then = (
        "import haepo_jax.reports.learning_curve, haepo_jax.reports.figures; print('matplotlib.pyplot' in sys.modules)"
    )
    finished = run("", then, MPLBACKEND=backend)
    assert (finished.returncode, finished.stdout.splitlines()[-1:]) == (0, ["False"]), finished.stderr


def test_python_looks_for_garbage_seldom_while_a_command_loads_and_traces():
    finished = run("prints_results=True", "import gc; launch.cancel_notice(); print(gc.get_threshold()[0])")
    assert (finished.returncode, finished.stdout) == (0, "10000\n")
