import dataclasses
import itertools
import json

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
import scipy.stats
from analysis.made_up_sweeps import (
    ENTROPIES,
    ENTROPY,
    RATE,
    RATES,
    SCORE,
    UPDATES,
    grid,
    hump,
    hump_that_diverges,
    write_metrics,
    write_sweep,
)

from haepo_jax.analysis import sweeps
from haepo_jax.analysis.statistics import interquartile_mean
from haepo_jax.analysis.summary import FINAL_UPDATES
from haepo_jax.errors import ConfigError

BOTH = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)
SCORES = grid(haepo__score=("sum", "mean", "log_ratio"), optimizer__learning_rate=RATES[:2])


def level(value):
    """A member that learns nothing, at a level of its own."""
    return np.full(UPDATES, float(value), np.float32)


def by_rate(settings, seed):
    """100, 200, ... by learning rate, one more for each seed."""
    return level(100 * (1 + RATES.index(settings[RATE])) + seed)


def read(folder, *arguments, **options):
    return sweeps.read_sweep(write_sweep(folder, *arguments, **options))


def analysed(sweep):
    scores = sweeps.score_members(sweep)
    return scores, sweeps.rank_points(sweep, scores)


def waves(done):
    """Who has written what where the first rate is done, the second has come so far, and the others have not begun."""
    return lambda member: {RATES[0]: UPDATES, RATES[1]: done}.get(member["settings"][RATE], 0)


def test_a_sweep_is_read_by_member_and_update(tmp_path):
    sweep = read(tmp_path, SCORES, hump, seeds=3, fixed=[SCORE])
    assert sweep.returns.shape == sweep.env_steps.shape == (18, UPDATES)
    assert sweep.groups == ("haepo.score=log_ratio", "haepo.score=mean", "haepo.score=sum")
    np.testing.assert_array_equal(sweep.group, np.repeat([0, 1, 2], 6))
    np.testing.assert_array_equal(sweep.point, np.repeat(np.arange(6), 3))
    for member, (point, seed) in enumerate(zip(sweep.point, np.tile(np.arange(3), 6), strict=True)):
        np.testing.assert_array_equal(sweep.returns[member], hump(sweep.points[point], seed).astype(np.float32))
        np.testing.assert_array_equal(sweep.env_steps[member], 100 * (1 + seed) * np.arange(1, UPDATES + 1))
    assert sweep.done.all() and not sweep.diverged.any() and (sweep.rows == UPDATES).all()


def test_the_final_return_is_the_mean_of_the_last_ten_updates(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), hump, seeds=2)
    finals = sweeps.score_members(sweep).finals
    for member, point in enumerate(sweep.point):
        series = hump(sweep.points[point], member % 2).astype(np.float32)
        assert finals[member] == pytest.approx(series[-FINAL_UPDATES:].mean(dtype=np.float64), rel=1e-12)


def test_a_member_that_diverged_counts_as_the_worst_of_all(tmp_path):
    def learn(settings, seed):
        # The last rate is the best while it lasts; the least of all finals is 100, of the first rate.
        return by_rate(settings, seed)[:7] if settings[RATE] == RATES[2] and seed else by_rate(settings, seed)

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:3]), learn, seeds=4)
    scores, standings = analysed(sweep)
    assert scores.worst == 100.0
    np.testing.assert_array_equal(scores.finals[8:], [300.0, 100.0, 100.0, 100.0])
    np.testing.assert_array_equal(standings.diverged, [0, 0, 3])
    np.testing.assert_array_equal(standings.ranking, [1, 0, 2])
    assert (standings.median[2], standings.worst[2], standings.score[2]) == (100.0, 100.0, 100.0)


def test_what_a_member_had_before_it_diverged_may_be_the_worst(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), lambda s, k: level(k)[: 7 if k == 0 else None])
    scores = sweeps.score_members(sweep)
    assert scores.worst == 0.0 and set(scores.finals) == {0.0, 1.0, 2.0, 3.0}


def test_a_return_that_is_not_finite_is_no_return(tmp_path):
    def learn(settings, seed):
        series = level(10 * (1 + seed))[:7]
        series[-1] = np.nan
        return series if seed == 0 else level(10 * (1 + seed))

    scores = sweeps.score_members(read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), learn, seeds=2))
    np.testing.assert_array_equal(scores.finals, [10.0, 20.0, 10.0, 20.0])


def test_nothing_finite_is_told(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), lambda s, k: level(np.nan)[:1])
    with pytest.raises(ConfigError, match="No member of the sweep has a finite return yet"):
        sweeps.score_members(sweep)


