"""Normalisation within an update: what is counted, when, and who sees it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose

from haepo_jax.algorithms.normalization import (
    Normalization,
    NormalizedParams,
    Normalizer,
    discounted_returns_so_far,
)
from haepo_jax.algorithms.running_statistics import measure_statistics
from haepo_jax.config import traced_settings
from haepo_jax.config.reads import unread
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_environment, make_member
from haepo_jax.rollouts.segments import Segment
from haepo_jax.rollouts.steps import steps_of

SMALL = {
    "env": "CartPole-v1",
    "num_trajectories": 4,
    "horizon": 20,
    "num_updates": 3,
    "policy": {"hidden_sizes": (4,)},
    "optimizer": {"learning_rate": 0.05},
    "ppo": {"num_steps": 16, "num_epochs": 1, "num_minibatches": 1},
    "normalize_observations": True,
}
KINDS = {
    "episodes": {"memory": "store", "haepo": {"num_epochs": 1}},
    "rounds": {"min_batch_steps": 150},
    "recomputed": {"memory": "recompute"},
    "recomputed rounds": {"memory": "recompute", "min_batch_steps": 150},
    "segments": {"algorithm": "ppo", "normalize_rewards": True},
}


def config_of(**changes):
    return fixed_config(SMALL | changes)


@functools.cache
def member(kind):
    """Functions of a member, compiled at their first use alone, and its state before the first update."""
    config = config_of(**KINDS[kind])
    functions = make_member(config)
    functions = functions._replace(collect=jax.jit(functions.collect), learn=jax.jit(functions.learn))
    settings = {name: jnp.asarray(value) for name, value in traced_settings(config).items()}
    return functions, jax.jit(functions.init)(jax.random.key(0), settings)


@functools.cache
def two_updates(kind):
    """The states before and after each of two updates, the batches in between, and the metrics of the last one."""
    functions, state = member(kind)
    states, batches, metrics = [state], [], {}
    for _ in range(2):
        batches.append(functions.collect(states[-1]))
        state, metrics = functions.learn(states[-1], batches[-1])
        states.append(state)
    return functions, states, batches, metrics


def observations_of(batches):
    """`[N, *O]`, those that count."""
    return np.concatenate([np.asarray(steps.observations)[steps.mask] for steps in map(steps_of, batches)])


@pytest.mark.parametrize(
    "kind", ["episodes", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("segments", "rounds"))]
)
def test_a_learner_has_seen_the_steps_of_all_its_batches_and_no_others(kind):
    _, states, batches, _ = two_updates(kind)
    for done in (1, 2):
        seen, counted = states[done].learner.normalization.observations, observations_of(batches[:done])
        assert seen.count.value == len(counted)
        np.testing.assert_allclose(seen.mean.value, counted.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(seen.variance, counted.var(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("recomputed", "kept"),
    [
        pytest.param("recomputed", "episodes", marks=pytest.mark.slow),
        pytest.param("recomputed rounds", "rounds", marks=pytest.mark.slow),
    ],
)
def test_episodes_that_are_not_kept_are_counted_while_they_are_played(recomputed, kept):
    (functions, state), (others, same) = member(recomputed), member(kept)
    batch, counted = functions.collect(state), observations_of([others.collect(same)])
    assert batch.observations.count.value == len(counted)
    np.testing.assert_allclose(batch.observations.mean.value, counted.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(batch.observations.variance, counted.var(0), rtol=1e-4)


@pytest.mark.parametrize("kind", ["episodes", "segments"])
def test_the_policy_sees_observations_less_their_mean_and_over_their_deviation(kind):
    functions, states, batches, _ = two_updates(kind)
    learner, seen = states[2].learner, observations_of(batches)
    given = functions.algorithm.policy_params(learner)
    assert isinstance(given, NormalizedParams)
    by_hand = (seen[:50] - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8)
    plain = make_member(dataclasses.replace(config_of(**KINDS[kind]), normalize_observations=False)).algorithm.policy
    assert_allclose(
        functions.algorithm.policy.apply(given, seen[:50]).logits,
        plain.apply(learner.params, np.clip(by_hand, -10, 10)).logits,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("kind", "metric", "fresh"), [("episodes", "effective_sample_size", 4.0), ("segments", "approx_kl", 0.0)]
)
def test_the_policy_that_learns_is_the_one_that_played(kind, metric, fresh):
    """Log-ratios of the first gradient step are 0; they would not be by what is known after the batch."""
    functions, states, batches, metrics = two_updates(kind)
    assert metrics[metric] == pytest.approx(fresh, abs=1e-6)
    moved = dataclasses.replace(states[1].learner, normalization=states[2].learner.normalization)
    _, others = functions.learn(dataclasses.replace(states[1], learner=moved), batches[1])
    assert others[metric] != pytest.approx(fresh, abs=1e-6)


def test_statistics_are_neither_trained_nor_part_of_the_optimiser():
    functions, states, *_ = two_updates("episodes")
    plain = make_member(config_of(normalize_observations=False))
    shapes = jax.eval_shape(plain.algorithm.policy.init, jax.random.key(0))
    assert jax.tree.structure(states[1].learner.params) == jax.tree.structure(shapes)
    given = functions.algorithm.policy_params(states[1].learner)
    slopes = jax.grad(lambda given: functions.algorithm.policy.apply(given, jnp.ones((3, 4))).logits.sum())(given)
    assert not slopes.mean.any() and not slopes.scale.any() and any(map(jnp.any, jax.tree.leaves(slopes.params)))


def test_the_reference_is_a_policy_as_it_was_with_its_own_statistics():
    functions, states, *_ = two_updates("episodes")
    before = functions.algorithm.policy_params(states[1].learner)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), states[2].learner.reference, before)


def test_a_member_whose_statistics_are_not_finite_has_diverged():
    functions, states, batches, _ = two_updates("episodes")
    spoilt = batches[1]._replace(
        observations=batches[1].observations.at[0, 0, 0].set(jnp.inf), rewards=batches[1].rewards
    )
    after, _ = functions.learn(states[1], spoilt)
    assert after.diverged and after.diverged_at == 1
    jax.tree.map(np.testing.assert_array_equal, after.learner, states[1].learner)


def test_without_it_a_learner_keeps_nothing():
    config = config_of(normalize_observations=False)
    normalizer = Normalizer(config, make_environment(config))
    params = {"w": jnp.ones(2)}
    assert normalizer.init() is None and normalizer.bind(None, params) is params
    assert normalizer.see(params, jnp.ones(3))[0] is params


def returns_by_hand(rewards, starts, discount):
    found, so_far = np.zeros(rewards.shape), np.zeros(len(rewards))
    for t in range(rewards.shape[1]):
        so_far = rewards[:, t] + np.where(starts[:, t], 0, discount * so_far)
        found[:, t] = so_far
    return found


def test_returns_so_far_begin_anew_with_each_episode():
    rng = np.random.default_rng(0)
    rewards, starts = rng.normal(size=(3, 50)), rng.uniform(size=(3, 50)) < 0.2
    starts[:, 0] = True
    expected = returns_by_hand(rewards, starts, 0.9)
    compute = jax.jit(discounted_returns_so_far)
    first = compute(rewards[:, :25], ~starts[:, :25], 0.9, np.zeros(3))
    second = compute(rewards[:, 25:], ~starts[:, 25:], 0.9, first[:, -1])
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), expected, rtol=1e-4, atol=1e-5)


def test_of_environments_that_go_on_returns_are_carried_from_segment_to_segment():
    """Two segments, of which the first one ends with an episode in one environment and amid one in the other."""
    config, rng = config_of(**KINDS["segments"], discount=0.9), np.random.default_rng(0)
    normalizer = Normalizer(config, make_environment(config))
    rewards = rng.normal(size=(2, 12)).astype(np.float32)
    done = np.zeros((2, 12), bool)
    done[0, [2, 5]] = done[1, [3, 11]] = True
    seen = dataclasses.replace(normalizer.init(), returns_so_far=np.zeros(2))
    count = jax.jit(lambda seen, segment: normalizer.count_returns(config, seen, segment))
    for part in (slice(0, 6), slice(6, 12)):
        unread = dict.fromkeys(("actions", "log_probs", "entropies", "running"), np.zeros(()))
        places = np.zeros((2, 6, 4))
        segment = Segment(
            observations=places,
            next_observations=places,
            rewards=rewards[:, part],
            terminated=done[:, part],
            done=done[:, part],
            **unread,
        )
        seen = count(seen, segment)
    starts = np.pad(done[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    so_far = returns_by_hand(rewards, starts, 0.9)
    np.testing.assert_allclose(seen.returns.mean.value, so_far.mean(), rtol=1e-4)
    np.testing.assert_allclose(seen.returns.variance, so_far.var(), rtol=1e-4)
    np.testing.assert_allclose(seen.returns_so_far, np.where(done[:, -1], 0, so_far[:, -1]), rtol=1e-5)


@pytest.mark.slow
def test_of_whole_episodes_returns_are_divided_by_the_deviation_of_all_their_steps():
    """RLOO, to whose loss the unit counts: a run on rewards of another unit learns the same."""
    config = config_of(algorithm="rloo", normalize_observations=False, normalize_rewards=True)
    functions = make_member(config)
    state = functions.init(jax.random.key(0), {k: jnp.asarray(v) for k, v in traced_settings(config).items()})

    @jax.jit
    def learn(scale):
        batch = functions.collect(state)
        batch = batch._replace(rewards=scale * batch.rewards)
        return batch, functions.learn(state, batch)

    (batch, (one, metrics)), (_, (other, others)) = learn(1.0), learn(1e3)
    so_far = np.cumsum(np.where(batch.mask, batch.rewards, 0), axis=1)[np.asarray(batch.mask)]
    np.testing.assert_allclose(one.learner.normalization.returns.variance, so_far.var(), rtol=1e-4)
    assert_allclose(metrics["loss"], others["loss"], rtol=1e-4)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-5), one.learner.params, other.learner.params)
    np.testing.assert_allclose(metrics["episode_return"] * 1e3, others["episode_return"], rtol=1e-6)


def test_large_rewards_are_cut_and_returns_are_not():
    config = config_of(algorithm="rloo", normalize_rewards=True)
    normalizer = Normalizer(config, make_environment(config))
    seen = Normalization(returns=measure_statistics(jnp.array([-0.5, 0.5]), jnp.ones(2, bool)))
    np.testing.assert_allclose(normalizer.scale_rewards(seen, jnp.array([1.0, -7.0])), [2.0, -10.0], rtol=1e-5)
    np.testing.assert_allclose(normalizer.scale_returns(seen, jnp.array([1.0, -7.0])), [2.0, -14.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({}, "normalize_rewards", "config.haepo.normalization zscore takes the unit out of returns"),
        ({"algorithm": "grpo"}, "normalize_rewards", "config.grpo.advantage_scale std takes the unit out of returns"),
        ({"algorithm": "dpo"}, "normalize_rewards", "dpo asks of two returns which is the larger alone"),
        ({"algorithm": "ppo"}, "normalize_rewards", None),
        ({"haepo": {"normalization": "none"}}, "normalize_rewards", None),
        ({}, "normalization.epsilon", None),
        ({"normalize_observations": False}, "normalization.epsilon", "nothing is normalised"),
        (
            {"normalize_observations": False},
            "normalization.clip_observations",
            "config.normalize_observations is False",
        ),
        ({"algorithm": "ppo"}, "normalization.clip_rewards", "config.normalize_rewards is False"),
        ({"algorithm": "ppo", "normalize_rewards": True}, "normalization.clip_rewards", None),
        (
            {"algorithm": "rloo", "normalize_rewards": True},
            "normalization.clip_rewards",
            "config.algorithm is rloo, which sees whole returns",
        ),
    ],
)
def test_what_has_no_effect_is_known(changes, name, reason):
    assert unread(config_of(**changes)).get(name) == reason


def test_a_unit_that_does_not_count_costs_nothing():
    config = config_of(normalize_observations=False, normalize_rewards=True)
    assert Normalizer(config, make_environment(config)).init() is None


def test_rewards_that_are_not_kept_cannot_be_normalised():
    with pytest.raises(ConfigError) as raised:
        config_of(algorithm="rloo", normalize_rewards=True, memory="recompute")
    assert str(raised.value) == (
        "config.memory recompute keeps no steps, which config.normalize_rewards learns from; choose auto, store or "
        "remat."
    )
