"""The task of the study: which puzzles, which decoder, and how much of everything a run has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

REWARD = "puzzle"
"""The reward's short name, under which metrics have it."""
EXAMPLES = "examples.jsonl"

SETTINGS: Mapping[str, Any] = {
    "model.num_layers": 3,
    "data.prompt_length": 9,
    "data.response_length": 8,
    "data.num_held_out": 1024,
    "sft.num_steps": 1000,
    "sft.batch_size": 64,
    "rl.rewards": (f"haepo_jax.language.rewards.puzzles:{REWARD}",),
    "rl.num_updates": 120,
    "rl.num_prompts": 16,
    "rl.num_samples": 8,
    "rl.missing_eos_penalty": 0.0,
    "rl.kl_penalty": 0.0,
    "rl.evaluate_every": 12,
    "rl.gradient": "one_shot",
    "rl.microbatch": 128,
}
"""By dotted name; `configs/puzzles.py` has the same."""


LENGTHS_OF_HARDER: Mapping[str, Any] = {"prompt_length": 11, "response_length": 12}
"""Of `config.data`, with room for the harder levels, which runs do not see and need not pay for."""


def locate_puzzles(folder: Path) -> dict[str, Any]:
    """Returns the settings that name the files of puzzles in a folder, by dotted name."""
    return {
        "model.tokenizer": str(folder / "tokenizer"),
        "data.prompts": str(folder / "train.jsonl"),
        "data.held_out_prompts": str(folder / "held_out.jsonl"),
        "data.test_prompts": str(folder / "test"),
    }
