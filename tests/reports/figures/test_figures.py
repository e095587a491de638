import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from helpers.canvases import kept_canvases

from haepo_jax.reports import figures
from haepo_jax.reports.figures import NARROW, WIDE, Series
from haepo_jax.reports.figures.axes import NumberFormatter

INF, NAN = np.inf, np.nan
ARMS = (
    *("HAEPO, log_ratio", "HAEPO, mean", "HAEPO, sum", "PPO", "GRPO", "DPO", "REINFORCE", "RLOO", "UCB1"),
    *("Thompson sampling", "uniform"),
)
X = np.linspace(1.0, 1000.0, 60)


def curve(label="PPO", scale=1.0, x=X):
    centre = scale * (1 - np.exp(-x / 200))
    return Series(label, x, centre, centre - 0.1, centre + 0.1)


def eleven():
    return [curve(arm, 1 + number) for number, arm in enumerate(ARMS)]


def ragged():
    """Gaps, a part that is never reached, a band without end, a lone point, and nothing at all."""
    full = curve()
    centre, low, high = (part.copy() for part in full[2:5])
    centre[10:20], low[10:20], high[10:20], centre[30], high[40:] = NAN, NAN, NAN, INF, INF
    lone = np.full(60, NAN)
    lone[7] = 1.0
    return [
        Series("PPO", X, centre, low, high),
        Series("GRPO", X, lone),
        Series("DPO", X, np.full(60, NAN)),
        Series("one", X[:1], X[:1]),
        Series("none", X[:0], X[:0]),
    ]


LABELS = {"x_label": "environment steps", "y_label": "return"}
STEPS = {"x_label": "environment steps to 475"}
POINTS = np.arange(1.0, 34).reshape(3, 11)
ROWS = [(arm, 2.0 + number, 1.5, 3.0 + number) for number, arm in enumerate(ARMS)]
EDGES = [("PPO", INF, 1e4, INF), ("GRPO", 2e4, -INF, INF), ("DPO", NAN, NAN, NAN), ("x", -INF, -INF, 3.0)]
SEEDS = [(arm, np.linspace(100 + number, 500, 64)) for number, arm in enumerate(ARMS)]
LONG = ["HAEPO, log_ratio, sum-normalised", "HAEPO, mean, sum-normalised", "HAEPO, sum, sum-normalised, beta = 0"]
BARS = [("ours", 2.0, "2 s"), ("other", 4.0, "4 s"), (LONG[0], NAN, "only 3 of 32 seeds get there")]
ODD_SEEDS = [("PPO", [1.0, NAN, INF, 3.0]), ("GRPO", [INF] * 5), ("DPO", [NAN, NAN]), ("none", [])]

DRAWINGS = {
    "curves": lambda **o: figures.curves(eleven(), title="Learning", y_line=5.0, y_line_label="5", **LABELS, **o),
    "one curve": lambda **o: figures.curves([curve()], **LABELS, **o),
    "ragged curves": lambda **o: figures.curves(ragged(), **LABELS, **o),
    "logarithmic curves": lambda **o: figures.curves(ragged(), x_log=True, y_log=True, **LABELS, **o),
    "no curves": lambda **o: figures.curves([], **LABELS, **o),
    "panels": lambda **o: figures.panels([(f"K = {k}", eleven()) for k in (10, 20, 30)], title="R", **LABELS, **o),
    "five panels": lambda **o: figures.panels([("p", eleven()[:4])] * 5, share_y=True, **LABELS, **o),
    "profiles": lambda **o: figures.profiles([curve(arm) for arm in ARMS], x_label="final return", **o),
    "intervals": lambda **o: figures.intervals(ROWS, title="Steps", x_log=True, reference=2.0, **STEPS, **o),
    "edges": lambda **o: figures.intervals(EDGES, **STEPS, **o),
    "logarithmic edges": lambda **o: figures.intervals(EDGES, x_log=True, **STEPS, **o),
    "all infinite": lambda **o: figures.intervals([("PPO", INF, INF, INF)], x_log=True, **STEPS, **o),
    "groups": lambda **o: figures.grouped_intervals("abc", ARMS, POINTS, POINTS - 1, POINTS * 2, **STEPS, **o),
    "gaps": lambda **o: figures.grouped_intervals(["a"], ["b"], [[NAN]], [[NAN]], [[NAN]], **STEPS, **o),
    "strip": lambda **o: figures.strip(SEEDS, threshold=475, title="Seeds", **STEPS, **o),
    "long names": lambda **o: figures.intervals([(name, 2.0, 1.0, 3.0) for name in LONG], **STEPS, **o),
    "long names of seeds": lambda **o: figures.strip([(name, [1.0, NAN]) for name in LONG], **STEPS, **o),
    "bars": lambda **o: figures.bars([("Seconds, of both", BARS), ("Steps", BARS)], title="Speed", **o),
    "no bars": lambda **o: figures.bars([("Seconds", [])], **o),
    "odd seeds": lambda **o: figures.strip(ODD_SEEDS, threshold=2, better="lower", x_log=True, **STEPS, **o),
}