def test_points_that_tie_are_ranked_by_their_mean(tmp_path):
    tops = {RATES[0]: 9.0, RATES[1]: 9.5, RATES[2]: 8.0}
    sweep = read(
        tmp_path, grid(optimizer__learning_rate=RATES[:3]), lambda s, k: level(tops[s[RATE]] if k == 3 else 5.0)
    )
    _, standings = analysed(sweep)
    np.testing.assert_array_equal(standings.score, [5.0, 5.0, 5.0])
    np.testing.assert_array_equal(standings.ranking, [1, 0, 2])


def test_a_running_sweep_is_compared_after_the_same_number_of_updates(tmp_path):
    sweep = read(
        tmp_path,
        grid(optimizer__learning_rate=RATES[:3]),
        lambda s, k: np.arange(UPDATES) * (1 + RATES.index(s[RATE])),
        seeds=2,
        rows=waves(12),
        complete=False,
    )
    scores, standings = analysed(sweep)
    assert scores.updates == 12
    last = np.arange(2, 12).mean()
    np.testing.assert_allclose(scores.finals, [last, last, 2 * last, 2 * last, np.nan, np.nan])
    np.testing.assert_array_equal(standings.ranking, [1, 0])
    np.testing.assert_array_equal(standings.seeds, [2, 2, 0])
    np.testing.assert_array_equal(sweep.begun, [True] * 4 + [False] * 2)
    np.testing.assert_array_equal(sweep.done, [True] * 2 + [False] * 4)


def test_a_wave_that_has_only_begun_holds_no_one_back(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:3]), by_rate, seeds=2, rows=waves(3), complete=False)
    scores, standings = analysed(sweep)
    assert scores.updates == UPDATES
    np.testing.assert_array_equal(scores.compared, [True, True, False, False, False, False])
    np.testing.assert_array_equal(standings.ranking, [0])


def test_all_that_run_side_by_side_are_compared_at_the_slowest(tmp_path):
    sweep = read(tmp_path, BOTH, hump, seeds=2, rows=lambda member: 11 + member["index"] % 3, complete=False)
    scores = sweeps.score_members(sweep)
    assert scores.updates == 11 and scores.compared.all()


def test_what_diverged_early_waits_for_the_others_of_its_point(tmp_path):
    def learn(settings, seed):
        return by_rate(settings, seed)[: 2 if settings[RATE] == RATES[1] and seed == 0 else None]

    points = grid(optimizer__learning_rate=RATES[:2])
    scores, standings = analysed(read(tmp_path / "a", points, learn, seeds=2, rows=waves(3), complete=False))
    np.testing.assert_array_equal(scores.compared, [True, True, False, False])
    np.testing.assert_array_equal(standings.ranking, [0])
    scores, standings = analysed(read(tmp_path / "b", points, learn, seeds=2, rows=waves(15), complete=False))
    assert scores.updates == 15 and scores.compared.all() and scores.diverged.tolist() == [False, False, True, False]


def test_who_diverges_after_the_comparison_has_not_diverged_in_it(tmp_path):
    def learn(settings, seed):
        return by_rate(settings, seed)[: 16 if settings[RATE] == RATES[0] and seed == 0 else None]

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), learn, seeds=4, rows=waves(14), complete=False)
    scores = sweeps.score_members(sweep)
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
        rows=lambda member: -(-10 // (1 + member["seed"])),
        complete=False,
    )
    np.testing.assert_array_equal(sweep.rows, [10, 5, 4] * 2)
    scores = sweeps.score_members(sweep)
    assert sweep.done.all() and scores.compared.all()
    np.testing.assert_array_equal(scores.finals, [100, 101, 102, 200, 201, 202])


def test_limits_that_are_swept_are_those_of_the_member(tmp_path):
    sweep = read(
        tmp_path,
        grid(num_updates=(5, UPDATES)),
        lambda s, k: level(1),
        seeds=2,
        rows=lambda m: 5,
        complete=False,
    )
    np.testing.assert_array_equal(sweep.done, [True, True, False, False])


@pytest.mark.parametrize("cells", [1, 7, 40])
def test_a_statistic_of_cells_is_that_of_each_cell(cells):
    rng = np.random.default_rng(0)
    values, cell = rng.normal(size=200), rng.integers(cells, size=200) // 2 * 2
    found = sweeps.by_cell(interquartile_mean, values, cell, cells + 1)
    for k in range(cells + 1):
        inside = values[cell == k]
        expected = scipy.stats.trim_mean(inside, 0.25) if inside.size else np.nan
        np.testing.assert_allclose(found[k], expected, rtol=1e-12)


