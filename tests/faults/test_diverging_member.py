"""One member of many whose numbers leave the finite ones: no bit of the others changes."""

import numpy as np
import pytest
from helpers import campaign, pods

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MEMBERS, VICTIM = 64, 37


def learning_rates(victims):
    rates = np.geomspace(1e-4, 1e-2, MEMBERS).tolist()
    rates[VICTIM] = victims
    return f"--config.sweep.optimizer.learning_rate={tuple(rates)}"


def run(workdir, rates):
    one = ("--config.sweep.haepo.entropy_coef=(0.3,)", "--config.sweep.haepo.kl_coef=(0.02,)", "--config.num_seeds=1")
    arguments = (*pods.SMALL, *one, rates, "--config.num_updates=50", f"--members_per_device={MEMBERS // 2}")
    (finished,) = pods.run(workdir, *arguments, devices_each=campaign.DEVICES)
    assert finished.code == 0, finished.err
    return finished, campaign.end(workdir)


def others(end):
    """What is said of all members but one."""
    kept = np.arange(MEMBERS) != VICTIM
    ((update, arrays),) = end.states.values()
    return campaign.End(
        {name: column[end.rows["member"] != VICTIM] for name, column in end.rows.items()},
        {"others": (update, {name: array[kept] for name, array in arrays.items()})},
        [member for member in end.members if member["member"] != VICTIM],
    )


def test_one_of_64_members_diverges_and_the_others_keep_their_bits(tmp_path):
    _, healthy = run(tmp_path / "healthy", learning_rates(3e-3))
    finished, diverged = run(tmp_path / "diverged", learning_rates(1e38))
    campaign.assert_same(others(diverged), others(healthy))
    member = diverged.members[VICTIM]
    assert (member["status"], member["final_return"]) == ("diverged", None)
    sentence = f"Member {VICTIM} (seed=0, haepo.entropy_coef=0.3, haepo.kl_coef=0.02, optimizer.learning_rate=1e+38)"
    assert f"{sentence} diverged at update {member['diverged_at']}" in finished.err
    rows = diverged.rows["member"] == VICTIM
    np.testing.assert_array_equal(np.flatnonzero(diverged.rows["diverged"][rows]), [member["diverged_at"]])
    assert {member["status"] for member in healthy.members} == {"ok"}
