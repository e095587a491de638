import html
import json
import re

import pytest
from helpers.html_page import Page
from helpers.made_up_folders import FOLDERS
from helpers.made_up_sweeps import ATTEMPT

from haepo_jax.reports.sweep.page import write_report
from haepo_jax.runs.folder import write_json


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grid", {"best": 1, "sensitivity": 1, "pairs": 1}),
        ("random", {"best": 1, "sensitivity": 1, "pairs": 10}),
        ("running", {"best": 1, "sensitivity": 1, "pairs": 3}),
        ("one setting", {"best": 1, "values": 1}),
        ("one value", {"best": 1}),
    ],
)
def test_the_page_is_whole_needs_nothing_else_and_every_figure_is_a_file_too(tmp_path, name, expected):
    page = write_report(FOLDERS[name](tmp_path))
    assert page == tmp_path / "report.html"
    read = Page(page.read_text())
    assert read.open == []
    references = read.attributes("src") + read.attributes("href") + read.attributes("srcset")
    assert [r for r in references if not r.startswith(("#", "data:"))] == ["https://arxiv.org/abs/2508.18884"]
    links = [attributes["href"] for tag, attributes in read.elements if tag == "a"]
    anchors = {href[1:] for href in links if href.startswith("#")}
    assert anchors == {"progress", "diagnostics", *expected, "configs", "provenance"} <= set(read.attributes("id"))
    assert "nan" not in re.findall(r"\w+", " ".join(read.text).lower())
    assert len([tag for tag, _ in read.elements if tag == "figure"]) == sum(expected.values())
    found = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    names = {f"{slug}-{number}" for slug, count in expected.items() for number in range(1, count + 1)}
    assert set(found) == {f"{stem}.{kind}" for stem in names for kind in ("png", "svg")}
    assert not (tmp_path / "verdicts.json").exists()  # there are no claims
    for file, content in found.items():
        assert content.startswith(b"\x89PNG" if file.endswith("png") else b"<?xml")


def test_the_same_folder_gives_the_same_page(tmp_path):
    FOLDERS["one setting"](tmp_path)
    pages = [write_report(tmp_path).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_config_is_shown_without_the_list_of_points(tmp_path):
    folder = FOLDERS["grid"](tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["search"]["points"] = [{"haepo.kl_coef": 0.123456}] * 3
    (folder / "config.json").write_text(json.dumps(config))
    text = html.unescape(write_report(folder).read_text())
    assert "0.123456" not in text
    assert "python -m experiments.sweep --config=configs/grid.py --workdir=runs/grid" in text
    assert "0123abcd" in text and "/usr/bin" not in text


def test_a_sweep_of_a_program_of_ones_own_shows_its_command(tmp_path):
    folder = FOLDERS["one value"](tmp_path)
    write_json(folder / "provenance.json", [ATTEMPT | {"command": ["/usr/bin/python", "examples/search.py", "a b"]}])
    assert "python examples/search.py 'a b'" in html.unescape(write_report(folder).read_text())


def test_a_page_is_made_without_provenance(tmp_path):
    folder = FOLDERS["grid"](tmp_path)
    (folder / "provenance.json").unlink()
    page = Page(write_report(folder).read_text())
    assert page.open == [] and "provenance" not in page.attributes("id")
