import numpy as np
import pytest
from helpers.made_up_runs import UPDATES, Trainer, attempt
from helpers.settings import fixed_config

from experiments.studies.run_data import GRID_POINTS, RunData, find_steps_to, make_budget_grid
from haepo_jax.config.members import Member
from haepo_jax.config.sweep import of_experiment
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.writer import MetricsWriter

INF = np.inf


def write_run(path, values, steps, diverged=(), ran=None):
    """A run from `[members, updates]` values and environment steps."""
    members = [Member(index, index, {}) for index in range(len(values))]
    writer = MetricsWriter(path / "metrics", members, metrics={"score": np.float32})
    scores = np.float32(values).T
    writer.write(0, {"score": scores}, np.int64(steps).T, where=~np.isnan(scores) if ran is None else ran)
    shown = [member.to_json() for member in members]
    write_json(path / "members.json", shown)
    write_json(
        path / "summary.json",
        {
            "members": [
                {
                    "member": member.index,
                    "seed": member.seed,
                    "settings": {},
                    "final_return": None,
                    "best_return": None,
                    "env_steps": int(np.max(steps[member.index])),
                    "status": "diverged" if member.index in diverged else "ok",
                    "diverged_at": None,
                }
                for member in members
            ],
            "final_updates": 1,
            "num_updates": len(scores),
            "env_steps": int(np.max(steps, axis=1).sum()),
            "env_steps_per_second": None,
            "wall_clock": {"compile_seconds": 0.0, "run_seconds": 0.0},
            "rows_with_returns_sum_not_positive": 0,
        },
    )
    return RunData(path)


def on_grid_by_hand(values, steps, point, window, failure, diverged):
    updates = [(end, value) for end, value in zip(steps, values, strict=True) if not np.isnan(value)]
    if diverged and point > updates[-1][0]:
        return failure
    past = [(end, value) for end, value in updates if end <= point]
    recent = [value for end, value in past if end > point - window]
    if recent:
        return float(np.mean(recent))
    return past[-1][1] if past else updates[0][1]


