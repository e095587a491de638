"""Agents learn as a team or each for itself, by every method, with networks of all kinds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import assert_allclose

from haepo_jax.algorithms.agents import group_agents
from haepo_jax.config import ExperimentConfig, from_config_dict, traced_settings
from haepo_jax.environments import make
from haepo_jax.losses import haepo_loss
from haepo_jax.methods import METHODS, Evaluated, Group, Packed, PpoConfig, Samples, StepGroup
from haepo_jax.population.member import make_member

SMALL = {
    "env": "helpers.toy_agents:make_relay",
    "num_trajectories": 4,
    "min_batch_steps": None,
    "num_updates": 2,
    "policy": {"hidden_sizes": (4,)},
    "exploration": {"persistences": ()},
}


def configured(**changes):
    return from_config_dict(SMALL | changes)


def regroup(joint, group, lanes_of=3):
    config = dataclasses.replace(ExperimentConfig(), haepo=dataclasses.replace(ExperimentConfig().haepo, joint=joint))
    return group_agents(config, make("Signals-haepo", (("num_agents", lanes_of),)), group)


def test_a_team_competes_with_the_sum_of_its_log_likelihoods_and_the_mean_of_its_returns():
    lanes = jnp.arange(6.0)
    group, add = regroup("joint", Group(lanes, jnp.arange(6), -lanes, valid=jnp.array([True] * 3 + [False] * 3)))
    assert group.returns.tolist() == [1, 4] and group.lengths.tolist() == [3, 12]
    assert group.behaviour_log_likelihoods.tolist() == [-3, -12] and group.valid.tolist() == [True, False]
    assert add(lanes).tolist() == [3, 12]


def test_an_agent_competes_with_itself_in_other_episodes():
    lanes = jnp.arange(6.0)
    group, add = regroup("own", Group(lanes, jnp.arange(6), -lanes, valid=jnp.ones(6, bool)))
    assert group.returns.tolist() == [[0, 3], [1, 4], [2, 5]] == add(lanes).tolist()
    assert group.valid.shape == group.lengths.shape == (3, 2)
    rounds = Group(jnp.arange(12.0).reshape(2, 6), jnp.ones((2, 6), int), jnp.zeros((2, 6)))
    assert regroup("own", rounds)[0].returns.tolist()[1] == [[1, 4], [7, 10]]


def make_steps(packed):
    """Two lanes of a team of two over four steps: one episode each, or two of two steps that follow one another."""
    where = jnp.array([[True, True, True, False], [True, True, False, False]])
    log_probs = -jnp.arange(8.0).reshape(2, 4)
    if not packed:
        return StepGroup(jnp.array([2.0, 4.0]), where, log_probs)
    where = jnp.array([[True, True, True, True], [True, False, True, True]])
    of_step = jnp.array([[0, 0, 2, 2], [1, 1, 3, 3]])
    places = Packed(of_step, jnp.array([True, True, True, True]), 2)
    return StepGroup(jnp.array([2.0, 4.0, 6.0, 8.0]), where, log_probs, packed=places)


def test_a_step_of_a_team_is_that_of_its_agents_that_have_one():
    group, add = regroup("joint", make_steps(packed=False), 2)
    assert group.where.tolist() == [[True, True, True, False]] and group.returns.tolist() == [3]
    assert group.behaviour_log_probs.tolist() == [[-4, -6, -2, 0]]
    assert add(jnp.ones((2, 4))).tolist() == [[2, 2, 1, 0]]
    packed, _ = regroup("joint", make_steps(packed=True), 2)
    assert packed.packed.trajectory_of_step.tolist() == [[0, 0, 1, 1]] and packed.returns.tolist() == [3, 7]
    assert packed.behaviour_log_probs.tolist() == [[-4, -1, -8, -10]] and packed.packed.valid.shape == (2,)


def test_steps_of_an_agent_are_in_a_group_of_its_own():
    group, add = regroup("own", make_steps(packed=True), 2)
    assert group.where.shape == (2, 1, 4) == add(jnp.ones((2, 4))).shape
    assert group.returns.tolist() == [[2, 6], [4, 8]]
    assert group.packed.trajectory_of_step.tolist() == [[[0, 0, 1, 1]]] * 2


@pytest.mark.parametrize("joint", ["joint", pytest.param("own", marks=pytest.mark.slow)])
def test_the_loss_is_that_of_the_agents_own_networks_put_together(joint):
    config = configured(haepo={"joint": joint, "history": 0, "normalization": "none"}, agents={"networks": "each"})
    member = make_member(config)

    @jax.jit
    def both(key):
        state = member.init(key, traced_settings(config))
        traced, learner, batch = member.trace(state), state.learner, member.collect(state)
        moved = jax.tree.map(
            lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), learner.params
        )

        def own_sums(params):
            log_probs = member.algorithm.policy.apply(params, batch.observations).log_prob(batch.actions)
            return jnp.where(batch.mask, log_probs, 0).sum(axis=1).reshape(4, 3)

        scores = own_sums(moved) - own_sums(learner.params)
        returns = jnp.where(batch.mask, batch.rewards, 0).sum(axis=1).reshape(4, 3)
        if joint == "joint":
            scores, returns = scores.sum(axis=1), returns.mean(axis=1)
        else:
            scores, returns = scores.T, returns.T
        wanted, _ = haepo_loss(
            scores,
            returns,
            entropy_coef=traced.haepo.entropy_coef,
            kl_coef=0,
            temperature=traced.haepo.temperature,
            normalization="none",
            projection="forward",
            target="linear",
            target_effective_sample_size=traced.haepo.target_effective_sample_size,
        )
        return member.algorithm.loss(traced, learner, batch)(moved)[0], wanted

    loss, wanted = both(jax.random.key(0))
    assert_allclose(loss, wanted, rtol=2e-4)


def test_steps_of_an_agent_that_waits_count_for_nothing_in_ppo():
    where = np.array([True, False, True, True])
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    wild = rows.copy()
    wild[4:, 1] = np.inf, np.nan  # advantage and entropy

    @jax.jit
    def loss_of(rows, where):
        log_probs, behaviour, values, targets, advantages, entropies = rows
        make = METHODS["ppo"].objective(PpoConfig(), Samples(behaviour, values, advantages, targets, where))
        loss, metrics = make(Evaluated(log_probs, entropies, values))
        return loss, metrics["approx_kl"], metrics["value_loss"]

    np.testing.assert_allclose(loss_of(wild, where), loss_of(rows[:, where], None), rtol=1e-5)
    assert loss_of(wild, np.zeros(4, bool))[0] == 0


EACH, ROUNDS = {"networks": "each"}, {"min_batch_steps": 32}
PPO = {"algorithm": "ppo"}
UPDATES = {
    "haepo": ROUNDS | {"exploration": {"persistences": (1, 4)}},
    "central critic": PPO | {"ppo": {"num_steps": 8, "critic_sees": "all"}, "normalize_rewards": True},
    "own": ROUNDS | {"haepo": {"joint": "own"}, "agents": {"networks": "kind"}},
    "kept": {"haepo": {"history": 0}, "memory": "store", "normalize_observations": True, "agents": EACH},
    "recomputed": ROUNDS | {"haepo": {"history": 0}, "memory": "recompute", "normalize_observations": True},
    "recurrent": ROUNDS | {"policy": {"network": "gru", "hidden_sizes": (4,)}, "agents": EACH},
    "grpo": {"algorithm": "grpo", "agents": {"sees_number": False}},
    "grpo in rounds": ROUNDS | {"algorithm": "grpo", "grpo": {"joint": "own"}},
    "dpo": ROUNDS | {"algorithm": "dpo", "dpo": {"joint": "own"}},
    "rloo": ROUNDS | {"algorithm": "rloo"},
    "own critics": PPO | {"ppo": {"num_steps": 8}, "agents": EACH},
    "recurrent critics": PPO | {"ppo": {"num_steps": 8}, "policy": {"network": "gru", "hidden_sizes": (4,)}},
    "segments": {
        "haepo": {"segment_length": 2, "num_steps": 8, "bootstrap": "value", "critic": "shared"},
        "agents": EACH,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UPDATES)
def test_every_method_learns_from_agents_that_end_early(name):
    config = configured(**UPDATES[name])
    member = make_member(config)

    @jax.jit
    def update(key):
        state = member.init(key, traced_settings(config))
        after, metrics = member.learn(state, member.collect(state))
        moved = jax.tree.map(lambda one, other: jnp.any(one != other), state.learner.params, after.learner.params)
        return after.diverged, metrics, moved

    diverged, metrics, moved = update(jax.random.key(0))
    assert not diverged and all(np.isfinite(value) for value in metrics.values())
    assert all(jax.tree.leaves(moved))
    assert metrics["episode_length"] == 3 and metrics["ticks"] == 3
    assert 19 < metrics["episode_return"] < 80  # of agents that earn 10, 40 and 90, and their actions
    # Whole episodes are 4 at once, of 3 steps, until all agents have come to 32 steps each on average.
    in_segments = config.algorithm == "ppo" or config.haepo.segment_length
    assert metrics["env_steps"] == (32 if in_segments else 12 if config.min_batch_steps is None else 48)


LEARNING = {
    "joint": {"haepo": {"history": 0}},
    "own": {"haepo": {"history": 0, "joint": "own"}, "env_params": {"share": 0.0}},
    "ppo": {"algorithm": "ppo", "ppo": {"num_steps": 16}, "env_params": {"share": 0.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_agents_learn_to_answer_the_signal(name):
    config = from_config_dict(
        {
            "env": "Signals-haepo",
            "num_trajectories": 16,
            "min_batch_steps": None,
            "num_updates": 60,
            "policy": {"hidden_sizes": (16,)},
            "exploration": {"persistences": ()},
            "optimizer": {"learning_rate": 1e-2, "schedule": "constant"},
        }
        | LEARNING[name]
    )
    member = make_member(config)

    def update(state, _):
        state, metrics = member.learn(state, member.collect(state))
        return state, metrics["episode_return"]

    first = member.init(jax.random.key(0), traced_settings(config))
    _, returns = jax.jit(lambda state: jax.lax.scan(update, state, None, length=60))(first)
    assert returns[0] < 3.4  # of 8; even play has 8 / 3
    assert np.mean(returns[-10:]) > 4.5
