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

import codecs
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, choose
from haepo_jax.language.data.json_text import loads
from haepo_jax.text import visible

SCHEMAS = ("openai_tldr", "openai_comparisons", "trl_tldr", "trl_tldr_preference")
SOURCES = ("tldr", "cnndm")
CNNDM_BATCHES = ("batch0_cnndm", "cnndm0", "cnndm2")
"""The batches of `openai_comparisons` whose texts are CNN/DailyMail articles; those of all others are posts."""

_SUFFIXES = (".jsonl", ".json", ".parquet")
_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    bytes: "binary data",
}


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
    rows: list[Row] = []
    for file in _files(Path(os.path.expanduser(path)), schema):
        parsed = [_PARSERS[schema](record) for record in _records(file, schema)]
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


def _files(path: Path, schema: str) -> list[Path]:
    try:
        return _files_of(path, schema)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path} cannot be read: {reason or error}.") from error


def _files_of(path: Path, schema: str) -> list[Path]:
    if path.is_dir():
        files = _not_foreign(path, sorted(file for file in _shown(path.iterdir()) if file.suffix in _SUFFIXES), schema)
        if not files:
            raise ConfigError(f"Folder {path} holds no data file; those end in {', '.join(_SUFFIXES)}.")
    elif glob.has_magic(path.name) and not path.exists():
        found = path.parent.glob(path.name)
        files = sorted(found if path.name.startswith(".") else _shown(found))
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


def _shown(paths: Iterable[Path]) -> list[Path]:
    """The files that are not hidden, as those are that systems and editors leave beside others."""
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def _not_foreign(folder: Path, files: list[Path], schema: str) -> list[Path]:
    """The files but for those that describe others; all, if no other is left, so that reading says what is missing."""
    foreign = [file for file in files if _is_foreign(file, schema)]
    if len(foreign) == len(files):
        return files
    if foreign:
        names = ", ".join(visible(file.name) for file in foreign)
        fields = ", ".join(_FIELDS[schema])
        print(f"Passes over {names} in {folder}: no field there is one of {fields}.", file=sys.stderr)
    return [file for file in files if file not in foreign]


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
            given = _KINDS.get(type(value), f"a value of type {type(value).__name__}")
            raise self.error(name, f"is {given}, not {what}")
        return value

    def text(self, name: str) -> str:
        text: str = self.get(name, str, "a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error(name, f"holds half a character at {error.start}: {text[error.start]!r}") from None
        return text

    def unjudged[T](self, name: str, kind: type[T]) -> T | None:
        value = self.fields.get(name)
        return value if type(value) is kind else None

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
        id=record.unjudged("id", str),
        subreddit=record.text("subreddit"),
        title=record.text("title"),
        post=record.text("post"),
    )


def _article(record: _Record) -> Article:
    return Article(
        id=record.unjudged("id", str),
        site=record.unjudged("site", str),
        title=record.unjudged("title", str),
        article=record.text("article"),
    )


def _comparison(record: _Record) -> Comparison:
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


_FIELDS = {
    "openai_tldr": ("id", "subreddit", "title", "post", "summary"),
    "openai_comparisons": ("info", "summaries", "choice", "worker", "batch", "split", "extra"),
    "trl_tldr": ("prompt", "completion"),
    "trl_tldr_preference": ("prompt", "chosen", "rejected"),
}


def _records(file: Path, schema: str) -> Iterator[_Record]:
    try:
        yield from _parquet_records(file, schema) if file.suffix == ".parquet" else _json_records(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error


def _json_records(file: Path) -> Iterator[_Record]:
    # In binary, where a line ends at a newline alone: text may hold other characters that end lines.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(codecs.BOM_UTF8)
            if not text.strip():
                continue
            where = f"{file}, line {number}"
            try:
                fields = loads(text.rstrip().decode())
            except UnicodeDecodeError as error:
                raise ConfigError(f"{where}: byte {error.start + 1} is not UTF-8.") from None
            except json.JSONDecodeError as error:
                raise ConfigError(f"{where}: not valid JSON at column {error.colno} ({error.msg}).") from None
            except ValueError as error:
                raise ConfigError(f"{where}: not valid JSON: {error}.") from None
            if not isinstance(fields, dict):
                raise ConfigError(f"{where}: a row is an object with fields, not {_KINDS[type(fields)]}.")
            yield _Record(where, "", fields)


def _parquet_records(file: Path, schema: str) -> Iterator[_Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as rows:
            columns = [name for name in rows.schema_arrow.names if name in _FIELDS[schema]]
            if not columns and rows.metadata.num_rows:
                yield _Record(f"{file}, row 0", "", {})
            number = 0
            for batch in rows.iter_batches(columns=columns):
                for fields in _pylist(file, batch, number):
                    yield _Record(f"{file}, row {number}", "", fields)
                    number += 1
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{file} is not a whole parquet file: {str(error).rstrip('.')}.") from error


def _pylist(file: Path, batch: Any, start: int) -> list[dict[str, Any]]:
    """The rows of a batch that begins with row `start`."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        for name in batch.schema.names:
            for number, value in enumerate(batch.column(name)):
                try:
                    value.as_py()
                except UnicodeDecodeError:
                    raise ConfigError(f"{file}, row {start + number}: field {name} is not UTF-8.") from None
        raise
    return rows


def _is_foreign(file: Path, schema: str) -> bool:
    """Returns whether a file holds one JSON object or table with no field of the schema; not where it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        if file.suffix == ".parquet":
            names = dict.fromkeys(parquet.read_schema(file).names)
        else:
            with file.open("rb") as lines:
                first = next((line for line in lines if line.strip()), b"")
                if first.rstrip().endswith(b"}") and any(line.strip() for line in lines):
                    return False  # rows
                lines.seek(0)
                names = loads(lines.read())
    except (pyarrow.ArrowException, OSError, ValueError):
        return False
    return isinstance(names, dict) and names.keys().isdisjoint(_FIELDS[schema])
