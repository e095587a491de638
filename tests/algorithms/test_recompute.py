"""`config.memory`: one update, whatever is kept of its episodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import approx, assert_allclose, of_products
from helpers.updates import ENVIRONMENT, REFERENCE, arrays_of, config_for, shifted

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import traced_settings, with_settings
from haepo_jax.environments import make
from haepo_jax.losses import SCORES, haepo_coefficients, trajectory_scores

KEY = jax.random.key(4)


def settings_of(algorithm="haepo", *, memory, horizon=70, env="CartPole-v1", **settings):
    config = config_for(algorithm, discount=0.97, **settings)
    return dataclasses.replace(config, memory=memory, horizon=horizon, num_trajectories=6, env=env)


def gradient_of(config, environment=ENVIRONMENT, params_by=0.1):
    """The gradient of the loss of one batch, at other parameters than those that played it."""
    algorithm = make_algorithm(config, environment)

    @jax.jit
    def gradient(settings):
        given = with_settings(config, settings)
        learner = algorithm.init(given, jax.random.key(0))
        if learner.reference is not None:
            learner = dataclasses.replace(learner, reference=shifted(learner.params, 0.3))
        batch = algorithm.collect(given, learner, KEY)
        params = shifted(learner.params, params_by)
        loss, grads = jax.value_and_grad(lambda params: algorithm.loss(given, learner, batch)(params)[0])(params)
        return loss, grads, algorithm.measure(batch)

    return gradient(arrays_of(traced_settings(config)))


def assert_same_gradient(left, right, rtol=1e-5):
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(right)))
    difference = np.sqrt(
        sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))
    )
    assert norm > 0
    assert difference <= of_products(rtol) * norm


@pytest.mark.parametrize(
    "score", ["sum", *(pytest.param(score, marks=pytest.mark.slow) for score in SCORES if score != "sum")]
)
def test_the_gradient_is_that_of_store_for_every_score(score):
    (loss, grads, metrics), (expected, expected_grads, expected_metrics) = (
        gradient_of(settings_of(memory=memory, score=score, kl_coef=0.1, entropy_coef=0.1))
        for memory in ("recompute", "store")
    )
    assert_same_gradient(grads, expected_grads)
    assert loss == approx(float(expected), rel=1e-4, abs=1e-5)
    assert set(metrics) == set(expected_metrics)
    for name, value in metrics.items():
        assert value == approx(float(expected_metrics[name]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["rloo", "reinforce", "dpo"])
def test_the_other_losses_of_log_likelihoods_have_the_same_gradients_recomputed(algorithm):
    left, right = (gradient_of(settings_of(algorithm, memory=memory))[1] for memory in ("recompute", "store"))
    assert_same_gradient(left, right)


# A weight is as exact as the sum of its log-probabilities: that of 333 steps is about -230, where neighbours in
# float32 lie 1.5e-5 apart, and memories sum in another order.
@pytest.mark.parametrize(("env", "horizon", "rtol"), [("Pendulum-v1", 37, 2e-5), ("LongChain-haepo", 333, 6e-5)])
@pytest.mark.slow
def test_for_real_actions_measures_and_horizons_within_a_chunk(env, horizon, rtol):
    left, right = (
        gradient_of(settings_of(memory=memory, env=env, horizon=horizon), make(env))
        for memory in ("recompute", "store")
    )
    assert_same_gradient(left[1], right[1], rtol)
    assert left[2]["env_steps"] == right[2]["env_steps"]


@pytest.mark.slow
def test_an_update_of_several_epochs_is_that_of_store():
    ends = []
    for memory in ("recompute", "remat", "store"):
        config = settings_of(memory=memory, num_epochs=3, kl_coef=0.1)
        algorithm = make_algorithm(config, ENVIRONMENT)

        def update(settings, algorithm=algorithm, config=config):
            given = with_settings(config, settings)
            learner = dataclasses.replace(algorithm.init(given, jax.random.key(0)), reference=REFERENCE)
            batch = algorithm.collect(given, learner, KEY)
            return algorithm.learn(given, learner, batch, jnp.int32(0), KEY)

        ends.append(jax.jit(update)(arrays_of(traced_settings(config))))
    for learner, metrics in ends[:-1]:
        jax.tree.map(lambda a, b: assert_allclose(a, b, atol=2e-5), learner.params, ends[-1][0].params)
        for name, value in metrics.items():
            assert value == approx(float(ends[-1][1][name]), rel=1e-3, abs=1e-4), name


@pytest.mark.slow
def test_under_vmap_each_member_has_its_own_gradient():
    config = settings_of(memory="recompute")
    algorithm = make_algorithm(config, ENVIRONMENT)
    given = with_settings(config, arrays_of(traced_settings(config)))

    def gradient(seed):
        learner = algorithm.init(given, jax.random.key(seed))
        batch = algorithm.collect(given, learner, jax.random.key(seed + 10))
        params = shifted(learner.params, 0.1)
        return jax.grad(lambda params: algorithm.loss(given, learner, batch)(params)[0])(params)

    together = jax.jit(jax.vmap(gradient))(jnp.arange(3))
    for k in range(3):
        assert_same_gradient(jax.tree.map(lambda leaf, k=k: leaf[k], together), jax.jit(gradient)(k))


@pytest.mark.slow
@pytest.mark.parametrize("score", SCORES)
def test_its_slopes_are_the_closed_form_of_the_loss(score):
    """What the gradient is made of: `haepo_coefficients`, through the score."""
    config = settings_of(memory="recompute", score=score, kl_coef=0.1, entropy_coef=0.1)
    algorithm = make_algorithm(config, ENVIRONMENT)
    learner = dataclasses.replace(algorithm.init(config, jax.random.key(0)), reference=REFERENCE)
    batch = jax.jit(lambda: algorithm.collect(config, learner, KEY))()
    own, reference, stats = batch.stats.log_likelihoods, batch.reference_log_likelihoods, batch.stats

    def scores(log_likelihoods):
        return trajectory_scores(
            log_likelihoods, kind=score, lengths=stats.lengths, behaviour_log_likelihoods=stats.log_likelihoods
        )

    coefficients = haepo_coefficients(
        scores(own),
        stats.discounted_returns,
        scores(reference),
        entropy_coef=config.haepo.entropy_coef,
        kl_coef=config.haepo.kl_coef,
        temperature=config.haepo.temperature,
        normalization=config.haepo.normalization,
    )
    slopes = coefficients / stats.lengths if score == "mean" else coefficients

    def surrogate(params):
        played = collected.observations, collected.actions
        log_probs = algorithm.policy.apply(params, played[0]).log_prob(played[1])
        return (slopes * jnp.where(collected.mask, log_probs, 0).sum(-1)).sum()

    kept = make_algorithm(dataclasses.replace(config, memory="store"), ENVIRONMENT)
    collected = jax.jit(lambda: kept.collect(config, learner, KEY))()
    expected = jax.grad(surrogate)(learner.params)
    loss = algorithm.loss(config, learner, batch)
    assert_same_gradient(jax.jit(jax.grad(lambda params: loss(params)[0]))(learner.params), expected, rtol=2e-5)
