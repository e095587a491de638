import html
import itertools
import json
import re

import numpy as np
import pytest
from analysis.made_up_sweeps import (
    ENTROPY,
    RATE,
    RATES,
    SCORE,
    UPDATES,
    grid,
    hump,
    hump_that_diverges,
    write_sweep,
)
from reporting.test_page import Page

from haepo_jax.analysis import sweep_report, sweeps
from haepo_jax.reporting import figures
from haepo_jax.reporting.heat_map import heat_map

NAN = np.nan
ENTROPIES = (0.0, 5e-3, 3e-2)
GRID = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)
SCORES = grid(haepo__score=("sum", "mean", "log_ratio"), optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)


def drawn(count):
    rng = np.random.default_rng(0)
    return [
        {
            RATE: float(10 ** rng.uniform(-4, -1)),
            ENTROPY: float(rng.uniform(0, 0.1)),
            "haepo.temperature": float(10 ** rng.uniform(-1, 1)),
            "haepo.num_epochs": int(rng.integers(1, 9)),
            "policy.hidden_sizes": [[64, 64], [32]][int(rng.integers(2))],
        }
        for _ in range(count)
    ]


DISTRIBUTIONS = {
    RATE: {"log_uniform": [1e-4, 0.1]},
    ENTROPY: {"uniform": [0.0, 0.1]},
    "haepo.temperature": {"log_uniform": [0.1, 10.0]},
    "haepo.num_epochs": {"integer": [1, 8]},
    "policy.hidden_sizes": [[64, 64], [32]],
}


def rows_of_score(member):
    return {"log_ratio": UPDATES, "mean": 12, "sum": 0}[member["settings"][SCORE]]


FOLDERS = {
    "grid": lambda folder: write_sweep(folder, GRID, hump_that_diverges, seeds=4),
    "random": lambda folder: write_sweep(
        folder, drawn(40), hump, seeds=2, num_samples=40, sweep=DISTRIBUTIONS, fixed=["policy.hidden_sizes"]
    ),
    "running": lambda folder: write_sweep(
        folder, SCORES, hump_that_diverges, seeds=3, fixed=[SCORE], rows=rows_of_score, complete=False
    ),
    "one setting": lambda folder: write_sweep(
        folder, grid(optimizer__learning_rate=RATES), hump_that_diverges, seeds=4, max_env_steps=2000
    ),
    "one value": lambda folder: write_sweep(folder, grid(optimizer__learning_rate=(3e-3,)), hump, seeds=2),
}


def chapters(folder, name):
    numbers = sweep_report.analyse(sweeps.read_sweep(FOLDERS[name](folder)))
    return {chapter.section.slug: chapter for chapter in sweep_report.make_chapters(numbers)}


def captured(drawing):
    """What a figure is drawn from."""
    return drawing.draw.func, drawing.draw.args, drawing.draw.keywords


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grid", {"best": 1, "sensitivity": 1, "pairs": 1}),
        ("random", {"best": 1, "sensitivity": 1, "pairs": 6}),
        ("running", {"best": 1, "sensitivity": 1, "pairs": 3}),
        ("one setting", {"best": 1, "values": 1}),
        ("one value", {"best": 1}),
    ],
)
def test_the_page_is_whole_needs_nothing_else_and_every_figure_is_a_file_too(tmp_path, name, expected):
    page = sweep_report.write_report(FOLDERS[name](tmp_path))
    assert page == tmp_path / "report.html"
    read = Page(page.read_text())
    assert read.open == []
    references = read.attributes("src") + read.attributes("href") + read.attributes("srcset")
    assert [r for r in references if not r.startswith(("#", "data:"))] == ["https://arxiv.org/abs/2508.18884"]
    anchors = {href[1:] for href in read.attributes("href") if href.startswith("#")}
    assert anchors == {"progress", *expected, "configs", "provenance"} <= set(read.attributes("id"))
    assert "nan" not in re.findall(r"\w+", " ".join(read.text).lower())
    assert len(read.attributes("alt")) == sum(expected.values())
    found = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    names = {f"{slug}-{number}" for slug, count in expected.items() for number in range(1, count + 1)}
    assert set(found) == {f"{stem}.{kind}" for stem in names for kind in ("png", "svg")}
    for file, content in found.items():
        assert content.startswith(b"\x89PNG" if file.endswith("png") else b"<?xml")


