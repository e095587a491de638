"""The data of a run: where it lies, and its examples as arrays of ids, to learn from or to evaluate on."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import DataConfig, has_own_prompts
from haepo_jax.language.data import datasets, generated_task
from haepo_jax.language.data.datasets import Preference, PromptCompletion
from haepo_jax.language.data.prompt_rows import PromptRow, encode_prompts, read_prompt_rows
from haepo_jax.language.data.prompts import (
    PromptFormat,
    encode_completions,
    encode_preferences,
    encode_queries,
    encode_responses,
    format_completions,
    format_preferences,
    get_prompt_format,
)
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.training.scoring import Prompts, Sequences
from haepo_jax.text import visible

Split = Literal["train", "held_out", "test"]
"""Posts to learn from, those that a run is watched by meanwhile, and those that it is judged by in the end."""


class PromptSet(NamedTuple):
    """N prompts as the model and as reward functions see them."""

    prompts: Prompts
    """`[N, P]`."""
    rows: tuple[PromptRow, ...]
    source: str
    """The file or folder that they are from."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which rows have them."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.columns))


_OWN = PromptFormat("own", "{prompt}", "prompt", query_length=512, response_length=256, comparison_length=256)
"""Prompts of one's own, which are in no format."""


def get_format(config: DataConfig) -> PromptFormat:
    """Returns the format of prompts with the lengths that the config asks for."""
    preset = _OWN if has_own_prompts(config) else get_prompt_format(config.prompt)
    response = config.response_length or preset.response_length
    return dataclasses.replace(
        preset,
        query_length=config.prompt_length or preset.query_length,
        response_length=response,
        comparison_length=preset.comparison_length if config.response_length is None else response,
    )


def locate_data(config: DataConfig, folder: Path) -> DataConfig:
    """Fills in the paths of the config: those of the generated task, written into `folder`, where any is missing."""
    if config.demonstrations or has_own_prompts(config):
        return config
    files = {
        "demonstrations": folder / "tldr_3_filtered" / "train.jsonl",
        "held_out_demonstrations": folder / "tldr_3_filtered" / "valid.jsonl",
        "test_demonstrations": folder / "tldr_3_filtered" / "test.jsonl",
        "comparisons": folder / "comparisons" / "train.jsonl",
        "held_out_comparisons": folder / "comparisons" / "valid.jsonl",
    }
    done = folder / "complete"
    if not all(path.exists() for path in (done, folder / "tokenizer.json", *files.values())):
        generated_task.write(folder)
        done.touch()
    paths: dict[str, Any] = {name: str(path) for name, path in files.items()}
    return dataclasses.replace(config, **paths)


def read_completions(config: DataConfig, split: Split) -> tuple[PromptCompletion, ...]:
    """Reads the demonstrations as texts; at most `num_held_out` of those that are not trained on."""
    path = {
        "train": config.demonstrations,
        "held_out": config.held_out_demonstrations,
        "test": config.test_demonstrations,
    }[split]
    rows = datasets.read(path, config.demonstrations_schema)
    return format_completions(rows if split == "train" else rows[: config.num_held_out], get_format(config))


def has_split(config: DataConfig, split: Split) -> bool:
    """Returns whether there are prompts of a split; there may be none where they are of one's own."""
    return not has_own_prompts(config) or bool(_find_path(config, split)[1])


def read_demonstrations(config: DataConfig, tokenizer: Tokenizer, split: Split) -> Sequences:
    """Reads prompts and the completions to imitate, `[N, P + R]`.

    Raises:
      ConfigError: data cannot be read, or a row has no completion; file and row are named.
    """
    texts = get_format(config)
    if not has_own_prompts(config):
        return _joined(*encode_completions(read_completions(config, split), tokenizer, texts))
    found = read_prompts(config, tokenizer, split)
    completions = []
    for row in found.rows:
        if row.completion is None:
            raise ConfigError(
                f"{row.where}: there is nothing to imitate, no column {config.completion_column} "
                "(config.data.completion_column) and no message of the assistant at the end."
            )
        completions.append(row.completion)
    prompts = [row.text for row in found.rows]
    responses = encode_responses(prompts, completions, tokenizer, texts.response_length)
    _report_cut(*responses, tokenizer, found.source)
    return _joined(*found.prompts, *responses)


