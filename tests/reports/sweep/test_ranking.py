import numpy as np
import pytest
import scipy.stats
from helpers.made_up_sweeps import (
    BOTH,
    ENTROPIES,
    RATE,
    RATES,
    SCORE,
    SCORES,
    UPDATES,
    analysed,
    by_rate,
    grid,
    hump,
    hump_that_diverges,
    level,
    read,
    waves,
)

from haepo_jax.analysis.statistics import interquartile_mean
from haepo_jax.errors import ConfigError
from haepo_jax.reports.sweep.ranking import aggregate_by_cell, pool_members, score_members
from haepo_jax.runs.summary import FINAL_UPDATES


def test_the_final_return_is_the_mean_of_the_last_ten_updates(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), hump, seeds=2)
    finals = score_members(sweep).finals
    for member, point in enumerate(sweep.point):
        series = hump(sweep.points[point], member % 2).astype(np.float32)
        assert finals[member] == pytest.approx(series[-FINAL_UPDATES:].mean(dtype=np.float64), rel=1e-12)


def test_a_member_that_diverged_counts_as_the_worst_of_all(tmp_path):
    def learn(settings, seed):
        # The last rate is the best while it lasts; the least of all finals is 100, of the first rate.
        return by_rate(settings, seed)[:7] if settings[RATE] == RATES[2] and seed else by_rate(settings, seed)

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:3]), learn, seeds=4)
    scores, ranking = analysed(sweep)
    assert scores.worst == 100.0
    np.testing.assert_array_equal(scores.finals[8:], [300.0, 100.0, 100.0, 100.0])
    np.testing.assert_array_equal(ranking.diverged, [0, 0, 3])
    np.testing.assert_array_equal(ranking.order, [1, 0, 2])
    assert (ranking.median[2], ranking.worst[2], ranking.score[2]) == (100.0, 100.0, 100.0)


def test_the_return_of_a_member_before_it_diverged_may_be_the_worst(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), lambda s, k: level(k)[: 7 if k == 0 else None])
    scores = score_members(sweep)
    assert scores.worst == 0.0 and set(scores.finals) == {0.0, 1.0, 2.0, 3.0}


def test_a_return_that_is_not_finite_is_no_return(tmp_path):
    def learn(settings, seed):
        series = level(10 * (1 + seed))[:7]
        series[-1] = np.nan
        return series if seed == 0 else level(10 * (1 + seed))

    scores = score_members(read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), learn, seeds=2))
    np.testing.assert_array_equal(scores.finals, [10.0, 20.0, 10.0, 20.0])


def test_a_sweep_without_any_finite_return_is_refused(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), lambda s, k: level(np.nan)[:1])
    with pytest.raises(ConfigError, match="No member of the run has a finite return yet"):
        score_members(sweep)


def test_points_that_tie_are_ranked_by_their_mean(tmp_path):
    tops = {RATES[0]: 9.0, RATES[1]: 9.5, RATES[2]: 8.0}
    sweep = read(
        tmp_path, grid(optimizer__learning_rate=RATES[:3]), lambda s, k: level(tops[s[RATE]] if k == 3 else 5.0)
    )
    _, ranking = analysed(sweep)
    np.testing.assert_array_equal(ranking.score, [5.0, 5.0, 5.0])
    np.testing.assert_array_equal(ranking.order, [1, 0, 2])


def test_a_running_sweep_is_compared_after_the_same_number_of_updates(tmp_path):
    sweep = read(
        tmp_path,
        grid(optimizer__learning_rate=RATES[:3]),
        lambda s, k: np.arange(UPDATES) * (1 + RATES.index(s[RATE])),
        seeds=2,
        rows=waves(12),
        complete=False,
    )
    scores, ranking = analysed(sweep)
    assert scores.updates == 12
    last = np.arange(2, 12).mean()
    np.testing.assert_allclose(scores.finals, [last, last, 2 * last, 2 * last, np.nan, np.nan])
    np.testing.assert_array_equal(ranking.order, [1, 0])
    np.testing.assert_array_equal(ranking.seeds, [2, 2, 0])
    np.testing.assert_array_equal(sweep.begun, [True] * 4 + [False] * 2)
    np.testing.assert_array_equal(sweep.done, [True] * 2 + [False] * 4)


def test_a_wave_that_has_only_begun_holds_no_one_back(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:3]), by_rate, seeds=2, rows=waves(3), complete=False)
    scores, ranking = analysed(sweep)
    assert scores.updates == UPDATES
    np.testing.assert_array_equal(scores.compared, [True, True, False, False, False, False])
    np.testing.assert_array_equal(ranking.order, [0])


