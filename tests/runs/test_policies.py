"""Policies of a run, loaded to act."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.called_commands import call
from helpers.run_folders import TINY
from helpers.settings import fixed_config
from PIL import Image

import haepo_jax.runs
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError
from haepo_jax.methods import METHODS
from haepo_jax.runs import load_policy
from haepo_jax.runs.experiment import run
from haepo_jax.runs.states import load_states

LAKE = "FrozenLake-misc"
SWEPT = TINY | {"evaluate_every": 1, "sweep": {"optimizer.learning_rate": (0.01, 0.1)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of four members, of two settings and two seeds."""
    workdir = tmp_path_factory.mktemp("run") / "bandit"
    run(fixed_config(SWEPT), workdir)
    return workdir


@pytest.fixture(scope="module")
def policy(folder):
    return load_policy(folder, member=3)


def observations_of(policy, batch=()):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, *policy.environment.observation_shape)))


def test_a_policy_has_the_parameters_of_its_member(folder, policy):
    ((population, state, update),) = load_states(folder)
    expected = jax.tree.map(lambda leaf: np.asarray(leaf)[3], state.learner.params)
    jax.tree.map(np.testing.assert_array_equal, policy.params, expected)
    assert (policy.member, policy.update) == (population.members[3], update)
    assert policy.member.settings == {"optimizer.learning_rate": 0.1} and policy.horizon == 1


def test_the_best_policy_is_the_one_that_was_scored_best(folder):
    ((_, state, _),) = load_states(folder)
    best = load_policy(folder, 2, "best")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b)[2]), best.params, state.best.params)
    assert best.update == int(state.best.update[2])


def test_a_policy_of_a_number_of_updates_is_that_of_its_checkpoint(folder, policy):
    first = load_policy(folder, 3, 1)
    assert first.update == 1 and policy.update == 3
    pairs = zip(*map(jax.tree.leaves, (first.params, policy.params)), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_greedy_actions_are_the_modes_of_the_distribution_alone_and_in_a_batch(policy):
    observations = observations_of(policy, (2, 3))
    modes = policy.apply(policy.params, observations).mode()
    np.testing.assert_array_equal(policy.act(observations, greedy=True), modes)
    assert policy.act(observations[1, 2], greedy=True) == modes[1, 2]


def test_samples_follow_the_distribution_and_their_key(policy):
    observations = jnp.broadcast_to(observations_of(policy), (4000, 1))
    first, again, other = (policy.act(observations, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    probabilities = policy.apply(policy.params, observations[0]).probs
    np.testing.assert_allclose(np.bincount(first, minlength=10) / 4000, probabilities, atol=0.04)


def test_raw_images_and_choices_are_taken_as_the_environment_gives_them(policy):
    own = policy._policy._replace(apply=lambda params, observations: Seen(observations))
    catch, lake = (dataclasses.replace(policy, environment=make(name), _policy=own) for name in ("Catch-bsuite", LAKE))
    board = np.arange(50, dtype=np.uint8).reshape(10, 5)
    found = catch.act(board, greedy=True)
    assert found.dtype == jnp.float32 and (found == board).all()
    np.testing.assert_array_equal(lake.act(np.array([3, 0]), greedy=True), np.eye(16)[[3, 0]])
    np.testing.assert_array_equal(lake.act(np.eye(16)[3], greedy=True), np.eye(16)[3])


class Seen:
    def __init__(self, observations):
        self.observations = observations

    def mode(self):
        return self.observations


def test_what_a_policy_cannot_act_on_is_refused(policy):
    with pytest.raises(ConfigError, match=r"of GaussianBandit-haepo has shape \(1,\), .* of shape \(3, 2\)"):
        policy.act(np.zeros((3, 2)), greedy=True)
    with pytest.raises(ConfigError, match="to sample an action needs a key; give one, or greedy=True"):
        policy.act(np.zeros(1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((4,), "member 4 is none of"),
        *(((member,), f"member must be a whole number, .*, got {member!r}") for member in ("0", 0.0, None, True)),
        ((0, 7), "has 3 updates, so that there is no checkpoint of 7"),
        ((0, "newest"), "checkpoint must be last, best or a number of updates"),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(folder, arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_policy(folder, *arguments)


def test_evaluate_refuses_to_draw_what_cannot_be_drawn_before_it_plays(folder, tmp_path):
    code, words = call("evaluate", folder, gif=str(tmp_path / "best.png"))
    assert code == 2 and "best.png must end in .gif" in words
    code, words = call("evaluate", folder, gif=str(tmp_path / "best.gif"))
    assert code == 2 and "env GaussianBandit-haepo cannot be drawn" in words
    assert not (folder / "evaluation.json").exists()


@pytest.mark.slow
def test_evaluate_draws_an_episode_of_its_best_member(tmp_path):
    folder = tmp_path / "run"
    run(fixed_config(TINY | {"env": "Catch-bsuite", "horizon": 9}), folder)
    code, words = call("evaluate", folder, gif=str(tmp_path / "best.gif"))
    assert code == 0 and f"drawn in {tmp_path / 'best.gif'}" in words
    with Image.open(tmp_path / "best.gif") as image:
        assert image.n_frames == 10


@pytest.mark.slow
def test_evaluate_draws_the_best_policy_also_where_the_first_member_has_none(tmp_path):
    folder = tmp_path / "run"
    rates = {"sweep": {"optimizer.learning_rate": (1e38, 0.01)}}
    run(fixed_config(TINY | rates | {"env": "Catch-bsuite", "horizon": 9, "evaluate_every": 1}), folder)
    with pytest.raises(ConfigError, match=r"member 0 of .* has no best policy yet"):
        load_policy(folder, checkpoint="best")
    code, words = call("evaluate", folder, checkpoint="best", gif=str(tmp_path / "best.gif"))
    assert code == 0 and "An episode of member " in words, words
    assert "An episode of member 0" not in words


def test_loading_policies_is_imported_when_it_is_asked_for():
    assert haepo_jax.runs.load_policy is load_policy
    with pytest.raises(AttributeError, match="has no attribute 'load_policies'"):
        haepo_jax.runs.load_policies  # noqa: B018


NETWORK = """
import flax.linen as nn

class Wide(nn.Module):
    width: int

    @nn.compact
    def __call__(self, observations):
        return nn.tanh(nn.Dense(self.width)(observations))
"""


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_policies_of_every_method_act_also_with_a_network_from_outside(algorithm, env, tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    settings = {
        "env": env,
        "algorithm": algorithm,
        "horizon": 8,
        "num_seeds": 3,
        "num_updates": 2,
        "num_trajectories": 4,
        "ppo": {"num_steps": 8, "num_minibatches": 2},
        "policy": {"network": "own_networks:Wide", "network_kwargs": {"width": 5}},
    }
    run(fixed_config(settings), tmp_path / "run")
    policy = load_policy(tmp_path / "run", member=2)
    state, observation = policy.environment.reset(policy.env_params, jax.random.key(0))
    step = policy.environment.step(policy.env_params, jax.random.key(1), state, policy.act(observation, greedy=True))
    assert np.isfinite(step.reward)
    kernels = [leaf.shape for leaf in jax.tree.leaves(policy.params) if leaf.ndim == 2]
    assert (observation.size, 5) in kernels
