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
trl-lib/tldr-preference, whose prompts are formatted already; `haepo_jax.language.prompts` brings the first two to the
form of the others.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, choose

SCHEMAS = ("openai_tldr", "openai_comparisons", "trl_tldr", "trl_tldr_preference")
SOURCES = ("tldr", "cnndm")
CNNDM_BATCHES = ("batch0_cnndm", "cnndm0", "cnndm2")
"""The batches of `openai_comparisons` whose texts are CNN/DailyMail articles; those of all others are posts."""

_SUFFIXES = (".jsonl", ".json", ".parquet")
_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}


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
    policies: tuple[str, str]
    """What wrote each of them."""
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


Row = Demonstration | Comparison | PromptCompletion | Preference


def read(
    path: str | Path, schema: str, *, source: str = "tldr", splits: Sequence[str] | None = None
) -> tuple[Row, ...]:
    """The rows of a data set, in the order of the files' names and of the rows in them.

    Args:
      path: a file, a folder all of whose data files are read, or a pattern such as `data/train-*.parquet`. JSON
        lines end in `.jsonl` or `.json`, parquet files in `.parquet`; other files of a folder are passed over.
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
    rows: list[Row] = []
    for file in _files(Path(path)):
        parsed = [_PARSERS[schema](record) for record in _records(file)]
        if not parsed:
            raise ConfigError(f"{file} is empty: there is no row in it.")
        rows += parsed
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


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not files:
            raise ConfigError(f"Folder {path} holds no data file; those end in {', '.join(_SUFFIXES)}.")
    elif "*" in path.name:
        files = sorted(path.parent.glob(path.name))
        if not files:
            raise ConfigError(f"No file fits the pattern {path}.")
    elif path.is_file():
        files = [path]
    else:
        raise ConfigError(f"There is no file or folder {path}.")
    for file in files:
        if file.suffix not in _SUFFIXES:
            raise ConfigError(f"{file} ends in {file.suffix!r}; data files end in {', '.join(_SUFFIXES)}.")
    if len({file.suffix == ".parquet" for file in files}) > 1:
        raise ConfigError(
            f"{path} holds both JSON lines and parquet files, maybe of the same rows; name those to read."
        )
    return files


@dataclass(frozen=True)
class _Record:
    """The fields of a row, or of an object in it, and where it stands."""

    where: str
    prefix: str
    fields: Mapping[str, Any]

    def error(self, name: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.where}: field {self.prefix}{name} {problem}.")

    def get(self, name: str, kind: type, what: str) -> Any:
        if name not in self.fields:
            raise self.error(name, "is missing")
        return self.checked(name, self.fields[name], kind, what)

    def checked(self, name: str, value: Any, kind: type, what: str) -> Any:
        # The exact type: True is an int to isinstance.
        if type(value) is not kind:
            raise self.error(name, f"is {_KINDS.get(type(value), 'an object')}, not {what}")
        return value

    def text(self, name: str) -> str:
        text: str = self.get(name, str, "a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error(name, f"holds half a character at {error.start}: {text[error.start]!r}") from None
        return text

    def text_or_none(self, name: str) -> str | None:
        return None if self.fields.get(name) is None else self.text(name)

    def object(self, name: str) -> "_Record":
        return _Record(self.where, f"{self.prefix}{name}.", self.get(name, dict, "an object"))

    def pair(self, name: str) -> tuple["_Record", "_Record"]:
        values = self.get(name, list, "a list")
        if len(values) != 2:
            raise self.error(name, f"has {len(values)} entries, not 2")
        first, second = (
            _Record(self.where, f"{self.prefix}{name}[{i}].", self.checked(f"{name}[{i}]", value, dict, "an object"))
            for i, value in enumerate(values)
        )
        return first, second


def _demonstration(record: _Record) -> Demonstration:
    return Demonstration(post=_post(record), summary=record.text("summary"))


def _post(record: _Record) -> Post:
    return Post(
        id=record.text_or_none("id"),
        subreddit=record.text("subreddit"),
        title=record.text("title"),
        post=record.text("post"),
    )


def _article(record: _Record) -> Article:
    return Article(
        id=record.text_or_none("id"),
        site=record.text_or_none("site"),
        title=record.text_or_none("title"),
        article=record.text("article"),
    )


def _comparison(record: _Record) -> Comparison:
    batch, info = record.text("batch"), record.object("info")
    first, second = record.pair("summaries")
    choice = record.get("choice", int, "0 or 1")
    if choice not in (0, 1):
        raise record.error("choice", f"is {choice}, not 0 or 1")
    # Early batches asked for no confidence.
    extra = record.object("extra") if record.fields.get("extra") is not None else None
    confidence = None
    if extra is not None and extra.fields.get("confidence") is not None:
        confidence = extra.get("confidence", int, "a whole number")
    return Comparison(
        post=_article(info) if batch in CNNDM_BATCHES else _post(info),
        summaries=(first.text("text"), second.text("text")),
        choice=choice,
        policies=(first.text("policy"), second.text("policy")),
        worker=record.text_or_none("worker"),
        batch=batch,
        split=record.text("split"),
        confidence=confidence,
    )


def _prompt_completion(record: _Record) -> PromptCompletion:
    return PromptCompletion(prompt=record.text("prompt"), completion=record.text("completion"))


def _preference(record: _Record) -> Preference:
    return Preference(prompt=record.text("prompt"), chosen=record.text("chosen"), rejected=record.text("rejected"))


_PARSERS: dict[str, Callable[[_Record], Row]] = {
    "openai_tldr": _demonstration,
    "openai_comparisons": _comparison,
    "trl_tldr": _prompt_completion,
    "trl_tldr_preference": _preference,
}


def _records(file: Path) -> Iterator[_Record]:
    try:
        yield from _parquet_records(file) if file.suffix == ".parquet" else _json_records(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error


def _json_records(file: Path) -> Iterator[_Record]:
    # In binary, where a line ends at a newline alone: text may hold other characters that end lines.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                fields = json.loads(line.rstrip().decode())
            except UnicodeDecodeError as error:
                raise ConfigError(f"{where}: byte {error.start + 1} is not UTF-8.") from None
            except json.JSONDecodeError as error:
                raise ConfigError(f"{where}: not valid JSON at column {error.colno} ({error.msg}).") from None
            if not isinstance(fields, dict):
                raise ConfigError(f"{where}: a row is an object with fields, not {_KINDS[type(fields)]}.")
            yield _Record(where, "", fields)


def _parquet_records(file: Path) -> Iterator[_Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as rows:
            number = 0
            for batch in rows.iter_batches():
                for fields in batch.to_pylist():
                    yield _Record(f"{file}, row {number}", "", fields)
                    number += 1
    except pyarrow.ArrowInvalid as error:
        raise ConfigError(f"{file} is not a whole parquet file: {str(error).rstrip('.')}.") from error
