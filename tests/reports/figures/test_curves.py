import numpy as np
from helpers.canvases import kept_canvases

from haepo_jax.reports.figures.curves import Series, _choose_points, curves

LABELS = {"x_label": "updates", "y_label": "return"}


def test_a_long_curve_is_drawn_through_the_points_that_shape_it():
    x = np.linspace(0, 1, 5001)
    heights = np.stack([np.exp(-x * 20), x])
    heights[1, 2500] = 0.9
    points = _choose_points(x, heights)
    assert len(points) < 60 and {0, 2500, 5000} <= set(points.tolist())
    for height in heights:
        assert np.abs(np.interp(x, x[points], height[points]) - height).max() <= 0.001


def test_gaps_stay_gaps():
    x, heights = np.linspace(0, 1, 100), np.zeros((1, 100))
    heights[0, 40:60] = np.nan
    points = _choose_points(x, heights)
    assert points.tolist() == [0, 39, 40, 59, 60, 99]
    assert _choose_points(np.empty(0), np.empty((1, 0))).size == 0


def test_runs_are_faint_lines_behind_their_mean_and_within_the_axes(monkeypatch):
    x, runs = np.arange(5.0), np.stack([np.full(5, 10.0 * k) for k in range(70)])
    with kept_canvases(monkeypatch) as canvases:
        curves([Series("mean", x, runs.mean(0), runs=runs)], **LABELS)
    (axes,) = canvases[0].axes
    faint = [line for line in axes.lines if line.get_alpha()]
    assert len(faint) == 64 and {line.get_color() for line in axes.lines} == {faint[0].get_color()}
    assert axes.get_ylim()[0] < 0 and 630 < axes.get_ylim()[1] < 690


def test_a_figure_of_very_many_curves_has_no_legend(monkeypatch):
    x = np.arange(3.0)
    with kept_canvases(monkeypatch) as canvases:
        for number in (24, 25):
            curves([Series(f"setting {k}", x, x + k) for k in range(number)], **LABELS)
    assert [len(canvas.legends) for canvas in canvases] == [1, 0]