@pytest.fixture
def drawn(monkeypatch):
    """Draws, and returns the figure."""

    def draw(name, **options):
        with kept_canvases(monkeypatch) as canvases:
            DRAWINGS[name](**options)
        return canvases[0]

    return draw


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_an_svg_whose_parts_lie_apart_and_within_it(drawn, name, width):
    canvas = drawn(name, width=width)
    canvas.draw_without_rendering()
    edge = canvas.bbox
    assert canvas.get_size_inches()[0] == width
    assert min(text.get_fontsize() for text in canvas.findobj(matplotlib.text.Text)) >= 9
    parts = [axes.get_tightbbox() for axes in canvas.axes]
    parts += [legend.get_window_extent() for legend in canvas.legends]
    if canvas.get_suptitle():
        parts.append(canvas._suptitle.get_window_extent())
    for number, part in enumerate(parts):
        assert part.x0 >= edge.x0 - 1 and part.x1 <= edge.x1 + 1 and part.y0 >= edge.y0 - 1 and part.y1 <= edge.y1 + 1
        for other in parts[number + 1 :]:
            apart = part.x1 <= other.x0 + 1 or other.x1 <= part.x0 + 1
            assert apart or part.y1 <= other.y0 + 1 or other.y1 <= part.y0 + 1


@pytest.mark.parametrize("name", ["panels", "intervals", "edges", "groups"])
def test_numbers_on_an_axis_do_not_run_into_each_other(drawn, name):
    for width in (WIDE, NARROW):
        canvas = drawn(name, width=width)
        canvas.draw_without_rendering()
        for axes in canvas.axes:
            labels = [label for label in axes.get_xticklabels() if label.get_text()]
            boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
            assert len(boxes) >= 2
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_bytes(name):
    svg = DRAWINGS[name]()
    assert svg == DRAWINGS[name]()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<text" not in svg and b"<dc:date" not in svg and len(svg) < 200_000


def test_a_png_for_where_an_svg_does_not_do():
    png = DRAWINGS["curves"](image_format="png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png == DRAWINGS["curves"](image_format="png")


def test_long_names_of_rows_do_not_run_into_each_other(drawn):
    for name in ("long names", "long names of seeds"):
        canvas = drawn(name, width=NARROW)
        canvas.draw_without_rendering()
        boxes = [label.get_window_extent() for label in canvas.axes[0].get_yticklabels()]
        assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


@pytest.mark.parametrize(
    ("values", "log", "said"),
    [
        ([-10000, -5000, 0], False, ["-10k", "-5k", "0"]),
        ([1, 100, 10000], True, ["1", "100", "10k"]),
        ([0, 2.5e6], False, ["0", "2.5M"]),
        ([0.001, 0.1], True, ["0.001", "0.1"]),
    ],
)
def test_numbers_on_an_axis_have_one_unit(values, log, said):
    assert NumberFormatter(log).format_ticks(values) == said


def test_the_settings_of_matplotlib_are_left_alone():
    before = dict(matplotlib.rcParams)
    DRAWINGS["curves"]()
    assert dict(matplotlib.rcParams) == before


def test_infinite_values_have_a_lane_that_says_so(drawn):
    axes = drawn("logarithmic edges").axes[0]
    ticks = dict(zip([label.get_text() for label in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert list(ticks).count("never") == 1  # a name on each end, the same
    assert axes.get_xlim()[0] < 2e4 < ticks["never"] < axes.get_xlim()[1]
    assert "diverged" in " ".join(label.get_text() for label in drawn("odd seeds").axes[0].get_yticklabels())


def test_failed_seeds_are_counted(drawn):
    (axes,) = drawn("odd seeds").axes
    assert [text.get_text() for text in axes.texts if " of " in text.get_text()] == [
        "3 of 4",
        "5 of 5",
        "2 of 2",
        "0 of 0",
    ]


def test_groups_and_values_must_agree():
    with pytest.raises(ValueError, match=re.escape("[2 groups, 1 arms], not [1, 1]")):
        figures.grouped_intervals("ab", ["x"], [[1.0]], [[1.0]], [[1.0]], x_label="steps")


def test_a_figure_for_the_page_has_two_widths():
    figure = figures.responsive(figures.curves, [curve()], alt="a", caption="c", **LABELS)
    widths = [re.search(rb'width="([\d.]+)pt"', image)[1] for image in (figure.image, figure.narrow)]
    assert [float(width) / 72 for width in widths] == pytest.approx([WIDE, NARROW])
    assert (figure.alt, figure.caption) == ("a", "c")


def test_empty_figures_say_that_there_is_no_value():
    nothing = figures.Series("PPO", X, np.full(X.shape, np.nan))
    for drawing in (
        figures.curves([nothing], x_label="x", y_label="y"),
        figures.curves([], x_label="x", y_label="y"),
        figures.intervals([], x_label="x"),
        figures.strip([], x_label="x"),
        figures.strip([("PPO", []), ("GRPO", [1.0])], x_label="x"),
    ):
        assert b"<!-- no value -->" in drawing


def test_a_curve_without_a_band_is_drawn_through_all_that_shapes_it():
    centre, missing = np.sin(X), np.full(X.shape, np.nan)
    plain = figures.curves([figures.Series("PPO", X, centre)], x_label="x", y_label="y")
    assert figures.curves([figures.Series("PPO", X, centre, missing, missing)], x_label="x", y_label="y") == plain
