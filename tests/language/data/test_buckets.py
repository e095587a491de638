import numpy as np
import pytest

from haepo_jax.language.data.buckets import find_width, list_buckets, trim


def batch(*lengths, prompt=64, response=3):
    prompts = np.arange(prompt) >= prompt - np.array(lengths)[:, None]
    return np.concatenate([prompts, np.ones((len(lengths), response), bool)], axis=1)


@pytest.mark.parametrize(("lengths", "width"), [((1, 8), 8), ((9, 2), 16), ((16,), 16), ((33,), 64), ((64, 1), 64)])
def test_a_batch_is_as_wide_as_the_bucket_of_its_longest_prompt(lengths, width):
    assert list_buckets(64) == (8, 16, 32, 64)
    assert find_width(batch(*lengths), 64) == width


def test_nothing_but_padding_goes():
    valid = batch(5, 20)
    trimmed = trim(valid, 64, find_width(valid, 64))
    assert trimmed.shape == (2, 35) and trimmed.sum() == valid.sum()
