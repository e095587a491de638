"""A report as one HTML page that needs nothing but itself.

`render` is a pure function, so that the same report gives the same bytes.
"""

import base64
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape as escape_markup
from importlib import resources
from pathlib import Path
from typing import Any

from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED, VERDICTS
from haepo_jax.reports.colours import write_dark_rules
from haepo_jax.reports.configs import find_changed, write_value
from haepo_jax.reports.inline_svg import inline
from haepo_jax.reports.page import Claim, ClaimsChapter, ConfigListing, Fairness, Figure, Report, Section, Table
from haepo_jax.text import visible

PAPER = "https://arxiv.org/abs/2508.18884"

_SIGNS = {REPRODUCED: "✓", CONTRADICTED: "✗", NO_DIFFERENCE: "=", UNDECIDED: "?"}
_MARK = '<span aria-label="marked">✓</span>&nbsp;'
_PNG = b"\x89PNG"
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
    numbers = itertools.count(1)
    chapters = [
        _render_verdicts(report, numbers),
        *(_render_section(section, report.claims, numbers) for section in report.sections),
        _render_fairness(report.fairness),
        _render_configs(report.configs),
        _render_provenance(report.provenance),
    ]
    return render_document(
        report.title, _render_header(report), filter(None, chapters), contents=_render_contents(report)
    )


def render_document(title: str, header: str, parts: Iterable[str], more_style: str = "", *, contents: str = "") -> str:
    """Renders a whole HTML file in the style of all pages.

    Args:
      title: of the window, not escaped yet.
      header: HTML of what stands first.
      parts: HTML of what follows it.
      more_style: CSS of this page, after that of all.
      contents: HTML of the contents, which stay in view; a page of chapters has the script besides.
    """
    files = resources.files("haepo_jax.reports")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style += write_dark_rules("figure svg") + more_style
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
            '<body class="chapters">' if contents else "<body>",
            header,
            *([contents] if contents else []),
            "<main>",
            *parts,
            "</main>",
            *([f"<script>{script}</script>"] if contents else []),
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


def _render_verdicts(report: Report, numbers: Iterator[int]) -> str:
    chapter = report.claims
    pairs = [(section, claim) for section in report.sections for claim in section.claims]
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
            *([_render_figure(report.overview, numbers)] if report.overview else []),
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
    if any(section.claims for section in report.sections):
        entries.insert(0, ("verdicts", report.claims.title))
    if report.fairness != Fairness():
        entries.append(("fairness", "Fairness: budgets and tuning"))
    if report.configs:
        entries.append(("configs", "Exact configurations"))
    if report.provenance:
        entries.append(("provenance", "Provenance"))
    items = [f'<li><a href="#{slug}">{escape(title)}</a></li>' for slug, title in entries]
    if not items:
        return ""
    return "\n".join(
        [
            '<nav aria-label="Contents">',
            "<details open><summary>Contents</summary>",
            "<ol>",
            *items,
            "</ol>",
            "</details>",
            "</nav>",
        ]
    )


def _render_section(section: Section, chapter: ClaimsChapter, numbers: Iterator[int]) -> str:
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
            *_render_figures(section.figures, numbers),
            *map(_render_table, section.tables),
            '<p class="back"><a href="#verdicts">All claims</a></p>' if claims else "",
            "</section>",
        ]
    )


def _render_list(items: Iterable[str], name: str) -> list[str]:
    entries = [f"<li>{item}</li>" for item in items]
    return [f'<ul class="{name}">', *entries, "</ul>"] if entries else []


def _render_figures(figures: Iterable[Figure], numbers: Iterator[int]) -> Iterator[str]:
    for folded, group in itertools.groupby(figures, key=lambda figure: figure.folded):
        drawn = [_render_figure(figure, numbers) for figure in group]
        if folded:
            more = f"{len(drawn)} more figure{'' if len(drawn) == 1 else 's'}"
            yield "\n".join([f"<details><summary>{more}</summary>", *drawn, "</details>"])
        else:
            yield from drawn


