"""Normalisation as a run folder has it: in checkpoints, in loaded policies, frozen in evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off
from helpers.settings import add_fixed, fixed_config

from haepo_jax.algorithms.running_statistics import Precise
from haepo_jax.config.sweep import from_values
from haepo_jax.population import make_population
from haepo_jax.population.member import EVALUATE
from haepo_jax.rollouts.episodes import collect
from haepo_jax.runs import load_policy
from haepo_jax.runs.evaluation import measure
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.states import load_states

UPDATES = 4


def is_precise(node):
    return isinstance(node, Precise)


SETTINGS = TINY | {
    "env": "CartPole-v1",
    "horizon": 25,
    "num_updates": UPDATES,
    "optimizer": {"learning_rate": 0.03},
    "normalize_observations": True,
    "evaluate_every": 2,
    "evaluate_episodes": 3,
}
KINDS = {
    "haepo": {"min_batch_steps": 60, "haepo": {"num_epochs": 2, "history": 2}},
    "ppo": {"algorithm": "ppo", "normalize_rewards": True, "ppo": {"num_steps": 16, "num_minibatches": 2}},
}


def train(workdir, **changes):
    run_sweep(from_values(add_fixed(SETTINGS | changes)), workdir, checkpoint_seconds=0, keep_checkpoints_every=1)
    return workdir


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without evaluations."""
    return train(tmp_path_factory.mktemp("run") / "run", evaluate_every=None, num_updates=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run")


def test_a_loaded_policy_sees_what_the_trained_one_saw(plain):
    ((population, state, _),) = load_states(plain)
    policy, learner = load_policy(plain, member=1), jax.tree.map(lambda leaf: leaf[1], state.learner)
    seen = learner.normalization.observations
    np.testing.assert_array_equal(policy.params.mean, seen.mean.value)
    np.testing.assert_allclose(policy.params.scale, 1 / np.sqrt(seen.variance + 1e-8), rtol=1e-6)
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    own = make_population(fixed_config(SETTINGS | {"normalize_observations": False})).policy
    by_hand = np.clip((observations - policy.params.mean) * policy.params.scale, -10, 10)
    expected = own.apply(learner.params, by_hand)
    np.testing.assert_allclose(policy.apply(policy.params, observations).logits, expected.logits, rtol=1e-4)
    np.testing.assert_array_equal(policy.act(observations, greedy=True), expected.mode())
    assert seen.count.value > 0 and np.abs(seen.mean.value).max() > 0
    assert population.here(state.learner.normalization.observations.count.value).shape == (2,)


@pytest.mark.slow
def test_the_best_policy_has_the_statistics_that_it_was_scored_with(finished):
    ((_, state, _),) = load_states(finished)
    for member in range(2):
        best = load_policy(finished, member, "best")
        of_then = load_policy(finished, member, best.update)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), best.params, of_then.params)
        assert best.update == state.best.update[member]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["last", "best", 1])
def test_an_evaluation_plays_the_policy_that_is_loaded(finished, checkpoint):
    for found in measure(finished, episodes=5, checkpoint=checkpoint)["members"]:
        policy = load_policy(finished, found["member"], checkpoint)
        key = jax.random.key(found["seed"])
        for purpose in (EVALUATE, 0):
            key = jax.random.fold_in(key, purpose)
        episodes = collect(
            *(policy.environment, policy._policy, policy.params, key), num_trajectories=5, horizon=25, greedy=True
        )
        np.testing.assert_allclose(found["greedy_return"], np.where(episodes.mask, episodes.rewards, 0).sum(1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_resumes_ends_with_the_bits_of_one_left_alone(kind, tmp_path):
    whole = train(tmp_path / "whole", **KINDS[kind])
    workdir = cut_off(whole, tmp_path / "run", 2)
    train(workdir, **KINDS[kind])
    assert checkpoints(workdir)[-1] == UPDATES
    assert_same_end(whole, workdir)


@pytest.mark.slow
def test_a_member_that_copies_takes_over_what_its_parent_has_seen():
    changes = {
        "num_seeds": 4,
        "pbt": {"every": 2, "fraction": 0.5},
        "sweep": {"discount": (0.9, 1.0)},
        "num_updates": 3,
    }
    population = make_population(fixed_config(SETTINGS | {"evaluate_every": None} | changes))
    before, _ = population.advance(population.init(), jnp.int32(1))
    before = population.to_host(before)
    state, metrics = population.advance(population.from_host(before), jnp.int32(1))
    parents = population.here(metrics["pbt_parent"], axis=1)[0]
    means = population.to_host(state).learner.normalization.observations.mean.value
    copies = np.flatnonzero(parents >= 0)
    assert copies.size
    for member in copies:
        np.testing.assert_array_equal(means[member], means[parents[member]])
        assert (before.learner.normalization.observations.mean.value[member] != means[member]).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["haepo", "ppo"])
def test_devices_that_share_trajectories_come_to_the_statistics_of_one(kind):
    changes = {"num_trajectories": 8, "evaluate_every": None} | KINDS[kind]
    changes |= {"min_batch_steps": None} | ({"haepo": {"num_epochs": 1}} if kind == "haepo" else {})
    config = fixed_config(SETTINGS | changes)
    spread = make_population(config, devices=some_devices(2), trajectory_devices=2)
    alone = make_population(config, devices=jax.devices()[:1])
    (state, _), (expected, _) = (of.advance(of.init(), jnp.int32(2)) for of in (spread, alone))
    # Without what rounding has kept out of each number.
    found, wanted = (
        jax.tree.map(lambda leaf: getattr(leaf, "value", leaf), of.to_host(end).learner, is_leaf=is_precise)
        for of, end in ((spread, state), (alone, expected))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)
    np.testing.assert_array_equal(found.normalization.observations.count, wanted.normalization.observations.count)


def test_a_run_without_it_has_nothing_of_it_in_its_checkpoints():
    population = make_population(fixed_config(TINY))
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(population.template())}
    assert not [name for name in names if "normalization" in name]
    other = make_population(fixed_config(TINY | {"normalization": {"epsilon": 1e-3, "clip_observations": 5.0}}))
    assert population.fingerprint() == other.fingerprint()
