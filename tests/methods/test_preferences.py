"""Methods that learn from pairs, rankings, or single good and bad trajectories, against float64 sums written out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.methods import Group, dpo, ipo, kto, listwise, simpo

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


class TestListwise:
    """The answers of a group in the order of their rewards, as one choice after the other."""

    RETURNS = np.array([[1.0, 0.0, 1.0, -2.0], [3.0, 3.0, 3.0, 3.0], [0.0, 5.0, 9.0, 7.0]])
    RATIOS = np.array([[0.5, -1.0, 2.0, 0.3], [4.0, -4.0, 1.0, 0.0], [1.0, 0.2, -0.7, 0.4]])

    def evaluate(self, ratios, valid=None):
        settings = dataclasses.replace(listwise.METHOD.language.settings, beta=0.5)
        shape = self.RETURNS.shape
        reference = jnp.full(shape, -3.0)
        valid = None if valid is None else jnp.asarray(valid)
        group = Group(jnp.asarray(self.RETURNS), jnp.full(shape, 2), jnp.zeros(shape), valid=valid)
        of = jax.jit(jax.value_and_grad(listwise.METHOD.objective(settings, group, reference), has_aux=True))
        return jax.device_get(of(reference + jnp.asarray(ratios)))

    def test_has_the_likelihood_of_the_ranking_and_equal_rewards_are_not_compared(self):
        (loss, metrics), slopes = self.evaluate(self.RATIOS)
        powers = np.exp(0.5 * self.RATIOS)
        a, b, c, d = powers[0]
        tied = a / (a + b + d) * c / (c + b + d) * b / (b + d)
        a, b, c, d = powers[2]
        strict = c / (a + b + c + d) * d / (a + b + d) * b / (a + b)
        np.testing.assert_allclose(loss, -(np.log(tied) + np.log(strict)) / 2, rtol=1e-5)  # the second has no choice
        assert not slopes[1].any() and slopes[[0, 2]].all()
        assert metrics.keys() == set(listwise.METHOD.metrics)
        # Of the first group's five pairs that have an order the policy has four right, of the third's six one.
        np.testing.assert_allclose(metrics["accuracy"], (4 / 5 + 1 / 6) / 2, rtol=1e-6)
        np.testing.assert_allclose(metrics["num_choices"], (3 + 3) / 2, rtol=1e-6)

    @pytest.mark.slow
    def test_of_two_answers_is_dpo(self):
        two = np.broadcast_to(np.array([True, False, False, True]), (3, 4))
        (loss, metrics), slopes = self.evaluate(self.RATIOS, two)
        settings = dataclasses.replace(dpo.METHOD.language.settings, beta=0.5)
        ratios = jnp.asarray([[0.5, 0.3], [0.4, 1.0]])  # the better first
        pairs = dpo.METHOD.language.comparisons(settings, jnp.zeros((2, 2)), jnp.full((2, 2), 2))
        (expected, theirs), of_pairs = jax.value_and_grad(pairs, has_aux=True)(ratios)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(slopes[0, [0, 3]], of_pairs[0], rtol=1e-5)
        np.testing.assert_allclose(slopes[2, [3, 0]], of_pairs[1], rtol=1e-5)
        np.testing.assert_allclose(metrics["accuracy"], theirs["accuracy"])
        assert not slopes[:, 1:3].any() and metrics["num_choices"] == 1

    def test_without_any_order_nothing_is_learnt(self):
        tied, nobody = [True, False, True, False], [False] * 4
        (loss, metrics), slopes = self.evaluate(self.RATIOS, [tied, [True] * 4, nobody])
        assert loss == 0 and not slopes.any() and not any(metrics.values())
