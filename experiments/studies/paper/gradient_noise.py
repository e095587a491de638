"""Measurements on gradients and weights, at parameters that stand still: no training here."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from haepo_jax.algorithms import make_algorithm
from haepo_jax.algorithms.base import Algorithm, LearnerState
from haepo_jax.algorithms.replay import log_probs
from haepo_jax.config import ExperimentConfig, TracedConfig, has_critic, traced_settings, with_settings
from haepo_jax.environments import make
from haepo_jax.losses import (
    effective_sample_size,
    normalize_returns,
    plackett_luce_log_weights,
    target_log_weights,
)
from haepo_jax.population.member import make_environment, make_member
from haepo_jax.rollouts.episode_stats import episode_stats_of
from haepo_jax.types import Params

_AT_ONCE = 8  # batches side by side
_RESAMPLES = 500


def train_actor_critic(config: ExperimentConfig, updates: Sequence[int]) -> list[Params]:
    """Trains PPO, and returns its parameters after each of these numbers of updates, in one run of seed 0."""
    functions = make_member(config)
    settings = {name: jnp.asarray(value) for name, value in traced_settings(config).items()}
    update = jax.jit(lambda state: functions.learn(state, functions.collect(state))[0])
    state, found = jax.jit(functions.init)(jax.random.key(0), settings), []
    for done in range(max(updates) + 1):
        if done in updates:
            found.append(jax.device_get(state.learner.params))
        state = update(state)
    return found


def measure_batch_gradients(
    config: ExperimentConfig, points: Sequence[Params], *, batches: int
) -> list[tuple[np.ndarray, float]]:
    """Measures the policy's gradient on fresh batches at the same parameters.

    Args:
      config: the method.
      points: where to take it, each `{"policy", "value"}`, as PPO has them; methods without a critic take the
        policy alone.
      batches: how many at each.

    Returns:
      For each point `[batches, parameters of the policy]`, and the mean environment steps of a batch.
    """
    algorithm, traced = make_algorithm(config, make(config.env)), with_settings(config, {})
    is_actor_critic = has_critic(config)

    def one(own: Params, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        learner, batch = _fresh_batch(algorithm, traced, own, key)
        slopes = jax.grad(lambda params: algorithm.loss(traced, learner, batch)(params)[0])(own)
        flat, _ = ravel_pytree(slopes["policy"] if is_actor_critic else slopes)
        return flat, algorithm.measure(batch)["env_steps"]

    keys = jax.random.split(jax.random.key(1), batches)

    @jax.jit
    def all_at(own: Params) -> tuple[jax.Array, jax.Array]:
        return jax.lax.map(functools.partial(one, own), keys, batch_size=_AT_ONCE)

    measured = [all_at(params if is_actor_critic else params["policy"]) for params in points]
    return [(np.asarray(slopes), float(env_steps.mean())) for slopes, env_steps in measured]


def _fresh_batch(
    algorithm: Algorithm, traced: TracedConfig, params: Params, key: jax.Array
) -> tuple[LearnerState, Any]:
    """A batch that shares no randomness with any other, and the learner that it is for."""
    init_key, warm_key, key = jax.random.split(key, 3)
    learner = algorithm.init(traced, init_key)
    reference = None if learner.reference is None else params
    learner = dataclasses.replace(learner, params=params, reference=reference)
    if learner.environments is not None:
        # Environments that all begin with a reset would only show the first steps of episodes.
        learner = dataclasses.replace(learner, environments=algorithm.collect(traced, learner, warm_key).running)
    return learner, algorithm.collect(traced, learner, key)


def estimate_signal_to_noise(slopes: np.ndarray) -> dict[str, float]:
    """Estimates how much of a batch's gradient is the expected one.

    Args:
      slopes: `[batches, parameters]`.

    Returns:
      `norm` of the mean gradient; `variance`, the trace of the covariance; `snr`, the squared norm of the expected
      gradient (its bias by the finite number of batches taken out) over that trace, with the ends `low` and `high`
      of its 95% bootstrap interval over batches.
    """
    rng = np.random.default_rng(0)
    slopes = slopes.astype(np.float64)
    count = len(slopes)
    squares = np.square(slopes).sum(axis=1)

    def moments(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean_square = np.square(weights @ slopes / count).sum(axis=1)
        return mean_square, (weights @ squares / count - mean_square) * count / (count - 1)

    def ratio(mean_square: np.ndarray, noise: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return np.maximum(mean_square - noise, 0) / np.maximum(variance, 1e-300)

    mean_square, variance = moments(np.ones((1, count)))
    snr = ratio(mean_square, variance / count, variance)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)
    drawn_square, drawn = moments(draws)
    # Drawn from `count` batches, not from all there are, the variance is smaller by one share in `count`; and the
    # squared mean holds the noise of the batches' own mean and once more that of the draw.
    whole = drawn * count / (count - 1)
    low, high = np.quantile(ratio(drawn_square, (whole + drawn) / count, whole), [0.025, 0.975])
    return {
        "norm": float(np.sqrt(mean_square[0])),
        "variance": float(variance[0]),
        "snr": float(snr[0]),
        "low": float(min(low, snr[0])),
        "high": float(max(high, snr[0])),
    }


def measure_sample_sizes(
    config: ExperimentConfig, *, sharpness: float, horizons: Sequence[int], groups: int
) -> dict[str, np.ndarray]:
    """Measures the effective sample size of each score as trajectories grow.

    Args:
      config: HAEPO on an environment whose episodes last to the longest horizon.
      sharpness: the first policy's last layer is multiplied by it, from near uniform to nearly decided.
      horizons: T, at which the trajectories' first T steps are scored.
      groups: independent policies and batches.

    Returns:
      By score, `[groups, horizons]` effective sample sizes out of M; for `log_ratio`, which is M on fresh data, after
      a step that moves every parameter by the learning rate, as Adam's first does, in a random direction; and
      `step_std`, `[groups]`, the standard deviation of a step's log-probability in nats.
    """
    algorithm, traced = make_algorithm(config, make(config.env)), with_settings(config, {})

    def one(key: jax.Array) -> dict[str, jax.Array]:
        init_key, play_key, move_key = jax.random.split(key, 3)
        learner = algorithm.init(traced, init_key)
        learner = dataclasses.replace(learner, params=_sharpened(learner.params, sharpness))
        batch = algorithm.collect(traced, learner, play_key)
        flat, unravel = ravel_pytree(learner.params)
        moved = unravel(
            flat + config.optimizer.learning_rate * jax.random.rademacher(move_key, flat.shape, jnp.float32)
        )
        sampled = jnp.cumsum(batch.log_probs, axis=1)
        after = jnp.cumsum(log_probs(algorithm.policy, moved, batch), axis=1)
        at = jnp.asarray(horizons) - 1
        scores = {
            "sum": sampled[:, at],
            "mean": sampled[:, at] / (at + 1),
            "log_ratio": (after - sampled)[:, at],
        }
        sizes = {name: effective_sample_size(plackett_luce_log_weights(values.T)) for name, values in scores.items()}
        return sizes | {"step_std": batch.log_probs.std()}

    keys = jax.random.split(jax.random.key(2), groups)
    return {name: np.asarray(values) for name, values in jax.jit(functools.partial(jax.lax.map, one))(keys).items()}


def measure_target_sizes(
    config: ExperimentConfig, *, normalization: str, temperatures: Sequence[float], groups: int, varied: str = ""
) -> np.ndarray:
    """Measures the effective sample size of the target of HAEPO's loss, on batches of the first policy.

    Args:
      config: HAEPO on an environment.
      normalization: of the returns.
      temperatures: b = beta + lambda, by which normalised returns are divided to make the target.
      groups: independent policies and batches.
      varied: a setting of which each group has a value of its own, 0, 1 and so on.

    Returns:
      `[groups, temperatures]` effective sample sizes out of M; NaN for a group whose returns are all equal or, where
      they are divided by it, do not sum to a positive number: it has no target.
    """
    algorithm = make_algorithm(config, make_environment(config))

    def one(key: jax.Array, index: jax.Array) -> jax.Array:
        traced = with_settings(config, {varied: index} if varied else {})
        init_key, play_key = jax.random.split(key)
        batch = algorithm.collect(traced, algorithm.init(traced, init_key), play_key)
        returns = episode_stats_of(batch, traced.discount).discounted_returns
        normalized = normalize_returns(returns, method=normalization)
        sizes = jnp.stack([effective_sample_size(target_log_weights(normalized, temperature=b)) for b in temperatures])
        return jnp.where(normalized.max() > normalized.min(), sizes, jnp.nan)

    keys = jax.random.split(jax.random.key(3), groups)
    return np.asarray(jax.jit(jax.vmap(one))(keys, jnp.arange(groups)))


def _sharpened(params: Params, factor: float) -> Params:
    """The parameters with the last layer's weights and biases multiplied."""
    network: Mapping[str, Any] = params["MLP_0"]
    last = max(network, key=lambda name: int(name.rpartition("_")[2]))
    scaled = jax.tree.map(lambda leaf: leaf * factor, network[last])
    return {**params, "MLP_0": {**network, last: scaled}}
