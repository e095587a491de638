"""The steps of a batch as components from outside see them."""

import jax.numpy as jnp
import numpy as np

from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.rollouts.segments import Segment
from haepo_jax.rollouts.steps import steps_of

MASK = np.array([[True, True, False], [True, True, True]])
OBSERVATIONS = jnp.arange(12.0).reshape(2, 3, 2)


def test_of_episodes_end_at_the_last_step_that_counts():
    ones = jnp.ones((2, 3))
    steps = steps_of(Trajectories(OBSERVATIONS, ones, -ones, 7 * ones, jnp.asarray(MASK), ones))
    np.testing.assert_array_equal(steps.ends, [[False, True, False], [False, False, True]])
    np.testing.assert_array_equal(steps.rewards, 7 * MASK)
    np.testing.assert_array_equal(steps.next_observations[0], OBSERVATIONS[0, [1, 1, 2]])
    np.testing.assert_array_equal(steps.next_observations[1], OBSERVATIONS[1, [1, 2, 2]])
    np.testing.assert_array_equal(steps.log_probs, -ones)


def test_of_segments_all_count_and_have_what_their_action_led_to():
    ones = jnp.ones((2, 3))
    done = jnp.asarray(MASK)
    steps = steps_of(Segment(OBSERVATIONS, OBSERVATIONS + 1, ones, -ones, ones, done & False, done, ones, None))
    np.testing.assert_array_equal(steps.ends, done)
    assert steps.mask.all() and steps.mask.shape == (2, 3)
    np.testing.assert_array_equal(steps.next_observations, OBSERVATIONS + 1)


def test_of_what_keeps_none_there_are_none():
    assert steps_of({"rewards": 1}) is None
