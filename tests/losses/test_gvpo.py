"""`gvpo_loss`: values, gradients, masks, devices, where it is 0."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import gvpo_loss, leave_one_out_advantages

loss_of = partial(gvpo_loss, beta=0.4)


def evaluate(policy, *rest, **options):
    return jax.value_and_grad(lambda x: loss_of(x, *rest, **options), has_aux=True)(jnp.asarray(policy))


@pytest.mark.parametrize("garbage", [None, np.nan, -np.inf])
def test_match_the_reference(reference, make_batch, x64, garbage):
    clean, batch = make_batch((2, 3, 6)), make_batch((2, 3, 6), garbage=garbage)
    where = np.ones((2, 3, 6), bool) if garbage is None else batch.where
    losses, slopes = reference.gvpo(clean.scores - clean.reference_scores, clean.returns, 0.4, where)
    (loss, metrics), gradient = evaluate(batch.scores, batch.reference_scores, batch.returns, where=where)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.policy_loss, losses, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes / 6, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))


def test_is_zero_where_the_policy_is_the_reference_times_the_powers_of_the_returns(make_batch):
    batch = make_batch((6,))
    (loss, metrics), gradient = evaluate(batch.reference_scores + batch.returns / 0.4 + 7, *batch[2:0:-1])
    assert loss < 1e-10 and abs(gradient).max() < 1e-5 and abs(metrics.residuals).max() < 1e-5


def test_at_the_reference_is_reinforce_with_the_others_mean_as_its_baseline(make_batch):
    batch = make_batch((6,))
    _, gradient = evaluate(batch.scores, batch.scores, batch.returns)
    np.testing.assert_allclose(gradient, -0.4 / 6 * leave_one_out_advantages(batch.returns), rtol=1e-4, atol=1e-6)


def test_a_constant_in_returns_or_likelihoods_changes_nothing():
    rng = np.random.default_rng(0)
    policy, reference, returns = rng.integers(-9, 9, size=(3, 6)).astype(np.float32)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        evaluate(policy + 64, reference, returns - 32),
        evaluate(policy, reference, returns),
    )


def test_a_lone_trajectory_equal_ones_and_none_give_exactly_zero():
    where = jnp.array([[True, False], [True, True], [False, False]])
    x = jnp.full((3, 2), 0.1)
    result = evaluate(jnp.where(where, x, jnp.nan), x * 3, x, where=where)
    (loss, metrics), gradient = result
    assert loss == 0 and not gradient.any() and not metrics.residuals.any()
    np.testing.assert_array_equal(metrics.num_valid, [1, 2, 0])


def test_trajectories_spread_over_an_axis_and_groups_apart_give_the_same(make_batch):
    batch = make_batch((3, 8), garbage=np.nan)
    arrays = [x.astype(np.float32) for x in (batch.scores, batch.reference_scores, batch.returns)]
    each, metrics = loss_of(*arrays, where=batch.where, reduce_fn=None)
    np.testing.assert_allclose(loss_of(*arrays, where=batch.where)[0], each.mean(), rtol=1e-6)

    @jax.jit
    def spread(*arrays):
        local = lambda *x: loss_of(*x[:-1], where=x[-1], reduce_fn=None, axis_name="m")  # noqa: E731
        return jax.vmap(local, 1, axis_name="m")(*(x.reshape(3, 4, 2) for x in arrays))

    losses, terms = spread(*arrays, batch.where)
    np.testing.assert_allclose(losses, np.broadcast_to(each, (4, 3)), rtol=1e-5)
    residuals = np.moveaxis(np.asarray(terms.residuals), 0, 1).reshape(3, 8)
    np.testing.assert_allclose(residuals, metrics.residuals, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_float32():
    x = jnp.ones((2, 3), jnp.bfloat16)
    loss, metrics = loss_of(x, x, x)
    assert loss.dtype == metrics.residuals.dtype == jnp.float32 and metrics.num_valid.dtype == jnp.int32
