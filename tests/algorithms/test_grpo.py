"""GRPO: what one update does to the parameters, and that every setting of the loss takes part in it."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import approx, assert_close
from helpers.updates import (
    BATCH,
    PARAMS,
    REFERENCE,
    M,
    T,
    batch_from,
    by_hand,
    config_for,
    distance,
    learn,
    learner_for,
    log_probs,
    returns_of,
    shifted,
    step,
    step_again_and_again,
)

from haepo_jax.config import ADVANTAGE_SCALES, AGGREGATIONS

LENGTHS = np.asarray(BATCH.mask).sum(-1)


def config_with(**settings):
    return config_for("grpo", **{"num_epochs": 1, "kl_coef": 0.1} | settings)


def loss_by_hand(config, params, reference, batch):
    """The loss from its definition, step by step."""
    settings, mask = config.grpo, batch.mask
    returns = returns_of(batch, config.discount)
    advantages = returns - returns.mean()
    if settings.advantage_scale == "std":
        advantages /= returns.std()
    now = log_probs(params, batch)
    ratio = jnp.exp(now - jnp.where(mask, batch.log_probs, 0))
    clipped = jnp.clip(ratio, 1 - settings.clip_epsilon, 1 + settings.clip_epsilon)
    log_ratio = log_probs(reference, batch) - now
    steps = jnp.where(mask, -jnp.minimum(ratio * advantages[:, None], clipped * advantages[:, None]), 0)
    steps += settings.kl_coef * jnp.where(mask, jnp.exp(log_ratio) - log_ratio - 1, 0)
    return {
        "sequence_mean": (steps.sum(-1) / LENGTHS).mean(),
        "token_mean": steps.sum() / LENGTHS.sum(),
        "constant": steps.sum() / (M * T),
    }[settings.aggregation]


class TestAgainstTheLossByHand:
    @pytest.mark.parametrize(
        "settings",
        [
            {"advantage_scale": "std", "aggregation": "sequence_mean", "num_epochs": 3, "reference": "frozen"},
            {"advantage_scale": "none", "aggregation": "token_mean", "num_epochs": 1, "clip_epsilon": 0.02},
            pytest.param(
                {"advantage_scale": "none", "aggregation": "constant", "num_epochs": 2, "reference": "ema"},
                marks=pytest.mark.slow,
                id="constant",
            ),
        ],
        ids=lambda settings: settings["aggregation"],
    )
    def test_an_update_equals_the_composition(self, settings):
        config = config_with(**settings, discount=0.9, optimizer={"max_grad_norm": 0.05})
        start = shifted(PARAMS, 0.1)
        batch = batch_from(start)
        learner, metrics = learn(config, learner_for(config, start, REFERENCE), batch)
        expected, history = by_hand(
            config, start, lambda params: loss_by_hand(config, params, REFERENCE, batch), [()] * settings["num_epochs"]
        )
        assert_close(learner.params, expected)
        assert_close({name: metrics[name] for name in history[-1]}, history[-1])
        assert distance(learner.params, start) > 0.005

    def test_every_choice_is_among_them(self):
        assert set(ADVANTAGE_SCALES) == {"std", "none"}
        assert set(AGGREGATIONS) == {"sequence_mean", "token_mean", "constant"}


class TestMetrics:
    def test_metrics_are_0_while_policy_behaviour_and_reference_agree(self):
        config = config_with()
        _, metrics = learn(config, learner_for(config, PARAMS), BATCH)
        for name in ("clip_fraction", "approx_kl", "reference_kl"):
            assert metrics[name] == pytest.approx(0, abs=1e-6)

    def test_metrics_measure_how_far_policy_behaviour_and_reference_are_apart(self):
        config, start = config_with(clip_epsilon=0.05), shifted(PARAMS, 0.1)
        _, metrics = step(config, learner_for(config, start, REFERENCE), BATCH)
        now, mask = np.asarray(log_probs(start, BATCH)), np.asarray(BATCH.mask)
        log_ratio = (now - np.where(mask, BATCH.log_probs, 0))[mask]
        returns = returns_of(BATCH)
        gains = np.broadcast_to((returns > returns.mean())[:, None], (M, T))[mask]
        held = np.where(gains, np.exp(log_ratio) > 1.05, np.exp(log_ratio) < 0.95)
        assert 0 < held.mean() < 1
        assert metrics["clip_fraction"] == pytest.approx(held.mean(), rel=1e-5)
        assert metrics["approx_kl"] == approx((np.exp(log_ratio) - 1 - log_ratio).mean(), rel=1e-3)
        to_reference = np.asarray(log_probs(REFERENCE, BATCH)) - now
        each = np.where(mask, np.exp(to_reference) - 1 - to_reference, 0).sum(-1) / LENGTHS
        assert metrics["reference_kl"] == approx(each.mean(), rel=1e-3)


class TestEpochs:
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_each_epoch_lowers_the_loss_of_its_batch(self, aggregation):
        config = config_with(aggregation=aggregation, reference="frozen", optimizer={"learning_rate": 1e-3})
        _, history = step_again_and_again(config, learner_for(config, PARAMS, REFERENCE), BATCH, 10)
        assert (np.diff([float(metrics["loss"]) for metrics in history]) < 0).all()


class TestReference:
    def test_no_reference_is_accepted_with_kl_coef_0_and_changes_nothing_else(self):
        results = []
        for rule in ("none", "previous"):
            config = config_with(reference=rule, kl_coef=0.0)
            results.append(learn(config, learner_for(config, PARAMS), BATCH)[0])
        assert results[0].reference is None and results[1].reference is not None
        assert_close(results[0].params, results[1].params)

    def test_a_large_kl_coef_draws_the_policy_to_the_reference(self):
        divergences = []
        for kl_coef in (0.0, 10.0):
            config = config_with(kl_coef=kl_coef, reference="frozen")
            _, history = step_again_and_again(config, learner_for(config, PARAMS, REFERENCE), BATCH, 10)
            divergences.append(float(history[-1]["reference_kl"]))
        assert divergences[1] < 0.5 * divergences[0]


def test_the_better_trajectories_become_likelier():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH)
    change = np.asarray((log_probs(after.params, BATCH) - log_probs(PARAMS, BATCH)).sum(-1)) / LENGTHS
    returns = returns_of(BATCH)
    assert np.dot(change, returns - returns.mean()) > 0.01


def test_equal_returns_move_nothing():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=jnp.zeros((M, T))))
    assert distance(after.params, PARAMS) == 0


def test_the_scale_of_returns_matters_only_without_the_deviation():
    larger = BATCH._replace(rewards=1e3 * BATCH.rewards)
    for scale, expected in (("std", 1), ("none", 1e3)):
        config = config_with(advantage_scale=scale, kl_coef=0.0)
        norms = [float(learn(config, learner_for(config, PARAMS), b)[1]["grad_norm"]) for b in (BATCH, larger)]
        assert norms[1] / norms[0] == approx(expected, rel=1e-3)
