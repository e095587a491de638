"""`kto_loss`: values, gradients, masks, extremes, pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import kto_loss

SETTINGS = {"beta": 0.4, "kl": 0.3, "desirable_weight": 1.0, "undesirable_weight": 1.4}


def responses():
    """Log-likelihoods of policy and reference, labels and a mask."""
    rng = np.random.default_rng(0)
    return [*(2 * rng.normal(size=(2, 2, 6))), rng.random((2, 6)) < 0.5], rng.random((2, 6)) < 0.7


def by_formula(policy, reference, desirable):
    """Losses and slopes of the responses, from the paper's two values."""
    reward, point = 0.4 * (policy - reference), 0.4 * 0.3
    good, bad = (1 / (1 + np.exp(-x)) for x in (reward - point, point - reward))
    losses = np.where(desirable, 1 - good, 1.4 * (1 - bad))
    return losses, np.where(desirable, -0.4 * good * (1 - good), 1.4 * 0.4 * bad * (1 - bad))


@jax.jit
def _evaluate(policy, reference, desirable, where, kl):
    def loss(policy, kl, reduce_fn=None):
        options = {"reduce_fn": reduce_fn} if reduce_fn else {}
        return kto_loss(policy, reference, desirable, where=where, **options, **SETTINGS | {"kl": kl})

    each, _ = kto_loss(policy, reference, desirable, where=where, reduce_fn=None, **SETTINGS | {"kl": kl})
    (value, metrics), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(policy, kl)
    return value, metrics, slopes, each, loss(policy, kl, jnp.sum)[0]


def evaluate(policy, reference, desirable, where=True, kl=0.3):
    """Loss, metrics, slopes in the policy and the divergence, losses of all responses, and their sum."""
    policy, reference = (np.asarray(x, np.float32) for x in (policy, reference))
    return jax.device_get(
        _evaluate(policy, reference, desirable, np.broadcast_to(where, policy.shape), np.float32(kl))
    )


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_match_the_reference_where_masked(garbage):
    (policy, reference, desirable), where = responses()
    losses, slopes = by_formula(policy, reference, desirable)
    spoilt = [np.where(where, array, garbage) for array in (policy, reference)]
    value, metrics, (gradient, of_kl), each, total = evaluate(*spoilt, desirable, where)
    np.testing.assert_allclose(value, losses[where].mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.where(where, slopes, 0) / where.sum(), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(each, np.where(where, losses, 0), rtol=1e-5)
    np.testing.assert_allclose(total, losses[where].sum(), rtol=1e-5)
    rewards = 0.4 * (policy - reference)
    np.testing.assert_allclose(metrics.desirable_reward, rewards[where & desirable].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.undesirable_reward, rewards[where & ~desirable].mean(), rtol=1e-5)
    assert (metrics.num_desirable, metrics.num_undesirable) == ((where & desirable).sum(), (where & ~desirable).sum())
    assert of_kl == 0  # a constant to the gradient


def test_a_divergence_below_zero_is_read_as_zero():
    arrays, where = responses()
    below, none, above = (evaluate(*arrays, where, kl=kl)[0] for kl in (-3.0, 0.0, 1.0))
    assert below == none != above


def test_a_response_far_from_the_point_of_reference_is_left_alone():
    policy = np.broadcast_to([-1e4, -30, 0.3, 30, 1e4, 1e30], (2, 6))
    _, _, (slopes, _), _, _ = evaluate(policy, np.zeros((2, 6)), np.ones((2, 6), bool))
    np.testing.assert_allclose(slopes[:, 2], -0.4 / 4 / 12, rtol=1e-6)
    assert (abs(slopes[:, [1, 3]]) < 1e-6).all() and not slopes[:, [0, 4, 5]].any()


def test_all_masked_gives_zero_and_half_precision_gives_float32():
    arrays, _ = responses()
    value, metrics, (slopes, _), _, _ = evaluate(*np.full((2, 2, 6), np.nan), arrays[2], False)
    assert value == 0 and not any(metrics) and not slopes.any()
    x = jnp.ones(3, jnp.bfloat16)
    loss, metrics = jax.eval_shape(lambda x: kto_loss(x, x, x > 0, **SETTINGS), x)
    assert loss.dtype == metrics.desirable_reward.dtype == jnp.float32


def test_vmap_over_responses_gives_their_losses():
    arrays, _ = responses()
    flat = [x.ravel() for x in arrays]
    got = jax.jit(jax.vmap(lambda *x: kto_loss(*x, **SETTINGS)[0]))(*flat)
    np.testing.assert_allclose(got, by_formula(*flat)[0], rtol=1e-5)
