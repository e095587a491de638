"""Settings of the stage `rl` that are of its reward functions, and of what becomes of responses and their rewards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from haepo_jax.fields import components, count, number, numbers, static_arguments
from haepo_jax.language.rewards.built_in import BUILT_IN


@dataclasses.dataclass(frozen=True)
class RewardFunctionSettings:
    """Rewards that programs compute."""

    rewards: tuple[str, ...] = components(tuple(BUILT_IN))
    """Reward functions, `(prompts, completions, **columns) -> list of numbers`: those that are built in, or
    package.module:attribute. The reward is their weighted sum; then no reward model is needed, and one counts besides
    only where reward_path names it."""
    reward_weights: tuple[float, ...] = numbers()
    """What each of them counts; 1 each when empty."""
    reward_kwargs: Mapping[str, Any] = static_arguments(hold_groups=True)
    """Arguments of reward functions, in groups by their names: `reward_kwargs.exact_match.column`."""
    reward_timeout: float = number(60.0, above=0.0, high=1e6, traced=False)
    """Most seconds that a reward function may take for the responses to one prompt."""
    reward_threads: int = count(1, low=1, high=1024)
    """Calls of reward functions at a time."""
    sampling_parts: int = count(1, low=1)
    """Parts in which the prompts of an update are sampled where there are reward functions: the responses of one are
    judged while the next is sampled. Divides num_prompts; another number draws other responses."""


@dataclasses.dataclass(frozen=True)
class ResponseSettings:
    """What becomes of responses and their rewards."""

    filter_groups: bool = False
    """Leave the groups out of the loss whose rewards, before penalties, are all equal."""
    mask_truncated: bool = False
    """Leave the responses out of the loss that do not end within their length."""
    write_samples_every: int = count(0, low=0)
    """Updates between two whose responses are written to `samples/` with their rewards; 0 for none."""
