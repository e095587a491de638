"""Data sets of summaries and of preferences among them, read from local files in the schemas they are published in.

=================== ====================================================================== ==================
schema              fields of a row                                                        what `read` gives
=================== ====================================================================== ==================
openai_tldr         id, subreddit, title, post, summary                                    `Demonstration`
openai_comparisons  info{id, post, title, subreddit} or info{id, site, title, article},    `Comparison`
                    summaries[2]{text, policy, note}, choice, worker, batch, split,
                    extra{confidence}
trl_tldr            prompt, completion                                                     `PromptCompletion`
trl_tldr_preference prompt, chosen, rejected                                               `Preference`
=================== ====================================================================== ==================

The first two are `tldr_3_filtered` and `comparisons` of openai/summarize_from_feedback, the others trl-lib/tldr and
trl-lib/tldr-preference, whose prompts are formatted already; `haepo_jax.language.data.prompts` brings the first two to
the form of the others. Fields that no prompt and no choice of rows needs (id, site, title of an article, policy, note,
worker, confidence, and all that the table does not name) are not judged: what is not as published counts as missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haepo_jax.errors import ConfigError, choose
from haepo_jax.language.data.rows import Record, read_records

SCHEMAS = ("openai_tldr", "openai_comparisons", "trl_tldr", "trl_tldr_preference")
SOURCES = ("tldr", "cnndm")
CNNDM_BATCHES = ("batch0_cnndm", "cnndm0", "cnndm2")
"""The batches of `openai_comparisons` whose texts are CNN/DailyMail articles; those of all others are posts."""


@dataclass(frozen=True)
class Post:
    """A Reddit post."""

    id: str | None
    subreddit: str
    """Without `r/`."""
    title: str
    post: str


@dataclass(frozen=True)
class Article:
    """A CNN/DailyMail article."""

    id: str | None
    site: str | None
    title: str | None
    article: str


@dataclass(frozen=True)
class Demonstration:
    """A post and a summary to imitate."""

    post: Post
    summary: str


@dataclass(frozen=True)
class Comparison:
    """Two summaries of one text, and which of them a judge preferred."""

    post: Post | Article
    summaries: tuple[str, str]
    choice: int
    """Of the preferred one: 0 or 1."""
    policies: tuple[str | None, str | None]
    """The writer of each of them."""
    worker: str | None
    batch: str
    split: str
    confidence: int | None


@dataclass(frozen=True)
class PromptCompletion:
    """A formatted prompt and a completion to imitate."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Preference:
    """A formatted prompt and two completions of which the first is preferred."""

    prompt: str
    chosen: str
    rejected: str
    where: str = field(default="", compare=False)
    """File and row, of those that were read as they are."""


Row = Demonstration | Comparison | PromptCompletion | Preference


def read(
    path: str | Path, schema: str, *, source: str = "tldr", splits: Sequence[str] | None = None
) -> tuple[Row, ...]:
    """Reads the rows of a data set, in the order of the files' names and of the rows in them.

    Args:
      path: a file, a folder all of whose data files are read, or a pattern such as `data/train-*.parquet`. JSON
        lines end in `.jsonl` or `.json`, parquet files in `.parquet`; other files of a folder are passed over, as are
        hidden ones, and with a word those that have none of the schema's fields, such as `dataset_info.json`.
      schema: one of `SCHEMAS`.
      source: which comparisons of `openai_comparisons` are wanted: `tldr`, of Reddit posts, or `cnndm`, of the
        articles of `CNNDM_BATCHES`. They are never mixed.
      splits: which splits of `openai_comparisons` are wanted, such as `("valid1", "valid2")`; None wants all.

    Returns:
      At least one row, of the class that the table above names.

    Raises:
      ConfigError: no such file, one with another ending, an empty one, a row that is not of the schema (the message
        names the file, its line, counted from 1, or its row, counted from 0 in parquet files, and the field), or no
        row left of `source` and `splits`.
    """
    choose("Schema", schema, SCHEMAS)
    choose("Source", source, SOURCES)
    if schema != "openai_comparisons" and (source != "tldr" or splits is not None):
        raise ConfigError(f"Only rows of schema openai_comparisons have a source and a split, not those of {schema}.")
    rows = [_PARSERS[schema](record) for record in read_records(path, _FIELDS[schema])]
    if schema != "openai_comparisons":
        return tuple(rows)
    comparisons = [row for row in rows if isinstance(row, Comparison)]
    wanted = [
        row
        for row in comparisons
        if (row.batch in CNNDM_BATCHES) == (source == "cnndm") and (splits is None or row.split in splits)
    ]
    if not wanted:
        batches, present = (", ".join(sorted(names)) for names in _labels(comparisons))
        asked = f"source {source}" + ("" if splits is None else f" and of split {' or '.join(splits)}")
        raise ConfigError(f"{path} holds no comparison of {asked}; its batches: {batches}; its splits: {present}.")
    return tuple(wanted)


def _labels(comparisons: Sequence[Comparison]) -> tuple[set[str], set[str]]:
    return {row.batch for row in comparisons}, {row.split for row in comparisons}


def _demonstration(record: Record) -> Demonstration:
    return Demonstration(post=_post(record), summary=record.text("summary"))


def _post(record: Record) -> Post:
    return Post(
        id=record.unjudged("id", str),
        subreddit=record.text("subreddit"),
        title=record.text("title"),
        post=record.text("post"),
    )


def _article(record: Record) -> Article:
    return Article(
        id=record.unjudged("id", str),
        site=record.unjudged("site", str),
        title=record.unjudged("title", str),
        article=record.text("article"),
    )


def _comparison(record: Record) -> Comparison:
    batch, info = record.text("batch"), record.object("info")
    first, second = record.pair("summaries")
    choice = record.get("choice", int, "0 or 1")
    if choice not in (0, 1):
        raise record.error("choice", f"is {choice}, not 0 or 1")
    extra = record.unjudged("extra", dict) or {}  # early batches asked for no confidence
    confidence = extra.get("confidence")
    return Comparison(
        post=_article(info) if batch in CNNDM_BATCHES else _post(info),
        summaries=(first.text("text"), second.text("text")),
        choice=choice,
        policies=(first.unjudged("policy", str), second.unjudged("policy", str)),
        worker=record.unjudged("worker", str),
        batch=batch,
        split=record.text("split"),
        confidence=confidence if type(confidence) is int else None,
    )


def _prompt_completion(record: Record) -> PromptCompletion:
    return PromptCompletion(prompt=record.text("prompt"), completion=record.text("completion"))


def _preference(record: Record) -> Preference:
    return Preference(
        prompt=record.text("prompt"),
        chosen=record.text("chosen"),
        rejected=record.text("rejected"),
        where=record.where,
    )


_PARSERS: dict[str, Callable[[Record], Row]] = {
    "openai_tldr": _demonstration,
    "openai_comparisons": _comparison,
    "trl_tldr": _prompt_completion,
    "trl_tldr_preference": _preference,
}


_FIELDS = {
    "openai_tldr": ("id", "subreddit", "title", "post", "summary"),
    "openai_comparisons": ("info", "summaries", "choice", "worker", "batch", "split", "extra"),
    "trl_tldr": ("prompt", "completion"),
    "trl_tldr_preference": ("prompt", "chosen", "rejected"),
}
