"""Replayed log-probabilities: piece by piece they are what one application of the policy gives, gradient included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.policies import mlp_policy
from helpers.tolerances import assert_allclose

from haepo_jax.algorithms.replay import log_probs
from haepo_jax.environments import Box, Discrete
from haepo_jax.rollouts.episodes import Trajectories

OBSERVATION_SIZE = 3
ROWS = 128  # steps x episodes of a piece


@functools.cache
def policy_for(space=Discrete(3)):  # noqa: B008
    return mlp_policy((OBSERVATION_SIZE,), space, initial_log_std=-0.5)


def params_for(policy, seed=0):
    noise = jax.random.key(seed + 100)
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(noise, x.shape), policy.init(jax.random.key(seed)))


def batch_of(space, m, t, longest, seed=0):
    """M random episodes; the longest takes `longest` of the T steps."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, m)
    lengths[rng.integers(m)] = longest
    actions = rng.integers(0, 3, (m, t)) if space == Discrete(3) else rng.normal(size=(m, t, 2))
    return Trajectories(
        observations=jnp.asarray(rng.normal(size=(m, t, OBSERVATION_SIZE)), jnp.float32),
        actions=jnp.asarray(actions, jnp.int32 if space == Discrete(3) else jnp.float32),
        log_probs=jnp.zeros((m, t)),
        rewards=jnp.zeros((m, t)),
        mask=jnp.asarray(np.arange(t) < lengths[:, None]),
        entropies=jnp.zeros((m, t)),
    )


def weighted(log_probs, batch):
    """A scalar in which every step has a weight of its own, and the log-probabilities."""
    weights = jnp.sin(jnp.arange(batch.mask.size, dtype=jnp.float32)).reshape(batch.mask.shape)
    return jnp.sum(jnp.where(batch.mask, weights * log_probs, 0)), jnp.where(batch.mask, log_probs, 0)


@functools.cache
def functions(space):
    """The gradient of `weighted` and the log-probabilities themselves: replayed, and in one application."""
    policy = policy_for(space)

    def at_once(params, batch):
        return policy.apply(params, batch.observations).log_prob(batch.actions)

    def gradient(of):
        return jax.jit(jax.grad(lambda params, batch: weighted(of(params, batch), batch), has_aux=True))

    return gradient(functools.partial(log_probs, policy)), gradient(at_once)


def assert_equal(actual, expected):
    """To the rounding of float32 sums of hundreds of terms in another order, which processors do differently."""
    tolerance = 32 * np.finfo(np.float32).eps  # 3.8e-6 of the largest entry
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == jnp.float32
        assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(initial=0), 1))


