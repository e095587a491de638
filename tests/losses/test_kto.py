"""`kto_loss`: values, gradients, masks, extremes, pieces."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import kto_loss

SETTINGS = {"beta": 0.4, "kl": 0.3, "desirable_weight": 1.0, "undesirable_weight": 1.4}
loss_of = partial(kto_loss, **SETTINGS)


def responses(shape=(2, 6)):
    """Log-likelihoods of policy and reference, labels and a mask."""
    rng = np.random.default_rng(0)
    return [*(2 * rng.normal(size=(2, *shape))), rng.random(shape) < 0.5], rng.random(shape) < 0.7


def by_formula(policy, reference, desirable):
    """Losses and slopes of the responses, from the paper's two values."""
    reward, point = 0.4 * (policy - reference), 0.4 * 0.3
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    good, bad = sigmoid(reward - point), sigmoid(point - reward)
    losses = np.where(desirable, 1 - good, 1.4 * (1 - bad))
    return losses, np.where(desirable, -0.4 * good * (1 - good), 1.4 * 0.4 * bad * (1 - bad))


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_match_the_reference_where_masked(x64, garbage):
    (policy, reference, desirable), where = responses()
    losses, slopes = by_formula(policy, reference, desirable)
    spoilt = [jnp.where(where, array, garbage) for array in (policy, reference)]
    loss = lambda x: loss_of(x, spoilt[1], desirable, where=where)  # noqa: E731
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(spoilt[0])
    np.testing.assert_allclose(value, losses[where].mean(), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.where(where, slopes, 0) / where.sum(), rtol=1e-12)
    rewards = 0.4 * (policy - reference)
    np.testing.assert_allclose(metrics.desirable_reward, rewards[where & desirable].mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.undesirable_reward, rewards[where & ~desirable].mean(), rtol=1e-12)
    assert (metrics.num_desirable, metrics.num_undesirable) == ((where & desirable).sum(), (where & ~desirable).sum())


def test_a_divergence_below_zero_is_read_as_zero_and_is_a_constant():
    (policy, reference, desirable), _ = responses((6,))
    below, none = (kto_loss(policy, reference, desirable, beta=0.4, kl=kl)[0] for kl in (-3.0, 0.0))
    assert below == none
    assert jax.grad(lambda kl: kto_loss(policy, reference, desirable, beta=0.4, kl=kl)[0])(0.5) == 0


def test_a_response_far_from_the_point_of_reference_is_left_alone():
    slopes = jax.grad(lambda x: loss_of(x, jnp.zeros(5), jnp.ones(5, bool))[0])(jnp.array([-1e4, -20, 0.3, 20, 1e4]))
    assert slopes[2] == -0.4 / 4 / 5 and (abs(slopes[np.array([1, 3])]) < -slopes[2] / 100).all()
    assert slopes[0] == slopes[4] == 0


def test_pieces_summed_add_up():
    arrays, where = responses()
    total = loss_of(*arrays, where=where, reduce_fn=jnp.sum)[0]
    pieces = [loss_of(*(x[i] for x in arrays), where=where[i], reduce_fn=jnp.sum)[0] for i in range(2)]
    np.testing.assert_allclose(sum(pieces), total, rtol=1e-6)
    np.testing.assert_allclose(loss_of(*arrays, where=where)[0], total / where.sum(), rtol=1e-6)
    assert loss_of(*arrays, where=where, reduce_fn=None)[0].shape == where.shape


def test_all_masked_gives_zero_and_half_precision_gives_float32():
    x = jnp.full(3, jnp.nan, jnp.bfloat16)
    loss, metrics = loss_of(x, x, jnp.ones(3, bool), where=jnp.zeros(3, bool))
    assert loss == 0 and loss.dtype == jnp.float32 and not any(metrics)


def test_jit_and_vmap_over_responses_give_the_same():
    arrays, _ = responses((6,))
    got = jax.jit(jax.vmap(lambda *x: loss_of(*x)[0]))(*arrays)
    np.testing.assert_allclose(got, by_formula(*arrays)[0], rtol=1e-5)
