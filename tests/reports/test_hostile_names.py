"""Names that would run, move the cursor or be taken for markup, wherever a page, a drawing or a table shows them."""

import dataclasses
import io
from importlib import resources
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.html_page import Page
from helpers.made_up_memory import rows as memory_rows
from helpers.made_up_studies import QUICK_SMALL, haepo_first, make_report
from helpers.made_up_sweeps import UPDATES, write_sweep
from rich.console import Console

from experiments.cli import command_line
from experiments.studies.paper import ablations, reproduction
from experiments.studies.paper.methods import METHODS
from experiments.studies.tldr import memory
from haepo_jax.analysis import tables
from haepo_jax.reports import figures
from haepo_jax.reports.figures import heat_map
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Claim, ConfigListing, Fairness, Figure, Report, Section, Table
from haepo_jax.reports.sweep.page import write_report
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></pre></svg><svg onload=alert(1)>",
    "&lt;b&gt;--><!-- ]]>",
    "[red]rich[/red][/]",
    "\x1b[2J\x1b]0;title\x07\r\x00\x9b31m",
    "\u202eturned\u2066",
    "$\\frac{x$ %s {0} \\",
    "_underscore",
)
ALL = " ".join(HOSTILE)
STEERING = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066)]
HARMLESS = {"class", "id", "href", "lang", "charset", "name", "content", "role", "tabindex", "scope", "media"} | {
    *("src", "srcset", "alt", "aria-label", "aria-hidden", "open"),
    *("viewbox", "d", "style", "transform", "x", "y", "width", "height", "clip-path", "data-readings"),
}
DRAWN = {"svg", "g", "path", "use", "defs", "clippath", "rect", "image"}
SCRIPT = resources.files("haepo_jax.reports").joinpath("page.js").read_text()


def assert_nothing_runs(text):
    assert text.count(f"<script>{SCRIPT}</script>") == 1
    page = Page(text.replace(SCRIPT, ""))
    assert page.open == []
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{}]
    assert not {"iframe", "object", "link", "form", "base"} & {tag for tag, _ in page.elements}
    assert {name for _, attributes in page.elements for name in attributes} <= HARMLESS
    for tag, attributes in page.elements:
        assert tag in DRAWN or "style" not in attributes
        assert attributes.get("clip-path", "url(#").startswith("url(#")
    for target in page.attributes("href") + page.attributes("src") + page.attributes("srcset"):
        assert target.startswith(("#", "data:image/", "https://arxiv.org/"))
    assert not [letter for letter in STEERING if letter in text]
    return page


def assert_is_a_drawing(svg):
    root = ElementTree.fromstring(svg)  # which control characters would stop
    for element in root.iter():
        assert element.tag.rpartition("}")[2] in {
            *("svg", "g", "path", "use", "defs", "clipPath", "rect", "image", "style", "metadata"),
            *("RDF", "Work", "type", "format", "date", "creator", "Agent", "title"),
        }
        assert not [name for name in element.attrib if name.lower().startswith("on")]
        targets = [value for name, value in element.attrib.items() if name.endswith("href")]
        assert all(target.startswith(("#", "data:image/png")) for target in targets)
    assert not [letter for letter in STEERING if letter in svg.decode()]


def test_every_part_of_a_page_shows_names_as_they_are():
    figure = Figure(b"<svg/>", ALL, ALL)
    table = Table(ALL, HOSTILE, [HOSTILE, HOSTILE[::-1]], ALL, marked=[0])
    folded = dataclasses.replace(table, folded=True)
    claim = Claim(ALL, ALL, "undecided", f"{ALL}: {ALL}; {ALL}", "contradicted")
    section = Section("evil", ALL, ALL, HOSTILE, [figure], [table, folded], [claim])
    config = ConfigListing(ALL, ALL, {name: list(HOSTILE) for name in HOSTILE}, ALL, {})
    provenance = {ALL: ALL, "packages": {ALL: ALL}, "commit": [ALL]}
    page = assert_nothing_runs(render(Report(ALL, ALL, [section], [config], provenance, Fairness([ALL], [table]))))
    assert "".join(page.text).count("<script>alert(1)</script>") > 30


