"""Two processes of one sweep, of which one is killed: the other ends by itself, and both go on."""

import os
import shutil
import signal
import time

import pods
import pytest
from faults import campaign
from run_folders import checkpoints, wait_for

from haepo_jax.errors import Stalled

pytestmark = [pytest.mark.slow, pytest.mark.faults]

HEARTBEAT_SECONDS = 5


@pytest.mark.parametrize("number", range(campaign.count(20)))
def test_the_loss_of_either_of_two_processes_ends_the_other_and_both_go_on(undisturbed, tmp_path, number):
    draw = campaign.generator("lost processes", number)
    arguments = (*campaign.SWEEP, "--checkpoint_seconds=0", f"--heartbeat_seconds={HEARTBEAT_SECONDS}")
    workdir, struck = tmp_path / "run", False
    while not struck:
        shutil.rmtree(workdir, ignore_errors=True)
        commands = pods.start(workdir, *arguments, processes=2, devices_each=1)
        # Until they have met, one waits for the other as long as for a host that starts late.
        wait_for(workdir.exists)
        campaign.wait_for_a_moment(commands, workdir, undisturbed.seconds, draw)
        struck = _kill(commands[number % 2])
        lost = time.monotonic()
        left = commands[1 - number % 2].wait(campaign.HANG_SECONDS)
    print(f"  the other ends {time.monotonic() - lost:.1f} s later: {left.code}, checkpoints {checkpoints(workdir)}")
    assert time.monotonic() - lost < HEARTBEAT_SECONDS + 5
    # JAX itself aborts a process whose coordinator has gone.
    assert left.code in (Stalled.EXIT_CODE, -signal.SIGABRT), left.err
    for finished in pods.run(workdir, *arguments, processes=2, devices_each=1, seconds=campaign.HANG_SECONDS):
        assert finished.code == 0, finished.err
        assert "damaged" not in finished.out
    campaign.assert_same(campaign.end(workdir), undisturbed.end)


def _kill(command):
    """Whether it had not ended by itself."""
    if command.running:
        os.kill(command.pid, signal.SIGKILL)
    return command.wait().code == -signal.SIGKILL
