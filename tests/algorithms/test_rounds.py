"""Updates on batches that are counted in steps, against the same episodes one in a row."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import assert_allclose, assert_close
from helpers.updates import ENVIRONMENT, POLICY, arrays_of, config_for, distance, shifted

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import traced_settings, with_settings
from haepo_jax.losses import (
    dpo_loss,
    group_relative_advantages,
    grpo_loss,
    haepo_loss,
    preference_pairs,
    rloo_loss,
    trajectory_log_likelihood,
)
from haepo_jax.population.member import make_member

M, T, LEAST = 3, 20, 80
KEY = jax.random.key(5)
GRPO = {"aggregation": "constant", "kl_coef": 0.1}


def config_of(algorithm="haepo", memory="remat", **settings):
    config = config_for(algorithm, discount=0.9, **settings)
    return dataclasses.replace(
        config,
        memory=memory,
        num_trajectories=M,
        horizon=T,
        min_batch_steps=LEAST,
        env_params={"force_mag": 40.0},
    )


def learner_of(algorithm, traced):
    learner = algorithm.init(traced, jax.random.key(0))
    if learner.reference is None:
        return learner
    return dataclasses.replace(learner, reference=shifted(learner.params, 0.2))


@functools.cache
def gradient_of(algorithm="haepo", memory="remat", **settings):
    """Loss and gradient on a batch, at other parameters than those that played it; its metrics, and the batch."""
    config = config_of(algorithm, memory, **settings)
    made = make_algorithm(config, ENVIRONMENT)

    @jax.jit
    def gradient(settings):
        traced = with_settings(config, settings)
        learner = learner_of(made, traced)
        batch = made.collect(traced, learner, KEY)
        loss = made.loss(traced, learner, batch)
        params = shifted(learner.params, 0.1)
        value, grads = jax.value_and_grad(lambda params: loss(params)[0])(params)
        return value, grads, made.measure(batch), batch

    return gradient(arrays_of(traced_settings(config)))


@functools.cache
def rows():
    """The episodes of the batch, one in a row: observations `[N, T, 4]`, actions, log-probabilities, mask, rewards."""
    batch = gradient_of("rloo")[3]
    mask, found = np.asarray(batch.steps.mask), []
    ends = [*np.asarray(batch.starts)[np.asarray(batch.is_valid)[:, 0]][1:], int(batch.time)]
    for start, end in zip(np.asarray(batch.starts), ends, strict=False):
        for lane in range(M):
            span = slice(start, start + mask[lane, start:end].sum())
            one = (batch.steps.observations, batch.steps.actions, batch.steps.log_probs, mask, batch.steps.rewards)
            found.append([np.asarray(part[lane, span]) for part in one])
    padded = [
        [np.pad(part, [(0, T - len(part))] + [(0, 0)] * (part.ndim - 1)) for part in episode] for episode in found
    ]
    return [jnp.asarray(np.stack(parts)) for parts in zip(*padded, strict=True)]


def expected_gradient(loss_of):
    """`loss_of(log-probabilities [N, T], those of the reference, those of play, mask, returns)` and its gradient."""
    observations, actions, behaviour, mask, rewards = rows()
    returns = (rewards * mask * 0.9 ** jnp.arange(T)).sum(axis=1)
    start = learner_of(make_algorithm(config_of(), ENVIRONMENT), config_of())

    def log_probs(params):
        return POLICY.apply(params, observations).log_prob(actions)

    @jax.jit
    def gradient(params):
        return jax.value_and_grad(
            lambda params: loss_of(log_probs(params), log_probs(start.reference), behaviour, mask, returns)
        )(params)

    return gradient(shifted(start.params, 0.1))


def sums(log_probs, mask):
    return trajectory_log_likelihood(log_probs, where=mask)


def haepo(log_probs, reference, behaviour, mask, returns):
    scores, reference = (sums(values, mask) - sums(behaviour, mask) for values in (log_probs, reference))
    return haepo_loss(scores, returns, reference, entropy_coef=5e-3, kl_coef=5e-3)[0]


def rloo(log_probs, reference, behaviour, mask, returns):
    return rloo_loss(sums(log_probs, mask), returns)[0]


def grpo(log_probs, reference, behaviour, mask, returns):
    advantages = group_relative_advantages(returns)
    return grpo_loss(log_probs, behaviour, advantages, reference, clip_epsilon=0.2, where=mask, **GRPO)[0]


def dpo(log_probs, reference, behaviour, mask, returns):
    """Pairs of the episodes of a round."""
    of_round = [sums(values, mask).reshape(-1, M) for values in (log_probs, reference)]
    pairs = preference_pairs(returns.reshape(-1, M))
    sides = [
        jnp.broadcast_to(values[:, :, None] if chosen else values[:, None, :], pairs.shape)
        for values in of_round
        for chosen in (True, False)
    ]
    return dpo_loss(*sides, beta=0.1, where=pairs)[0]


@pytest.mark.parametrize(
    ("algorithm", "loss_of", "settings"),
    [
        ("rloo", rloo, {}),
        pytest.param("grpo", grpo, GRPO, marks=pytest.mark.slow),
        pytest.param("haepo", haepo, {}, marks=pytest.mark.slow),
        pytest.param("dpo", dpo, {}, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_is_that_of_all_episodes_one_in_a_row(algorithm, loss_of, settings):
    loss, grads, metrics, _ = gradient_of(algorithm, **settings)
    expected_loss, expected_grads = expected_gradient(loss_of)
    assert metrics["num_episodes"] == len(rows()[0]) > 2 * M
    assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-6)
    assert distance(grads, jax.tree.map(jnp.zeros_like, grads)) > 1e-4
    assert_close(grads, expected_grads, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["recompute", "store"])
def test_what_is_kept_of_a_batch_changes_nothing(memory):
    (loss, grads, metrics, _), (expected_loss, expected_grads, expected_metrics, _) = (
        gradient_of("haepo", kept) for kept in (memory, "remat")
    )
    assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-6)
    assert_close(grads, expected_grads, rtol=1e-3, atol=1e-5)
    assert_close(metrics, expected_metrics, rtol=1e-5)


def test_the_metrics_are_means_over_the_episodes_that_there_are():
    _, _, metrics, batch = gradient_of("rloo")
    _, _, behaviour, mask, rewards = rows()
    lengths = np.asarray(mask.sum(axis=1))
    assert metrics["env_steps"] == lengths.sum() >= LEAST
    np.testing.assert_allclose(metrics["episode_length"], lengths.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["episode_return"], (rewards * mask).sum() / len(lengths), rtol=1e-6)
    entropies = np.asarray(batch.steps.entropies)[batch.steps.mask]
    np.testing.assert_allclose(metrics["policy_entropy"], entropies.mean(), rtol=1e-5)
    assert behaviour.shape[0] == metrics["num_episodes"]


@pytest.mark.slow
def test_a_batch_of_one_round_is_the_batch_that_is_not_counted():
    few = dataclasses.replace(config_of(), min_batch_steps=M)  # M episodes have at least M steps
    plain = dataclasses.replace(few, min_batch_steps=None)

    def after_an_update(config):
        run = make_member(config)

        @jax.jit
        def update(settings):
            state = run.init(jax.random.key(1), settings)
            return run.learn(state, run.collect(state))

        return update(arrays_of(traced_settings(config)))

    (state, metrics), (expected, expected_metrics) = map(after_an_update, (few, plain))
    assert metrics.pop("num_episodes") == M
    for name in ("env_steps", "episode_return", "episode_length"):
        assert metrics[name] == expected_metrics[name]
    assert_close(state.learner.params, expected.learner.params, rtol=1e-5, atol=1e-6)
