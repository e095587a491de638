"""What the benchmark's programs do; how fast is for the command."""

import pytest

from experiments.benchmarks import programs, speed
from experiments.benchmarks.peers import Peer


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(programs, "HORIZON", 40)
    monkeypatch.setattr(programs, "NUM_TRAJECTORIES", 2)
    monkeypatch.setattr(speed, "_SECONDS", 0.01)


@pytest.mark.parametrize(
    "measure",
    [pytest.param(name, marks=pytest.mark.slow if "short" in name else ()) for name in programs.MEASURES],
)
def test_every_valid_step_counts_and_padding_does_not(measure):
    """Three members, of which devices hold an even number: no pole falls in 40 steps."""
    steps = 25 if measure == "training_on_short_episodes" else 40
    program = programs.make_program(measure, num_seeds=3)
    assert program.run(1)[1] == 3 * 2 * steps
    assert program.run(5)[1] == 5 * 3 * 2 * steps


@pytest.mark.slow
def test_benchmark_rows_hold_every_promised_field():
    rows = speed.measure_rows(2, repeats=2)
    assert [row["measure"] for row in rows] == list(programs.MEASURES)
    random, policy, training, short = (row["env_steps_per_second"] for row in rows)
    assert rows[3]["share_of_a_full_update"] == pytest.approx(25 / 500 * training / short)
    assert rows[2]["share_of_random_rollout"] == pytest.approx(training / random)
    assert rows[2]["share_of_policy_rollout"] == pytest.approx(training / policy)
    assert all(row["compile_seconds"] > 0 and row["temporary_bytes_a_device"] >= 0 for row in rows)


@pytest.mark.slow
def test_peers_are_measured_in_turn_with_training(tmp_path):
    calls = tmp_path / "calls"
    peer = Peer("echo", f"""echo . >> {calls}; echo '{{"env_steps": 10, "seconds": 5, "compile_seconds": 1.5}}'""")
    ours, theirs = speed.compare_peers([peer], num_seeds=2, repeats=3)
    assert len(calls.read_text().splitlines()) == 3
    assert theirs["env_steps_per_second"] == 2 and theirs["compile_seconds"] == 1.5
    assert theirs["training_is_times_this"] == pytest.approx(ours["env_steps_per_second"] / 2)