def test_cells_of_one_size_are_computed_at_once():
    calls = []

    def statistic(runs):
        calls.append(runs.shape)
        return runs.mean(axis=(0, 1))

    sweeps.by_cell(statistic, np.arange(3003.0), np.append(np.repeat(np.arange(1000), 3), [1000] * 3), 1001)
    assert calls == [(1, 3, 1001)]


def test_heat_maps_pool_all_members_with_both_values(tmp_path):
    points = grid(haepo__score=("sum", "mean"), optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES[:3])
    sweep = read(tmp_path, points, hump_that_diverges, seeds=4)
    scores = sweeps.score_members(sweep)
    _, rate, entropy = sweep.settings
    score, failed = sweeps.pooled(sweep, scores, rate, entropy)
    assert score.shape == failed.shape == (6, 3)
    finals = scores.finals.reshape(2, 6, 3, 4)
    for row in range(6):
        for column in range(3):
            expected = scipy.stats.trim_mean(finals[:, row, column].ravel(), 0.25)
            assert score[row, column] == pytest.approx(expected)
    np.testing.assert_array_equal(failed, np.repeat([[0.0], [0.0], [0.0], [0.0], [0.0], [0.5]], 3, axis=1))


def test_a_cell_without_members_is_empty(tmp_path):
    sweep = read(tmp_path, SCORES, hump, fixed=[SCORE], rows=lambda m: 20 * ("sum" in m["group"]), complete=False)
    score, failed = sweeps.pooled(sweep, sweeps.score_members(sweep), *sweep.settings)
    labels = sweep.settings[0].labels
    assert [np.isnan(row).all() for row in score] == [label != "sum" for label in labels]
    np.testing.assert_array_equal(np.isnan(score), np.isnan(failed))


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {RATE: float(10 ** rng.uniform(-4, -1)), "haepo.num_epochs": int(rng.integers(1, 4)), SCORE: "sum"}
        for _ in range(count)
    ]


DISTRIBUTIONS = {RATE: {"log_uniform": [1e-4, 0.1]}, "haepo.num_epochs": {"integer": [1, 3]}, SCORE: ["sum", "mean"]}


@pytest.mark.parametrize(("count", "bins"), [(3, 2), (8, 2), (18, 3), (32, 4), (72, 6), (500, 6)])
def test_drawn_numbers_are_binned_by_quantiles(tmp_path, count, bins):
    sweep = read(tmp_path, drawn(count), lambda s, k: level(1), seeds=1, num_samples=count, sweep=DISTRIBUTIONS)
    rate, epochs, score = sweep.settings
    assert rate.binned and len(rate.labels) == bins
    sizes = np.bincount(rate.level)
    assert sizes.max() - sizes.min() <= 1 and sizes.sum() == count
    values = np.array([point[RATE] for point in sweep.points])
    ends = [(values[rate.level == k].min(), values[rate.level == k].max()) for k in range(bins)]
    assert all(low[1] < high[0] for low, high in itertools.pairwise(ends))
    for label, (low, high) in zip(rate.labels, ends, strict=True):
        told = [float(part) for part in label.split(" to ")]
        np.testing.assert_allclose(told, [low, high] if len(told) == 2 else [low], rtol=0.06)
    assert epochs.binned == (count == 8) and score == ("haepo.score", ("sum",), score.level, False)


def test_given_values_are_binned_only_where_they_are_many(tmp_path):
    for count, binned in ((12, False), (13, True)):
        points = grid(haepo__kl_coef=[k / 100 for k in range(count)])
        (setting,) = read(tmp_path / str(count), points, lambda s, k: level(1), seeds=1).settings
        assert setting.binned == binned and len(setting.labels) == (2 if binned else 12)


def test_values_are_ordered_and_named(tmp_path):
    points = grid(
        haepo__score=("sum", "mean"),
        policy__hidden_sizes=([64, 64], [32]),
        optimizer__learning_rate=(0.1, 0.001, 0.00123456),
    )
    score, sizes, rate = read(tmp_path, points, lambda s, k: level(1), seeds=1).settings
    assert (score.name, score.labels, sizes.labels) == ("haepo.score", ("sum", "mean"), ("64x64", "32"))
    assert rate.labels == ("0.001", "0.00123", "0.1") and rate.level.tolist() == [2, 0, 1] * 4


