"""The data of a run: where it lies, and its examples as arrays of ids, to learn from or to evaluate on."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np

from haepo_jax.language.config import DataConfig
from haepo_jax.language.data import datasets, generated_task
from haepo_jax.language.data.datasets import PromptCompletion
from haepo_jax.language.data.prompts import (
    encode_completions,
    encode_preferences,
    encode_queries,
    format_completions,
    format_preferences,
    get_prompt_format,
)
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.training.scoring import Prompts, Sequences

Split = Literal["train", "held_out", "test"]
"""Posts to learn from, those that a run is watched by meanwhile, and those that it is judged by in the end."""


def locate_data(config: DataConfig, folder: Path) -> DataConfig:
    """Fills in the paths of the config: those of the generated task, written into `folder`, where any is missing."""
    if config.demonstrations:
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
    return format_completions(
        rows if split == "train" else rows[: config.num_held_out], get_prompt_format(config.prompt)
    )


def read_demonstrations(config: DataConfig, tokenizer: Tokenizer, split: Split) -> Sequences:
    """Reads prompts and their reference summaries, `[N, P + R]`."""
    rows = read_completions(config, split)
    return _joined(*encode_completions(rows, tokenizer, get_prompt_format(config.prompt)))


def read_queries(config: DataConfig, tokenizer: Tokenizer, split: Split) -> Prompts:
    """Reads the prompts of the demonstrations."""
    prompts = [row.prompt for row in read_completions(config, split)]
    return Prompts(*encode_queries(prompts, tokenizer, get_prompt_format(config.prompt)))


def read_comparisons(config: DataConfig, tokenizer: Tokenizer, *, held_out: bool) -> Sequences:
    """Reads comparisons, `[N, 2, P + C]`, the preferred response first; C is the format's `comparison_length`."""
    path = config.held_out_comparisons if held_out else config.comparisons
    splits = None
    if config.comparisons_schema == "openai_comparisons":
        splits = ("valid1", "valid2") if held_out else ("train",)
    rows = datasets.read(path, config.comparisons_schema, splits=splits)
    preferences = format_preferences(
        rows[: config.num_held_out] if held_out else rows, get_prompt_format(config.prompt)
    )
    arrays = encode_preferences(preferences, tokenizer, get_prompt_format(config.prompt))
    chosen = _joined(arrays.queries, arrays.query_valid, arrays.chosen, arrays.chosen_valid)
    rejected = _joined(arrays.queries, arrays.query_valid, arrays.rejected, arrays.rejected_valid)
    return Sequences(
        np.stack([chosen.tokens, rejected.tokens], axis=1), np.stack([chosen.valid, rejected.valid], axis=1)
    )


def _joined(
    queries: np.ndarray, query_valid: np.ndarray, responses: np.ndarray, response_valid: np.ndarray
) -> Sequences:
    return Sequences(
        np.concatenate([queries, responses], axis=1), np.concatenate([query_valid, response_valid], axis=1)
    )
