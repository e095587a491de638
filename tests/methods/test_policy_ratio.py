"""Losses in the policy ratio as methods: their numbers are the presets', their advantages their own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.config import from_config_dict
from haepo_jax.errors import ConfigError
from haepo_jax.losses import presets
from haepo_jax.methods import LANGUAGE_METHODS, StepGroup, policy_ratio

PRESETS = ("dr_grpo", "dapo", "gspo", "gmpo", "cispo", "sapo", "vespo")
FAMILY = (*PRESETS, "reinforce_plus_plus", "maxrl")
VALID = np.array([[[1, 1, 1], [1, 1, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 1], [0, 0, 0]]], bool)
RETURNS = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def arrays(seed=0):
    """Log-probabilities of policy, behaviour and reference, `[2, 3, 3]`."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(-rng.uniform(0.1, 2.0, VALID.shape), jnp.float32) for _ in range(3))


@pytest.mark.parametrize("name", PRESETS)
def test_the_numbers_of_a_method_are_those_of_its_preset(name):
    method, preset = LANGUAGE_METHODS[name], getattr(presets, name)
    for settings in (method.settings, method.language.settings):
        given = policy_ratio._KINDS[preset.keywords.get("shape", "clip")].to_arguments(settings)
        given |= {"aggregation": settings.aggregation}
        assert given == {argument: preset.keywords[argument] for argument in given}
        assert given.keys() | {"level", "shape"} >= preset.keywords.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "dapo" else pytest.mark.slow) for name in PRESETS]
)
def test_the_loss_is_that_of_the_preset_with_the_settings_numbers(name):
    log_probs, behaviour, reference = arrays()
    method = LANGUAGE_METHODS[name]
    settings = dataclasses.replace(method.language.settings, kl_coef=0.3)
    group = StepGroup(jnp.asarray(RETURNS), jnp.asarray(VALID), behaviour)
    loss, metrics = jax.jit(method.objective(settings, group, reference))(log_probs)
    centred = RETURNS - RETURNS.mean(-1, keepdims=True)
    scale = 1 if name == "dr_grpo" else np.where(RETURNS.std(-1, keepdims=True) > 0, RETURNS.std(-1, keepdims=True), 1)
    where = VALID & np.array([[[True]], [[name != "dapo"]]])  # DAPO leaves out the second group, of equal returns
    arguments = behaviour, jnp.asarray(centred / scale), reference
    loss_of = functools.partial(getattr(presets, name), kl_coef=0.3, where=jnp.asarray(where))
    expected, terms = jax.jit(loss_of)(log_probs, *arguments)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics.keys() == set(method.metrics)
    np.testing.assert_allclose(metrics["clip_fraction"], terms.clip_fraction.mean(), rtol=1e-6)
    assert metrics["varied_groups"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        ("zscore", [1.0, -1.0, 1.0, -1.0]),
        ("centred", [1.5, -1.5, 0.5, -0.5]),
        ("leave_one_out", [3.0, -3.0, 1.0, -1.0]),
        ("whitened", np.array([2.0, -1.0, 0.0, -1.0]) / np.sqrt(1.5)),
        ("whitened_centred", np.array([1.5, -1.5, 0.5, -0.5]) / np.sqrt(1.25)),
        ("relative", [1.0, -1.0, 1.0, -1.0]),
    ],
)
def test_each_advantage_is_the_one_that_it_is_called(advantage, expected):
    """On fresh samples the slope by a trajectory's only step is minus its advantage, over the trajectories."""
    returns = jnp.array([[3.0, 0.0], [1.0, 0.0]])
    behaviour = jnp.full((2, 2, 1), -1.0)
    settings = dataclasses.replace(policy_ratio.DAPO.language.settings, advantage=advantage)
    group = StepGroup(returns, jnp.ones((2, 2, 1), bool), behaviour)
    objective = policy_ratio.DAPO.objective(settings, group, None)
    slopes = jax.jit(jax.grad(lambda log_probs: objective(log_probs)[0]))(behaviour)
    np.testing.assert_allclose(slopes.ravel(), -np.ravel(expected) / 4, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_importance_weights_multiply_the_slopes_of_their_steps():
    log_probs, _, _ = arrays()
    weights = jnp.asarray(np.random.default_rng(1).uniform(0, 2, VALID.shape), jnp.float32)

    def slopes(weights):
        group = StepGroup(jnp.asarray(RETURNS), jnp.asarray(VALID), log_probs, importance_weights=weights)
        objective = policy_ratio.GSPO.objective(policy_ratio.GSPO.language.settings, group, None)
        return jax.jit(jax.grad(lambda log_probs: objective(log_probs)[0]))(log_probs)

    at_token_level = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8)
    by_sequence = jnp.broadcast_to(weights[..., :1], VALID.shape)  # GSPO's steps share a trajectory's ratio
    at_token_level(slopes(by_sequence), by_sequence * slopes(None))
    assert np.any(slopes(weights) != slopes(None))


class TestOnEnvironments:
    NAME = "haepo_jax.methods.policy_ratio:GSPO"

    def test_a_preset_is_a_method_from_outside_there(self):
        config = from_config_dict({"algorithm": self.NAME, "algorithm_params": {"clip_high": 0.1}})
        assert config.algorithm_params["clip_high"] == 0.1
        assert config.algorithm_params["clip_low"] == pytest.approx(3e-4)
        assert config.algorithm_kwargs["reference"] == "none"

    def test_a_divergence_without_a_reference_is_refused(self):
        with pytest.raises(ConfigError, match=r"^config.algorithm_params.kl_coef 0.1 needs a reference policy"):
            from_config_dict({"algorithm": self.NAME, "algorithm_params": {"kl_coef": 0.1}})
