"""`listwise_preference_loss`: values, gradients, ties, partial rankings, masks, and DPO as the case of two."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import dpo_loss, listwise_preference_loss

SHAPE = (24, 5)


@jax.jit
def _evaluate(policy, reference, returns, where):
    def loss(x):
        return listwise_preference_loss(x, reference, returns, beta=0.4, where=where)

    (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(policy)
    each, _ = listwise_preference_loss(policy, reference, returns, beta=0.4, where=where, reduce_fn=None)
    return value, metrics, slopes, each


def evaluate(policy, reference, returns, where=True):
    """Loss, metrics, slopes and losses of the groups; of fewer groups or responses, the rest is masked."""
    policy, reference, returns = (np.asarray(x, np.float32) for x in (policy, reference, returns))
    groups, number = policy.shape
    room = [(0, SHAPE[0] - groups), (0, SHAPE[1] - number)]
    padded = [np.pad(x, room, constant_values=np.nan) for x in (policy, reference, returns)]
    padded.append(np.pad(np.broadcast_to(where, policy.shape), room))
    value, metrics, slopes, each = jax.device_get(_evaluate(*padded))
    assert not slopes[groups:].any() and not slopes[:, number:].any()
    return value, jax.tree.map(lambda x: x[:groups], metrics), slopes[:groups, :number], each[:groups]


def ranked(ties=False):
    """Log-likelihoods of policy and reference, returns and a mask."""
    rng = np.random.default_rng(0)
    returns = rng.integers(0, 3, size=SHAPE) if ties else rng.normal(size=SHAPE)
    return [*(2 * rng.normal(size=(2, *SHAPE))), returns.astype(float)], rng.random(SHAPE) < 0.7


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_match_the_reference_where_masked(reference, ties, garbage):
    (policy, of_reference, returns), where = ranked(ties)
    losses, slopes = reference.ranking(policy - of_reference, returns, 0.4, where)
    spoilt = [np.where(where, array, garbage) for array in (policy, of_reference, returns)]
    value, metrics, gradient, each = evaluate(*spoilt, where)
    higher = returns[..., :, None] > returns[..., None, :]
    pairs = higher & where[..., :, None] & where[..., None, :]
    counted = pairs.any((-2, -1))
    assert 0 < (~counted).sum() < 12  # a group without a choice does not count in the mean
    np.testing.assert_allclose(value, losses.sum() / counted.sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes / counted.sum(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(each, losses, rtol=1e-5, atol=1e-6)
    ratios = policy - of_reference
    right = (ratios[..., :, None] > ratios[..., None, :]) & pairs
    np.testing.assert_allclose(metrics.accuracy, right.sum((-2, -1)) / np.maximum(pairs.sum((-2, -1)), 1), rtol=1e-5)
    np.testing.assert_array_equal(metrics.num_choices, pairs.any(-1).sum(-1))
    np.testing.assert_allclose(metrics.rewards, np.where(where, 0.4 * ratios, 0), rtol=1e-5, atol=1e-6)


def test_of_two_is_dpo_to_the_bit():
    (policy, of_reference, returns), _ = ranked()
    policy, of_reference, returns = (x[:, :2].astype(np.float32) for x in (policy, of_reference, returns))
    better = (np.arange(24)[:, None], np.argsort(-returns, axis=-1))
    (chosen, rejected), (of_chosen, of_rejected) = policy[better].T, of_reference[better].T
    dpo = jax.value_and_grad(lambda *x: dpo_loss(*x, beta=0.4)[0], argnums=(0, 1))
    expected, slopes = jax.jit(dpo)(chosen, rejected, of_chosen, of_rejected)
    value, _, gradient, _ = evaluate(policy, of_reference, returns)
    assert value == expected
    np.testing.assert_array_equal(gradient[better], np.stack(slopes, -1))


def test_the_likelihoods_of_all_rankings_add_up_to_one():
    orders = np.array(list(permutations(range(4))))
    _, _, _, each = evaluate(np.broadcast_to([0.3, -1.0, 2.0, 0.0], (24, 4)), np.zeros((24, 4)), orders)
    np.testing.assert_allclose(np.exp(-each).sum(), 1, rtol=1e-5)


def test_the_first_n_ranked_have_the_likelihood_of_the_first_n_choices():
    scores = np.array([[1.0, 0.5, -0.5, 0.2]])
    value, metrics, _, _ = evaluate(scores, np.zeros((1, 4)), [[3.0, 2, 0, 0]])
    powers = np.exp(0.4 * scores[0])
    np.testing.assert_allclose(np.exp(-value), powers[0] / powers.sum() * powers[1] / powers[1:].sum(), rtol=1e-5)
    assert metrics.num_choices == 2


def test_equal_returns_are_not_compared():
    scores = [[3.0, -3.0, 1.0], [1.0, 2.0, 3.0]]
    value, metrics, gradient, _ = evaluate(scores, np.zeros((2, 3)), [[1.0, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_array_equal(metrics.num_choices, [0, 2])
    pairs = [np.log1p(np.exp(-0.4 * d)) for d in (1, 2)]  # each of the better two against the worse
    np.testing.assert_allclose(value, sum(pairs), rtol=1e-5)
    none, _, nothing, _ = evaluate(scores, np.zeros((2, 3)), np.ones((2, 3)))
    assert none == 0 and not nothing.any()


def test_permuted_responses_have_permuted_slopes():
    arrays, where = ranked(ties=True)
    order = np.array([3, 1, 4, 0, 2])
    value, _, gradient, _ = evaluate(*arrays, where)
    permuted, _, slopes, _ = evaluate(*(x[:, order] for x in arrays), where[:, order])
    np.testing.assert_allclose(permuted, value, rtol=1e-5)
    np.testing.assert_allclose(slopes, gradient[:, order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spread", [1e4, 1e30])
def test_huge_log_ratios_are_finite_and_an_impossible_response_has_no_slope(spread):
    value, _, gradient, _ = evaluate([[-spread, 0, spread]], np.zeros((1, 3)), [[2.0, 1, 0]])
    assert np.isfinite(value) and np.isfinite(gradient).all() and value >= 0.4 * spread
    value, _, gradient, _ = evaluate([[0.0, 1.0, -np.inf]], np.zeros((1, 3)), [[2.0, 1, 0]])
    np.testing.assert_allclose(value, np.log1p(np.exp(0.4)), rtol=1e-5)
    assert np.isfinite(gradient).all() and gradient[0, 2] == 0


def test_vmap_over_groups_and_half_precision_give_float32():
    arrays, where = ranked()
    alone = jax.vmap(lambda *x: listwise_preference_loss(*x[:-1], beta=0.4, where=x[-1])[0])
    np.testing.assert_allclose(jax.jit(alone)(*arrays, where), evaluate(*arrays, where)[3], rtol=1e-4, atol=1e-6)
    x = jnp.ones((2, 3), jnp.bfloat16)
    loss, metrics = jax.eval_shape(lambda x: listwise_preference_loss(x, x, x, beta=0.4), x)
    assert loss.dtype == metrics.accuracy.dtype == metrics.rewards.dtype == jnp.float32
    assert metrics.num_choices.dtype == jnp.int32


def test_no_responses_have_no_loss():
    nothing = jnp.zeros((2, 0))
    loss, metrics = listwise_preference_loss(nothing, nothing, nothing, beta=1.0)
    assert loss == 0 and not metrics.num_choices.any()