def read_prompts(config: DataConfig, tokenizer: Tokenizer, split: Split) -> PromptSet:
    """Reads the prompts of a split; of demonstrations, whose summary is the column `completion`.

    Raises:
      ConfigError: there are none, or data cannot be read; file and row are named.
    """
    if not has_own_prompts(config):
        path, completions = _find_path(config, split)[1], read_completions(config, split)
        arrays = encode_queries([row.prompt for row in completions], tokenizer, get_format(config))
        rows = [
            PromptRow(f"{path}, row {k}", row.prompt, {"completion": row.completion}, row.completion)
            for k, row in enumerate(completions)
        ]
        return PromptSet(Prompts(*arrays), tuple(rows), path)
    setting, path = _find_path(config, split)
    if not path:
        raise ConfigError(f"config.data.{setting} is empty, and there are no other prompts for this.")
    rows = read_prompt_rows(path, config, tokenizer)
    if split != "train" and len(rows) > config.num_held_out:
        print(
            f"Takes the first {config.num_held_out} of {len(rows)} prompts of {visible(path)} "
            "(config.data.num_held_out).",
            file=sys.stderr,
        )
        rows = rows[: config.num_held_out]
    tokens, valid, kept = encode_prompts(
        [(row.where, row.text) for row in rows],
        tokenizer,
        length=get_format(config).query_length,
        long_prompts=config.long_prompts,
        source=path,
    )
    return PromptSet(Prompts(tokens, valid), tuple(rows[k] for k in kept), path)


def _find_path(config: DataConfig, split: Split) -> tuple[str, str]:
    """Finds the name of the setting that has the prompts of a split, and its value."""
    kind = "prompts" if has_own_prompts(config) else "demonstrations"
    setting = {"train": kind, "held_out": f"held_out_{kind}", "test": f"test_{kind}"}[split]
    if split == "test" and not getattr(config, setting):
        setting = f"held_out_{kind}"
    return setting, getattr(config, setting)


def read_comparisons(config: DataConfig, tokenizer: Tokenizer, *, held_out: bool) -> Sequences:
    """Reads comparisons, `[N, 2, P + C]`, the preferred response first; C is the format's `comparison_length`."""
    path = config.held_out_comparisons if held_out else config.comparisons
    if not path:
        raise ConfigError(
            f"config.data.{'held_out_' if held_out else ''}comparisons is empty, and this learns from comparisons."
        )
    splits = None
    if config.comparisons_schema == "openai_comparisons":
        splits = ("valid1", "valid2") if held_out else ("train",)
    texts = get_format(config)
    rows = datasets.read(path, config.comparisons_schema, splits=splits)
    preferences = format_preferences(rows[: config.num_held_out] if held_out else rows, texts)
    if has_own_prompts(config):
        return _encode_own_preferences(preferences, config, tokenizer, path)
    arrays = encode_preferences(preferences, tokenizer, texts)
    chosen = _joined(arrays.queries, arrays.query_valid, arrays.chosen, arrays.chosen_valid)
    rejected = _joined(arrays.queries, arrays.query_valid, arrays.rejected, arrays.rejected_valid)
    return _stacked(chosen, rejected)


def _encode_own_preferences(
    preferences: Sequence[Preference], config: DataConfig, tokenizer: Tokenizer, path: str
) -> Sequences:
    texts = get_format(config)
    tokens, valid, kept = encode_prompts(
        [(row.where or f"{path}, row {k}", row.prompt) for k, row in enumerate(preferences)],
        tokenizer,
        length=texts.query_length,
        long_prompts=config.long_prompts,
        source=path,
    )
    rows = [preferences[k] for k in kept]
    chosen, rejected = (
        encode_responses([row.prompt for row in rows], responses, tokenizer, texts.comparison_length)
        for responses in ([row.chosen for row in rows], [row.rejected for row in rows])
    )
    for responses in (chosen, rejected):
        _report_cut(*responses, tokenizer, path)
    return _stacked(_joined(tokens, valid, *chosen), _joined(tokens, valid, *rejected))


def _report_cut(responses: np.ndarray, valid: np.ndarray, tokenizer: Tokenizer, source: str) -> None:
    """Prints how many responses of one's own were too long, and so have no token at their end that ends them."""
    cut = int(np.sum(valid[:, -1] & ~np.isin(responses[:, -1], tokenizer.eos_ids)))
    if cut:
        print(
            f"Cuts the ends of {cut} of {len(responses)} responses of {visible(source)}, which have more than "
            f"{responses.shape[1]} tokens (config.data.response_length).",
            file=sys.stderr,
        )


def _stacked(chosen: Sequences, rejected: Sequences) -> Sequences:
    return Sequences(
        np.stack([chosen.tokens, rejected.tokens], axis=1), np.stack([chosen.valid, rejected.valid], axis=1)
    )


def _joined(
    queries: np.ndarray, query_valid: np.ndarray, responses: np.ndarray, response_valid: np.ndarray
) -> Sequences:
    return Sequences(
        np.concatenate([queries, responses], axis=1), np.concatenate([query_valid, response_valid], axis=1)
    )
