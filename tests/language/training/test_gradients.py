import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_decoder import DECODER, RESPONSE, params_of, sequences

from haepo_jax.config import DpoLossConfig, GrpoLossConfig, HaepoLossConfig
from haepo_jax.language.training.gradients import map_in_microbatches, one_shot, two_pass
from haepo_jax.language.training.scoring import response_log_probs
from haepo_jax.losses import haepo_coefficients, trajectory_log_likelihood, trajectory_scores
from haepo_jax.methods import METHODS, NoSettings, StepGroup

pytestmark = pytest.mark.usefixtures("exact_products")

GROUPS, SAMPLES = 3, 4
ROWS = sequences(GROUPS * SAMPLES)
VALID = np.asarray(ROWS.valid)[:, -RESPONSE:].reshape(GROUPS, SAMPLES, RESPONSE)
PARAMS = params_of()


@jax.jit
def log_probs_of(params, rows):
    return response_log_probs(DECODER, params, rows, response_length=RESPONSE)


def grouped(rows):
    return rows.reshape(GROUPS, SAMPLES, *rows.shape[1:])


@functools.cache
def behaviour():
    return grouped(log_probs_of(params_of(seed=1), ROWS))


@functools.cache
def reference():
    return grouped(log_probs_of(params_of(seed=2), ROWS))


RETURNS = jnp.asarray(np.random.default_rng(0).normal(size=(GROUPS, SAMPLES)), jnp.float32)


def group():
    return StepGroup(RETURNS, VALID, behaviour())


def sums(log_probs):
    return trajectory_log_likelihood(log_probs, where=VALID)


def of_sums(objective):
    return lambda log_probs: objective(sums(grouped(log_probs)))


def on_sums(name, settings):
    return of_sums(METHODS[name].objective(settings, group().sum_over_steps(), sums(reference())))


def haepo(score):
    settings = HaepoLossConfig(score=score, entropy_coef=0.3, kl_coef=0.2, temperature=5.0)
    return on_sums("haepo", settings)


def grpo():
    objective = METHODS["grpo"].objective(GrpoLossConfig(kl_coef=0.1), group(), reference())
    return lambda log_probs: objective(grouped(log_probs))


LOSSES = {
    "haepo_sum": lambda: haepo("sum"),
    "haepo_mean": lambda: haepo("mean"),
    "haepo_log_ratio": lambda: haepo("log_ratio"),
    "rloo": lambda: on_sums("rloo", NoSettings()),
    "grpo": grpo,
    "dpo": lambda: of_sums(
        METHODS["dpo"].language.comparisons(DpoLossConfig(), sums(reference()), VALID.sum(axis=-1))
    ),
}
"""Made by the tests, as modules that are imported should compile nothing."""


def assert_same_gradient(got, expected, tolerance):
    """Each leaf's largest difference, against the leaf's largest entry."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


def of_params(gradient, name):
    loss = LOSSES[name]()
    return jax.jit(lambda params: gradient(params, ROWS, loss))(PARAMS)


FAST = (("haepo_log_ratio", 5),)  # five rows at a time leave some over, and cut groups
SLOW = (
    ("dpo", 5),
    ("grpo", 5),
    ("haepo_sum", 5),
    ("haepo_mean", 5),
    ("rloo", 5),
    *(("haepo_log_ratio", size) for size in (1, 12, 20)),
)


@pytest.mark.parametrize(
    ("name", "microbatch"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_two_pass_equals_one_shot(name, microbatch):
    loss, metrics, expected = of_params(one_shot(log_probs_of), name)
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(expected)) > 1e-3
    got_loss, got_metrics, got = of_params(two_pass(log_probs_of, microbatch=microbatch), name)
    np.testing.assert_allclose(got_loss, loss, rtol=1e-5, atol=1e-6)
    assert_same_gradient(got, expected, 2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got_metrics, metrics)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["sum", "mean", "log_ratio"])
def test_two_pass_weighs_the_responses_by_the_haepo_coefficients(score):
    """Against the surrogate `sum c_k S_k` with the closed form's constants, differentiated by itself."""
    lengths, behaviour_sums = VALID.sum(axis=-1), sums(behaviour())

    def scores(params):
        likelihoods = sums(grouped(log_probs_of(params, ROWS)))
        return trajectory_scores(likelihoods, kind=score, lengths=lengths, behaviour_log_likelihoods=behaviour_sums)

    of_reference = trajectory_scores(
        sums(reference()), kind=score, lengths=lengths, behaviour_log_likelihoods=behaviour_sums
    )
    coefficients = haepo_coefficients(
        scores(PARAMS), RETURNS, of_reference, entropy_coef=0.3, kl_coef=0.2, temperature=5.0
    )
    expected = jax.grad(lambda params: jnp.sum(coefficients * scores(params)))(PARAMS)
    _, _, got = two_pass(log_probs_of, microbatch=3)(PARAMS, ROWS, haepo(score))
    assert_same_gradient(got, expected, 2e-6)


def test_two_pass_in_float64():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        params, rows = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(7, 6, 4)))

        def log_probs(params, rows):
            return jax.nn.log_softmax(jnp.tanh(rows @ params))[..., 0]

        def loss(log_probs):
            weights = jax.nn.softmax(jnp.sum(log_probs, axis=-1))
            return jnp.sum(weights * jnp.arange(len(log_probs))), {}

        _, _, expected = one_shot(log_probs)(params, rows, loss)
        _, _, got = two_pass(log_probs, microbatch=3)(params, rows, loss)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_padding_rows_that_are_all_masked_change_nothing():
    more = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:2]]), ROWS)
    loss = haepo("mean")
    _, _, expected = two_pass(log_probs_of, microbatch=4)(PARAMS, ROWS, loss)
    _, _, got = two_pass(log_probs_of, microbatch=4)(
        PARAMS, more, lambda log_probs: loss(log_probs[: len(ROWS.tokens)])
    )
    assert_same_gradient(got, expected, 2e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_in_microbatches_keeps_the_order(size):
    rows = {"a": jnp.arange(5.0), "b": jnp.arange(10.0).reshape(5, 2)}
    result = map_in_microbatches(lambda rows: rows["a"][:, None] + rows["b"], rows, size)
    np.testing.assert_array_equal(result, rows["a"][:, None] + rows["b"])


def test_the_gradient_of_bfloat16_parameters_is_accumulated_in_float32():
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    _, _, got = two_pass(log_probs_of, microbatch=2)(low, ROWS, LOSSES["rloo"]())
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(jnp.float32)}
