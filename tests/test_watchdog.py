import subprocess
import sys

import pytest

PROGRAM = """
import time
from haepo_jax.watchdog import Watchdog
with Watchdog(0.5) as watchdog:
    {body}
print("ended by itself")
"""


def outcome(body):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_standstill_ends_the_process_with_its_stacks():
    ended = outcome("watchdog.alive(); time.sleep(60)")
    assert ended.returncode == 42
    assert "Nothing has moved for 0.5 s" in ended.stderr and "--stall_seconds" in ended.stderr
    assert "most recent call first" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(1.5)",  # paused, as it begins
        "watchdog.alive(); watchdog.pause(); time.sleep(1.5)",
        "[(watchdog.alive(), time.sleep(0.1)) for _ in range(15)]",
    ],
)
def test_signs_of_life_and_pauses_keep_it_going(body):
    ended = outcome(body)
    assert (ended.returncode, ended.stdout) == (0, "ended by itself\n"), ended.stderr
