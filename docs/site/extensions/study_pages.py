"""The studies' pages, made of the files that `experiments.results` keeps in `docs/`, and a list of links to them."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

from experiments.published.publish import FIGURES
from experiments.studies.targets import CHAPTER
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Claim, ClaimsChapter, Figure, Report, Section, Table
from haepo_jax.runs.json_files import read_json

PLACE = "reports"
"""The folder of the site that these pages are in."""
OF_THE_PAPER = ("paper", "tldr")
"""The studies that judge claims of the paper; the others judge targets."""


def find_studies(docs: Path) -> list[str]:
    """Lists the studies of which results are published."""
    return [name for name in FIGURES if (docs / name / "report.json").exists()]


def read_report(docs: Path, study: str) -> Report:
    """Builds the page of a study from what is published of it: tables, figures, verdicts and provenance."""
    folder = docs / study
    made, tables = read_json(folder / "report.json"), read_json(folder / "tables.json")
    verdicts = read_json(folder / "verdicts.json") if (folder / "verdicts.json").exists() else {}
    claims = verdicts.get("claims", [])
    sections = [
        Section(
            slug,
            title=slug.replace("-", " ").capitalize(),
            question="",
            figures=[
                Figure(folder / shown, alt=shown.removesuffix(".svg").replace("_", " "), caption="")
                for shown, drawn in FIGURES[study].items()
                if drawn.rpartition("-")[0] == slug
            ],
            tables=[Table(**table) for table in tables[slug]],
            claims=[
                Claim(**{name: value for name, value in claim.items() if name != "section"})
                for claim in claims
                if claim["section"] == slug
            ],
        )
        for slug in tables
    ]
    return Report(
        made["title"],
        verdicts.get("headline", ""),
        sections,
        provenance=made["provenance"],
        judged=verdicts.get("judged", ""),
        quick=made["quick"],
        claims=ClaimsChapter() if study in OF_THE_PAPER else CHAPTER,
    )


class StudyPages(SphinxDirective):
    """Writes a list of links to the pages."""

    def run(self) -> list[nodes.Node]:
        """Returns the list."""
        docs, here = Path(self.env.srcdir) / "docs", f"{self.env.docname}.html"
        items = []
        for study in find_studies(docs):
            title = read_json(docs / study / "report.json")["title"]
            link = nodes.reference("", title, refuri=relative_uri(here, f"{PLACE}/{study}.html"), internal=True)
            items.append(nodes.list_item("", nodes.paragraph("", "", link)))
        return [nodes.bullet_list("", *items)]


def write_pages(app: Sphinx, error: Exception | None) -> None:
    """Writes the pages beside the others."""
    if error is None and app.builder.format == "html":
        docs, place = Path(app.srcdir) / "docs", Path(app.outdir) / PLACE
        place.mkdir(exist_ok=True)
        for study in find_studies(docs):
            (place / f"{study}.html").write_text(render(read_report(docs, study)), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive and the pages."""
    app.add_directive("study-pages", StudyPages)
    app.connect("build-finished", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
