import dataclasses
import math

import pytest
from helpers.settings import fixed_config

from haepo_jax.population.divergence import LEARNING_RATE, find_cause

SMALL = {"num_trajectories": 4, "horizon": 5, "num_updates": 2, "policy": {"hidden_sizes": (4,)}}
PENDULUM = SMALL | {"env": "Pendulum-v1"}
FAR = {"policy": {"hidden_sizes": (4,), "initial_log_std": -200.0}}


def cause_of(values, settings=(), diverged_at=0, last_return=0.0):
    return find_cause(fixed_config(values), 0, dict(settings), diverged_at, last_return)


@pytest.mark.parametrize("algorithm", ["haepo", pytest.param("ppo", marks=pytest.mark.slow)])
def test_log_probabilities_beyond_float32_are_named_as_the_cause_not_the_learning_rate(algorithm):
    ppo = {"ppo": {"num_steps": 4, "num_minibatches": 1}}
    assert cause_of(PENDULUM | FAR | ppo | {"algorithm": algorithm}) == (
        "log-probabilities of the first policy are beyond float32, before any step changed the policy; bring "
        "config.policy.initial_log_std, -200, near 0"
    )


def test_infinite_rewards_are_named_as_the_cause():
    bandit = SMALL | {"env": "GaussianBandit-haepo", "env_params": {"noise": 3e38}, "num_trajectories": 64}
    assert cause_of(bandit) == (
        "the returns of the first episodes are not finite, before any step changed the policy; look at the rewards of "
        "GaussianBandit-haepo"
    )
    # Those of a later update are known from its row.
    assert cause_of(bandit, diverged_at=1, last_return=-math.inf) == (
        "the returns of update 1 are infinite; look at the rewards of GaussianBandit-haepo"
    )


@pytest.mark.slow
def test_a_loss_that_is_not_finite_at_the_first_policy_is_named_as_the_cause():
    config = fixed_config(SMALL | {"env": "CartPole-v1"})
    broken = dataclasses.replace(config, haepo=dataclasses.replace(config.haepo, entropy_coef=math.inf))
    assert find_cause(broken, 0, {}, 0, 5.0) == (
        "the loss of the first policy is not finite, before any step changed the policy; look at the rewards of "
        "CartPole-v1 and the settings config.haepo"
    )


@pytest.mark.slow
def test_divergence_in_the_first_update_with_a_finite_gradient_is_blamed_on_the_learning_rate():
    assert cause_of(SMALL | {"optimizer": {"learning_rate": 1e38}}) == LEARNING_RATE


def test_divergence_in_a_later_update_is_blamed_on_the_learning_rate():
    assert cause_of(SMALL, diverged_at=3, last_return=20.0) == LEARNING_RATE
