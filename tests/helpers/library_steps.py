"""An adapter of a library, compared with the library itself step by step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.environments.actions import draw_action


class Played(NamedTuple):
    """Steps of one episode, up to its end."""

    actions: np.ndarray
    observations: np.ndarray
    """Before the first step and after each."""
    rewards: np.ndarray
    done: np.ndarray
    terminated: np.ndarray
    states: list


def keys_of(seed, steps):
    """The key of the reset and of each step."""
    first, later = jax.random.split(jax.random.key(seed))
    return first, jax.random.split(later, steps)


def play(environment, seed=0, steps=40, params=None):
    """Plays evenly at random within the mask, one program for all."""
    params = params or {}
    first, keys = keys_of(seed, steps)

    def step(carry, key):
        state, observation = carry
        action = draw_action(environment, jax.random.fold_in(key, 1), observation)
        after = environment.step(params, key, state, action)
        kept = (action, after.observation, after.reward, after.done, after.terminated, after.state)
        return (after.state, after.observation), kept

    @jax.jit
    def episode():
        begun = environment.reset(params, first)
        return begun, jax.lax.scan(step, begun, keys)[1]

    begun, (actions, observations, rewards, done, terminated, states) = jax.device_get(episode())
    num = int(np.argmax(done)) + 1 if done.any() else steps
    return Played(
        actions[:num],
        np.concatenate([begun[1][None], observations[:num]]),
        rewards[:num],
        done[:num],
        terminated[:num],
        [begun[0], *(jax.tree.map(lambda leaf, k=k: leaf[k], states) for k in range(num))],
    )


def assert_same(played, reset, step, seed=0, tolerance=0.0):
    """Plays the same actions by the library's own functions.

    Args:
      played: by the adapter.
      reset: `key -> (state, observation)`, the observation as one array.
      step: `(key, state, action) -> (state, observation, reward, done)`.
      seed: of `played`.
      tolerance: of observations and rewards.
    """
    first, keys = keys_of(seed, len(played.actions))
    reset, step = jax.jit(reset), jax.jit(step)
    state, observation = reset(first)
    same = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(played.observations[0], np.asarray(observation, np.float32), **same)
    for t, action in enumerate(played.actions):
        state, observation, reward, done = step(keys[t], state, jnp.asarray(action))
        np.testing.assert_allclose(played.observations[t + 1], np.asarray(observation, np.float32), **same)
        np.testing.assert_allclose(played.rewards[t], np.asarray(reward, np.float32), **same)
        assert played.done[t] == bool(done), t


def assert_drawn(environment, states):
    """Draws some states of an episode, all in one size."""
    pictures = [np.asarray(picture) for picture in environment.render({}, states)]
    assert len(pictures) == len(states) and len({picture.shape for picture in pictures}) == 1
    assert pictures[0].ndim == 3 and pictures[0].shape[-1] == 3
    assert pictures[0].std() > 0


def functions_of(env):
    """The reset and the step, as `assert_same` takes them, of a library whose state holds all that is seen of it."""

    def reset(key):
        state = env.reset(key)
        return state, state.obs

    def step(key, state, action):
        after = env.step(state, action)
        return after, after.obs, after.reward, after.done

    return reset, step
