"""`episodes_in_segment`: masks of the episodes of environments that reset by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import episodes_in_segment, trajectory_log_likelihood


def split_by_hand(done, max_episodes):
    """Walks through each environment's steps, and notes to which episode each belongs."""
    num_steps, num_environments = done.shape
    where = np.zeros((num_environments, max_episodes, num_steps), bool)
    complete = np.zeros((num_environments, max_episodes), bool)
    number = np.zeros(num_environments, int)
    for environment in range(num_environments):
        episode = 0
        for step in range(num_steps):
            number[environment] = episode + 1
            if episode < max_episodes:
                where[environment, episode, step] = True
            if done[step, environment]:
                if episode < max_episodes:
                    complete[environment, episode] = True
                episode += 1
    return where, complete, number


@pytest.mark.parametrize("max_episodes", [1, 2, 4, 12])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_splits_as_one_who_walks_through_the_steps(share, max_episodes):
    done = np.random.default_rng(0).random((12, 5)) < share
    got = jax.jit(episodes_in_segment, static_argnums=1)(done, max_episodes)
    for field, expected in zip(got, split_by_hand(done, max_episodes), strict=True):
        np.testing.assert_array_equal(field, expected)


def test_the_masks_give_the_log_likelihood_of_each_episode():
    done = jnp.array([[False, True], [True, False], [False, False]])
    log_probs = jnp.array([[-1.0, -8.0], [-2.0, -16.0], [-4.0, -32.0]])
    where, complete, _ = episodes_in_segment(done, 2)
    sums = trajectory_log_likelihood(jnp.repeat(log_probs.T, 2, axis=0), where=where.reshape(4, 3))
    np.testing.assert_array_equal(sums, [-3, -4, -8, -48])
    np.testing.assert_array_equal(complete.reshape(4), [True, False, True, False])


def test_no_steps_have_no_episodes():
    where, complete, number = episodes_in_segment(jnp.zeros((0, 3), bool), 2)
    assert where.shape == (3, 2, 0)
    assert not complete.any()
    np.testing.assert_array_equal(number, [0, 0, 0])


def test_a_number_of_episodes_may_be_numpys():
    assert episodes_in_segment(jnp.zeros((3, 2), bool), np.int64(2)).where.shape == (2, 2, 3)


@pytest.mark.parametrize("max_episodes", [0, -1, 1.0, True, "2"])
def test_refuses_a_number_of_episodes_that_is_none(max_episodes):
    with pytest.raises(ValueError, match="max_episodes must be a whole number of at least 1, got"):
        episodes_in_segment(jnp.zeros((3, 2), bool), max_episodes)


def test_refuses_other_axes():
    with pytest.raises(ValueError, match=r"done must have the shape \[T, N\], got \(3,\)."):
        episodes_in_segment(jnp.zeros(3, bool), 1)
