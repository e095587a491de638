import dataclasses
import warnings

import numpy as np
from helpers.made_up_sweeps import RATE, RATES, UPDATES, grid, hump, hump_that_diverges, level, read

from haepo_jax.reports.sweep.curves import (
    CURVE_POINTS,
    Places,
    collect_curves,
    collect_metric,
    estimate_known,
)
from haepo_jax.reports.sweep.folder import counts_steps
from haepo_jax.reports.sweep.ranking import score_members

NAN = np.nan


def test_a_learning_curve_against_updates(tmp_path):
    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES), hump_that_diverges, seeds=4)
    scores = score_members(sweep)
    places, values = collect_curves(sweep, scores, len(RATES) - 1, by_steps=False)
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
    scores = score_members(sweep)
    assert counts_steps(sweep)
    places, values = collect_curves(sweep, scores, 0, by_steps=True)
    assert places[-1] == 2000 and len(places) == CURVE_POINTS
    np.testing.assert_array_equal(values[0], np.maximum(places // 100 - 1, 0))
    np.testing.assert_array_equal(values[1], np.maximum(places // 200 - 1, 0))
    places, values = collect_curves(sweep, scores, 1, by_steps=True)
    assert places[-1] == 2000
    np.testing.assert_array_equal(
        values[1], np.where(places > 1400, scores.worst, np.maximum(np.minimum(places // 200, 7) - 1, 0))
    )


def test_before_any_episode_has_ended_there_is_no_curve_and_later_the_newest_return(tmp_path):
    # As of PPO, of whose updates some end no episode; the second member diverges after seven updates.
    def learn(settings, seed):
        returns = np.arange(float(UPDATES))
        returns[[0, 1, 10]] = NAN
        return returns[: 7 if seed else None]

    sweep = read(tmp_path, grid(optimizer__learning_rate=RATES[:1]), learn, seeds=2)
    scores = score_members(sweep)
    _, values = collect_curves(sweep, scores, 0, by_steps=False)
    np.testing.assert_array_equal(values[0], [NAN, NAN, *range(2, 10), 9, *range(11, UPDATES)])
    np.testing.assert_array_equal(values[1], [NAN, NAN, *range(2, 7), *[scores.worst] * (UPDATES - 7)])


def test_a_long_learning_curve_is_thinned(tmp_path):
    points = grid(optimizer__learning_rate=RATES[:2])
    sweep = read(tmp_path, points, lambda s, k: level(1), seeds=1, num_updates=999, complete=False)
    longer = np.tile(np.arange(999.0, dtype=np.float32), (2, 1))
    sweep = dataclasses.replace(sweep, returns=longer, rows=np.full(2, 999), done=np.full(2, True))
    places, values = collect_curves(sweep, score_members(sweep), 0, by_steps=False)
    assert len(places) == CURVE_POINTS and (places[0], places[-1]) == (1, 999)
    np.testing.assert_array_equal(values[0], places - 1)


def test_a_metric_is_its_newest_value_until_its_member_diverges():
    row, gone = np.array([[0, 1, 3], [1, 1, 1]]), np.array([[False] * 3, [False, False, True]])
    values = np.array([[NAN, 2.0, NAN, NAN], [1.0, np.inf, 9.0, 9.0]], np.float32)
    read = collect_metric(Places(np.arange(3.0), row, gone), values)
    np.testing.assert_array_equal(read, [[NAN, 2.0, 2.0], [1.0, 1.0, NAN]])


def test_a_metric_is_estimated_over_those_that_have_it():
    values = np.array([[1.0, 1.0, NAN], [3.0, NAN, NAN], [5.0, 5.0, NAN], [7.0, 7.0, NAN], [9.0, 9.0, NAN]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, low, high = estimate_known(values)
    np.testing.assert_array_equal(value, [5.0, 6.0, NAN])
    assert low[0] <= 5.0 <= high[0] and np.isnan([low[1], high[1]]).all()  # four have no interval
