"""HAEPO on segments: one update by hand, whole episodes, minibatches by time, and a temperature that holds the KL."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose, assert_close
from helpers.updates import arrays_of, assert_identical, by_hand, distance

from haepo_jax.algorithms import make_algorithm
from haepo_jax.analysis.statistics import interquartile_mean
from haepo_jax.config import from_config_dict, get_method, get_method_settings, traced_settings, with_settings
from haepo_jax.config.reads import unread
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError
from haepo_jax.losses import generalized_advantages, haepo_segment_loss, label_states
from haepo_jax.networks import make_torso, make_value
from haepo_jax.population.member import make_member

N, S, HORIZON = 4, 12, 9
ENVIRONMENT = make("CartPole-v1")
SMALL = {
    **{"num_steps": S, "num_epochs": 1, "num_minibatches": 1, "reference": "none", "kl_coef": 0.0},
    "segment_adapt": "fixed",
}


def config_with(**haepo):
    """CartPole with strong pushes: episodes end by themselves and at the horizon, in the midst of segments."""
    return fixed_config(
        {
            "env_params": {"force_mag": 40.0},
            "num_updates": 5,
            "num_trajectories": N,
            "horizon": HORIZON,
            "discount": 0.9,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.01},
            "haepo": SMALL | {"segment_length": 4, "bootstrap": "value"} | haepo,
        }
    )


@functools.cache
def made(**haepo):
    """An algorithm's functions, compiled, and a learner whose networks have something to say with its batch."""
    config = config_with(**haepo)
    algorithm = make_algorithm(config, ENVIRONMENT)
    learner = jax.jit(lambda key: algorithm.init(config, key))(jax.random.key(0))
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(7), leaf.shape), learner.params)
    learner = dataclasses.replace(learner, params=moved)
    batch = jax.jit(lambda learner, key: algorithm.collect(config, learner, key))(learner, jax.random.key(1))
    batch = batch._replace(rewards=jax.random.normal(jax.random.key(2), batch.rewards.shape))

    @jax.jit
    def learn(settings, learner, batch):
        return algorithm.learn(with_settings(config, settings), learner, batch, jnp.int32(0), jax.random.key(3))

    return config, algorithm, learner, batch, learn


def after(batch=None, settings=None, **haepo):
    """The learner and the metrics after one update."""
    config, _, learner, own, learn = made(**haepo)
    return learn(arrays_of(traced_settings(config) | (settings or {})), learner, own if batch is None else batch)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("group_by", ["minibatch", *(pytest.param(x, marks=SLOW) for x in ("time", "start_state"))])
def test_an_update_is_a_step_down_the_loss_of_segments_and_of_values(group_by):
    config, algorithm, learner, batch, _ = made(group_by=group_by)
    own, shape = config.haepo, ENVIRONMENT.observation_shape
    critic = make_value(shape, make_torso=make_torso(config.policy, shape))
    values, following = (
        critic.apply(learner.params["value"], x) for x in (batch.observations, batch.next_observations)
    )
    ends = {"terminated": batch.terminated, "done": batch.done, "discount": 0.9, "gae_lambda": 0.95}
    targets = generalized_advantages(batch.rewards, values, following, **ends) + values
    states = label_states(batch.observations.reshape(N * S, -1)).reshape(N, S)

    def loss(params):
        distribution = algorithm.policy.apply(params, batch.observations)
        of_segments, _ = haepo_segment_loss(
            distribution.log_prob(batch.actions),
            batch.rewards,
            values,
            following,
            segment_length=4,
            entropy_coef=own.entropy_coef,
            kl_coef=0,
            behaviour_log_probs=batch.log_probs,
            kind="log_ratio",
            group_by=group_by,
            start_states=states,
            **ends,
        )
        errors = jnp.square(critic.apply(params["value"], batch.observations) - targets)
        return of_segments + 0.5 * jnp.mean(errors) / 2 - 0.01 * jnp.mean(distribution.entropy())

    expected, [history] = by_hand(config, learner.params, loss, [()])
    got, metrics = after(group_by=group_by)
    assert_close(got.params, expected)
    assert_close({name: metrics[name] for name in history}, history, rtol=1e-3)
    assert distance(got.params, learner.params) > 1e-2