def test_the_same_folder_gives_the_same_page(tmp_path):
    FOLDERS["one setting"](tmp_path)
    pages = [sweep_report.write_report(tmp_path).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_heat_map_shows_scores_and_who_diverged(tmp_path):
    (drawing,) = chapters(tmp_path, "grid")["pairs"].drawings
    draw, (score, failed), options = captured(drawing)
    assert draw is heat_map and score.shape == (6, 3)
    assert options["y_names"] == ("0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03")
    assert options["x_names"] == ("0", "0.005", "0.03")
    assert (options["y_label"], options["x_label"]) == ("learning_rate", "entropy_coef")
    assert (failed == np.repeat([[0.0]] * 5 + [[0.5]], 3, axis=1)).all()
    best = np.unravel_index(score.argmax(), score.shape)
    assert f"is at learning_rate 0.003 and entropy_coef {options['x_names'][best[1]]}." in drawing.alt
    assert "members diverged" in drawing.caption and "Grey" not in drawing.caption


def test_the_most_sensitive_settings_make_the_heat_maps(tmp_path):
    parts = chapters(tmp_path, "random")
    ranked = [row[0] for row in parts["sensitivity"].section.tables[0].rows]
    assert ranked[0] == "learning_rate" and len(ranked) == 5
    pairs = {frozenset(captured(d)[2][side] for side in ("x_label", "y_label")) for d in parts["pairs"].drawings}
    assert pairs == {frozenset((one, other)) for one in ranked[:4] for other in ranked[:4] if one != other}
    assert parts["pairs"].section.findings[0] == "Shown are the 4 settings that explain most, of 5."
    # One scale, from the least to the most of all cells.
    (limits,) = {captured(drawing)[2]["limits"] for drawing in parts["pairs"].drawings}
    cells_shown = np.concatenate([captured(drawing)[1][0].ravel() for drawing in parts["pairs"].drawings])
    assert limits == (np.nanmin(cells_shown), np.nanmax(cells_shown))
    assert "Ranges of" in parts["pairs"].drawings[0].caption


def test_one_setting_has_an_interval_for_each_value(tmp_path):
    (drawing,) = chapters(tmp_path, "one setting")["values"].drawings
    draw, (rows,), _ = captured(drawing)
    assert draw is figures.intervals
    assert [row[0] for row in rows] == ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03 (50% diverged)"]
    assert all(low <= value <= high for _, value, low, high in rows)


def test_the_best_ten_and_the_default_are_listed(tmp_path):
    points = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=(0.0, 1e-3, 2e-3, 5e-3))
    folder = write_sweep(tmp_path, points, hump_that_diverges, seeds=4, optimizer={"learning_rate": RATES[0]})
    numbers = sweep_report.analyse(sweeps.read_sweep(folder))
    chapter = {c.section.slug: c for c in sweep_report.make_chapters(numbers)}["best"]
    table, exactly = chapter.section.tables
    assert table.columns == (
        *("rank", "learning_rate", "entropy_coef", "seeds", "final return", "median seed", "worst seed", "diverged"),
    )
    assert [row[0] for row in table.rows[:10]] == [str(place) for place in range(1, 11)]
    scores = [float(row[4].split()[0]) for row in table.rows]
    assert scores == sorted(scores, reverse=True)
    default = table.rows[-1]
    assert len(table.rows) == 11 and table.marked == [10] and default[1:3] == ("0.0001", "0.005")
    assert f"is number {default[0]} of 24 with {default[4]}" in chapter.section.findings[1]
    assert exactly.rows[0] == ("optimizer.learning_rate", table.rows[0][1]) and exactly.folded
    _, (series,), _ = captured(chapter.drawings[0])
    assert [curve.label for curve in series] == ["best", "default"]
    for curve, (row) in zip(series, (table.rows[0], default), strict=True):
        assert (
            float(row[6]) < curve.centre[-1]
            and (curve.low <= curve.centre).all()
            and (curve.centre <= curve.high).all()
        )


