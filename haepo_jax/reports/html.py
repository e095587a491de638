"""A report as one HTML page that needs nothing but itself.

`render` is a pure function, so that the same report gives the same bytes.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape_markup
from importlib import resources
from pathlib import Path
from typing import Any

from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED, VERDICTS
from haepo_jax.reports.page import Claim, ClaimsChapter, ConfigListing, Fairness, Figure, Report, Section, Table
from haepo_jax.text import visible

PAPER = "https://arxiv.org/abs/2508.18884"

_SIGNS = {REPRODUCED: "✓", CONTRADICTED: "✗", NO_DIFFERENCE: "=", UNDECIDED: "?"}
_MARK = '<span aria-label="marked">✓</span>&nbsp;'
_MEDIA_TYPES = {b"\x89PNG": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}
_NARROW = "(max-width: 640px)"
# A sign, a number with its unit, and perhaps an interval or a share: "0.93 [0.90, 0.95]", "12k", "3 of 64", "+4.1%".
_DIGITS = r"\d[\d.,  ]*(?:[eE][+−-]?\d+)?"
_NUMBER = rf"[<>≤≥~≈]?\s*[+−-]?(?:{_DIGITS}|∞|inf(?:inite)?|never)\s*(?:%|k|M|G|s|ms|min|h|x|×)?"
_NUMERIC = re.compile(rf"{_NUMBER}(?:\s*(?:[\[(,/±+–]|of|to|\.\.)\s*{_NUMBER}|\s*(?:never|\*|[\])]))*")
_NO_VALUE = {"", "-", "–", "—", "never", "nan", "n/a", "none", "no value", "diverged"}


def render(report: Report) -> str:
    """Renders the page.

    Args:
      report: its parts.

    Returns:
      HTML without references to anything outside, apart from the link to the paper. The same report gives the same
      text.
    """
    chapters = [
        _render_verdicts(report.sections, report.claims),
        _render_contents(report),
        *(_render_section(section, report.claims) for section in report.sections),
        _render_fairness(report.fairness),
        _render_configs(report.configs),
        _render_provenance(report.provenance),
    ]
    return render_document(report.title, _render_header(report), filter(None, chapters))


def render_document(title: str, header: str, parts: Iterable[str], more_style: str = "") -> str:
    """Renders a whole HTML file in the style of all pages.

    Args:
      title: of the window, not escaped yet.
      header: HTML of what stands first.
      parts: HTML of what follows it.
      more_style: CSS of this page, after that of all.
    """
    style = resources.files("haepo_jax.reports").joinpath("page.css").read_text() + more_style
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            header,
            "<main>",
            *parts,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def escape(text: str) -> str:
    """Makes text safe in a page: markup, and characters that steer a terminal or turn the direction of writing."""
    return escape_markup(visible(text))


def _render_header(report: Report) -> str:
    banner = (
        '<p class="banner" role="note"><strong>Quick version.</strong> Fewer seeds and shorter runs than the full '
        "report: it shows that everything works, and is not to be cited.</p>"
    )
    return "\n".join(
        [
            "<header>",
            *([banner] if report.quick else []),
            f"<h1>{escape(report.title)}</h1>",
            f'<p class="lead">{escape(report.first_paragraph)}</p>',
            f'<p class="small">The paper: <a href="{PAPER}">HAEPO: History-Aggregated Exploratory Policy '
            "Optimization (arXiv 2508.18884)</a></p>",
            "</header>",
        ]
    )


def _render_badge(verdict: str, words: Mapping[str, str]) -> str:
    name, word = verdict.replace(" ", "-"), words.get(verdict, verdict)
    return f'<span class="badge {name}"><span aria-hidden="true">{_SIGNS[verdict]}</span> {escape(word)}</span>'


def _render_verdict(claim: Claim, words: Mapping[str, str]) -> str:
    badge = _render_badge(claim.verdict, words)
    if not claim.recommended:
        return badge
    return f'{badge} <span class="source">recommended form: {_render_badge(claim.recommended, words)}</span>'


def _render_verdicts(sections: Sequence[Section], chapter: ClaimsChapter) -> str:
    pairs = [(section, claim) for section in sections for claim in section.claims]
    if not pairs:
        return ""
    counts = Counter(claim.verdict for _, claim in pairs)
    tally = " ".join(f"<li>{counts[verdict]} {_render_badge(verdict, chapter.words)}</li>" for verdict in VERDICTS)
    rows = [
        "<tr>"
        f'<th scope="row">{escape(claim.text)} <span class="source">{escape(claim.source)}</span></th>'
        f'<td class="verdict">{_render_verdict(claim, chapter.words)}</td>'
        f"<td>{_render_evidence(claim.evidence)}</td>"
        f'<td class="where"><a href="#{section.slug}">{escape(section.title)}</a></td>'
        "</tr>"
        for section, claim in pairs
    ]
    return "\n".join(
        [
            '<section id="verdicts">',
            f"<h2>{escape(chapter.title)}</h2>",
            f'<ul class="tally">{tally}</ul>',
            f'<p class="note">{escape(chapter.rule)}</p>',
            '<table class="claims">',
            f"<thead><tr><th>{escape(chapter.column)}</th><th>Verdict</th><th>Evidence</th><th>Study</th></tr></thead>",
            "<tbody>",
            *rows,
            "</tbody>",
            "</table>",
            "</section>",
        ]
    )


def _render_evidence(text: str) -> str:
    """Returns the measure, and behind the colon a line for each number of a list."""
    what, _, numbers = text.partition(": ")
    items = numbers.split("; ")
    if len(items) == 1:
        return escape(text)
    ends = [";"] * (len(items) - 1) + [""]
    lines = " ".join(f'<span class="item">{escape(item)}{end}</span>' for item, end in zip(items, ends, strict=True))
    return f"{escape(what)}: {lines}"


def _render_contents(report: Report) -> str:
    entries = [(section.slug, section.title) for section in report.sections]
    if report.fairness != Fairness():
        entries.append(("fairness", "Fairness: budgets and tuning"))
    if report.configs:
        entries.append(("configs", "Exact configurations"))
    if report.provenance:
        entries.append(("provenance", "Provenance"))
    items = [f'<li><a href="#{slug}">{escape(title)}</a></li>' for slug, title in entries]
    return "\n".join(['<nav aria-label="Contents">', "<h2>Contents</h2>", "<ol>", *items, "</ol>", "</nav>"])


def _render_section(section: Section, chapter: ClaimsChapter) -> str:
    claims = [
        f"<li>{_render_verdict(claim, chapter.words)} {escape(claim.text)} "
        f'<span class="source">{escape(claim.source)}</span></li>'
        for claim in section.claims
    ]
    return "\n".join(
        [
            f'<section id="{section.slug}">',
            f"<h2>{escape(section.title)}</h2>",
            f'<p class="question">{escape(section.question)}</p>',
            *_render_list(map(escape, section.findings), "findings"),
            *([f'<ul class="verdict-list">{"".join(claims)}</ul>'] if claims else []),
            *map(_render_figure, section.figures),
            *map(_render_table, section.tables),
            '<p class="back"><a href="#verdicts">All claims</a></p>' if claims else "",
            "</section>",
        ]
    )


def _render_list(items: Iterable[str], name: str) -> list[str]:
    entries = [f"<li>{item}</li>" for item in items]
    return [f'<ul class="{name}">', *entries, "</ul>"] if entries else []


def _render_figure(figure: Figure) -> str:
    narrow = ""
    if figure.narrow is not None:
        narrow = f'<source media="{_NARROW}" srcset="{_make_data_uri(figure.narrow)}">'
    return "\n".join(
        [
            "<figure>",
            f'<picture>{narrow}<img src="{_make_data_uri(figure.image)}" alt="{escape(figure.alt)}"></picture>',
            f"<figcaption>{escape(figure.caption)}</figcaption>",
            "</figure>",
        ]
    )


def _make_data_uri(image: bytes | str | Path) -> str:
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    for start, media_type in _MEDIA_TYPES.items():
        if data.startswith(start):
            return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    raise ValueError(f"A figure is an SVG or a PNG, and this is neither: it starts with {data[:8]!r}.")


def _render_table(table: Table) -> str:
    numeric = [_is_numeric([row[index] for row in table.rows]) for index in range(len(table.columns))]
    kinds = [' class="number"' if is_number else "" for is_number in numeric]
    headings = "".join(
        f'<th scope="col"{kind}>{escape(heading).replace("_", "_<wbr>")}</th>'
        for heading, kind in zip(table.columns, kinds, strict=True)
    )
    rows = [
        f'<tr{" class=marked" if index in table.marked else ""}><th scope="row"{kinds[0]}>'
        + f"{_MARK if index in table.marked else ''}{escape(row[0])}</th>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for index, row in enumerate(table.rows)
    ]
    caption = escape(table.caption)
    body = [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">',
        "<table>",
        f"<thead><tr>{headings}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
        "</div>",
        *([f'<p class="note">{escape(table.note)}</p>'] if table.note else []),
    ]
    if table.folded:
        return "\n".join([f"<details><summary>{caption} ({len(table.rows)} rows)</summary>", *body, "</details>"])
    return "\n".join(['<div class="table">', f'<p class="caption">{caption}</p>', *body, "</div>"])


def _is_numeric(cells: Sequence[str]) -> bool:
    values = [cell.strip() for cell in cells if cell.strip().lower() not in _NO_VALUE]
    return bool(values) and all(_NUMERIC.fullmatch(value) for value in values)


def _render_fairness(fairness: Fairness) -> str:
    if fairness == Fairness():
        return ""
    return "\n".join(
        [
            '<section id="fairness">',
            "<h2>Fairness: budgets and tuning</h2>",
            *(f"<p>{escape(paragraph)}</p>" for paragraph in fairness.paragraphs),
            *map(_render_table, fairness.tables),
            "</section>",
        ]
    )


def _render_configs(configs: Sequence[ConfigListing]) -> str:
    if not configs:
        return ""
    return "\n".join(
        [
            '<section id="configs">',
            "<h2>Exact configurations</h2>",
            "<p>Of each run, what differs from the defaults, the command that runs it again, and its whole "
            "configuration.</p>",
            *map(_render_config, configs),
            "</section>",
        ]
    )


def _render_config(listing: ConfigListing) -> str:
    changed = [
        f"<tr><th scope=row><code>{escape(name)}</code></th><td><code>{escape(json.dumps(value))}</code></td></tr>"
        for name, value in _find_changed(listing.config, listing.defaults)
    ]
    return "\n".join(
        [
            f"<details><summary>{escape(listing.label)} <code>{escape(listing.name)}</code></summary>",
            f'<pre class="command">{escape(listing.command)}</pre>',
            '<div class="scroll"><table class="settings"><tbody>' + "".join(changed) + "</tbody></table></div>"
            if changed
            else "<p>All settings are the defaults.</p>",
            "<details><summary>config.json</summary>",
            f"<pre>{escape_markup(json.dumps(listing.config, indent=2))}</pre>",
            "</details>",
            "</details>",
        ]
    )


def _find_changed(config: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The settings that differ from the defaults, by dotted name."""
    result: list[tuple[str, Any]] = []
    for name, value in config.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            result += _find_changed(value, default, f"{prefix}{name}.")
        elif json.dumps(value) != json.dumps(default) or name not in defaults:
            result.append((prefix + name, value))
    return result


def _render_provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    rows = [
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(_format_plain(value))}</dd></div>"
        for name, value in provenance.items()
    ]
    return "\n".join(['<section id="provenance">', "<h2>Provenance</h2>", "<dl>", *rows, "</dl>", "</section>"])


def _format_plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)
