"""Writes a report: the page, and beside it the files that documents quote its numbers and figures from."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

from haepo_jax.reports.forest import draw_claims
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Report
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_file, write_json

_OF_CLAIM = ("text", "source", "verdict", "evidence", "recommended")
"""Of a claim, what documents quote."""


class PublishedReport(NamedTuple):
    """The result of a command that wrote a page."""

    page: Path
    headline: str
    """The page's first paragraph."""


def publish(directory: StrPath, report: Report) -> Path:
    """Writes `report.html`, `report.json`, `tables.json` and figures; `verdicts.json` where there are claims.

    Of the claims that have comparisons it draws one figure, which stands first on the page.

    `report.json` says what the others are from: the title, whether the run was a quick one, and the provenance. The
    figures are `figures/SECTION-NUMBER.svg`, that of all claims `figures/claims.svg`.

    Returns:
      The path of the page.

    Raises:
      StorageError: the folder could not be written to any more.
    """
    directory = Path(directory)
    report = dataclasses.replace(report, overview=draw_claims(report.sections, report.claims))
    page = directory / "report.html"
    with storage_errors(directory):
        write_file(page, lambda temporary: temporary.write_text(render(report), encoding="utf-8"))
        made = {"title": report.title, "quick": report.quick, "provenance": dict(report.provenance)}
        write_json(directory / "report.json", made)
        claims = [
            {"section": section.slug, **{name: getattr(claim, name) for name in _OF_CLAIM}}
            for section in report.sections
            for claim in section.claims
        ]
        if claims:
            verdicts = {"headline": report.first_paragraph, "judged": report.judged, "claims": claims}
            write_json(directory / "verdicts.json", verdicts)
        tables = {section.slug: [dataclasses.asdict(table) for table in section.tables] for section in report.sections}
        write_json(directory / "tables.json", tables)
        (directory / "figures").mkdir(exist_ok=True)
        if report.overview is not None:
            path = directory / "figures" / "claims.svg"
            write_file(path, functools.partial(_write_bytes, image=report.overview.image))
        for section in report.sections:
            for number, figure in enumerate(section.figures, start=1):
                path = directory / "figures" / f"{section.slug}-{number}.svg"
                write_file(path, functools.partial(_write_bytes, image=figure.image))
    return page


def _write_bytes(path: Path, *, image: Any) -> None:
    path.write_bytes(image)
