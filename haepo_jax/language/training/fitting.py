"""The microbatch that memory has room for, where the config leaves it open (`rl.microbatch` 0).

A larger one is faster, as fewer and larger products are computed; one pass over all responses, where it fits, saves
the second forward pass besides.
"""

import dataclasses
from collections.abc import Callable, Iterator

from haepo_jax.language.config import LanguageConfig, get_group_size


def fit_to_memory(
    config: LanguageConfig, count_bytes: Callable[[LanguageConfig], int | None], room: int
) -> LanguageConfig:
    """Chooses the first of `list_candidates` that fits, or the last one where none does.

    Args:
      config: with `rl.microbatch` 0; any other is returned as it is.
      count_bytes: what an update with a config needs on a device, None where the compiler finds that it does not fit.
      room: bytes of a device that it may take.
    """
    if config.rl.microbatch:
        return config
    *candidates, last = list_candidates(config)
    for candidate in candidates:
        needed = count_bytes(candidate)
        if needed is not None and needed <= room:
            return candidate
    return last


def list_candidates(config: LanguageConfig) -> Iterator[LanguageConfig]:
    """Lists the ways to compute an update by decreasing need of memory.

    One pass where it is allowed, then two passes with all responses at a time, half of them, and so on.
    """
    rows = config.rl.num_prompts * get_group_size(config)
    ways = ("one_shot", "two_pass") if config.rl.gradient == "smallest" else (config.rl.gradient,)
    sizes = [rows]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    for way in ways:
        for size in sizes[:1] if way == "one_shot" and len(ways) > 1 else sizes:
            yield dataclasses.replace(config, rl=dataclasses.replace(config.rl, gradient=way, microbatch=size))
