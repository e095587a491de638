"""`gvpo_loss`: values, gradients, masks, devices, where it is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import gvpo_loss

SHAPE = (6, 6)


@jax.jit
def _evaluate(policy, reference, returns, where):
    loss = lambda x: gvpo_loss(x, reference, returns, beta=0.4, where=where)  # noqa: E731
    (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(policy)
    return value, metrics, slopes, gvpo_loss(policy, reference, returns, beta=0.4, where=where, reduce_fn=None)[0]


def evaluate(policy, reference, returns, where=True):
    """Loss, metrics, slopes, and losses of the groups."""
    arrays = (np.broadcast_to(x, SHAPE).astype(np.float32) for x in (policy, reference, returns))
    return jax.device_get(_evaluate(*arrays, np.broadcast_to(where, SHAPE)))


@pytest.mark.parametrize("garbage", [None, np.nan, -np.inf])
def test_match_the_reference(reference, make_batch, garbage):
    clean, batch = make_batch(SHAPE), make_batch(SHAPE, garbage=garbage)
    where = np.ones(SHAPE, bool) if garbage is None else batch.where
    losses, slopes = reference.gvpo(clean.scores - clean.reference_scores, clean.returns, 0.4, where)
    value, metrics, gradient, each = evaluate(batch.scores, batch.reference_scores, batch.returns, where)
    np.testing.assert_allclose(value, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.policy_loss, losses, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(metrics.policy_loss, each)
    np.testing.assert_allclose(gradient, slopes / 6, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))


def test_is_zero_where_the_policy_is_the_reference_times_the_powers_of_the_returns(make_batch):
    batch = make_batch(SHAPE)
    policy = batch.reference_scores + batch.returns / 0.4 + 7
    value, metrics, gradient, _ = evaluate(policy, batch.reference_scores, batch.returns)
    assert value < 1e-10 and abs(gradient).max() < 1e-5 and abs(metrics.residuals).max() < 1e-5


def test_at_the_reference_is_reinforce_with_the_others_mean_as_its_baseline(make_batch, reference):
    batch = make_batch(SHAPE)
    _, _, gradient, _ = evaluate(batch.scores, batch.scores, batch.returns)
    baseline = reference.leave_one_out(batch.returns, np.ones(SHAPE, bool))
    np.testing.assert_allclose(gradient, -0.4 / 6 * baseline / 6, rtol=1e-4, atol=1e-6)


def test_a_constant_in_returns_or_likelihoods_changes_nothing():
    policy, reference, returns = np.random.default_rng(0).integers(-9, 9, size=(3, *SHAPE))
    before, after = evaluate(policy, reference, returns), evaluate(policy + 64, reference, returns - 32)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4)
    np.testing.assert_allclose(after[2], before[2], rtol=1e-4, atol=1e-5)


def test_a_lone_trajectory_equal_ones_and_none_give_exactly_zero():
    where = np.ones(SHAPE, bool)
    where[0], where[1, 1:] = False, False
    value, metrics, gradient, _ = evaluate(np.where(where, 0.1, np.nan), 0.3, 0.1, where)
    assert value == 0 and not gradient.any() and not metrics.residuals.any()
    np.testing.assert_array_equal(metrics.num_valid[:3], [0, 1, 6])


def test_trajectories_spread_over_an_axis_give_the_same(make_batch):
    batch = make_batch(SHAPE, garbage=np.nan)
    arrays = [x.astype(np.float32) for x in (batch.scores, batch.reference_scores, batch.returns)]

    @jax.jit
    def spread(*arrays):
        def local(*x):
            return gvpo_loss(*x[:-1], beta=0.4, where=x[-1], axis_name="m", reduce_fn=None)

        return jax.vmap(local, 1, axis_name="m")(*(x.reshape(6, 3, 2) for x in arrays))

    losses, terms = spread(*arrays, batch.where)
    _, metrics, _, each = evaluate(*arrays, batch.where)
    np.testing.assert_allclose(losses, np.broadcast_to(each, (3, 6)), rtol=1e-5)
    residuals = np.moveaxis(np.asarray(terms.residuals), 0, 1).reshape(SHAPE)
    np.testing.assert_allclose(residuals, metrics.residuals, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_float32():
    loss, metrics = jax.eval_shape(lambda x: gvpo_loss(x, x, x, beta=0.4), jnp.ones((2, 3), jnp.bfloat16))
    assert loss.dtype == metrics.residuals.dtype == jnp.float32 and metrics.num_valid.dtype == jnp.int32
