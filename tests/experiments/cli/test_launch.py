"""What a command does before its heavy imports."""

import contextlib
import os
import pty
import re
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


def test_in_a_terminal_the_time_is_shown_until_something_else_is_printed():
    terminal, end = pty.openpty()
    then = "time.sleep(2.3); launch.cancel_notice(); print('done', flush=True); time.sleep(0.3)"
    command = [sys.executable, "-c", START.format(options="") + then]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=end, check=True, timeout=60)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # nobody writes to it any more
        while part := os.read(terminal, 1024):
            shown += part
    os.close(terminal)
    assert finished.stdout == b"done\n"
    times = re.findall(rb"\r-c: loading \.\.\. (\d) s", shown)
    assert times[:2] == [b"1", b"2"] and shown.endswith(b"\r" + b" " * len("-c: loading ... 1 s") + b"\r")


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