def test_values_that_look_alike_are_told_in_full(tmp_path):
    points = grid(optimizer__learning_rate=(0.00123456, 0.00123457))
    (rate,) = read(tmp_path, points, lambda s, k: level(1), seeds=1).settings
    assert rate.labels == ("0.00123456", "0.00123457")


def explained(sweep):
    scores, standings = analysed(sweep)
    return {one.setting.name: one for one in sweeps.sensitivities(sweep, scores, standings)}


def test_a_share_is_the_variance_between_the_values_over_all(tmp_path):
    sweep = read(tmp_path, BOTH, hump_that_diverges, seeds=8)
    scores, standings = analysed(sweep)
    found = sweeps.sensitivities(sweep, scores, standings)
    table = standings.score.reshape(6, 6)
    total = table.var()
    expected = {RATE: table.mean(axis=1).var() / total, ENTROPY: table.mean(axis=0).var() / total}
    assert {one.setting.name: pytest.approx(float(one.share.value)) for one in found} == expected
    assert [one.setting.name for one in found] == [RATE, ENTROPY]
    for one in found:
        assert 0 <= one.share.low <= one.share.value <= one.share.high <= 1
    assert found[0].best == "0.003" and found[1].best == f"{ENTROPIES[table.mean(axis=0).argmax()]:g}"
    assert sum(one.share.value for one in found) < 1


def test_settings_that_add_up_explain_everything_between_them(tmp_path):
    def learn(settings, seed):
        return level(3 * RATES.index(settings[RATE]) + ENTROPIES.index(settings[ENTROPY]))

    found = explained(read(tmp_path, BOTH, learn, seeds=2))
    assert found[RATE].share.value == pytest.approx(0.9) and found[ENTROPY].share.value == pytest.approx(0.1)
    # Seeds that are alike leave no doubt.
    np.testing.assert_allclose(found[RATE].share, 0.9)


def test_the_interval_comes_of_the_noise_between_seeds(tmp_path):
    def learn(noise):
        return lambda s, k: level(RATES.index(s[RATE]) + noise * hump(s, k)[-1])

    widths = []
    for noise in (0.001, 0.02):
        share = explained(read(tmp_path / str(noise), BOTH, learn(noise), seeds=8))[RATE].share
        widths.append(share.high - share.low)
    assert 0 < widths[0] < widths[1]


def test_the_interval_is_that_of_interquartile_means(tmp_path):
    def learn(settings, seed):
        # One seed of eight, another in each point, is far off: in the mean it would drown the learning rate.
        index = 6 * RATES.index(settings[RATE]) + ENTROPIES.index(settings[ENTROPY])
        return level(1000 if seed == index % 8 else RATES.index(settings[RATE]))

    sweep = read(tmp_path, BOTH, learn, seeds=8)
    share = explained(sweep)[RATE].share
    finals = sweeps.score_members(sweep).finals.reshape(36, 8)
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(400):
        drawn_again = np.stack([row[rng.integers(8, size=8)] for row in finals])
        table = scipy.stats.trim_mean(drawn_again, 0.25, axis=1).reshape(6, 6)
        shares.append(table.mean(axis=1).var() / table.var())
    assert share.value == pytest.approx(1.0)
    assert share.low == pytest.approx(np.quantile(shares, 0.025), abs=0.02)


def test_where_points_are_drawn_the_interval_comes_of_the_draw(tmp_path):
    points = drawn(60)
    sweep = read(
        tmp_path, points, lambda s, k: level(s["haepo.num_epochs"]), seeds=2, num_samples=60, sweep=DISTRIBUTIONS
    )
    _, standings = analysed(sweep)
    assert not sweeps.is_grid(sweep) and not sweeps.draws_seeds(sweep, standings)
    found = explained(sweep)
    assert list(found) == ["haepo.num_epochs", RATE]  # the score has one value
    np.testing.assert_allclose(found["haepo.num_epochs"].share, 1.0)
    assert found[RATE].share.low < found[RATE].share.value < found[RATE].share.high
    assert found[RATE].by_chance == 4 / 59


def test_by_chance_is_what_a_setting_without_effect_explains_on_average(tmp_path):
    sweep = read(tmp_path, drawn(40), hump, seeds=1, num_samples=40, sweep=DISTRIBUTIONS)
    scores, standings = analysed(sweep)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        shuffled = standings._replace(score=rng.permutation(standings.score))
        by_name = {one.setting.name: one for one in sweeps.sensitivities(sweep, scores, shuffled)}
        shares.append(by_name[RATE].share.value)
    assert np.mean(shares) == pytest.approx(by_name[RATE].by_chance, rel=0.25)


