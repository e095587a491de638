import json
import re
from importlib import resources

import numpy as np
import pytest
from helpers.html_page import Page

from haepo_jax.reports import figures
from haepo_jax.reports.colours import DARK_GROUND, IN_THE_DARK, LIGHT_GROUND, add_dark_rules
from haepo_jax.reports.html import render
from haepo_jax.reports.inline_svg import inline
from haepo_jax.reports.page import Figure, Report, Section

X = np.arange(1.0, 5.0)
CURVES = [
    figures.Series("PPO", X, 10 * X, 9 * X, 11 * X, runs=np.stack([10 * X, 11 * X])),
    figures.Series("HAEPO", X, np.array([1.0, np.nan, 3.0, 4.0])),
]


@pytest.fixture(scope="module")
def drawing():
    return figures.curves(CURVES, x_label="steps", y_label="return")


def readings(svg):
    (found,) = re.findall(r'data-readings="([^"]*)"', svg if isinstance(svg, str) else svg.decode())
    return json.loads(found.replace("&quot;", '"').replace("&#x27;", "'").replace("&lt;", "<").replace("&amp;", "&"))


def test_drawings_on_one_page_share_no_name(drawing):
    figure = Figure(drawing, "a", "c", drawing)
    page = Page(render(Report("t", "f", (Section("s", "t", "q", (), (figure, figure)),))))
    names = page.attributes("id")
    assert len(names) == len(set(names)) > 20
    used = {value[1:] for value in page.attributes("href") if value.startswith("#figure-")}
    used |= {value[5:-1] for value in page.attributes("clip-path")}
    assert used <= set(names) and len(used) > 20


def test_a_drawing_of_a_page_is_named_for_those_who_do_not_see_it(drawing):
    root = Page(inline(drawing, "p-", 'A "rise".', "wide")).elements[0]
    assert root[0] == "svg" and (root[1]["role"], root[1]["aria-label"], root[1]["class"]) == (
        "img",
        'A "rise".',
        "wide",
    )
    assert "viewbox" in root[1] and "width" not in root[1]


def test_every_part_of_a_curve_and_its_entry_in_the_legend_can_be_hidden(drawing):
    classes = Page(inline(drawing, "p-", "a", "wide")).attributes("class")
    parts = {name: [kind.split()[-1] for kind in classes if f"{name} " in kind] for name in ("series-0", "series-1")}
    assert sorted(parts["series-0"]) == ["band-0", "key", "line-0", "marks-0", "name", "run-0-0", "run-1-0"]
    assert sorted(parts["series-1"]) == ["key", "line-0", "marks-0", "name"]
    assert classes.count("box") == 1


def test_values_are_read_off_a_curve_where_it_has_them(drawing):
    (axes,) = readings(drawing)
    first, second = axes["curves"]
    assert (axes["of"], first["n"], first["s"], first["x"]) == ("steps", "PPO", 0, [1.0, 4.0, False])
    assert (first["v"], first["l"], first["h"]) == ([10, 20, 30, 40], [9, 18, 27, 36], [11, 22, 33, 44])
    assert second["v"] == [1, None, 3, 4] and "l" not in second
    assert axes["x"][0] < 1 and axes["x"][1] > 4 and axes["y"][2] is False


def test_values_are_read_off_rows_and_cells():
    (rows,) = readings(
        figures.intervals([("PPO", 2.0, 1.0, np.inf), ("GRPO", np.nan, np.nan, np.nan)], x_label="steps")
    )
    assert rows["rows"] == [[0, "PPO: 2 [1, never]"], [1, "GRPO: no value"]]
    (seeds,) = readings(figures.strip([("PPO", [3.0, 1.0, 2.0])], x_label="steps"))
    assert seeds["rows"] == [[0, "PPO: median 2 [1, 3] (lowest, highest)"]]
    cells = figures.heat_map(
        np.array([[1.0, np.nan]]),
        np.array([[0.5, 0.0]]),
        x_names="ab",
        y_names="c",
        x_label="rate",
        y_label="score",
        value_label="return",
        failed_label="diverged",
    )
    assert readings(cells)[0]["cells"] == [["score c, rate a: 1 ✕ 50%", "score c, rate b: –"]]


def test_a_file_is_white_and_dark_where_its_reader_prefers_that(drawing):
    text = drawing.decode()
    dark = re.search(r"@media \(prefers-color-scheme: dark\) \{(.*?)\n\}", text, re.DOTALL)[1]
    changed = dict(re.findall(r'style\*="fill: (#[0-9a-f]{6})"\] \{ fill: (#[0-9a-f]{6}) !important', dark))
    assert changed[LIGHT_GROUND] == DARK_GROUND and f"svg {{ fill: {IN_THE_DARK['#000000']} }}" in dark
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", re.sub("<style.*?</style>", "", text, flags=re.DOTALL)))
    assert used == set(changed)


def test_a_file_that_was_drawn_without_a_dark_side_gets_one_and_only_one(drawing):
    text = drawing.decode()
    white = re.sub(r"\n@media \(prefers-color-scheme: dark\) \{.*?\n\}", "", text, flags=re.DOTALL)
    assert "@media" not in white
    assert add_dark_rules(white) == add_dark_rules(text) == text


def test_a_page_turns_every_colour_of_its_drawings_dark(drawing):
    text = render(Report("t", "f", (Section("s", "t", "q", (), (Figure(drawing, "a", "c"),)),)))
    page_style, inlined = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1], text[text.index("<main>") :]
    for what, colour in set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", inlined[: inlined.index("<script>")])):
        assert f'figure svg [style*="{what}: {colour}"] {{ {what}: {IN_THE_DARK[colour]} !important }}' in page_style


def test_the_script_is_small_and_refers_to_nothing():
    script = resources.files("haepo_jax.reports").joinpath("page.js").read_text()
    assert len(script) < 12_000 and "</" not in script
    assert not re.findall(r"fetch|XMLHttpRequest|import|eval|innerHTML|https?:(?!//www\.w3\.org/2000/svg)", script)
