"""Buckets of prompt length: a batch is as wide as the bucket of its longest prompt, so that short ones cost little.

There are few, as a program is compiled for each that comes.
"""

import numpy as np

NUM_BUCKETS = 4


def list_buckets(length: int) -> tuple[int, ...]:
    """Lists the widths that prompts of at most `length` tokens are brought to, each twice the one before it.

    Example:
      >>> list_buckets(512), list_buckets(3)
      ((64, 128, 256, 512), (1, 2, 3))
    """
    return tuple(sorted({max(-(-length // 2**halvings), 1) for halvings in range(NUM_BUCKETS)}))


def find_width(valid: np.ndarray, length: int) -> int:
    """Finds the bucket of a batch.

    Args:
      valid: `[..., P + R]` boolean, prompts padded on the left.
      length: P, the tokens that there is room for.

    Example:
      >>> find_width(np.arange(512) >= 400, 512)
      128
    """
    there = np.flatnonzero(valid[..., :length].reshape(-1, length).any(axis=0))
    longest = length - int(there[0]) if there.size else 1
    return next(width for width in list_buckets(length) if width >= longest)


def trim(array: np.ndarray, length: int, width: int) -> np.ndarray:
    """Takes the padding away that all prompts of a batch `[..., P + R]` have on the left, to a width."""
    return array[..., length - width :]
