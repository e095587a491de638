"""A sweep of one process, killed or asked to stop at any moment, start-up and saves included."""

import signal

import pytest
from helpers import campaign

pytestmark = [pytest.mark.slow, pytest.mark.faults]

CHECKPOINT_SECONDS = (0, 1, 60)


@pytest.mark.parametrize("number", range(campaign.count(20)))
def test_a_sweep_killed_five_times_ends_as_if_it_had_not_been(undisturbed, tmp_path, number):
    draw = campaign.generator("kills", number)
    arguments = (*campaign.SWEEP, f"--checkpoint_seconds={CHECKPOINT_SECONDS[number % 3]}")
    strike = campaign.send(signal.SIGKILL)
    for killed in campaign.struck(tmp_path / "run", arguments, strike, 5, undisturbed, draw):
        assert killed.code == -signal.SIGKILL, killed.err


@pytest.mark.parametrize("number", range(campaign.count(4)))
def test_a_sweep_asked_five_times_to_stop_exits_143_and_ends_as_if_it_had_not_been(undisturbed, tmp_path, number):
    draw = campaign.generator("requests to stop", number)
    arguments = (*campaign.SWEEP, f"--checkpoint_seconds={CHECKPOINT_SECONDS[number % 3]}")
    strike = campaign.send(signal.SIGTERM)
    for stopped in campaign.struck(tmp_path / "run", arguments, strike, 5, undisturbed, draw):
        # The second is what a shell reports as 143: it had not begun to listen.
        assert stopped.code in (143, -signal.SIGTERM), stopped.err
        assert "Traceback" not in stopped.err, stopped.err
