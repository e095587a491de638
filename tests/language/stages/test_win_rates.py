import numpy as np
import pytest
from scipy.special import expit

from haepo_jax.language.stages.win_rates import compute_length_controlled_win_rate, compute_wins


def test_ties_count_one_half():
    np.testing.assert_array_equal(compute_wins(np.array([2.0, 1.0, 3.0]), np.array([1.0, 1.0, 4.0])), [1.0, 0.5, 0.0])


def test_answers_of_one_length_give_the_plain_win_rate():
    won = np.array([1.0, 1.0, 0.0, 0.5])
    assert compute_length_controlled_win_rate(won, np.zeros(4)) == pytest.approx(0.625, abs=1e-5)


@pytest.mark.parametrize("skill", [-1.0, 0.0, 0.7])
def test_what_length_alone_wins_is_taken_out(skill):
    """Wins drawn from the very model that is fitted, with answers that are mostly longer."""
    rng = np.random.default_rng(0)
    difference = rng.normal(8.0, 6.0, 40_000)
    feature = np.tanh(difference / np.sqrt(np.mean(difference**2)))
    won = (rng.random(40_000) < expit(skill + 2.0 * feature)).astype(float)
    assert won.mean() > expit(skill) + 0.1
    assert compute_length_controlled_win_rate(won, difference) == pytest.approx(expit(skill), abs=0.02)


def test_a_policy_that_wins_always_is_not_brought_down_by_being_longer():
    difference = np.arange(1.0, 21.0)
    assert compute_length_controlled_win_rate(np.ones(20), difference) > 0.9


def test_changing_sides_turns_the_rate_around():
    rng = np.random.default_rng(1)
    won, difference = (rng.random(500) < 0.6).astype(float), rng.normal(3, 4, 500)
    ours = compute_length_controlled_win_rate(won, difference)
    assert compute_length_controlled_win_rate(1 - won, -difference) == pytest.approx(1 - ours, abs=1e-4)