def test_numbers_of_the_table_are_those_of_the_members(tmp_path):
    parts = chapters(tmp_path, "grid")
    finals = np.array([hump({RATE: RATES[-1], ENTROPY: 0.0}, seed)[:7].mean() for seed in range(4)])
    numbers = sweep_report.analyse(sweeps.read_sweep(tmp_path))
    assert numbers.scores.worst < finals.max()
    told = f"has the worst final return that any member has, {numbers.scores.worst:.3g}, so that"
    assert any(told in finding for finding in parts["progress"].section.findings)
    assert parts["best"].section.tables[0].marked


@pytest.mark.parametrize(
    ("changes", "finding", "caption", "labels"),
    [
        ({"haepo": {"entropy_coef": 0.02}}, "The sweep does not hold the default", "does not hold", ["best"]),
        ({}, "is number", "and the default, learning_rate 0.003", ["best", "default"]),
        ({"haepo": {"entropy_coef": 0.0}}, "That is the default.", "is the default", ["best, the default"]),
    ],
)
def test_the_page_says_what_became_of_the_default(tmp_path, changes, finding, caption, labels):
    def learn(settings, seed):
        return np.full(UPDATES, 100.0 * (settings[RATE] == 3e-3) - 1000 * settings[ENTROPY] + seed)

    folder = write_sweep(tmp_path, GRID, learn, **changes)
    numbers = sweep_report.analyse(sweeps.read_sweep(folder))
    best = sweep_report.make_chapters(numbers)[1]
    assert any(finding in line for line in best.section.findings)
    _, (series,), _ = captured(best.drawings[0])
    assert caption in best.drawings[0].caption and [curve.label for curve in series] == labels


def test_a_default_that_has_not_begun_is_told(tmp_path):
    def rows(member):
        return UPDATES * (member["settings"][RATE] != 3e-3)

    folder = write_sweep(tmp_path, GRID, hump, rows=rows, complete=False)
    numbers = sweep_report.analyse(sweeps.read_sweep(folder))
    best = sweep_report.make_chapters(numbers)[1]
    assert "The default has not come so far yet." in best.section.findings
    assert "The default has not come so far yet." in best.drawings[0].caption


def test_a_running_sweep_says_how_far_it_is(tmp_path):
    parts = chapters(tmp_path, "running")
    findings = " ".join(parts["progress"].section.findings)
    assert "Of 162 members 108 have begun and 57 are done." in findings
    assert "They are 54 combinations of 3 settings, 3 seeds each." in findings
    assert "compared after the same number of updates, 12." in findings
    assert parts["progress"].section.tables[0].rows == [
        ("haepo.score=log_ratio", "54", "54", "54", "3", "20"),
        ("haepo.score=mean", "54", "54", "3", "3", "12"),
        ("haepo.score=sum", "54", "0", "0", "0", "0"),
    ]
    page = html.unescape(sweep_report.write_report(tmp_path).read_text())
    assert "18 more combinations have not come so far. The sweep is not complete: all are compared after 12" in page
    grey = [
        drawing.caption for drawing in parts["pairs"].drawings if "Grey: no member has come so far." in drawing.caption
    ]
    assert len(grey) == 2  # those with the score