@pytest.mark.parametrize("window", [0.0, 35.0, 1000.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_curve_is_as_counted_by_hand(tmp_path, window, seed):
    rng = np.random.default_rng(seed)
    lengths, diverged = [20, 12, 20, 1, 7], {1, 3}
    values, steps = rng.normal(size=(5, 20)), rng.integers(1, 30, size=(5, 20))
    for member, length in enumerate(lengths):
        values[member, length:], steps[member, length:] = np.nan, 0
    values, steps = np.float32(values), steps.cumsum(axis=1)
    grid = np.sort(np.concatenate([steps[0], steps[1] - 1, rng.uniform(0, 400, size=40)])).astype(float)
    curve = write_run(tmp_path, values, steps, diverged).curve("score", grid, failure=-9.0, window=window)
    expected = [
        [on_grid_by_hand(values[m], steps[m], point, window, -9.0, m in diverged) for point in grid] for m in range(5)
    ]
    assert curve.shape == (5, len(grid))
    np.testing.assert_allclose(curve, expected, rtol=1e-5, atol=1e-6)


def test_edges_of_a_window(tmp_path):
    run = write_run(tmp_path, [[1.0, 2.0, 4.0]], [[10, 20, 30]])
    grid = np.array([5.0, 10.0, 19.9, 20.0, 29.9, 30.0, 39.9, 40.0, 1000.0])
    # The window of 20 is open at its beginning: at 30 it leaves out what ended at 10.
    expected = [[1.0, 1.0, 1.0, 1.5, 1.5, 3.0, 3.0, 4.0, 4.0]]
    np.testing.assert_allclose(run.curve("score", grid, failure=0.0, window=20.0), expected)


def test_a_diverged_member_has_the_failure_from_there_on_and_others_keep_their_last(tmp_path):
    values = [[5.0, 6.0, np.nan, np.nan]] * 2
    run = write_run(tmp_path, values, [[10, 20, 20, 20]] * 2, diverged={0})
    curve = run.curve("score", np.array([10.0, 20.0, 21.0, 90.0]), failure=-1.0)
    np.testing.assert_array_equal(curve, [[5.0, 6.0, -1.0, -1.0], [5.0, 6.0, 6.0, 6.0]])


def test_a_member_that_never_had_a_value_has_the_failure(tmp_path):
    run = write_run(tmp_path, [[np.nan, np.nan], [np.nan, 3.0]], [[10, 20]] * 2, ran=np.ones((2, 2), bool))
    curve = run.curve("score", np.array([10.0, 20.0]), failure=-1.0)
    np.testing.assert_array_equal(curve, [[-1.0, -1.0], [3.0, 3.0]])


def test_steps_to_is_the_first_point_at_the_threshold():
    grid = np.array([10.0, 20.0, 30.0])
    curve = np.array([[1.0, 2.0, 3.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.9], [0.0, 3.0, 0.0]])
    np.testing.assert_array_equal(find_steps_to(curve, grid, 2.0), [20.0, 10.0, INF, 20.0])


@pytest.mark.parametrize("budget", [1, 100, 150_000])
def test_the_grid_ends_at_the_budget_in_equal_steps(budget):
    grid = make_budget_grid(budget)
    assert len(grid) == GRID_POINTS and grid[-1] == budget
    np.testing.assert_allclose(np.diff(grid), budget / GRID_POINTS)
    assert grid[0] == pytest.approx(budget / GRID_POINTS)


def timed(path, *timelines, updates=8):
    attempts = [attempt(path) | ({} if timeline is None else {"timeline": timeline}) for timeline in timelines]
    write_json(path / "provenance.json", attempts)
    return write_run(path, np.zeros((1, updates)), np.arange(1, updates + 1)[None])


def test_seconds_of_one_attempt_lie_between_its_chunks(tmp_path):
    run = timed(tmp_path, [[2, 1.0], [4, 3.0], [8, 4.0]])
    np.testing.assert_allclose(run.seconds(), [0.5, 1.0, 2.0, 3.0, 3.25, 3.5, 3.75, 4.0])


def test_seconds_of_attempts_add_up(tmp_path):
    """The second was stopped while it compiled."""
    run = timed(tmp_path, [[2, 1.0], [4, 3.0]], None, [[5, 0.5], [8, 2.0]])
    np.testing.assert_allclose(run.seconds(), [0.5, 1.0, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0])


def test_updates_that_were_done_twice_count_once(tmp_path):
    """Killed between its metrics and its checkpoint, a run does its last updates again."""
    run = timed(tmp_path, [[2, 1.0], [4, 3.0]], [[3, 0.5], [8, 2.0]])
    assert run.seconds()[3] == 3.0 and run.seconds()[-1] == 5.0
    assert (np.diff(run.seconds()) > 0).all()


def test_a_run_is_read_from_its_folder(tmp_path):
    config = fixed_config({"num_seeds": 2, "sweep": {"discount": (0.5, 1.0)}, "max_env_steps": 120})
    Trainer(lambda config, member: np.full(UPDATES, member.index), tmp_path)(
        of_experiment(config), tmp_path / "run", checkpoint_seconds=60
    )
    run = RunData(tmp_path / "run")
    assert run.config["max_env_steps"] == 120
    assert run.groups() == [({"discount": 0.5}, [0, 1]), ({"discount": 1.0}, [2, 3])]
    np.testing.assert_array_equal(run.metric("episode_return"), np.repeat(np.arange(4.0)[:, None], UPDATES, axis=1))
    np.testing.assert_array_equal(run.env_steps, np.tile(np.arange(10, 121, 10), (4, 1)))
    assert [member["status"] for member in run.summary["members"]] == ["ok"] * 4
    with pytest.raises(KeyError, match="has no metric regret"):
        run.metric("regret")
