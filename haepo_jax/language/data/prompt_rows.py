"""Prompts of one's own: rows with any columns, of which one is the prompt, as text or as messages.

Texts are left as they are: nothing is stripped, cut at a line or filled into a template of ours. The other columns go
to the reward functions.
"""

import functools
import json
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.language.data.chat import ChatTemplate, check_messages
from haepo_jax.language.data.prompts import begin_text
from haepo_jax.language.data.rows import KINDS, Record, read_records
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.prompt_settings import PromptSettings
from haepo_jax.text import visible


class PromptRow(NamedTuple):
    """One prompt, with what the data say of it."""

    where: str
    """The file, and its line, counted from 1, or its row, counted from 0 in parquet files."""
    text: str
    """As the model sees it."""
    columns: Mapping[str, Any]
    """The other columns; of a chat the messages too."""
    completion: str | None
    """What the stage `sft` learns."""

    @property
    def checksum(self) -> int:
        """Of all that reward functions see of the row."""
        seen = json.dumps([self.text, dict(self.columns)], default=repr, sort_keys=True)
        return zlib.crc32(seen.encode("utf-8", "backslashreplace"))


def read_prompt_rows(path: str | Path, settings: PromptSettings, tokenizer: Tokenizer) -> list[PromptRow]:
    """Reads prompts with their columns.

    A row of messages is written by the model's chat template, up to where the assistant answers. Where its last
    message is the assistant's, that is its completion and no part of the prompt. A completion may be messages too,
    which follow those of the prompt.

    Args:
      path: as of `rows.read_records`.
      settings: name the columns.
      tokenizer: of the model; its folder holds the chat template.

    Raises:
      ConfigError: a file cannot be read, a row has no prompt, or the template refuses one; file and row are named.
    """
    template = functools.cache(lambda: ChatTemplate.from_folder(tokenizer.folder or Path()))
    records = read_records(path, (settings.prompt_column,), all_columns=True)
    return [_make_row(record, settings, template) for record in records]


def _make_row(record: Record, settings: PromptSettings, template: Callable[[], ChatTemplate]) -> PromptRow:
    column = settings.prompt_column
    is_chat = column in record.fields and not isinstance(record.fields[column], str)
    completion, answers = _read_completion(record, settings.completion_column, is_chat)
    columns = dict(record.fields)
    if is_chat:
        messages = check_messages(record.fields[column], record.where, column) + answers
        text, answer = _write(messages, record.where, template())
        text = record.whole_characters(column, text)
        if completion is None and answer is not None:
            completion = record.whole_characters(column, answer)
    else:
        if column not in record.fields:
            raise ConfigError(
                f"{record.where}: field {column} is missing (config.data.prompt_column); there are: "
                f"{', '.join(map(visible, record.fields)) or 'none'}."
            )
        text = record.text(column)
        del columns[column]
    return PromptRow(record.where, text, columns, completion)


def _read_completion(record: Record, column: str, is_chat: bool) -> tuple[str | None, list[dict[str, Any]]]:
    """Reads the column of the completion, as text or as the messages that end a chat; there may be none."""
    given = record.fields.get(column)
    if given is None:
        return None, []
    if not (is_chat and isinstance(given, list)):
        return record.text(column), []
    answers = check_messages(given, record.where, column)
    if answers[-1]["role"] != "assistant":
        raise record.error(column, f"ends with a message of {quoted(answers[-1]['role'], 40)}, not of 'assistant'")
    return None, answers


def _write(messages: Sequence[Mapping[str, Any]], where: str, template: ChatTemplate) -> tuple[str, str | None]:
    """Writes messages as the text of the prompt, and the answer behind it where there is one."""
    if messages[-1]["role"] != "assistant":
        return template.render(messages, where=where), None
    if len(messages) == 1:
        raise ConfigError(f"{where}: the only message is the assistant's, so that there is no prompt.")
    prompt = template.render(messages[:-1], where=where)
    whole = template.render(messages, where=where, for_answer=False)
    if whole.startswith(prompt):  # with what the template puts behind an answer, such as the token that ends it
        return prompt, whole[len(prompt) :]
    content = messages[-1].get("content")
    if not isinstance(content, str):
        given = KINDS.get(type(content), f"a value of type {type(content).__name__}")
        raise ConfigError(f"{where}: the content of the last message is {given}, not a string.")
    return prompt, content


def encode_prompts(
    texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, *, length: int, long_prompts: str, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encodes prompts as ids, padded on the left; what becomes of those that are too long is printed with a count.

    Args:
      texts: `(where, prompt)` of N prompts.
      tokenizer: that of the model; its `begin_ids` come first, unless the prompt spells them out, and count.
      length: P.
      long_prompts: `drop` leaves out what is longer; `cut_left` keeps the tokens that begin a text, and behind them as
        many of the prompt's last as fit.
      source: where the prompts are from.

    Returns:
      `(tokens, valid, kept)`: `[K, P]` int32, `[K, P]` boolean, and `[K]` the indices of those that are left.

    Raises:
      ConfigError: an empty prompt, or none is left.
    """
    rows, kept, too_long = list[list[int]](), list[int](), 0
    for number, ((where, text), ids) in enumerate(
        zip(texts, tokenizer.encode([text for _, text in texts]), strict=True)
    ):
        if not text or not ids:
            raise ConfigError(f"{where}: the prompt is empty.")
        row = begin_text(ids, tokenizer)
        if len(row) > length:
            too_long += 1
            if long_prompts == "drop":
                continue
            begin = [*tokenizer.begin_ids][:length]
            row = begin + row[len(begin) - length :] if len(begin) < length else row[-length:]
        rows.append(row)
        kept.append(number)
    if too_long:
        done = "Leaves out" if long_prompts == "drop" else "Cuts the beginning of"
        print(
            f"{done} {too_long} of {len(texts)} prompts of {visible(source)}, which have more than {length} tokens "
            "(config.data.prompt_length).",
            file=sys.stderr,
        )
    if not rows:
        raise ConfigError(
            f"{source} has no prompt of at most {length} tokens (config.data.prompt_length); allow more, or set "
            "config.data.long_prompts to cut_left."
        )
    tokens = np.full((len(rows), length), tokenizer.pad_id, np.int32)
    for prompt, row in zip(tokens, rows, strict=True):
        prompt[length - len(row) :] = row
    lengths = np.array([len(row) for row in rows])
    return tokens, np.arange(length) >= length - lengths[:, None], np.array(kept)