def piece_of(m, t):
    return min(max(1, ROWS // m), t)


def boundaries(m, t):
    """Lengths of the longest episode: none, all, and those around each end of a piece."""
    size = piece_of(m, t)
    near = {0, 1, t - 1, t} | {k * size + d for k in range(1, t // size + 1) for d in (-1, 0, 1)}
    return sorted(length for length in near if 0 <= length <= t)


# Pieces of 8 steps, of 2, of 64, of 42 and of 1.
CASES = [
    (16, 8),
    (16, 9),
    (16, 17),
    (50, 5),
    (2, 65),
    (200, 3),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in ((16, 1), (16, 7), (16, 24), (50, 2), (3, 130), (128, 2))
    ),
]


@pytest.mark.parametrize(("m", "t"), CASES, ids=str)
def test_replay_equals_one_application_wherever_the_longest_episode_ends(m, t):
    replayed, at_once = functions(Discrete(3))
    params = params_for(policy_for())
    for longest in boundaries(m, t):
        batch = batch_of(Discrete(3), m, t, longest, seed=longest)
        assert_equal(replayed(params, batch), at_once(params, batch))


@pytest.mark.parametrize(("m", "t"), [(16, 8), (16, 19)], ids=str)
def test_replay_equals_one_application_for_real_actions(m, t):
    replayed, at_once = functions(Box(2))
    params = params_for(policy_for(Box(2)))
    for longest in boundaries(m, t):
        batch = batch_of(Box(2), m, t, longest, seed=longest)
        assert_equal(replayed(params, batch), at_once(params, batch))


def test_without_a_valid_step_the_gradient_is_0():
    replayed, _ = functions(Discrete(3))
    gradient, values = replayed(params_for(policy_for()), batch_of(Discrete(3), 16, 19, 0))
    assert not any(np.asarray(leaf).any() for leaf in [*jax.tree.leaves(gradient), values])


@pytest.mark.parametrize("space", [Discrete(3), Box(2)], ids=["discrete", "real"])
def test_what_lies_beyond_the_last_piece_does_not_matter(space):
    m, t, longest = 16, 19, 7
    replayed, _ = functions(space)
    params, batch = params_for(policy_for(space)), batch_of(space, m, t, longest)
    beyond = (np.arange(t) >= piece_of(m, t))[None, :, None]
    spoiled = batch._replace(observations=jnp.where(beyond, jnp.nan, batch.observations))
    jax.tree.map(np.testing.assert_array_equal, replayed(params, spoiled), replayed(params, batch))
    longer = spoiled._replace(mask=batch.mask.at[0, : piece_of(m, t) + 1].set(True))
    assert np.isnan(replayed(params, longer)[1]).any()


@pytest.mark.parametrize("longest", [0, 1, 7, 8, 9, 16, 17, 19])
def test_pieces_after_the_longest_episode_are_never_evaluated(longest):
    calls = []
    policy = policy_for()

    def apply(params, observations):
        jax.debug.callback(lambda: calls.append(observations.shape))
        return policy.apply(params, observations)

    batch = batch_of(Discrete(3), 16, 19, longest)
    jax.block_until_ready(log_probs(policy._replace(apply=apply), params_for(policy), batch))
    jax.effects_barrier()
    assert calls == [(16 * 8, 3)] * -(-longest // 8)


def test_members_under_vmap_equal_members_one_by_one():
    space, m, t, longest = Discrete(3), 16, 19, (5, 8, 17)
    replayed, at_once = functions(space)
    members = [params_for(policy_for(), seed) for seed in range(3)]
    batches = [batch_of(space, m, t, length, seed) for seed, length in enumerate(longest)]
    params, batch = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (members, batches))
    together = jax.vmap(replayed)(params, batch)
    for k in range(3):
        assert_equal(jax.tree.map(lambda leaf, k=k: leaf[k], together), at_once(members[k], batches[k]))


def test_an_update_without_jit_is_the_same():
    space, policy = Discrete(3), policy_for()
    params, batch = params_for(policy), batch_of(space, 16, 19, 12)
    values = jnp.where(batch.mask, log_probs(policy, params, batch), 0)
    assert_equal(values, functions(space)[1](params, batch)[1])


@pytest.mark.parametrize("space", [Discrete(3), Box(2)], ids=["discrete", "real"])
def test_of_fresh_episodes_the_log_probs_are_those_they_were_played_with(space):
    policy = policy_for(space)
    params, batch = params_for(policy), batch_of(space, 16, 19, 12)
    batch = batch._replace(log_probs=policy.apply(params, batch.observations).log_prob(batch.actions))

    def gradient(fresh):
        def loss(params):
            return weighted(log_probs(policy, params, batch, fresh=fresh), batch)

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    assert_equal(gradient(True), functions(space)[1](params, batch))
    shifted = batch._replace(log_probs=batch.log_probs + 1)
    np.testing.assert_array_equal(
        np.where(batch.mask, log_probs(policy, params, shifted, fresh=True), 0),
        np.where(batch.mask, shifted.log_probs, 0),
    )


def test_members_of_any_length_are_replayed_together_in_one_loop_for_all():
    """Where members may leave a loop at different times, each takes its pieces from a place of its own."""
    policy, batch = policy_for(), jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), batch_of(Discrete(3), 16, 19, 12))
    params = params_for(policy)
    program = jax.make_jaxpr(jax.vmap(lambda batch: log_probs(policy, params, batch)))(batch)
    (loop,) = [equation for equation in _equations(program.jaxpr) if equation.primitive.name == "while"]
    (continues,) = loop.params["cond_jaxpr"].out_avals
    assert continues.shape == ()


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name in ("jit", "custom_vjp_call"):
            inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
            yield from _equations(inner.jaxpr)
