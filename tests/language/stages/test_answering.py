"""Pass rates against all ways to pick answers."""

import itertools

import numpy as np
import pytest

from haepo_jax.language.stages.answering import compute_pass_rates


@pytest.mark.parametrize("num_samples", [1, 2, 5, 8])
def test_a_pass_rate_is_the_share_of_the_choices_of_k_answers_that_hold_a_right_one(num_samples):
    rewards = (np.random.default_rng(num_samples).random((6, num_samples)) < 0.3).astype(float)
    rates = compute_pass_rates(rewards.ravel(), num_samples)
    assert list(rates) == {1: ["pass@1"], 2: ["pass@1", "pass@2"], 5: ["pass@1", "pass@2", "pass@4", "pass@5"]}.get(
        num_samples, ["pass@1", "pass@2", "pass@4", "pass@8"]
    )
    for name, rate in rates.items():
        k = int(name.removeprefix("pass@"))
        choices = list(itertools.combinations(range(num_samples), k))
        expected = np.mean([[row[list(choice)].any() for choice in choices] for row in rewards])
        assert rate == pytest.approx(expected)


def test_rewards_that_are_neither_0_nor_1_have_no_pass_rate():
    assert compute_pass_rates(np.array([0.0, 0.5]), 2) is None