def _render_figure(figure: Figure, numbers: Iterator[int]) -> str:
    """Renders a figure: a drawing as elements of the page, which a script can read, and a picture as it is."""
    number = next(numbers)
    wide, narrow = _read_image(figure.image), None if figure.narrow is None else _read_image(figure.narrow)
    if wide.startswith(_PNG):
        drawn = [f'<img src="data:image/png;base64,{base64.b64encode(wide).decode()}" alt="{escape(figure.alt)}">']
    else:
        kinds = {"wide has-narrow": wide, "narrow": narrow} if narrow is not None else {"wide": wide}
        drawn = [
            inline(image, f"figure-{number}-{kind.partition(' ')[0]}-", figure.alt, kind)
            for kind, image in kinds.items()
        ]
    return "\n".join(["<figure>", *drawn, f"<figcaption>{escape(figure.caption)}</figcaption>", "</figure>"])


def _read_image(image: bytes | str | Path) -> bytes:
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    if not data.startswith((_PNG, b"<?xml", b"<svg")):
        raise ValueError(f"A figure is an SVG or a PNG, and this is neither: it starts with {data[:8]!r}.")
    return data


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
            *(
                _render_config(group[0]) if len(group) == 1 else _render_config_group(label, group)
                for label, group in _group_configs(configs).items()
            ),
            "</section>",
        ]
    )


def _group_configs(configs: Iterable[ConfigListing]) -> dict[str, list[ConfigListing]]:
    groups: dict[str, list[ConfigListing]] = {}
    for listing in configs:
        groups.setdefault(listing.label, []).append(listing)
    return groups


def _render_config_group(label: str, listings: Sequence[ConfigListing]) -> str:
    """Renders configs of one kind: what they have in common once, and what tells them apart in a table."""
    changed = [find_changed(listing.config, listing.defaults) for listing in listings]
    written = [{name: write_value(value) for name, value in settings.items()} for settings in changed]
    names = list(dict.fromkeys(name for settings in written for name in settings))
    common = [name for name in names if len({settings.get(name) for settings in written}) == 1]
    apart = [name for name in names if name not in common]
    rows = [
        (listing.name, *(settings.get(name, "default") for name in apart))
        for listing, settings in zip(listings, written, strict=True)
    ]
    return "\n".join(
        [
            f"<details><summary>{escape(label)} ({len(listings)} runs)</summary>",
            *(
                f'<pre class="command">{escape(command)}</pre>'
                for command in dict.fromkeys(x.command for x in listings)
            ),
            _render_settings({name: written[0][name] for name in common}),
            _render_table(Table("What tells them apart", ("run", *apart), rows)) if apart else "",
            *(_render_json(listing, f"config.json of <code>{escape(listing.name)}</code>") for listing in listings),
            "</details>",
        ]
    )


def _render_settings(written: Mapping[str, str]) -> str:
    if not written:
        return "<p>All settings are the defaults.</p>"
    rows = (
        f"<tr><th scope=row><code>{escape(name)}</code></th><td><code>{escape(value)}</code></td></tr>"
        for name, value in written.items()
    )
    return f'<div class="scroll"><table class="settings"><tbody>{"".join(rows)}</tbody></table></div>'


def _render_json(listing: ConfigListing, title: str) -> str:
    """Renders the whole config on demand, under a title in HTML."""
    return "\n".join(
        [
            f'<details class="json"><summary>{title}</summary>',
            f"<pre>{escape_markup(json.dumps(listing.config, indent=2))}</pre>",
            "</details>",
        ]
    )


def _render_config(listing: ConfigListing) -> str:
    changed = find_changed(listing.config, listing.defaults)
    return "\n".join(
        [
            f"<details><summary>{escape(listing.label)} <code>{escape(listing.name)}</code></summary>",
            f'<pre class="command">{escape(listing.command)}</pre>',
            _render_settings({name: write_value(value) for name, value in changed.items()}),
            _render_json(listing, "config.json"),
            "</details>",
        ]
    )


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
