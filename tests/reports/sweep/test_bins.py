import itertools

import numpy as np
import pytest
from helpers.made_up_sweeps import DISTRIBUTIONS, RATE, drawn, grid, level, read


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
        edges = [float(part) for part in label.split(" to ")]
        np.testing.assert_allclose(edges, [low, high] if len(edges) == 2 else [low], rtol=0.06)
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


def test_values_that_look_alike_are_written_in_full(tmp_path):
    points = grid(optimizer__learning_rate=(0.00123456, 0.00123457))
    (rate,) = read(tmp_path, points, lambda s, k: level(1), seeds=1).settings
    assert rate.labels == ("0.00123456", "0.00123457")
