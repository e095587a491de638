"""A run of many agents has the folder, the evaluation and the policy of any run."""

import jax
import numpy as np
import pytest
from helpers.run_folders import TINY

from haepo_jax.config import from_config_dict
from haepo_jax.runs import load_policy
from haepo_jax.runs.evaluation import measure
from haepo_jax.runs.experiment import run


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_agents_of_a_run_act_together_and_are_scored_by_their_mean(network, tmp_path):
    changes = {
        "env": "Signals-haepo",
        "env_kwargs": {"num_agents": 4},
        "env_params": {"share": 0.0},
        "evaluate_every": 1,
        "policy": {"network": network, "hidden_sizes": (4,)},
        "agents": {"networks": "each"},
    }
    config = from_config_dict(TINY | changes)
    run(config, tmp_path / "run")
    policy = load_policy(tmp_path / "run", checkpoint="best")
    assert policy.environment.num_agents == 4 and policy.remembers == (network == "gru")
    scored = measure(tmp_path / "run", episodes=64)["members"][0]
    assert 0 < scored["sampled_return"] < 8

    state, observations = policy.environment.reset(policy.env_params, jax.random.key(0))
    carry, returns, steps, done = policy.start(4), np.zeros(4), 0, False
    while not done:
        carry, actions = policy.step(carry, observations, jax.random.key(steps))
        step = policy.environment.step(policy.env_params, jax.random.key(steps), state, actions)
        state, observations, done = step.state, step.observation, bool(step.done.all())
        returns, steps = returns + np.asarray(step.reward), steps + 1
    assert actions.shape == (4,) and steps == 8 and set(returns) <= set(range(9))
