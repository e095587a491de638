"""`vmpo_loss`: its three losses, their gradients, who is among the best, masks, devices, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import target_temperature, vmpo_loss

SETTINGS = {"temperature": 0.7, "temperature_bound": 0.2}
loss_of = partial(vmpo_loss, **SETTINGS)


@pytest.mark.parametrize("garbage", [None, np.nan, np.inf])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_match_the_reference(reference, make_batch, x64, garbage, share):
    clean, batch = make_batch((2, 3, 6)), make_batch((2, 3, 6), garbage=garbage)
    where = np.ones((2, 3, 6), bool) if garbage is None else batch.where
    expected = reference.vmpo(clean.scores, clean.returns, 0.7, 0.2, share, where)

    def loss(scores, eta):
        options = {"temperature": eta, "temperature_bound": 0.2, "top_share": share, "where": where}
        return vmpo_loss(scores, batch.returns, **options)

    (value, metrics), (slopes, slope) = jax.value_and_grad(loss, (0, 1), has_aux=True)(jnp.asarray(batch.scores), 0.7)
    np.testing.assert_allclose(value, (expected.policy + expected.dual).mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.policy_loss, expected.policy, rtol=1e-12)
    np.testing.assert_allclose(metrics.temperature_loss, expected.dual, rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(metrics.log_weights), expected.weights, rtol=1e-12)
    np.testing.assert_allclose(slopes, -expected.weights / 6, rtol=1e-12)
    np.testing.assert_allclose(slope, expected.slope.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics.weights_kl, 0.2 - expected.slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(metrics.num_selected, (expected.weights > 0).sum(-1))
    np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))


def test_at_the_duals_optimum_the_weights_are_worth_the_bound():
    advantages = jnp.array([0.0, 1.0, 2.0, 5.0, -1.0, 0.5])
    log_eta = jnp.zeros(())
    loss = lambda x: vmpo_loss(jnp.zeros(6), advantages, temperature=jnp.exp(x), temperature_bound=0.2)  # noqa: E731
    step = jax.jit(jax.grad(lambda x: loss(x)[0]))
    for _ in range(200):
        log_eta -= 0.5 * step(log_eta)
    np.testing.assert_allclose(loss(log_eta)[1].weights_kl, 0.2, rtol=1e-3)


def test_a_temperature_for_each_group_may_come_from_an_effective_sample_size():
    returns = jnp.array([[0.0, 1, 2, 5], [0, 10, 20, 50]])
    temperature = target_temperature(returns, effective_sample_size=0.5)
    _, metrics = vmpo_loss(returns, returns, temperature=temperature, temperature_bound=0.2, top_share=1.0)
    np.testing.assert_allclose(metrics.effective_sample_size, [2, 2], rtol=1e-3)


def test_the_bound_on_the_policys_move_pulls_the_policy_and_its_multiplier_apart():
    scores, kl, where = jnp.zeros(4), jnp.array([0.3, 0.5, 9.0, 0.1]), jnp.array([True, True, False, True])

    def loss(kl, multiplier):
        bounds = {"kl_multiplier": multiplier, "kl_bound": 0.1}
        return loss_of(scores, scores, kl, **bounds, where=where)

    (value, metrics), (of_kl, of_multiplier) = jax.value_and_grad(loss, (0, 1), has_aux=True)(kl, 2.0)
    np.testing.assert_allclose(of_kl, [2 / 3, 2 / 3, 0, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(of_multiplier, 0.1 - 0.3, rtol=1e-5)
    np.testing.assert_allclose(metrics.kl_loss, 2 * 0.1, rtol=1e-5)  # multiplier times the bound, as KL cancels
    np.testing.assert_allclose(value, metrics.policy_loss + metrics.temperature_loss + metrics.kl_loss, rtol=1e-6)


@pytest.mark.parametrize(
    ("advantages", "share", "selected"),
    [
        ([1, 2, 3, 4, 5], 0.5, [2, 3, 4]),  # rounded up
        ([4, 2, 3, 3, 5], 0.5, [0, 2, 3, 4]),  # a tie for the last place
        ([1, 1, 1, 1], 0.25, [0, 1, 2, 3]),
        (list(range(20)), 0.55, list(range(9, 20))),
    ],
)
def test_the_best_are_a_share_with_all_that_tie_for_its_last_place(advantages, share, selected):
    advantages = jnp.array(advantages, jnp.float32)
    _, metrics = loss_of(jnp.zeros(advantages.shape), advantages, top_share=share)
    np.testing.assert_array_equal(np.flatnonzero(metrics.log_weights > -np.inf), selected)
    assert metrics.num_selected == len(selected)


def test_a_constant_in_the_advantages_changes_no_gradient_and_extremes_are_finite():
    scores, advantages = jnp.array([-1.0, -2, -3, -jnp.inf]), jnp.array([3.0, 1, 2, -4])
    slopes = [jax.grad(lambda x, a=a: loss_of(x, a)[0])(scores) for a in (advantages, advantages + 1024)]
    np.testing.assert_allclose(*slopes, rtol=1e-5)
    loss, metrics = loss_of(scores, 1e6 * advantages)
    assert np.isfinite(loss) and metrics.effective_sample_size == 1


def test_a_group_without_a_valid_trajectory_contributes_nothing():
    x = jnp.array([[1.0, 2.0], [jnp.nan, jnp.nan]])
    where = jnp.array([[True, True], [False, False]])
    bounds = {"kl_multiplier": 1.0, "kl_bound": 0.1}
    (loss, metrics), slopes = jax.value_and_grad(lambda x: loss_of(x, x, x, where=where, **bounds), has_aux=True)(x)
    assert loss == loss_of(x[0], x[0], x[0], **bounds)[0]
    assert not slopes[1].any() and metrics.num_valid[1] == metrics.num_selected[1] == 0
    assert all(value[1] == 0 for value in metrics[:3])


def test_trajectories_spread_over_an_axis_give_the_same(make_batch):
    batch = make_batch((3, 8), garbage=np.nan)
    arrays = batch.scores.astype(np.float32), batch.returns.astype(np.float32)
    bounds = {"kl_multiplier": 2.0, "kl_bound": 0.1}
    losses, metrics = loss_of(*arrays, arrays[0], where=batch.where, reduce_fn=None, **bounds)

    @jax.jit
    def spread(*arrays):
        def local(scores, advantages, where):
            options = {"where": where, "reduce_fn": None, "axis_name": "m"}
            return loss_of(scores, advantages, scores, **bounds, **options)

        return jax.vmap(local, 1, axis_name="m")(*(x.reshape(3, 4, 2) for x in arrays))

    got, terms = spread(*arrays, batch.where)
    np.testing.assert_allclose(got, np.broadcast_to(losses, (4, 3)), rtol=1e-5)
    weights = np.moveaxis(np.exp(terms.log_weights), 0, 1).reshape(3, 8)
    np.testing.assert_allclose(weights, np.exp(metrics.log_weights), rtol=1e-4)


def test_half_precision_gives_float32():
    x = jnp.ones((2, 3), jnp.bfloat16)
    loss, metrics = loss_of(x, x)
    assert {leaf.dtype for leaf in (loss, *metrics[:6])} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top_share": 0.0}, "top_share must be a number above 0 and at most 1, got 0.0."),
        ({"top_share": 1.5}, "top_share must be a number above 0 and at most 1, got 1.5."),
        ({"kl_bound": 0.1}, "kl, kl_multiplier and kl_bound go together; kl and kl_multiplier is missing."),
        ({"temperature": -1.0}, "temperature must be positive, got -1.0."),
        ({"temperature_bound": 0}, "temperature_bound must be positive, got 0."),
    ],
)
def test_what_is_out_of_range_or_missing_is_named(options, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        vmpo_loss(jnp.zeros(3), jnp.zeros(3), **SETTINGS | options)
    assert str(error.value) == sentence
