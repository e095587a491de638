"""Two processes of one sweep, of which one is killed: the other ends by itself, and both resume."""

import shutil
import signal
import time

import pytest
from helpers import campaign, pods
from helpers.run_folders import checkpoints, wait_for

from haepo_jax.errors import Stalled

pytestmark = [pytest.mark.slow, pytest.mark.faults]

HEARTBEAT_SECONDS = 5


@pytest.mark.parametrize("number", range(campaign.count(20)))
def test_the_loss_of_either_of_two_processes_ends_the_other_and_both_resume(undisturbed, tmp_path, number):
    draw = campaign.generator("lost processes", number)
    arguments = (*campaign.SWEEP, "--checkpoint_seconds=0", f"--heartbeat_seconds={HEARTBEAT_SECONDS}")
    workdir, left = tmp_path / "run", None
    while left is None or left.code == 0:
        shutil.rmtree(workdir, ignore_errors=True)
        commands = pods.start(workdir, *arguments, processes=2, devices_each=1)
        # Until they have met, one waits for the other as long as for a host that starts late.
        wait_for(workdir.exists)
        campaign.wait_for_a_moment(commands, workdir, undisturbed.seconds, draw)
        campaign.send(signal.SIGKILL)(commands[number % 2])
        lost = time.monotonic()
        left = commands[1 - number % 2].wait(campaign.HANG_SECONDS)
        seconds = time.monotonic() - lost
        killed = commands[number % 2].wait()
        if left.code == 0:  # the kill came too late
            campaign.assert_same(campaign.end(workdir), undisturbed.end)
    print(f"  the other ends {seconds:.1f} s later: {left.code}, checkpoints {checkpoints(workdir)}", flush=True)
    assert killed.code == -signal.SIGKILL, killed.err
    assert seconds < HEARTBEAT_SECONDS + 5
    # JAX itself aborts a process whose coordinator has gone.
    assert left.code in (Stalled.EXIT_CODE, -signal.SIGABRT), left.err
    assert "Traceback" not in left.err, left.err
    for finished in pods.run(workdir, *arguments, processes=2, devices_each=1, seconds=campaign.HANG_SECONDS):
        assert finished.code == 0, finished.err
        assert "damaged" not in finished.out
    campaign.assert_same(campaign.end(workdir), undisturbed.end)
