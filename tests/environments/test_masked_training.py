"""Environments with action masks and several choices at once are trained, evaluated and drawn as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.command_runner import run
from helpers.settings import fixed_config
from helpers.toy_environments import NVEC, make_toy

from haepo_jax.algorithms.normalization import NormalizedParams, Normalizer
from haepo_jax.environments import Discrete, MultiDiscrete
from haepo_jax.methods import METHODS
from haepo_jax.population import make_population
from haepo_jax.runs.policies import load_policy

SPACES = {"discrete": Discrete(3), "multi_discrete": MultiDiscrete(NVEC)}


def train(space, **settings):
    """Metrics `[updates, members]` of training, by name."""
    config = fixed_config({"num_seeds": 2, "num_updates": 3, "policy": {"hidden_sizes": (8,)}} | settings)
    population = make_population(config, environment=make_toy(space), devices=jax.devices()[:1])
    _, metrics = population.advance(population.init(), np.int32(config.num_updates))
    return {name: np.asarray(values)[: config.num_updates] for name, values in metrics.items()}


@pytest.mark.parametrize(
    ("method", "space"),
    [
        pytest.param(method, space, marks=() if (method, space) == ("haepo", "multi_discrete") else pytest.mark.slow)
        for method in sorted(METHODS)
        for space in SPACES
    ],
)
def test_no_action_is_taken_that_the_mask_forbids(method, space):
    settings = {"ppo": {"num_steps": 8}} if method == "ppo" else {}
    metrics = train(SPACES[space], algorithm=method, **settings)
    forbidden = metrics["forbidden"][~np.isnan(metrics["forbidden"])]
    assert forbidden.size and not forbidden.any()
    assert np.isfinite(metrics["loss"]).all() and np.isfinite(metrics["grad_norm"]).all()
    assert (metrics["grad_norm"][-1] > 0).all()


def test_normalised_observations_keep_their_mask():
    environment = make_toy()
    normalizer = Normalizer(fixed_config({"normalize_observations": True}), environment)
    given = NormalizedParams(
        {}, jnp.full(environment.observation_shape, 0.5), jnp.full(environment.observation_shape, 3.0)
    )
    _, observation = environment.reset({}, jax.random.key(0))
    _, seen = normalizer.see(given, observation)
    size = environment.mask_size
    np.testing.assert_array_equal(seen[-size:], observation[-size:])
    np.testing.assert_allclose(seen[:-size], (observation[:-size] - 0.5) * 3)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_every_memory_mode_takes_the_same_steps(space):
    runs = [train(SPACES[space], memory=memory) for memory in ("store", "remat", "recompute")]
    for name in ("loss", "grad_norm", "episode_return", "policy_entropy"):
        for other in runs[1:]:
            np.testing.assert_allclose(runs[0][name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("component", ["masked_discrete", "masked_multi_discrete"])
def test_a_run_learns_and_its_policy_acts_within_the_mask(component, tmp_path):
    finished = run(
        "experiments.train",
        "--config=configs/cartpole.py",
        f"--config.env=helpers.toy_environments:{component}",
        *("--config.num_seeds=2", "--config.num_updates=60", "--config.evaluate_every=20"),
        f"--workdir={tmp_path / 'run'}",
    )
    assert finished.code == 0, finished.err
    policy = load_policy(tmp_path / "run")
    environment = policy.environment
    states, observations = jax.vmap(environment.reset, in_axes=(None, 0))({}, jax.random.split(jax.random.key(1), 64))
    keys = jax.random.split(jax.random.key(2), 64)
    for greedy in (False, True):
        actions = policy.act(observations, jax.random.key(3), greedy=greedy)
        steps = jax.vmap(environment.step, in_axes=(None, 0, 0, 0))({}, keys, states, actions)
        assert not np.any(steps.info_metrics["forbidden"])
    most = len(NVEC) if component == "masked_multi_discrete" else 1
    assert steps.reward.mean() > 0.9 * most