def test_all_that_run_side_by_side_are_compared_at_the_slowest(tmp_path):
    sweep = read(tmp_path, BOTH, hump, seeds=2, rows=lambda member: 11 + member.index % 3, complete=False)
    scores = score_members(sweep)
    assert scores.updates == 11 and scores.compared.all()


def test_a_member_that_diverged_early_waits_for_the_others_of_its_point(tmp_path):
    def learn(settings, seed):
        return by_rate(settings, seed)[: 2 if settings[RATE] == RATES[1] and seed == 0 else None]

    points = grid(optimizer__learning_rate=RATES[:2])
    scores, ranking = analysed(read(tmp_path / "a", points, learn, seeds=2, rows=waves(3), complete=False))
    np.testing.assert_array_equal(scores.compared, [True, True, False, False])
    np.testing.assert_array_equal(ranking.order, [0])
    scores, ranking = analysed(read(tmp_path / "b", points, learn, seeds=2, rows=waves(15), complete=False))
    assert scores.updates == 15 and scores.compared.all() and scores.diverged.tolist() == [False, False, True, False]


def test_a_member_that_diverges_after_the_comparison_has_not_diverged_in_it(tmp_path):
    def learn(settings, seed):
        return by_rate(settings, seed)[: 16 if settings[RATE] == RATES[0] and seed == 0 else None]

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), learn, seeds=4, rows=waves(14), complete=False)
    scores = score_members(sweep)
    assert scores.updates == 14 and sweep.diverged.sum() == 1
    assert not scores.diverged.any() and scores.finals[0] == 100.0


def test_members_that_used_up_their_steps_are_done_and_hold_no_one_back(tmp_path):
    # A member takes 100, 200, ... steps an update by its seed, and stops once it has 1000.
    sweep = read(
        tmp_path,
        grid(optimizer__learning_rate=RATES[:2]),
        by_rate,
        seeds=3,
        max_env_steps=1000,
        rows=lambda member: -(-10 // (1 + member.seed)),
        complete=False,
    )
    np.testing.assert_array_equal(sweep.rows, [10, 5, 4] * 2)
    scores = score_members(sweep)
    assert sweep.done.all() and scores.compared.all()
    np.testing.assert_array_equal(scores.finals, [100, 101, 102, 200, 201, 202])


@pytest.mark.parametrize("cells", [1, 7, 40])
def test_a_statistic_of_cells_is_that_of_each_cell(cells):
    rng = np.random.default_rng(0)
    values, cell = rng.normal(size=200), rng.integers(cells, size=200) // 2 * 2
    found = aggregate_by_cell(interquartile_mean, values, cell, cells + 1)
    for k in range(cells + 1):
        inside = values[cell == k]
        expected = scipy.stats.trim_mean(inside, 0.25) if inside.size else np.nan
        np.testing.assert_allclose(found[k], expected, rtol=1e-12)


def test_cells_of_one_size_are_computed_at_once():
    calls = []

    def statistic(runs):
        calls.append(runs.shape)
        return runs.mean(axis=(0, 1))

    aggregate_by_cell(statistic, np.arange(3003.0), np.append(np.repeat(np.arange(1000), 3), [1000] * 3), 1001)
    assert calls == [(1, 3, 1001)]


def test_heat_maps_pool_all_members_with_both_values(tmp_path):
    points = grid(haepo__score=("sum", "mean"), optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES[:3])
    sweep = read(tmp_path, points, hump_that_diverges, seeds=4)
    scores = score_members(sweep)
    _, rate, entropy = sweep.settings
    score, failed = pool_members(sweep, scores, rate, entropy)
    assert score.shape == failed.shape == (6, 3)
    finals = scores.finals.reshape(2, 6, 3, 4)
    for row in range(6):
        for column in range(3):
            expected = scipy.stats.trim_mean(finals[:, row, column].ravel(), 0.25)
            assert score[row, column] == pytest.approx(expected)
    np.testing.assert_array_equal(failed, np.repeat([[0.0], [0.0], [0.0], [0.0], [0.0], [0.5]], 3, axis=1))


def test_a_cell_without_members_is_empty(tmp_path):
    sweep = read(tmp_path, SCORES, hump, fixed=[SCORE], rows=lambda m: 20 * ("sum" in m.group), complete=False)
    score, failed = pool_members(sweep, score_members(sweep), *sweep.settings)
    labels = sweep.settings[0].labels
    assert [np.isnan(row).all() for row in score] == [label != "sum" for label in labels]
    np.testing.assert_array_equal(np.isnan(score), np.isnan(failed))