CURVES = [figures.Series(name, np.arange(4.0), np.arange(4.0) + k) for k, name in enumerate(HOSTILE)]
OF_AXES = {"x_label": ALL, "y_label": ALL, "title": ALL}
GRID = np.arange(float(len(HOSTILE) ** 2)).reshape(len(HOSTILE), -1)
DRAWINGS = {
    "curves": lambda **form: figures.curves(CURVES, y_line=1.0, y_line_label=ALL, **OF_AXES, **form),
    "intervals": lambda **form: figures.intervals(
        [(name, 1.0, 0.5, np.inf) for name in HOSTILE], x_label=ALL, never=ALL, title=ALL, **form
    ),
    "bars": lambda **form: figures.grouped_intervals(
        HOSTILE, HOSTILE, GRID, GRID, GRID, x_label=ALL, title=ALL, **form
    ),
    "strip": lambda **form: figures.strip(
        [(name, [1.0, np.nan]) for name in HOSTILE], x_label=ALL, title=ALL, threshold=0.5, **form
    ),
    "heat map": lambda **form: heat_map(
        GRID,
        GRID > 3,
        x_names=HOSTILE,
        y_names=HOSTILE,
        x_label=ALL,
        y_label=ALL,
        value_label=ALL,
        failed_label=ALL,
        **form,
    ),
}


@pytest.mark.parametrize("kind", DRAWINGS)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font", "ignore:constrained_layout not applied")
def test_every_drawing_is_a_drawing_and_nothing_else(kind):
    assert_is_a_drawing(DRAWINGS[kind]())


def printed(*arguments):
    """What a terminal is sent, colours left out."""
    file = io.StringIO()
    Console(file=file, width=2000, no_color=True).print(*arguments)
    return file.getvalue()


def member(index, **changes):
    settings = {name: HOSTILE[index] for name in HOSTILE}
    return {"index": index, "seed": 0, "settings": settings, "status": "ok", "group": ALL} | changes


def test_tables_of_the_terminal_show_names_as_they_are(monkeypatch):
    members = [
        member(k, final_return=1.0, greedy_return=1.0, sampled_return=1.0, update=3) for k in range(len(HOSTILE))
    ]
    texts = [
        printed(tables.make_returns_table({"members": members, "final_updates": 10}, ALL)),
        printed(
            tables.make_evaluation_table(
                {"members": members, "env": ALL, "checkpoint": "last", "update": 3, "episodes": 5}
            )
        ),
    ]
    file = io.StringIO()
    monkeypatch.setattr(command_line, "make_console", lambda: Console(file=file, width=2000, no_color=True))
    command_line.print_table(ALL, HOSTILE, [HOSTILE])
    for text in (*texts, file.getvalue()):
        assert not [letter for letter in STEERING if letter in text]
        assert "[red]rich[/red][/]" in text and "\\x1b[2J" in text


def write_hostile_sweep(folder):
    """A sweep whose settings, values, groups, environment and provenance are all hostile."""
    names = [f"{name}.x" for name in HOSTILE[:2]]
    points = [{names[0]: value, names[1]: other} for value in HOSTILE[:4] for other in HOSTILE[4:7]]

    def learn(settings, seed):
        return np.full(UPDATES, float(HOSTILE.index(settings[names[0]])) + 0.1 * seed)

    write_sweep(folder, points, learn, seeds=2, fixed=[names[0]])
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"env": ALL, "algorithm": ALL, ALL: {ALL: ALL}})
    attempt = read_json(folder / "provenance.json")[0]
    changes = {"command": ["python", ALL, ALL], "git": {"commit": ALL, "dirty": True}, "packages": {ALL: ALL}}
    changes |= {"python": ALL, "device_kind": ALL, "host": ALL, "outcome": ALL}
    write_json(folder / "provenance.json", [attempt | changes])


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_the_page_of_a_sweep_runs_nothing(tmp_path):
    write_hostile_sweep(tmp_path)
    assert_nothing_runs(write_report(tmp_path).read_text())
    drawn = list((tmp_path / "figures").glob("*.svg"))
    assert len(drawn) >= 3
    for path in drawn:
        assert_is_a_drawing(path.read_bytes())


@pytest.mark.slow
def test_the_page_of_the_papers_experiments_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "COMMAND", ALL)
    labels = [method.label for method in METHODS]
    forms = [f"{form} {ALL}" if form in labels else form for form in ablations.FORMS]
    monkeypatch.setattr(ablations, "FORMS", forms)
    for method in METHODS:
        monkeypatch.setitem(method.__dict__, "label", f"{method.label} {ALL}")
    assert_nothing_runs(make_report(haepo_first, tmp_path, QUICK_SMALL).page)


def test_the_page_of_memory_runs_nothing():
    rows = [row | {"device": ALL} for row in memory_rows(shapes=("40M",))]
    section = memory.section(rows)
    assert_nothing_runs(render(Report(ALL, ALL, (section,))))
    for figure in section.figures:
        assert_is_a_drawing(figure.image)
