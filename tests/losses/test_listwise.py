"""`listwise_preference_loss`: values, gradients, ties, partial rankings, masks, and DPO as the case of two."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import dpo_loss, listwise_preference_loss, preference_pairs

loss_of = partial(listwise_preference_loss, beta=0.4)


def ranked(shape=(2, 2, 5), ties=False):
    """Log-likelihoods of policy and reference, returns and a mask."""
    rng = np.random.default_rng(0)
    returns = rng.integers(0, 3, size=shape) if ties else rng.normal(size=shape)
    return [*(2 * rng.normal(size=(2, *shape))), returns.astype(float)], rng.random(shape) < 0.8


def evaluate(policy, *rest, **options):
    return jax.value_and_grad(lambda x: loss_of(x, *rest, **options), has_aux=True)(jnp.asarray(policy))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_match_the_reference_where_masked(reference, x64, ties, garbage):
    (policy, of_reference, returns), where = ranked(ties=ties)
    losses, slopes = reference.ranking(policy - of_reference, returns, 0.4, where)
    spoilt = [np.where(where, array, garbage) for array in (policy, of_reference, returns)]
    (loss, metrics), gradient = evaluate(*spoilt, where=where)
    counted = [
        len(set(group[mask])) > 1 for group, mask in zip(returns.reshape(4, 5), where.reshape(4, 5), strict=True)
    ]
    np.testing.assert_allclose(loss, losses.sum() / sum(counted), rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes / sum(counted), rtol=1e-10, atol=1e-14)
    each, _ = loss_of(*spoilt, where=where, reduce_fn=None)
    np.testing.assert_allclose(each, losses, rtol=1e-12, atol=1e-14)
    pairs = np.asarray(preference_pairs(returns, where=where))
    ratios = policy - of_reference
    right = (ratios[..., :, None] > ratios[..., None, :]) & pairs
    np.testing.assert_allclose(metrics.accuracy, right.sum((-2, -1)) / np.maximum(pairs.sum((-2, -1)), 1), rtol=1e-12)
    np.testing.assert_array_equal(metrics.num_choices, pairs.any(-1).sum(-1))


def test_of_two_is_dpo_to_the_bit():
    (policy, of_reference, returns), _ = ranked((50, 2))
    better = (np.arange(50)[:, None], np.argsort(-returns, axis=-1))
    policy, of_reference = policy.astype(np.float32), of_reference.astype(np.float32)
    (chosen, rejected), (of_chosen, of_rejected) = policy[better].T, of_reference[better].T
    dpo = lambda x, y: dpo_loss(x, y, of_chosen, of_rejected, beta=0.4)[0]  # noqa: E731
    (loss, _), gradient = evaluate(policy, of_reference, returns)
    assert loss == dpo(chosen, rejected)
    up, down = jax.grad(dpo, argnums=(0, 1))(*map(jnp.asarray, (chosen, rejected)))
    np.testing.assert_array_equal(gradient[better], np.stack([up, down], -1))


def test_the_likelihoods_of_all_rankings_add_up_to_one():
    from itertools import permutations

    scores = jnp.array([0.3, -1.0, 2.0, 0.0])
    chances = [jnp.exp(-loss_of(scores, jnp.zeros(4), jnp.array(order))[0]) for order in permutations(range(4))]
    np.testing.assert_allclose(sum(chances), 1, rtol=1e-5)


def test_the_first_n_ranked_have_the_likelihood_of_the_first_n_choices():
    scores = np.array([1.0, 0.5, -0.5, 0.2])
    loss, _ = loss_of(scores, np.zeros(4), np.array([3.0, 2, 0, 0]))
    powers = np.exp(0.4 * scores)
    expected = powers[0] / powers.sum() * powers[1] / powers[1:].sum()
    np.testing.assert_allclose(np.exp(-loss), expected, rtol=1e-6)


def test_equal_returns_are_not_compared():
    scores = jnp.array([[3.0, -3.0, 1.0], [1.0, 2.0, 3.0]])
    (loss, metrics), gradient = evaluate(scores, jnp.zeros((2, 3)), jnp.array([[1.0, 1, 1], [0, 1, 1]]))
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_array_equal(metrics.num_choices, [0, 2])
    pairs = [np.log1p(np.exp(-0.4 * d)) for d in (1, 2)]  # each of the better two against the worse
    np.testing.assert_allclose(loss, sum(pairs), rtol=1e-6)  # the group of ties does not count in the mean
    (none, _), nothing = evaluate(scores, jnp.zeros((2, 3)), jnp.ones((2, 3)))
    assert none == 0 and not nothing.any()


def test_permuted_responses_have_permuted_slopes():
    arrays, where = ranked((5,), ties=True)
    order = np.array([3, 1, 4, 0, 2])
    (loss, _), gradient = evaluate(*arrays, where=where)
    (permuted, _), slopes = evaluate(*(x[order] for x in arrays), where=where[order])
    np.testing.assert_allclose(permuted, loss, rtol=1e-6)
    np.testing.assert_allclose(slopes, gradient[order], rtol=1e-4, atol=1e-6)


def test_pieces_of_whole_groups_add_up_and_jit_and_vmap_give_the_same():
    arrays, where = ranked((3, 5))
    each, _ = loss_of(*arrays, where=where, reduce_fn=None)
    got = jax.jit(jax.vmap(lambda *x: loss_of(*x[:-1], where=x[-1])[0]))(*arrays, where)
    np.testing.assert_allclose(got, each, rtol=1e-5)
    np.testing.assert_allclose(loss_of(*arrays, where=where, reduce_fn=jnp.sum)[0], sum(got), rtol=1e-6)


@pytest.mark.parametrize("spread", [1e4, 1e30])
def test_huge_log_ratios_are_finite_and_an_impossible_response_has_no_slope(spread):
    (loss, _), gradient = evaluate(jnp.array([-spread, 0, spread]), jnp.zeros(3), jnp.array([2.0, 1, 0]))
    assert np.isfinite(loss) and np.isfinite(gradient).all() and loss >= 0.4 * spread
    (loss, _), gradient = evaluate(jnp.array([0.0, 1.0, -jnp.inf]), jnp.zeros(3), jnp.array([2.0, 1, 0]))
    np.testing.assert_allclose(loss, np.log1p(np.exp(0.4)), rtol=1e-6)
    assert np.isfinite(gradient).all() and gradient[2] == 0


def test_half_precision_gives_float32():
    x = jnp.ones((2, 3), jnp.bfloat16)
    loss, metrics = loss_of(x, x, x)
    assert loss.dtype == metrics.accuracy.dtype == metrics.rewards.dtype == jnp.float32
    assert metrics.num_choices.dtype == jnp.int32
