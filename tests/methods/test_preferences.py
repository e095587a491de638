"""Methods that learn from pairs, or from single good and bad trajectories, against sums written out in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.methods import Group, ipo, kto, simpo

LIKELIHOODS = np.array([[-3.0, -5.0], [-4.0, -2.0]])
REFERENCE = np.array([[-4.0, -4.0], [-3.0, -3.0]])
LENGTHS = np.array([[2, 4], [1, 2]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name):
    means, of_reference = LIKELIHOODS / LENGTHS, REFERENCE / LENGTHS
    if name == "ipo":
        margins = (means - of_reference) @ [1, -1]
        return np.mean((margins - 1 / (2 * 0.5)) ** 2)
    if name == "ipo_sum":
        return np.mean(((LIKELIHOODS - REFERENCE) @ [1, -1] - 1 / (2 * 0.5)) ** 2)
    if name == "simpo":
        return np.mean(-np.log(sigmoid(2.0 * (means @ [1, -1]) - 1.0)))
    ratios = LIKELIHOODS - REFERENCE
    point = 0.0 if name == "kto_reference" else max(ratios.mean(), 0)
    good, bad = sigmoid(0.5 * (ratios[:, 0] - point)), sigmoid(0.5 * (point - ratios[:, 1]))
    return np.mean([*(2.0 * (1 - good)), *(1 - bad)])


CASES = {
    "ipo": (ipo.METHOD, {"beta": 0.5}),
    "ipo_sum": (ipo.METHOD, {"beta": 0.5, "likelihood": "sum"}),
    "simpo": (simpo.METHOD, {}),
    "kto": (kto.METHOD, {"beta": 0.5, "desirable_weight": 2.0}),
    "kto_reference": (kto.METHOD, {"beta": 0.5, "desirable_weight": 2.0, "compared_with": "reference"}),
}


SOME = [pytest.param(name, marks=() if name in ("ipo", "kto") else pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", SOME)
def test_given_comparisons_have_the_loss_that_is_written_out(name):
    method, changes = CASES[name]
    settings = dataclasses.replace(method.language.settings, **changes)
    objective = method.language.comparisons(settings, jnp.asarray(REFERENCE), jnp.asarray(LENGTHS))
    loss, metrics = jax.jit(objective)(jnp.asarray(LIKELIHOODS))
    np.testing.assert_allclose(loss, by_hand(name), rtol=1e-5)
    assert metrics.keys() == set(method.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_group_of_two_unequal_returns_is_such_a_comparison(name):
    method, changes = CASES[name]
    on_language = dataclasses.replace(method.language.settings, **changes)
    on_environments = dataclasses.replace(method.settings, **changes)
    group = Group(jnp.array([[0.0, 7.0], [1.0, 2.0]]), jnp.asarray(LENGTHS)[:, ::-1], jnp.zeros((2, 2)))
    turned = jnp.asarray(LIKELIHOODS)[:, ::-1]
    online = method.objective(on_environments, group, jnp.asarray(REFERENCE)[:, ::-1])
    given = method.language.comparisons(on_language, jnp.asarray(REFERENCE), jnp.asarray(LENGTHS))
    slopes, expected = (
        jax.grad(lambda x, of=of: of(x)[0])(x) for of, x in ((online, turned), (given, turned[:, ::-1]))
    )
    np.testing.assert_allclose(slopes[:, ::-1], expected, rtol=1e-5, atol=1e-7)


def test_trajectories_of_equal_return_are_neither_good_nor_bad():
    group = Group(jnp.array([[1.0, 1.0], [0.0, 2.0]]), jnp.asarray(LENGTHS), jnp.zeros((2, 2)))
    objective = kto.METHOD.objective(kto.METHOD.settings, group, jnp.asarray(REFERENCE))
    slopes, metrics = jax.jit(jax.grad(objective, has_aux=True))(jnp.asarray(LIKELIHOODS))
    assert not slopes[0].any() and slopes[1].all()
    assert (metrics["num_desirable"], metrics["num_undesirable"]) == (1, 1)