@pytest.mark.parametrize(
    ("points", "options", "seeds_drawn"),
    [
        (BOTH, {"seeds": 2}, True),
        (BOTH, {"seeds": 1}, False),
        (BOTH, {"seeds": 2, "num_samples": 36}, False),
        # Of the last point only one seed has begun.
        (BOTH, {"seeds": 2, "rows": lambda m: UPDATES * (m["index"] < 71), "complete": False}, False),
    ],
)
def test_seeds_are_drawn_where_points_are_given_and_alike(tmp_path, points, options, seeds_drawn):
    sweep = read(tmp_path, points, hump, **options)
    assert sweeps.draws_seeds(sweep, analysed(sweep)[1]) == seeds_drawn
    assert all(np.isfinite(one.share).all() for one in explained(sweep).values())


def test_a_setting_of_which_one_value_has_begun_explains_nothing_known(tmp_path):
    sweep = read(tmp_path, SCORES, hump, fixed=[SCORE], rows=lambda m: 20 * ("sum" in m["group"]), complete=False)
    found = explained(sweep)
    assert list(found) == [RATE, SCORE]
    assert np.isnan(found[SCORE].share).all() and found[RATE].share.value == pytest.approx(1.0)


def test_where_all_scores_are_equal_nothing_is_explained(tmp_path):
    found = explained(read(tmp_path, BOTH, lambda s, k: level(500)))
    assert np.isnan([one.share for one in found.values()]).all()


def test_the_default_is_the_point_of_the_configs_own_values(tmp_path):
    sweep = read(tmp_path / "a", BOTH, hump, seeds=1)
    assert sweep.points[sweeps.default_point(sweep)] == {RATE: 3e-3, ENTROPY: 5e-3}
    changed = read(tmp_path / "b", BOTH, hump, seeds=1, optimizer={"learning_rate": 1e-2})
    assert changed.points[sweeps.default_point(changed)] == {RATE: 1e-2, ENTROPY: 5e-3}
    assert sweeps.default_point(read(tmp_path / "c", BOTH, hump, seeds=1, haepo={"entropy_coef": 0.02})) is None
    points = grid(policy__hidden_sizes=([32], [64, 64]), env_params__gravity=(9.8, 20.0))
    options = {"seeds": 1, "env_params": {"gravity": 9.8}}
    assert sweeps.default_point(read(tmp_path / "d", points, lambda s, k: level(1), **options)) == 2
    del options["env_params"]
    assert sweeps.default_point(read(tmp_path / "e", points, lambda s, k: level(1), **options)) is None


def test_a_learning_curve_against_updates(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES), hump_that_diverges, seeds=4)
    scores = sweeps.score_members(sweep)
    places, values = sweeps.learning_curve(sweep, scores, len(RATES) - 1)
    np.testing.assert_array_equal(places, np.arange(1, UPDATES + 1))
    for seed in range(4):
        series = hump(sweep.points[-1], seed).astype(np.float32)
        if seed % 2:  # it had seven updates, and counts as failed from there on
            series[7:] = scores.worst
        np.testing.assert_allclose(values[seed], series, rtol=1e-6)


