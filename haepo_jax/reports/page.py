"""The content of a report: finished text and plain data. `html.render` makes a page of it.

Nothing here knows what a study measures.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haepo_jax.analysis.verdicts import RULE, VERDICTS, Comparison
from haepo_jax.errors import choose

_CHAPTERS = ("verdicts", "fairness", "configs", "provenance")
"""Anchors that the page itself uses, and no section may."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper and what became of it.

    Attributes:
      text: the claim, in a sentence.
      source: where the paper makes it.
      verdict: one of `VERDICTS`, on the method in the paper's form.
      evidence: the numbers that decide the verdict; of the form "what is measured: one; another; a third.", each
        number gets a line.
      recommended: one of `VERDICTS`, on the form of the method that is recommended here; empty for a claim that is
        not about a form of it.
      comparisons: what decided the verdict.
      recommended_comparisons: what decided that on the recommended form.
    """

    text: str
    source: str
    verdict: str
    evidence: str
    recommended: str = ""
    comparisons: Sequence[Comparison] = ()
    recommended_comparisons: Sequence[Comparison] = ()

    def __post_init__(self) -> None:
        """Refuses an unknown verdict."""
        for word in filter(None, (self.verdict, self.recommended)):
            choose("verdict of a claim", word, VERDICTS)


@dataclasses.dataclass(frozen=True)
class ClaimsChapter:
    """How the chapter of the claims is worded; by default it is about those of the paper.

    Attributes:
      title: its heading.
      column: what a claim is, the heading of its column.
      rule: how a verdict comes about.
      words: what a verdict is called on the page, where it is not by its own word.
      forms: the form of the method that the verdicts are on and the recommended one, for their figure; None where
        claims are about no forms.
    """

    title: str = "What became of the paper’s claims"
    column: str = "Claim of the paper"
    rule: str = RULE
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    forms: tuple[str, str] | None = ("the paper's form", "the recommended form")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of finished text. A column of numbers is set flush right.

    Attributes:
      caption: what the table shows, with units.
      columns: the headings.
      rows: the cells, as many in a row as there are headings. The first of a row names it.
      note: small print below.
      marked: indices of the rows that stand out with a ✓, such as the settings that were chosen.
      folded: whether the table is shown on demand only.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: Sequence[int] = ()
    folded: bool = False

    def __post_init__(self) -> None:
        """Refuses rows that do not fit the headings."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table {self.caption!r} has {len(self.columns)} columns, but a row of {len(row)} cells: {row}."
                )


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
      image: SVG or PNG, as bytes or as the path of a file.
      alt: what is to be seen, for those who do not see it.
      caption: what is drawn, over which runs, and what bands and bars mean.
      narrow: the same drawn for a phone; `image` itself is scaled down there when there is none.
      folded: whether it is shown on demand only, with the folded figures beside it.
    """

    image: bytes | str | Path
    alt: str
    caption: str
    narrow: bytes | str | Path | None = None
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A study.

    Attributes:
      slug: its anchor on the page: lower case letters, digits and hyphens.
      title: its name.
      question: what it asks.
      findings: what came out, a sentence or two each, the first most important.
      figures: its drawings.
      tables: its numbers.
      claims: the paper's claims that it decides.
    """

    slug: str
    title: str
    question: str
    findings: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    claims: Sequence[Claim] = ()

    def __post_init__(self) -> None:
        """Refuses a slug that is no anchor, or one of the page's own."""
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.slug) or self.slug in _CHAPTERS:
            raise ValueError(f"Slug {self.slug!r} is no anchor: use lower case letters, digits and hyphens.")


@dataclasses.dataclass(frozen=True)
class Fairness:
    """How the algorithms were tuned, and with which budgets.

    Attributes:
      paragraphs: what every algorithm got.
      tables: every setting tried, the chosen ones marked.
    """

    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclasses.dataclass(frozen=True)
class ConfigListing:
    """The exact configuration of a run.

    Attributes:
      name: the run, as its folder is called.
      label: what it is, for people.
      config: as in its `config.json`.
      command: what runs it again.
      defaults: the default configuration, in the same form.
    """

    name: str
    label: str
    config: Mapping[str, Any]
    command: str
    defaults: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Report:
    """The whole page.

    Attributes:
      title: its heading.
      first_paragraph: the result in numbers, without a winner.
      sections: the studies.
      configs: every run.
      provenance: what was run where, when and with what, as shown.
      fairness: how the algorithms were tuned.
      judged: the form of the method that the verdicts on claims are on, in words; empty where they are on none.
      quick: whether this is the quick version, with fewer seeds, which is not to be cited.
      claims: how the chapter of the claims is worded.
      overview: a figure of all claims, which stands before their table.
    """

    title: str
    first_paragraph: str
    sections: Sequence[Section]
    configs: Sequence[ConfigListing] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fairness: Fairness = Fairness()
    judged: str = ""
    quick: bool = False
    claims: ClaimsChapter = ClaimsChapter()
    overview: Figure | None = None

    def __post_init__(self) -> None:
        """Refuses sections that share a slug."""
        slugs = Counter(section.slug for section in self.sections)
        if repeated := [slug for slug, count in slugs.items() if count > 1]:
            raise ValueError(f"Two sections share the slug {repeated[0]!r}.")
