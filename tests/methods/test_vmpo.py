"""V-MPO's temperature, and GVPO's residual, as methods report and move them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.methods import Group, SeenBatch, gvpo, vmpo

RETURNS = jnp.array([[0.0, 1.0, 2.0, 3.0]])


def group():
    return Group(RETURNS, jnp.full((1, 4), 2), jnp.zeros((1, 4)))


@pytest.mark.slow
def test_only_the_best_are_raised_by_weights_of_their_returns():
    settings = dataclasses.replace(vmpo.METHOD.language.settings, normalization="none", temperature=2.0)
    _, metrics = vmpo.METHOD.objective(settings, group(), None)(jnp.full((1, 4), -1.0))
    weights = np.exp(np.array([2.0, 3.0]) / 2.0)
    weights /= weights.sum()
    np.testing.assert_allclose(metrics["effective_sample_size"], 1 / np.sum(weights**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["weights_kl"], np.sum(weights * np.log(2 * weights)), rtol=1e-4)
    assert metrics["target_temperature"] == 2.0


@pytest.mark.parametrize(("divergence", "moves"), [(0.75, 0.05), (5.0, 0.1), (0.25, -0.05), (0.5, 0.0)])
def test_the_temperature_rises_while_the_weights_are_worth_more_than_the_bound(divergence, moves):
    settings = dataclasses.replace(vmpo.METHOD.language.settings, temperature=3.0)
    adaptation = vmpo.METHOD.adaptation(settings)
    batch = SeenBatch(group(), None, None)
    state = adaptation.init(settings, {})
    begun, state = adaptation.begin(settings, state, batch)
    np.testing.assert_allclose(begun.temperature, 3.0, rtol=1e-6)
    after = adaptation.end(begun, state, batch, {"weights_kl": jnp.float32(divergence)})
    np.testing.assert_allclose(after - state, moves, atol=1e-6)
    np.testing.assert_allclose(adaptation.begin(settings, after, batch)[0].temperature, 3 * np.exp(moves), rtol=1e-5)


def test_the_residual_is_what_implicit_rewards_and_returns_differ_by():
    settings = dataclasses.replace(gvpo.METHOD.language.settings, beta=0.5)
    ratios = np.array([[1.0, -1.0, 2.0, 0.0]])
    _, metrics = jax.jit(gvpo.METHOD.objective(settings, group(), jnp.zeros((1, 4))))(jnp.asarray(ratios))
    returns = np.asarray(RETURNS)
    difference = 0.5 * (ratios - ratios.mean()) - (returns - returns.mean())
    np.testing.assert_allclose(metrics["residual"], np.sqrt(np.mean(difference**2)), rtol=1e-5)
