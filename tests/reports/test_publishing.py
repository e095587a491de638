import json

import pytest

from haepo_jax.reports.page import Claim, Figure, Report, Section, Table
from haepo_jax.reports.publishing import publish

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
CLAIM = Claim("HAEPO is faster.", "Figure 1", "contradicted", "12 of 64", "undecided")
TABLE = Table("Final return", ("algorithm", "mean"), (("PPO", "1.5"),))


def report(*claims):
    walk = Section("walk", "Random walk", "Who?", ("PPO.",), (Figure(SVG, "a", "b"),) * 2, (TABLE,), claims)
    sections = (walk, Section("chain", "Chain", "What?"))
    return Report("Title", "HAEPO is slower.", sections, provenance={"last run": "2026-11-27"}, quick=True)


@pytest.mark.parametrize("claims", [(), (CLAIM,)])
def test_the_page_is_written_with_the_files_that_it_is_quoted_from(tmp_path, claims):
    assert publish(tmp_path, report(*claims)) == tmp_path / "report.html"
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    written = {"report.html", "report.json", "tables.json", "figures/walk-1.svg", "figures/walk-2.svg"}
    assert files - {"verdicts.json"} == written
    assert "HAEPO is slower." in (tmp_path / "report.html").read_text()
    tables = json.loads((tmp_path / "tables.json").read_text())
    assert tables["chain"] == [] and tables["walk"][0]["rows"] == [["PPO", "1.5"]]
    assert (tmp_path / "figures" / "walk-2.svg").read_bytes() == SVG


def test_a_file_says_what_the_report_is_from_and_whether_it_was_quick(tmp_path):
    publish(tmp_path, report())
    made = json.loads((tmp_path / "report.json").read_text())
    assert made == {"title": "Title", "quick": True, "provenance": {"last run": "2026-11-27"}}


def test_verdicts_are_written_where_there_are_claims(tmp_path):
    (tmp_path / "without").mkdir()
    publish(tmp_path / "without", report())
    assert not (tmp_path / "without" / "verdicts.json").exists()
    (tmp_path / "with").mkdir()
    publish(tmp_path / "with", report(CLAIM))
    verdicts = json.loads((tmp_path / "with" / "verdicts.json").read_text())
    expected = {"section": "walk", "text": CLAIM.text, "source": CLAIM.source}
    assert verdicts["headline"] == "HAEPO is slower."
    assert verdicts["claims"] == [
        expected | {"verdict": "contradicted", "evidence": "12 of 64", "recommended": "undecided"}
    ]
