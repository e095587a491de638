"""Policies that remember, from their run folder: resumed, evaluated, drawn and loaded to act."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.called_commands import call
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off
from helpers.settings import add_fixed, fixed_config

from haepo_jax.config.members import Member
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member
from haepo_jax.rollouts.episodes import collect
from haepo_jax.runs import load_policy
from haepo_jax.runs.animation import save_gif
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.policies import LoadedPolicy

GRU = {"policy": {"network": "gru", "hidden_sizes": (6, 4)}, "env": "Catch-bsuite", "horizon": 9}


@pytest.fixture(scope="module")
def policy():
    """One that has not learned yet."""
    functions = make_member(fixed_config(GRU))
    own = functions.algorithm.policy
    params = jax.tree.map(lambda leaf: leaf + 0.5, own.init(jax.random.key(0)))
    return LoadedPolicy(params, own.apply, Member(0, 0, {}), 0, functions.environment, {}, functions.horizon, own)


def test_a_loaded_policy_plays_step_by_step_the_episode_that_training_plays(policy):
    """Catch takes nothing from chance after its reset."""
    played = collect(
        policy.environment,
        policy._policy,
        policy.params,
        jax.random.key(3),
        num_trajectories=2,
        horizon=9,
        greedy=True,
    )
    carry = policy.start(2)
    for t in range(9):
        carry, actions = policy.step(carry, played.observations[:, t], greedy=True)
        np.testing.assert_array_equal(actions, played.actions[:, t])
    assert policy.remembers and played.mask.all()


def test_what_a_policy_that_remembers_cannot_act_on_is_refused(policy):
    observation = np.zeros((10, 5))
    with pytest.raises(
        ConfigError, match=r"remembers the episode, which act cannot; call carry, action = policy\.step"
    ):
        policy.act(observation, greedy=True)
    with pytest.raises(ConfigError, match=r"of shape \(2, 4\), as start\(2\) makes it; got one of shape \(4,\)"):
        policy.step(policy.start(), np.zeros((2, 10, 5)), greedy=True)
    with pytest.raises(ConfigError, match="to sample an action needs a key"):
        policy.step(policy.start(), observation)


def test_a_gif_is_drawn_of_a_policy_that_remembers(policy, tmp_path):
    assert save_gif(tmp_path / "episode.gif", policy) == 9


def train(workdir, algorithm):
    own = {"ppo": {"num_steps": 7, "num_minibatches": 2}} if algorithm == "ppo" else {"haepo": {"history": 2}}
    settings = TINY | GRU | {"algorithm": algorithm, "num_updates": 6, "evaluate_every": 2} | own
    run_sweep(from_values(add_fixed(settings)), workdir, checkpoint_seconds=0, keep_checkpoints_every=2)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["haepo", "ppo"])
def test_a_run_that_resumes_ends_with_the_bits_of_one_left_alone_and_its_policy_is_as_evaluated(algorithm, tmp_path):
    finished = train(tmp_path / "finished", algorithm)
    workdir = cut_off(finished, tmp_path / "run", 2)
    train(workdir, algorithm)
    assert checkpoints(workdir)[-1] == 6
    assert_same_end(finished, workdir)

    code, _ = call("evaluate", workdir, episodes=64, gif=str(tmp_path / "best.gif"))
    assert code == 0 and (tmp_path / "best.gif").exists()
    evaluated = json.loads((workdir / "evaluation.json").read_text())["members"][1]["greedy_return"]
    policy = load_policy(workdir, member=1)
    keys = jax.random.split(jax.random.key(5), 400)
    state, observation = jax.vmap(policy.environment.reset, in_axes=(None, 0))(policy.env_params, keys)
    carry, total = policy.start(400), jnp.zeros(400)
    step = jax.jit(jax.vmap(policy.environment.step, in_axes=(None, 0, 0, 0)))
    for _ in range(9):
        carry, action = policy.step(carry, observation, greedy=True)
        after = step(policy.env_params, keys, state, action)
        state, observation, total = after.state, after.observation, total + after.reward
    assert float(total.mean()) == pytest.approx(evaluated, abs=0.5)
