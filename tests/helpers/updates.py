"""What the tests of algorithms share: a batch of episodes, learners, updates in as few programs as can be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers.settings import fixed_config

from haepo_jax.algorithms import LearnerState, make_algorithm
from haepo_jax.algorithms.base import gradient_step, policy_for
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.config import traced_settings, with_settings
from haepo_jax.environments import make
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.episodes import Trajectories

LENGTHS = np.array([3, 8, 5, 6])
M, T = 4, 8
MASK = np.arange(T) < LENGTHS[:, None]
ENVIRONMENT = make("CartPole-v1")


def config_for(algorithm, *, discount=1.0, num_updates=5, optimizer=None, **settings):
    """A small experiment; `settings` are those of the algorithm."""
    return fixed_config(
        {
            "algorithm": algorithm,
            "num_updates": num_updates,
            "num_trajectories": M,
            "horizon": T,
            "discount": discount,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.01} | (optimizer or {}),
        }
        | ({algorithm: settings} if settings else {})
    )


POLICY = policy_for(config_for("haepo"), ENVIRONMENT)


# What is made as this module is imported, in every process of a test run, is in one program each: step by step, every
# operation on every shape compiles its own.


@jax.jit
def shifted(params, by):
    """Other parameters, near these."""
    return jax.tree.map(lambda leaf: leaf + by * jax.random.normal(jax.random.key(7), leaf.shape), params)


PARAMS = jax.jit(POLICY.init)(jax.random.key(0))
REFERENCE = shifted(PARAMS, 0.3)


@jax.jit
def _act(params, observations, key):
    distribution = POLICY.apply(params, observations)
    actions, log_probs = distribution.sample_and_log_prob(seed=key)
    return actions, jnp.where(MASK, log_probs, jnp.nan), distribution.entropy()


def batch_from(params, seed=0):
    """Episodes of different lengths and returns, played by the policy with these parameters."""
    rng = np.random.default_rng(seed)
    observations = jnp.asarray(rng.normal(size=(M, T, 4)), jnp.float32)
    actions, log_probs, entropies = _act(params, observations, jax.random.key(seed))
    return Trajectories(
        observations=observations,
        actions=actions,
        log_probs=log_probs,
        rewards=jnp.asarray(np.where(MASK, rng.uniform(0.5, 2.0, size=(M, T)), np.nan), jnp.float32),
        mask=jnp.asarray(MASK),
        entropies=entropies,
    )


BATCH = batch_from(PARAMS)


def log_probs(params, batch):
    """`[M, T]` by one application of the policy, 0 where masked."""
    return jnp.where(batch.mask, POLICY.apply(params, batch.observations).log_prob(batch.actions), 0)


def returns_of(batch, discount=1.0):
    return (np.where(batch.mask, batch.rewards, 0) * discount ** np.arange(T)).sum(-1)


def learner_for(config, params, reference=None):
    """A learner before its first step; its reference as its rule makes it where none is given."""
    rule = make_reference(getattr(getattr(config, config.algorithm, None), "reference", "none"))
    optimizer = make_optimizer(config.optimizer, 1)
    return LearnerState(params, optimizer.init(params), rule.init(params) if reference is None else reference)


def arrays_of(settings):
    return {
        name: jnp.asarray(value, jnp.int32 if isinstance(value, int) else jnp.float32)
        for name, value in settings.items()
    }


PROGRAMS = {}


def learn(config, learner, batch, updates_done=0):
    """One update on a batch that the learner has played itself."""
    key = jax.random.key(0)
    return _run(config, "learn", lambda algorithm: algorithm.learn, learner, batch, jnp.int32(updates_done), key)


def step(config, learner, batch):
    """One gradient step on any batch."""

    def make(algorithm):
        def take(config, learner, batch):
            optimizer = make_optimizer(config.optimizer, config.num_updates)
            loss = algorithm.loss(config, learner, batch)
            params, state, metrics = gradient_step(loss, optimizer, learner.params, learner.optimizer_state)
            return dataclasses.replace(learner, params=params, optimizer_state=state), metrics

        return take

    return _run(config, "step", make, learner, batch)


def step_again_and_again(config, learner, batch, steps):
    """Gradient steps on the same batch, and the metrics of each."""
    history = []
    for _ in range(steps):
        learner, metrics = step(config, learner, batch)
        history.append(metrics)
    return learner, history


def _run(config, kind, make, *inputs):
    """Configs that differ in traced settings alone share one compiled program."""
    settings = arrays_of(traced_settings(config))
    name = f"{kind} {with_settings(config, dict.fromkeys(settings))}"
    if name not in PROGRAMS:
        function = make(make_algorithm(config, ENVIRONMENT))

        def traced(settings, *inputs):
            return function(with_settings(config, settings), *inputs)

        PROGRAMS[name] = jax.jit(traced)
    return PROGRAMS[name](settings, *inputs)


def by_hand(config, params, loss_fn, inputs):
    """Parameters after a step down `loss_fn(params, *i)` for each i, and the loss and gradient's norm of each."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.optimizer.max_grad_norm), optax.adam(config.optimizer.learning_rate)
    )

    @jax.jit
    def step(params, state, arguments):
        loss, grads = jax.value_and_grad(loss_fn)(params, *arguments)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, {"loss": loss, "grad_norm": optax.tree.norm(grads)}

    state, history = optimizer.init(params), []
    for arguments in inputs:
        params, state, metrics = step(params, state, arguments)
        history.append(metrics)
    return params, history


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def distance(a, b):
    return float(optax.tree.norm(optax.tree.sub(a, b)))
