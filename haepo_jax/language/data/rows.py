"""Rows of local files, JSON lines or parquet, whatever fields they have; a bad one is named by file and line."""

import codecs
import glob
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, first_line
from haepo_jax.language.data.json_text import loads
from haepo_jax.text import visible

_SUFFIXES = (".jsonl", ".json", ".parquet")
KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    bytes: "binary data",
}
"""The kinds of values, in words."""


@dataclass(frozen=True)
class Record:
    """The fields of a row, or of an object in it, and where it stands."""

    where: str
    """The file, and its line, counted from 1, or its row, counted from 0 in parquet files."""
    prefix: str
    """Of the names of the fields, in an object that a row holds."""
    fields: Mapping[str, Any]

    def error(self, name: str, problem: str) -> ConfigError:
        """Makes the error that names file, line and field."""
        return ConfigError(f"{self.where}: field {self.prefix}{name} {problem}.")

    def get(self, name: str, kind: type, what: str) -> Any:
        """Returns a field of a kind, or raises the `ConfigError` that names it."""
        if name not in self.fields:
            raise self.error(name, "is missing")
        return self.checked(name, self.fields[name], kind, what)

    def checked(self, name: str, value: Any, kind: type, what: str) -> Any:
        """Returns a value of a kind, or raises the `ConfigError` that names its field."""
        # The exact type: True is an int to isinstance.
        if type(value) is not kind:
            given = KINDS.get(type(value), f"a value of type {type(value).__name__}")
            raise self.error(name, f"is {given}, not {what}")
        return value

    def text(self, name: str) -> str:
        """Returns a field of text that UTF-8 can hold, or raises the `ConfigError` that names it."""
        return self.whole_characters(name, self.get(name, str, "a string"))

    def whole_characters(self, name: str, text: str) -> str:
        """Returns a text made of a field, or raises the `ConfigError` that names it where UTF-8 cannot hold it."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error(name, f"holds half a character at {error.start}: {text[error.start]!r}") from None
        return text

    def unjudged[T](self, name: str, kind: type[T]) -> T | None:
        """Returns a field, None where it is not of the kind."""
        value = self.fields.get(name)
        return value if type(value) is kind else None

    def object(self, name: str) -> "Record":
        """Returns an object that a field holds."""
        return Record(self.where, f"{self.prefix}{name}.", self.get(name, dict, "an object"))

    def pair(self, name: str) -> tuple["Record", "Record"]:
        """Returns the two objects that a field holds."""
        values = self.get(name, list, "a list")
        if len(values) != 2:
            raise self.error(name, f"has {len(values)} entries, not 2")
        first, second = (
            Record(self.where, f"{self.prefix}{name}[{i}].", self.checked(f"{name}[{i}]", value, dict, "an object"))
            for i, value in enumerate(values)
        )
        return first, second


def read_records(path: str | Path, fields: Collection[str], *, all_columns: bool = False) -> Iterator[Record]:
    """Reads the rows of data files, in the order of the files' names and of the rows in them.

    Args:
      path: a file, a folder all of whose data files are read, or a pattern such as `data/train-*.parquet`. JSON
        lines end in `.jsonl` or `.json`, parquet files in `.parquet`; other files of a folder are passed over, as are
        hidden ones, and with a word those that have none of the fields, such as `dataset_info.json`.
      fields: those that are looked for.
      all_columns: whether the other columns of parquet files are read too; those of JSON lines always are.

    Yields:
      The rows, at least one of each file.

    Raises:
      ConfigError: no such file, one with another ending, an empty or damaged one, or a row that is no object.
    """
    for file in _files(Path(os.path.expanduser(path)), fields):
        is_empty = True
        for record in _records(file, None if all_columns else fields):
            is_empty = False
            yield record
        if is_empty:
            raise ConfigError(f"{file} is empty: there is no row in it.")


def _files(path: Path, fields: Collection[str]) -> list[Path]:
    try:
        return _files_of(path, fields)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path} cannot be read: {reason or error}.") from error


def _files_of(path: Path, fields: Collection[str]) -> list[Path]:
    if path.is_dir():
        files = _not_foreign(path, sorted(file for file in _shown(path.iterdir()) if file.suffix in _SUFFIXES), fields)
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


def _not_foreign(folder: Path, files: list[Path], fields: Collection[str]) -> list[Path]:
    """The files but for those that describe others; all, if no other is left, so that reading says what is missing."""
    foreign = [file for file in files if _is_foreign(file, fields)]
    if len(foreign) == len(files):
        return files
    if foreign:
        names = ", ".join(visible(file.name) for file in foreign)
        print(f"Passes over {names} in {folder}: no field there is one of {', '.join(fields)}.", file=sys.stderr)
    return [file for file in files if file not in foreign]


def _records(file: Path, columns: Collection[str] | None) -> Iterator[Record]:
    try:
        yield from _parquet_records(file, columns) if file.suffix == ".parquet" else _json_records(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error


def _json_records(file: Path) -> Iterator[Record]:
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
                listed = text.lstrip().startswith(b"[")
                hint = "; a list begins here, and JSON lines have one object a line and nothing around them"
                raise ConfigError(
                    f"{where}: not valid JSON at column {error.colno} ({error.msg}){hint if listed else ''}."
                ) from None
            except ValueError as error:
                raise ConfigError(f"{where}: not valid JSON: {error}.") from None
            if not isinstance(fields, dict):
                raise ConfigError(f"{where}: a row is an object with fields, not {KINDS[type(fields)]}.")
            yield Record(where, "", fields)


def _parquet_records(file: Path, wanted: Collection[str] | None) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as rows:
            columns = [name for name in rows.schema_arrow.names if wanted is None or name in wanted]
            if not columns and rows.metadata.num_rows:
                yield Record(f"{file}, row 0", "", {})
            number = 0
            for batch in rows.iter_batches(columns=columns):
                for fields in _pylist(file, batch, number):
                    yield Record(f"{file}, row {number}", "", fields)
                    number += 1
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{file} is not a whole parquet file: {str(error).rstrip('.')}.") from error


def _pylist(file: Path, batch: Any, start: int) -> list[dict[str, Any]]:
    """The rows of a batch that begins with row `start`."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except Exception:  # many kinds: bytes that are no text, dates beyond Python's, equal names in an object
        for name in batch.schema.names:
            for number, value in enumerate(batch.column(name)):
                try:
                    value.as_py()
                except Exception as error:
                    is_text = isinstance(error, UnicodeDecodeError)
                    problem = "is not UTF-8" if is_text else f"holds what Python cannot: {first_line(error)}"
                    raise ConfigError(f"{file}, row {start + number}: field {name} {problem}.") from error
        raise
    return rows


def _is_foreign(file: Path, fields: Collection[str]) -> bool:
    """Returns whether a file holds one JSON object or table with none of the fields; not where it is damaged."""
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
    return isinstance(names, dict) and names.keys().isdisjoint(fields)
