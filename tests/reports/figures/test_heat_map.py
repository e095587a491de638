import itertools
import re

import numpy as np
import pytest
from helpers.canvases import kept_canvases

from haepo_jax.reports import figures
from haepo_jax.reports.figures import heat_map

NAN = np.nan
NAMES = {"x_label": "learning_rate", "y_label": "entropy_coef", "value_label": "return", "failed_label": "diverged"}
RANGES = [f"1.{k}e-4 to 2.{k}e-4" for k in range(6)]


def cells(rows, columns, failed=0.0, names=None):
    score = np.linspace(-1234, 500, rows * columns).reshape(rows, columns)
    names = names or [f"{k:g}" for k in np.geomspace(1e-4, 1, 40)]
    return (score, np.full((rows, columns), failed)), {"x_names": names[:columns], "y_names": names[:rows], **NAMES}


HEAT_MAPS = {
    "six by six": cells(6, 6, 0.25),
    "few": cells(1, 1),
    "many": cells(12, 40, 0.5),
    "ranges": cells(6, 6, 0.004, RANGES),
    "long names": cells(3, 3, 0.0, ["a-very-long-name-of-an-environment-v1", "b", "c"]),
    "equal": ((np.full((2, 2), 500.0), np.zeros((2, 2))), cells(2, 2)[1]),
    "gaps": ((np.array([[1.0, NAN], [NAN, 2.0]]), np.array([[0.0, NAN], [NAN, 1.0]])), cells(2, 2)[1]),
}


@pytest.fixture
def canvas(monkeypatch):
    """Draws a heat map, and returns the figure."""

    def draw(name, **options):
        arguments, keywords = HEAT_MAPS[name]
        with kept_canvases(monkeypatch) as kept:
            heat_map(*arguments, **keywords, **options)
        kept[0].draw_without_rendering()
        return kept[0]

    return draw


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
@pytest.mark.parametrize("name", HEAT_MAPS)
def test_parts_of_a_heat_map_lie_within_it_and_apart(canvas, name, width):
    drawn_canvas = canvas(name, width=width)
    edge, (axes, bar) = drawn_canvas.bbox, drawn_canvas.axes
    parts = [axes.get_tightbbox(), bar.get_tightbbox(), *(one.get_window_extent() for one in drawn_canvas.legends)]
    assert drawn_canvas.get_size_inches()[0] == width
    for number, part in enumerate(parts):
        assert part.x0 >= edge.x0 - 1 and part.x1 <= edge.x1 + 1 and part.y0 >= edge.y0 - 1 and part.y1 <= edge.y1 + 1
        assert all(part.y0 >= other.y1 - 1 for other in parts[number + 1 :])
    for side in ("x", "y"):
        boxes = [label.get_window_extent() for label in getattr(axes, f"get_{side}ticklabels")()]
        boxes.sort(key=lambda box: getattr(box, f"{side}0"))
        for one, other in itertools.pairwise(boxes):
            assert getattr(one, f"{side}1") <= getattr(other, f"{side}0") + 1
    label = axes.yaxis.label.get_window_extent()
    assert all(label.x1 <= tick.get_window_extent().x0 + 1 for tick in axes.get_yticklabels())
    rows, columns = HEAT_MAPS[name][0][0].shape
    cell = axes.get_window_extent()
    for text in axes.texts:
        extent = text.get_window_extent()
        assert extent.width <= cell.width / columns + 1 and extent.height <= cell.height / rows + 1
        assert text.get_fontsize() >= 9


def test_cells_show_their_value_and_the_share_that_failed(canvas):
    texts = [text.get_text() for text in canvas("six by six").axes[0].texts]
    assert len(texts) == 36 and texts[0] == "-1,234\n✕ 25%" and texts[-1] == "500\n✕ 25%"
    assert [text.get_text() for text in canvas("gaps").axes[0].texts] == ["1", "–", "–", "2\n✕ 100%"]
    assert canvas("ranges").axes[0].texts[0].get_text() == "-1,234\n✕ <1%"
    assert not canvas("few").legends and canvas("six by six").legends


def test_where_there_is_no_room_for_text_a_cross_marks_failures(canvas):
    axes = canvas("many").axes[0]
    assert not axes.texts and len(axes.lines) == 12 * 40
    assert {line.get_marker() for line in axes.lines} == {"x"}


def test_text_is_read_on_its_colour(canvas):
    axes = canvas("six by six").axes[0]
    (mesh,) = axes.collections
    for text, colour in zip(axes.texts, mesh.get_facecolors(), strict=True):
        linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)[:3]
        light = linear @ [0.2126, 0.7152, 0.0722]
        contrast = (light + 0.05) / 0.05 if text.get_color() == "#010101" else 1.05 / (light + 0.05)
        assert contrast >= 4.5


def test_brighter_is_more(canvas):
    (mesh,) = canvas("six by six").axes[0].collections
    light = mesh.get_facecolors()[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


def test_heat_maps_may_share_their_colours(canvas):
    one, other = (canvas("equal", limits=limits).axes[0].collections[0] for limits in (None, (0.0, 500.0)))
    assert other.norm.vmin == 0.0 and other.norm.vmax == 500.0 and one.norm.vmin < 500.0 < one.norm.vmax


def test_names_and_values_must_agree():
    with pytest.raises(ValueError, match=re.escape("[1 rows, 2 columns], not [2, 2] and [2, 2]")):
        heat_map(np.ones((2, 2)), np.ones((2, 2)), x_names="ab", y_names="a", **NAMES)


def test_a_heat_map_is_the_same_each_time_and_a_png_where_wanted():
    arguments, keywords = HEAT_MAPS["six by six"]
    assert heat_map(*arguments, **keywords) == heat_map(*arguments, **keywords)
    assert heat_map(*arguments, **keywords, image_format="png").startswith(b"\x89PNG")