def test_whole_episodes_as_one_segment_each_are_haepo():
    episodes = {"segments_from": "episodes", "segment_length": HORIZON, "bootstrap": "none", "num_epochs": 2}
    episodes["policy_entropy_coef"] = 0.0
    _, _, learner, batch, _ = made(**episodes)
    config = config_with(segment_length=None, num_epochs=2)
    algorithm = make_algorithm(config, ENVIRONMENT)
    expected, of_haepo = jax.jit(
        lambda learner, batch: algorithm.learn(config, learner, batch, jnp.int32(0), jax.random.key(3))
    )(learner, batch)
    got, metrics = after(**episodes)
    assert_close(got.params, expected.params, rtol=1e-4, atol=1e-5)
    assert_close({name: metrics[name] for name in of_haepo}, of_haepo, rtol=1e-3, atol=1e-5)
    assert metrics["approx_kl"] > 0


@SLOW
def test_a_shared_torso_is_moved_by_the_loss_of_values_and_has_two_heads():
    _, _, learner, batch, _ = made(critic="shared")
    policy, value = learner.params["policy"]["MLP_0"], learner.params["value"]
    assert value.keys() < policy.keys() and policy.keys() - value.keys() == {"Dense_0"}
    slopes = []
    for coef in (0.0, 0.5):
        config = config_with(critic="shared", value_coef=coef)
        loss = make_algorithm(config, ENVIRONMENT).loss(config, learner, batch)
        slopes.append(jax.grad(lambda params, loss=loss: loss(params)[0])(learner.params))
    assert distance(slopes[0]["policy"]["MLP_0"]["Dense_0"], slopes[1]["policy"]["MLP_0"]["Dense_0"]) > 1e-3
    assert_close(slopes[0]["policy"]["MLP_0"]["Dense_1"], slopes[1]["policy"]["MLP_0"]["Dense_1"])
    assert optax.tree.norm(slopes[0]["value"]) == 0 and optax.tree.norm(slopes[1]["value"]) > 1e-3


@SLOW
def test_garbage_after_the_end_of_an_episode_changes_nothing():
    episodes = {"segments_from": "episodes", "segment_length": 2}
    _, _, _, batch, _ = made(**episodes)
    assert not batch.mask.all()
    where = batch.mask
    spoilt = batch._replace(
        **{name: jnp.where(where, getattr(batch, name), jnp.nan) for name in ("rewards", "log_probs", "entropies")},
        next_observations=jnp.where(where[..., None], batch.next_observations, 7.0),
        terminated=batch.terminated | ~where,
    )
    (clean, metrics), (with_garbage, others) = after(**episodes), after(spoilt, **episodes)
    assert_identical(clean.params, with_garbage.params)
    assert_identical(metrics, others)


def test_metrics_of_whole_episodes_are_means_over_their_steps_and_not_over_empty_minibatches():
    more = {"segments_from": "episodes", "segment_length": 3, "group_by": "time", "num_minibatches": 3}
    _, _, learner, batch, learn = made(**more)
    lengths = np.array([3, 4, 1, 2])  # of blocks at times 0, 3 and 6, the second has one step and the third none
    batch = batch._replace(mask=jnp.arange(HORIZON) < lengths[:, None], terminated=jnp.zeros_like(batch.terminated))
    settings = arrays_of(traced_settings(made(**more)[0]) | {"optimizer.learning_rate": 1e-12})
    _, metrics = learn(settings, learner, batch)
    critic = make_value((4,), make_torso=make_torso(made(**more)[0].policy, (4,)))
    values, following = (
        critic.apply(learner.params["value"], x) for x in (batch.observations, batch.next_observations)
    )
    errors = np.zeros((N, HORIZON))
    for n, length in enumerate(lengths):  # target - value is the generalised advantage
        ahead = 0.0
        for t in reversed(range(length)):
            ahead = batch.rewards[n, t] + 0.9 * following[n, t] - values[n, t] + 0.9 * 0.95 * ahead
            errors[n, t] = ahead**2
    np.testing.assert_allclose(metrics["value_loss"], errors.sum() / lengths.sum() / 2, rtol=1e-4)
    # Weights are even before the policy moves: of the 10 steps 9 are of four segments, and one is of one alone.
    np.testing.assert_allclose(metrics["effective_sample_size"], (9 * N + 1 * 1) / 10, rtol=1e-5)


@SLOW
def test_an_end_is_worth_nothing_after_it_and_a_time_limit_is():
    episodes = {"segments_from": "episodes", "segment_length": 2}
    _, _, _, batch, _ = made(**episodes)
    last = batch.mask & ~jnp.pad(batch.mask[:, 1:], ((0, 0), (0, 1)))
    assert bool((batch.terminated & last).any()) and bool((~batch.terminated & last).any())
    other, _ = after(batch._replace(terminated=jnp.zeros_like(batch.terminated)), **episodes)
    assert distance(other.params, after(**episodes)[0].params) > 1e-4