def test_a_learning_curve_against_environment_steps(tmp_path):
    # Steps of 100 and 200 an update; the second diverges after 700 and 1400 of them.
    def learn(settings, seed):
        return np.arange(float(UPDATES))[: 7 if settings[RATE] == RATES[1] and seed else None]

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:2]), learn, seeds=2, max_env_steps=2000)
    scores = sweeps.score_members(sweep)
    assert sweeps.counts_steps(sweep)
    places, values = sweeps.learning_curve(sweep, scores, 0)
    assert places[-1] == 2000 and len(places) == sweeps.CURVE_POINTS
    np.testing.assert_array_equal(values[0], np.maximum(places // 100 - 1, 0))
    np.testing.assert_array_equal(values[1], np.maximum(places // 200 - 1, 0))
    places, values = sweeps.learning_curve(sweep, scores, 1)
    assert places[-1] == 2000
    np.testing.assert_array_equal(
        values[1], np.where(places > 1400, scores.worst, np.maximum(np.minimum(places // 200, 7) - 1, 0))
    )


def test_a_long_learning_curve_is_thinned(tmp_path):
    write_sweep(tmp_path, grid(optimizer__learning_rate=RATES[:2]), lambda s, k: level(1), seeds=1, num_updates=999)
    (tmp_path / "metrics" / "part-00000-00000000.parquet").unlink()
    sweep = sweeps.read_sweep(tmp_path)
    longer = np.tile(np.arange(999.0, dtype=np.float32), (2, 1))
    sweep = dataclasses.replace(sweep, returns=longer, rows=np.full(2, 999), done=np.full(2, True))
    places, values = sweeps.learning_curve(sweep, sweeps.score_members(sweep), 0)
    assert len(places) == sweeps.CURVE_POINTS and (places[0], places[-1]) == (1, 999)
    np.testing.assert_array_equal(values[0], places - 1)


def test_progress_tells_of_each_group(tmp_path):
    def rows(member):
        ahead = 2 * (member["settings"][RATE] == RATES[0])
        return {"log_ratio": UPDATES, "mean": 8 + ahead, "sum": 0}[member["settings"][SCORE]]

    def learn(settings, seed):
        return hump(settings, seed)[: 5 if seed == 3 else None]

    sweep = read(tmp_path, SCORES, learn, seeds=4, fixed=[SCORE], rows=rows, complete=False)
    assert sweeps.progress(sweep) == (
        ("haepo.score=log_ratio", 8, 8, 8, 2, 20, 20),
        ("haepo.score=mean", 8, 8, 2, 2, 8, 10),
        ("haepo.score=sum", 8, 0, 0, 0, 0, 0),
    )


def test_parts_of_groups_may_differ_in_their_columns(tmp_path):
    def columns(name):
        return pyarrow.dataset.dataset(tmp_path / "metrics" / name).schema.names

    write_sweep(tmp_path, SCORES, hump, fixed=[SCORE])
    first, second = (columns(f"part-0000{k}-00000000.parquet") for k in (0, 1))
    assert set(first) - set(second) == {"effective_sample_size"}
    assert (sweeps.read_sweep(tmp_path).rows == UPDATES).all()


def test_a_file_that_is_being_written_is_not_read(tmp_path):
    write_sweep(tmp_path, SCORES, hump, fixed=[SCORE])
    (tmp_path / "metrics" / ".part-00000-00000100.parquet.tmp").write_bytes(b"half")
    assert (sweeps.read_sweep(tmp_path).rows == UPDATES).all()


def no_config(folder):
    (folder / "config.json").unlink()


def no_members(folder):
    (folder / "members.json").unlink()


def no_metrics(folder):
    for part in (folder / "metrics").iterdir():
        part.unlink()


def no_folder_of_metrics(folder):
    no_metrics(folder)
    (folder / "metrics").rmdir()


def damaged_members(folder):
    (folder / "members.json").write_text("[{")


def damaged_part(folder):
    part = sorted((folder / "metrics").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-20])


def foreign_rows(folder):
    members = json.loads((folder / "members.json").read_text())
    write_metrics(folder / "metrics", 9, [members[-1] | {"index": 99}], hump, lambda member: UPDATES)


def rows_of_something_else(folder):
    part = sorted((folder / "metrics").iterdir())[0]
    table = pyarrow.dataset.dataset(part).to_table()
    pyarrow.parquet.write_table(table.drop_columns(["env_steps"]), part)


def nothing_swept(folder):
    members = json.loads((folder / "members.json").read_text())
    (folder / "members.json").write_text(json.dumps([member | {"settings": {}} for member in members]))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_config, "holds no run: there is no config.json in it."),
        (no_members, "holds no run: there is no members.json in it."),
        (no_metrics, "holds a sweep that has written no metrics yet; ask again after its first updates."),
        (no_folder_of_metrics, "holds a sweep that has written no metrics yet; ask again after its first updates."),
        (damaged_members, "members.json is damaged"),
        (damaged_part, "metrics cannot be read: "),
        (foreign_rows, "has rows of member 99, but members.json has 24 members"),
        (rows_of_something_else, "is not that of a sweep: it has rows without env_steps."),
        (nothing_swept, "holds a run without swept settings"),
    ],
)
def test_a_folder_that_cannot_be_read_is_told_in_a_sentence(tmp_path, spoil, sentence):
    write_sweep(tmp_path, SCORES, hump)
    spoil(tmp_path)
    with pytest.raises(ConfigError) as error:
        sweeps.read_sweep(tmp_path)
    assert sentence in str(error.value) and len(str(error.value).splitlines()) == 1