def test_combinations_that_are_left_out_are_told(tmp_path):
    folder = write_sweep(
        tmp_path, SCORES, hump, seeds=3, fixed=[SCORE], complete=False, rows=lambda m: min(rows_of_score(m), 5) or 3
    )
    findings = " ".join(
        sweep_report.make_chapters(sweep_report.analyse(sweeps.read_sweep(folder)))[0].section.findings
    )
    assert (
        "updates, 5; combinations that have not come so far, with 54 members that have begun, are left out."
        in findings
    )


def test_sensitivity_tells_what_chance_explains_only_where_values_are_drawn(tmp_path):
    for name, drawn_apart in (("grid", False), ("random", True)):
        (table,) = chapters(tmp_path / name, name)["sensitivity"].section.tables
        assert ("by chance" in table.columns) == ("By chance" in table.note) == drawn_apart
        shares = [float(row[2].split("%")[0]) for row in table.rows]
        assert shares == sorted(shares, reverse=True) and table.rows[0][0] == "learning_rate"


def test_names_are_short_where_that_tells_them_apart(tmp_path):
    points = grid(haepo__num_epochs=(1, 2), ppo__num_epochs=(1, 2), algorithm=("haepo", "ppo"))
    folder = write_sweep(tmp_path, points, lambda s, k: np.full(UPDATES, s["haepo.num_epochs"] + 0.1 * k))
    parts = sweep_report.make_chapters(sweep_report.analyse(sweeps.read_sweep(folder)))
    assert parts[1].section.tables[0].columns[1:4] == ("haepo.num_epochs", "ppo.num_epochs", "algorithm")
    assert "Sweep: several algorithms on CartPole-v1" in sweep_report.write_report(folder).read_text()


def test_the_config_is_shown_without_the_list_of_points(tmp_path):
    folder = FOLDERS["grid"](tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["search"]["points"] = [{"haepo.kl_coef": 0.123456}] * 3
    (folder / "config.json").write_text(json.dumps(config))
    text = html.unescape(sweep_report.write_report(folder).read_text())
    assert "0.123456" not in text
    assert "python -m experiments.sweep --config=configs/grid.py --workdir=runs/grid" in text
    assert "0123abcd" in text and "/usr/bin" not in text


def test_a_page_is_made_without_provenance(tmp_path):
    folder = FOLDERS["grid"](tmp_path)
    (folder / "provenance.json").unlink()
    page = Page(sweep_report.write_report(folder).read_text())
    assert page.open == [] and "provenance" not in page.attributes("id")


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
    """Draws a heat map, and returns the figure before it is written."""

    def draw(name, **options):
        kept = []
        encode = figures._encode
        monkeypatch.setattr(figures, "_encode", lambda *parts: (kept.append(parts[0]), encode(*parts))[1])
        arguments, keywords = HEAT_MAPS[name]
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


def test_cells_say_their_value_and_who_failed(canvas):
    texts = [text.get_text() for text in canvas("six by six").axes[0].texts]
    assert len(texts) == 36 and texts[0] == "-1,234\n✕ 25%" and texts[-1] == "500\n✕ 25%"
    assert [text.get_text() for text in canvas("gaps").axes[0].texts] == ["1", "–", "–", "2\n✕ 100%"]
    assert canvas("ranges").axes[0].texts[0].get_text() == "-1,234\n✕ <1%"
    assert not canvas("few").legends and canvas("six by six").legends


def test_where_there_is_no_room_for_text_a_cross_tells_of_failures(canvas):
    axes = canvas("many").axes[0]
    assert not axes.texts and len(axes.lines) == 12 * 40
    assert {line.get_marker() for line in axes.lines} == {"x"}


def test_text_is_read_on_its_colour(canvas):
    axes = canvas("six by six").axes[0]
    (mesh,) = axes.collections
    for text, colour in zip(axes.texts, mesh.get_facecolors(), strict=True):
        linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)[:3]
        light = linear @ [0.2126, 0.7152, 0.0722]
        contrast = (light + 0.05) / 0.05 if text.get_color() == "black" else 1.05 / (light + 0.05)
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
