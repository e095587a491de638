"""The status of a stage's folder: whether it is finished, how it ended, and where its model lies."""

from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.language.model.hugging_face.checksums import is_whole
from haepo_jax.runs.files import read_summary

MODEL = "model"
LAST_FINITE = "model_before_divergence"
"""Of a run that diverged: its newest checkpoint, under a name that nobody takes for the result."""


def read_ending(folder: Path) -> dict[str, Any] | None:
    """Reads the summary of a stage, None where it is missing or damaged."""
    try:
        return read_summary(folder)
    except ConfigError:
        return None


def is_finished(folder: Path) -> bool:
    """Returns whether a stage has its summary and its model; what is missing is made again by the same command."""
    summary = read_ending(folder)
    return summary is not None and is_whole(find_model(folder))


def find_divergence(folder: Path) -> int | None:
    """Returns the update that a stage ended at as its loss or gradient was not finite, None if it did not."""
    summary = read_ending(folder)
    return summary.get("diverged_at") if summary and summary.get("status") == "diverged" else None


def find_model(folder: Path) -> Path:
    """Returns where a stage's model lies."""
    return folder / (MODEL if find_divergence(folder) is None else LAST_FINITE)
