"""REINFORCE: what one update does to the parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from haepo_jax.algorithms import reinforce
from haepo_jax.config import NORMALIZATIONS, from_config_dict
from haepo_jax.environments import make
from haepo_jax.losses import normalize_returns, reinforce_loss
from haepo_jax.rollout import Trajectories

M, T = 4, 8
LENGTHS = np.array([3, 8, 5, 6])
ENVIRONMENT = make("CartPole-v1")


DISCOUNT = 0.9


def config_with(*, normalization="zscore", num_updates=5, **optimizer):
    return from_config_dict(
        {
            "algorithm": "reinforce",
            "num_updates": num_updates,
            "num_trajectories": M,
            "discount": DISCOUNT,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.01} | optimizer,
            "reinforce": {"normalization": normalization},
        }
    )


POLICY = reinforce.make(config_with(), ENVIRONMENT).policy


def batch_from(params, seed):
    """Episodes of different lengths and returns, played by the policy with these parameters."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < LENGTHS[:, None]
    observations = jnp.asarray(rng.normal(size=(M, T, 4)), jnp.float32)
    distribution = POLICY.apply(params, observations)
    actions, log_probs = distribution.sample_and_log_prob(seed=jax.random.key(seed))
    return Trajectories(
        observations=observations,
        actions=actions,
        log_probs=jnp.where(mask, log_probs, jnp.nan),
        rewards=jnp.asarray(np.where(mask, rng.uniform(0.5, 2.0, size=(M, T)), np.nan), jnp.float32),
        mask=jnp.asarray(mask),
        entropies=distribution.entropy(),
    )


@functools.cache
def starting(**options):
    """The first learner, and a compiled `(learner, batch, updates done) -> (learner, metrics)`."""
    config = config_with(**options)
    algorithm = reinforce.make(config, ENVIRONMENT)
    learn = jax.jit(lambda learner, batch, updates_done: algorithm.learn(config, learner, batch, updates_done))
    return algorithm.init(config, jax.random.key(0)), learn


def moved(before, after):
    return float(optax.tree.norm(optax.tree.sub(before.params, after.params)))


def log_likelihoods(params, batch):
    log_probs = POLICY.apply(params, batch.observations).log_prob(batch.actions)
    return jnp.where(batch.mask, log_probs, 0).sum(-1)


def returns_of(batch):
    return (np.where(batch.mask, batch.rewards, 0) * DISCOUNT ** np.arange(T)).sum(-1)


@jax.jit
@jax.value_and_grad
def loss_and_gradient(params, batch, advantages):
    return reinforce_loss(log_likelihoods(params, batch), advantages)[0]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_updates_equal_the_composition_by_hand(normalization):
    learner, learn = starting(normalization=normalization, max_grad_norm=0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.01))
    params, state = learner.params, optimizer.init(learner.params)
    for update in range(3):
        batch = batch_from(params, update)
        advantages = normalize_returns(returns_of(batch), method=normalization)
        loss, gradient = loss_and_gradient(params, batch, advantages)
        changes, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, changes)
        learner, metrics = learn(learner, batch, update)
        assert metrics["loss"] == pytest.approx(float(loss), rel=1e-4, abs=1e-6)
        assert metrics["grad_norm"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
        assert metrics["grad_norm"] > 0.1  # so that the clip acts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), learner.params, params)


def test_metrics_are_finite_scalars_of_one_schema():
    learner, learn = starting()
    _, metrics = learn(learner, batch_from(learner.params, 0), 0)
    assert set(metrics) == {"loss", "grad_norm"}
    for value in metrics.values():
        assert value.shape == () and value.dtype == jnp.float32 and np.isfinite(value)


def test_there_is_no_reference():
    learner, learn = starting()
    assert learner.reference is None
    assert learn(learner, batch_from(learner.params, 0), 0)[0].reference is None


def test_the_better_trajectories_become_likelier():
    learner, learn = starting()
    batch = batch_from(learner.params, 0)
    after, _ = learn(learner, batch, 0)
    change = np.asarray(log_likelihoods(after.params, batch) - log_likelihoods(learner.params, batch))
    assert np.dot(change, returns_of(batch) - returns_of(batch).mean()) > 0.01


def test_equal_returns_move_nothing():
    learner, learn = starting()
    batch = batch_from(learner.params, 0)._replace(rewards=jnp.zeros((M, T)))
    assert moved(learner, learn(learner, batch, 0)[0]) == 0


def test_schedule_ends_with_the_last_update():
    learner, learn = starting(num_updates=2, schedule="linear")
    steps = []
    for update in range(3):
        after, _ = learn(learner, batch_from(learner.params, update), update)
        steps.append(moved(learner, after))
        learner = after
    assert steps[0] > 1e-3 and steps[1] > 1e-3 and steps[2] < 1e-6 * steps[0]


def test_the_seed_decides_the_first_parameters():
    config = config_with()
    algorithm = reinforce.make(config, ENVIRONMENT)
    first, same, other = (algorithm.init(config, jax.random.key(seed)) for seed in (0, 0, 1))
    assert moved(first, same) == 0 < moved(first, other)