@SLOW
def test_minibatches_by_time_hold_all_environments():
    """With a group's returns equal but for one time, only the minibatch with that time has a slope."""
    _, _, learner, batch, _ = made(group_by="time", num_minibatches=3, bootstrap="none", policy_entropy_coef=0.0)
    rewards = jnp.zeros_like(batch.rewards).at[:, 4].set(jnp.arange(N, dtype=jnp.float32))
    batch = batch._replace(rewards=rewards, done=jnp.zeros_like(batch.done))
    got, metrics = after(batch, group_by="time", num_minibatches=3, bootstrap="none", policy_entropy_coef=0.0)
    assert int(got.optimizer_state[-1].count) == 3
    np.testing.assert_allclose(metrics["effective_sample_size"], N, rtol=0.05)
    assert distance(got.params, learner.params) > 1e-3


def test_the_temperature_is_that_of_ess_and_rises_while_the_policy_moves_too_far():
    more = {"segment_adapt": "dual", "num_epochs": 2, "num_minibatches": 3}
    far, near = ({"haepo.target_policy_kl": target, "haepo.dual_learning_rate": 0.2} for target in (1e-6, 1.0))
    once, first = after(settings=far, **more)
    _, _, learner, _, _ = made(**more)
    assert learner.adaptation == 0
    np.testing.assert_allclose(once.adaptation, 0.2, rtol=1e-5)
    assert after(settings=near, **more)[0].adaptation == 0
    learn, batch = made(**more)[4], made(**more)[3]
    settings = arrays_of(traced_settings(made(**more)[0]) | near)
    twice, second = learn(settings, dataclasses.replace(learner, adaptation=once.adaptation), batch)
    np.testing.assert_allclose(second["target_temperature"], first["target_temperature"] * np.exp(0.2), rtol=1e-5)
    np.testing.assert_allclose(twice.adaptation, 0.2 * second["approx_kl"], rtol=1e-3, atol=1e-6)


@SLOW
def test_the_temperature_begins_where_ess_has_it():
    _, of_ess = after(segment_adapt="ess", num_epochs=2, num_minibatches=1)
    _, of_dual = after(segment_adapt="dual", num_epochs=2, num_minibatches=1)
    assert_allclose(of_dual["target_temperature"], of_ess["target_temperature"], rtol=1e-4)
    _, _, _, batch, _ = made(segment_adapt="dual", num_epochs=2, num_minibatches=1, bootstrap="none")
    flat = batch._replace(rewards=jnp.zeros_like(batch.rewards))
    got, metrics = after(flat, segment_adapt="dual", num_epochs=2, num_minibatches=1, bootstrap="none")
    assert metrics["target_temperature"] == 0 and np.isfinite(metrics["loss"]) and np.isfinite(got.adaptation)


@SLOW
def test_environments_carry_on_and_episodes_begin_anew():
    _, _, _, batch, _ = made()
    assert_identical(after()[0].environments, batch.running)
    assert made(segments_from="episodes")[2].environments is None


@SLOW
def test_every_traced_setting_of_segments_that_is_read_acts_in_one_program():
    more = {"segment_adapt": "dual", "num_epochs": 2, "num_minibatches": 3, "reference": "ema", "kl_coef": 5e-3}
    config, _, _, _, learn = made(**more)
    _, metrics = after(**more)
    near = {"haepo.target_policy_kl": 0.7 * float(metrics["approx_kl"])}  # so that the factor rises, and not at most
    usual, _ = after(settings=near, **more)
    reasons = unread(config)
    acting = [name for name in traced_settings(config) if name.startswith("haepo.") and name not in reasons]
    assert {"haepo.gae_lambda", "haepo.target_policy_kl", "haepo.dual_learning_rate"} < set(acting)
    for name in acting:
        value = (traced_settings(config) | near)[name]
        changed, _ = after(settings=near | {name: 0.5 * value}, **more)
        kept = [(learner.params, learner.reference, learner.adaptation) for learner in (changed, usual)]
        assert distance(*kept) > 1e-6, name
    assert learn._cache_size() == 1


@SLOW
def test_the_metrics_are_those_of_the_record():
    for more in ({}, {"bootstrap": "none"}):
        _, metrics = after(**more)
        assert metrics.keys() == {"loss", "grad_norm"} | set(get_method(config_with(**more)).metrics)
        assert ("value_loss" in metrics) == (more == {})


