import numpy as np
import pytest
import scipy.stats
from helpers.made_up_sweeps import (
    BOTH,
    DISTRIBUTIONS,
    ENTROPIES,
    ENTROPY,
    RATE,
    RATES,
    SCORE,
    SCORES,
    UPDATES,
    analysed,
    drawn,
    hump,
    hump_that_diverges,
    level,
    read,
)

from haepo_jax.reports.sweep.folder import is_grid
from haepo_jax.reports.sweep.ranking import score_members
from haepo_jax.reports.sweep.sensitivity import draws_seeds, measure_sensitivities


def explained(sweep):
    scores, ranking = analysed(sweep)
    return {one.setting.name: one for one in measure_sensitivities(sweep, scores, ranking)}


def test_a_share_is_the_variance_between_the_values_over_all(tmp_path):
    sweep = read(tmp_path, BOTH, hump_that_diverges, seeds=8)
    scores, ranking = analysed(sweep)
    found = measure_sensitivities(sweep, scores, ranking)
    table = ranking.score.reshape(6, 6)
    total = table.var()
    expected = {RATE: table.mean(axis=1).var() / total, ENTROPY: table.mean(axis=0).var() / total}
    assert {one.setting.name: pytest.approx(float(one.share.value)) for one in found} == expected
    assert [one.setting.name for one in found] == [RATE, ENTROPY]
    for one in found:
        assert 0 <= one.share.low <= one.share.value <= one.share.high <= 1
    assert found[0].highest == "0.003" and found[1].highest == f"{ENTROPIES[table.mean(axis=0).argmax()]:g}"
    assert sum(one.share.value for one in found) < 1


def test_settings_that_add_up_explain_everything_between_them(tmp_path):
    def learn(settings, seed):
        return level(3 * RATES.index(settings[RATE]) + ENTROPIES.index(settings[ENTROPY]))

    found = explained(read(tmp_path, BOTH, learn, seeds=5))
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
    finals = score_members(sweep).finals.reshape(36, 8)
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
    _, ranking = analysed(sweep)
    assert not is_grid(sweep) and not draws_seeds(sweep, ranking)
    found = explained(sweep)
    assert list(found) == ["haepo.num_epochs", RATE]  # the score has one value
    np.testing.assert_allclose(found["haepo.num_epochs"].share, 1.0)
    assert found[RATE].share.low < found[RATE].share.value < found[RATE].share.high
    assert found[RATE].by_chance == 4 / 59


def test_by_chance_is_what_a_setting_without_effect_explains_on_average(tmp_path):
    sweep = read(tmp_path, drawn(40), hump, seeds=1, num_samples=40, sweep=DISTRIBUTIONS)
    scores, ranking = analysed(sweep)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        shuffled = ranking._replace(score=rng.permutation(ranking.score))
        by_name = {one.setting.name: one for one in measure_sensitivities(sweep, scores, shuffled)}
        shares.append(by_name[RATE].share.value)
    assert np.mean(shares) == pytest.approx(by_name[RATE].by_chance, rel=0.25)


@pytest.mark.parametrize(
    ("points", "options", "seeds_drawn"),
    [
        (BOTH, {"seeds": 5}, True),
        (BOTH, {"seeds": 1}, False),
        (BOTH, {"seeds": 5, "num_samples": 36}, False),
        # Of the last point only four seeds have begun.
        (BOTH, {"seeds": 5, "rows": lambda m: UPDATES * (m.index < 179), "complete": False}, False),
    ],
)
def test_seeds_are_drawn_where_points_are_given_and_alike(tmp_path, points, options, seeds_drawn):
    sweep = read(tmp_path, points, hump, **options)
    assert draws_seeds(sweep, analysed(sweep)[1]) == seeds_drawn
    assert all(np.isfinite(one.share).all() for one in explained(sweep).values())


def test_a_share_of_few_seeds_has_no_interval(tmp_path):
    sweep = read(tmp_path, BOTH, hump, seeds=4)
    for one in explained(sweep).values():
        assert np.isfinite(one.share.value) and np.isnan(one.share.low) and np.isnan(one.share.high)


def test_a_setting_of_which_one_value_has_begun_explains_nothing_known(tmp_path):
    sweep = read(tmp_path, SCORES, hump, fixed=[SCORE], rows=lambda m: 20 * ("sum" in m.group), complete=False)
    found = explained(sweep)
    assert list(found) == [RATE, SCORE]
    assert np.isnan(found[SCORE].share).all() and found[RATE].share.value == pytest.approx(1.0)


def test_where_all_scores_are_equal_nothing_is_explained(tmp_path):
    found = explained(read(tmp_path, BOTH, lambda s, k: level(500)))
    assert np.isnan([one.share for one in found.values()]).all()
