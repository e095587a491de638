"""Settings of the data that are of prompts of one's own, and the lengths of all."""

import dataclasses

from haepo_jax.fields import choice, count

MOST_TOKENS = 2**20
LONG_PROMPTS = ("drop", "cut_left")


@dataclasses.dataclass(frozen=True)
class PromptSettings:
    """Prompts with any columns, and how long prompts and responses may be."""

    prompts: str = ""
    """File, folder or pattern of prompts with any other columns, JSON lines or parquet, in the place of
    demonstrations: `rl` samples responses to them, `sft` learns their completions."""
    held_out_prompts: str = ""
    """Those that a run is watched by meanwhile."""
    test_prompts: str = ""
    """Those that the stage `evaluate` judges all policies by; held_out_prompts when empty."""
    prompt_column: str = "prompt"
    """The column of the prompt: text, which is left as it is, or messages, which the model's chat template writes."""
    completion_column: str = "completion"
    """The column that `sft` learns; without one, the last message where that is the assistant's."""
    prompt_length: int | None = count(None, low=1, high=MOST_TOKENS)
    """Most tokens of a prompt; when unset, those of the format, and 512 for prompts of one's own."""
    response_length: int | None = count(None, low=1, high=MOST_TOKENS)
    """Most tokens of a response, the one that ends it included; when unset, those of the format, and 256 for prompts
    of one's own."""
    long_prompts: str = choice("drop", LONG_PROMPTS)
    """What becomes of prompts of one's own that are longer: `drop` leaves them out, `cut_left` keeps their ends."""