class TestConfig:
    def test_an_id_a_length_and_a_critic_are_enough(self):
        config = from_config_dict({"haepo": {"segment_length": 1, "bootstrap": "value"}})
        state = jax.eval_shape(make_member(config).init, jax.random.key(0), arrays_of(traced_settings(config)))
        assert state.learner.history is None and state.learner.exploration is None
        assert state.learner.params.keys() == {"policy", "value"}

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            (
                {"segment_adapt": "dual"},
                "config.haepo.segment_adapt dual holds how far the steps",
            ),
            (
                {"segment_length": 13},
                "config.haepo.segment_length 13 is longer than the 12 steps that an update plays",
            ),
            ({"num_minibatches": 5}, "num_minibatches 5 does not divide the 12 segments of an update .*; 4 does"),
            ({"num_minibatches": 2, "group_by": "time"}, "num_minibatches 2 does not divide the 3 times"),
            ({"num_minibatches": 12}, "num_minibatches 12 leaves one segment to each"),
            ({"kl_coef": 0.1}, "config.haepo.kl_coef 0.1 needs a reference policy"),
        ],
    )
    def test_what_makes_no_sense_is_one_sentence(self, changes, sentence):
        with pytest.raises(ConfigError, match=sentence):
            config_with(**changes)

    def test_minibatches_of_whole_episodes_are_checked_with_the_horizon(self):
        config = config_with(segments_from="episodes", num_minibatches=7)
        with pytest.raises(ConfigError, match="num_minibatches 7 does not divide the 12 segments of an update"):
            make_member(config)

    def test_recompute_is_refused_by_the_setting_that_needs_steps(self):
        with pytest.raises(
            ConfigError, match=r"keeps no steps, which config.haepo.segment_length learns from; choose"
        ):
            fixed_config({"memory": "recompute", "haepo": {"segment_length": 4}})

    def test_sweeps_of_what_segments_do_not_read_are_refused(self):
        for name, own in (
            ("haepo.gae_lambda", {}),
            ("haepo.value_coef", {"segment_length": 2}),
            ("haepo.target_kl", {"segment_length": 2, "adapt": "dual", "reference": "previous"}),
            ("haepo.temperature", {"segment_length": 2}),
            ("haepo.segment_temperature", {}),
            ("haepo.target_policy_kl", {"segment_length": 2, "segment_adapt": "ess"}),
            ("haepo.dual_learning_rate", {"segment_length": 2, "segment_adapt": "ess"}),
            ("exploration.rate", {"segment_length": 2}),
        ):
            with pytest.raises(ConfigError, match=f"config.sweep.{name} has no effect"):
                from_config_dict({"haepo": own, "sweep": {name: (0.1, 0.2)}})

    def test_whole_episodes_are_as_many_as_trajectories_so_that_a_flag_for_their_steps_is_refused(self):
        reasons = unread(config_with(segments_from="episodes"))
        why = "config.haepo.segment_length is set for haepo, whose updates play num_trajectories whole episodes"
        assert reasons["min_batch_steps"] == reasons["max_batch_steps"] == why

    def test_its_settings_may_be_swept_and_scheduled(self):
        swept = {"haepo.gae_lambda": (0.9, 1.0), "haepo.dual_learning_rate": (0.1, 0.2)}
        own = {"segment_length": 2, "bootstrap": "value", "policy_entropy_coef_schedule": "linear"}
        config = from_config_dict({"haepo": own | {"adapt": "fixed"}, "sweep": swept})
        assert dict(config.sweep) == swept
        assert get_method_settings(config).policy_entropy_coef_schedule == "linear"


@pytest.mark.slow
def test_segments_of_one_step_with_a_critic_learn_cartpole():
    config = from_config_dict(
        {
            "num_updates": 60,
            "num_trajectories": 16,
            "discount": 0.99,
            "haepo": {"segment_length": 1, "bootstrap": "value"},
        }
    )
    run = make_member(config)
    update = jax.jit(jax.vmap(lambda state: run.learn(state, run.collect(state))))
    keys = jax.vmap(jax.random.key)(jnp.arange(16))
    state = jax.vmap(lambda key: run.init(key, arrays_of(traced_settings(config))))(keys)
    returns, kls, factors = [], [], []
    for _ in range(60):
        state, metrics = update(state)
        returns.append(metrics["episode_return"])
        kls.append(metrics["approx_kl"])
        factors.append(state.learner.adaptation)
    # 487 of 500; single seeds fall back for a while, to 136 at the least.
    assert interquartile_mean(np.mean(returns[-10:], axis=0)[None]) > 450
    # The brake acts on steps that are too large, until they no longer are.
    early, late = np.mean(kls[:15]), np.mean(kls[15:])
    assert early > 0.02 and late < 0.015
    assert (np.max(factors, axis=0) > 0.3).all()
