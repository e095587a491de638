"""`vmpo_loss`: its three losses, their gradients, rlax's, who is among the best, masks, devices, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import target_temperature, vmpo_loss

SHAPE = (3, 6)


@jax.jit
def _evaluate(scores, advantages, kl, eta, multiplier, where):
    def loss(scores, kl, eta, multiplier):
        bounds = {"temperature_bound": 0.2, "kl_bound": 0.1, "kl_multiplier": multiplier}
        return vmpo_loss(scores, advantages, kl, temperature=eta, where=where, **bounds)

    return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(scores, kl, eta, multiplier)


def evaluate(scores, advantages, kl=0.0, eta=0.7, multiplier=2.0, where=True):
    """Loss and metrics, and the slopes in scores, divergences, temperatures and multiplier."""
    scores, advantages, kl = (np.broadcast_to(x, SHAPE).astype(np.float32) for x in (scores, advantages, kl))
    eta, where = np.broadcast_to(eta, SHAPE[:1]).astype(np.float32), np.broadcast_to(where, SHAPE)
    return jax.device_get(_evaluate(scores, advantages, kl, eta, np.float32(multiplier), where))


@pytest.mark.parametrize("garbage", [None, np.nan, np.inf])
def test_match_the_reference(reference, make_batch, garbage):
    clean, batch = make_batch(SHAPE), make_batch(SHAPE, garbage=garbage)
    where = np.ones(SHAPE, bool) if garbage is None else batch.where
    expected = reference.vmpo(clean.scores, clean.returns, 0.7, 0.2, 0.5, where)
    kl = np.where(where, abs(clean.reference_scores), 0 if garbage is None else garbage)
    (value, metrics), slopes = evaluate(batch.scores, batch.returns, kl, where=where)
    of_scores, of_kl, of_eta, of_multiplier = slopes
    divergences = np.where(where, kl, 0).sum(-1) / where.sum(-1)
    assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    assert_close(value, (expected.policy + expected.dual + 0.2).mean())  # 2 times the bound 0.1, as KL cancels
    assert_close(metrics.policy_loss, expected.policy)
    assert_close(metrics.temperature_loss, expected.dual)
    assert_close(metrics.kl_loss, 2 * 0.1)
    assert_close(np.exp(metrics.log_weights), expected.weights)
    assert_close(metrics.weights_kl, 0.2 - expected.slope)
    assert_close(metrics.effective_sample_size, 1 / (expected.weights**2).sum(-1))
    assert_close(of_scores, -expected.weights / 3)
    assert_close(of_eta, expected.slope / 3)
    assert_close(of_kl, np.where(where, 2 / where.sum(-1, keepdims=True), 0) / 3)
    assert_close(of_multiplier, (0.1 - divergences).mean())
    np.testing.assert_array_equal(metrics.num_selected, (expected.weights > 0).sum(-1))
    np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))


def test_agrees_with_rlax_whose_batch_is_one_group(rlax):
    rng = np.random.default_rng(0)
    scores, advantages = rng.normal(size=(2, *SHAPE[1:])).astype(np.float32)
    kl = rng.exponential(size=SHAPE[1:]).astype(np.float32)

    def theirs(scores, kl, eta, alpha):
        penalty = rlax.LagrangePenalty
        bounds = penalty(alpha=eta, epsilon=jnp.float32(0.2)), [(kl, penalty(alpha=alpha, epsilon=jnp.float32(0.1)))]
        return rlax.vmpo_loss(scores, advantages, *bounds)[0].mean()

    slopes = jax.jit(jax.grad(theirs, (0, 1, 2, 3)))(scores, kl, jnp.float32(0.7), jnp.float32(2))
    _, ours = evaluate(scores, advantages, kl)  # three times the group, whose mean is the group's
    expected = [slopes[0] / 3, slopes[1] / 3, slopes[2] / 3, slopes[3]]
    got = [ours[0][0], ours[1][0], ours[2][0], ours[3]]
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_at_the_duals_optimum_the_weights_are_worth_the_bound():
    advantages, log_eta = np.random.default_rng(0).normal(size=SHAPE), np.zeros(3)
    for _ in range(300):
        (_, metrics), slopes = evaluate(0.0, advantages, eta=np.exp(log_eta))
        log_eta -= 3 * np.exp(log_eta) * slopes[2]
    np.testing.assert_allclose(metrics.weights_kl, 0.2, rtol=1e-3)


def test_a_temperature_for_each_group_may_come_from_an_effective_sample_size():
    returns = np.array([[0.0, 1, 2, 5, 3, 4]]) * [[1], [10], [100]]
    find = jax.jit(lambda returns, best: target_temperature(returns, effective_sample_size=0.5, where=best))
    (_, metrics), _ = evaluate(0.0, returns, eta=find(returns, returns >= np.median(returns, -1, keepdims=True)))
    np.testing.assert_allclose(metrics.effective_sample_size, [1.5, 1.5, 1.5], rtol=1e-3)


@pytest.mark.parametrize(
    ("advantages", "selected"),
    [
        ([1, 2, 3, 4, 5, 6], [3, 4, 5]),
        ([1, 2, 3, 4, 5, None], [2, 3, 4]),  # half of five, rounded up
        ([4, 2, 3, 3, 5, 0], [0, 2, 3, 4]),  # a tie for the last place
        ([1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]),
        ([None, 7, None, None, None, None], [1]),
    ],
)
def test_the_best_are_half_with_all_that_tie_for_its_last_place(advantages, selected):
    where = np.array([x is not None for x in advantages])
    (_, metrics), _ = evaluate(0.0, [np.nan if x is None else x for x in advantages], where=where)
    np.testing.assert_array_equal(np.flatnonzero(metrics.log_weights[1] > -np.inf), selected)
    np.testing.assert_array_equal(metrics.num_selected, len(selected))


def test_a_share_whose_product_rounds_up_takes_no_one_more():
    advantages = jnp.arange(25.0)
    count = jax.jit(lambda x: vmpo_loss(x, x, temperature=1.0, temperature_bound=0.1, top_share=0.6)[1].num_selected)
    assert count(advantages) == 15


def test_a_constant_in_the_advantages_changes_no_slope_and_extremes_are_finite():
    scores, advantages = np.array([-1.0, -2, -3, -np.inf, -1, -1]), np.array([3.0, 1, 2, -4, 1, 0])
    before, after = (evaluate(scores, x)[1] for x in (advantages, advantages + 1024))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), after, before)
    (value, metrics), slopes = evaluate(scores, 1e6 * advantages)
    assert np.isfinite(value) and (metrics.effective_sample_size == 1).all()
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_a_group_without_a_valid_trajectory_contributes_nothing():
    x = np.random.default_rng(0).normal(size=SHAPE)
    where = np.ones(SHAPE, bool)
    where[1] = False
    (value, metrics), slopes = evaluate(*[np.where(where, x, np.nan)] * 3, where=where)
    losses = metrics.policy_loss + metrics.temperature_loss + metrics.kl_loss
    np.testing.assert_allclose(value, (losses[0] + losses[2]) / 2, rtol=1e-6)
    assert all(slope[1].sum() == 0 for slope in slopes[:3])
    assert all(term[1] == 0 for term in (*metrics[:3], metrics.num_valid, metrics.num_selected))


def test_trajectories_spread_over_an_axis_give_the_same(make_batch):
    batch = make_batch(SHAPE, garbage=np.nan)
    arrays = [x.astype(np.float32) for x in (batch.scores, batch.returns, batch.reference_scores)]

    @jax.jit
    def spread(*arrays):
        def local(scores, advantages, kl, where):
            def loss(multiplier):
                bounds = {"temperature_bound": 0.2, "kl_bound": 0.1, "kl_multiplier": multiplier}
                return vmpo_loss(scores, advantages, kl, temperature=0.7, where=where, axis_name="m", **bounds)

            return jax.value_and_grad(loss, has_aux=True)(2.0)

        return jax.vmap(local, 1, axis_name="m")(*(x.reshape(3, 3, 2) for x in arrays))

    (losses, terms), of_multiplier = spread(*arrays, batch.where)
    (value, metrics), slopes = evaluate(*arrays, where=batch.where)
    np.testing.assert_allclose(losses, np.full(3, value), rtol=1e-5)
    np.testing.assert_allclose(of_multiplier, np.full(3, slopes[3]), rtol=1e-5)
    weights = np.moveaxis(np.exp(terms.log_weights), 0, 1).reshape(SHAPE)
    np.testing.assert_allclose(weights, np.exp(metrics.log_weights), rtol=1e-4)


def test_half_precision_gives_float32_and_without_divergences_there_is_no_bound_on_them():
    x = jnp.ones((2, 3), jnp.bfloat16)
    loss, metrics = jax.eval_shape(lambda x: vmpo_loss(x, x, temperature=1.0, temperature_bound=0.1), x)
    assert {leaf.dtype for leaf in (loss, *metrics[:6])} == {jnp.dtype(jnp.float32)}
    assert metrics.kl_loss.shape == (2,)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top_share": 0.0}, "top_share must be a number above 0 and at most 1, got 0.0."),
        ({"top_share": 1.5}, "top_share must be a number above 0 and at most 1, got 1.5."),
        ({"kl_bound": 0.1}, "kl, kl_multiplier and kl_bound go together, got kl_bound alone."),
        ({"temperature": -1.0}, "temperature must be positive, got -1.0."),
        ({"temperature_bound": 0}, "temperature_bound must be positive, got 0."),
    ],
)
def test_what_is_out_of_range_or_missing_is_named(options, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        vmpo_loss(jnp.zeros(3), jnp.zeros(3), **{"temperature": 0.7, "temperature_bound": 0.2} | options)
    assert str(error.value) == sentence


def test_a_group_of_equal_advantages_has_the_slope_of_the_limit_in_a_temperature_of_0():
    advantages = jnp.array([[2.0, 2.0, 2.0], [0.0, 1.0, 3.0]])

    def loss(temperature):
        options = {"temperature_bound": 0.25, "top_share": 1.0, "reduce_fn": jnp.sum}
        return vmpo_loss(jnp.zeros((2, 3)), advantages, temperature=temperature, **options)[0]

    found = jax.jit(jax.value_and_grad(loss))
    (value, slopes), (near, around) = (jax.device_get(found(jnp.array([low, 0.0]))) for low in (0.0, 1e-3))
    np.testing.assert_allclose(slopes, [0.25, 0.25 - np.log(3)], rtol=1e-6)  # the bound less the weights' divergence
    np.testing.assert_allclose(around, slopes, rtol=1e-6)
    np.testing.assert_allclose(value, 5.0, rtol=1e-6)
    np.testing.assert_allclose(near, 5.0 + 0.25e-3, rtol=1e-6)
