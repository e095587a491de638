"""DPO: what one update does to the parameters, and that every setting of the loss takes part in it."""

import jax
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

from haepo_jax.config import PAIRS
from haepo_jax.errors import ConfigError


def config_with(**settings):
    return config_for("dpo", **{"num_epochs": 1} | settings)


def pairs_of(batch, kind, discount=1.0):
    """(preferred, other), by comparing every two returns."""
    returns = returns_of(batch, discount)
    pairs = [(i, j) for i in range(M) for j in range(M) if returns[i] > returns[j]]
    return pairs if kind == "all" else [(int(returns.argmax()), int(returns.argmin()))]


def loss_by_hand(config, params, reference, batch):
    """The loss from its definition, pair by pair."""
    settings = config.dpo
    log_ratio = (log_probs(params, batch) - log_probs(reference, batch)).sum(-1)
    losses = []
    for better, worse in pairs_of(batch, settings.pairs, config.discount):
        margin = settings.beta * (log_ratio[better] - log_ratio[worse])
        right, wrong = jax.nn.log_sigmoid(margin), jax.nn.log_sigmoid(-margin)
        losses.append(-(1 - settings.label_smoothing) * right - settings.label_smoothing * wrong)
    return jnp.mean(jnp.stack(losses))


class TestAgainstTheLossByHand:
    @pytest.mark.parametrize(
        "settings",
        [
            {"pairs": "all", "beta": 0.5, "label_smoothing": 0.2, "num_epochs": 3, "reference": "frozen"},
            {"pairs": "best_worst", "beta": 2.0, "num_epochs": 2, "reference": "ema"},
        ],
        ids=lambda settings: settings["pairs"],
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
        assert set(PAIRS) == {"all", "best_worst"}


class TestMetrics:
    @pytest.mark.parametrize("pairs", PAIRS)
    def test_describe_the_pairs(self, pairs):
        config, start = config_with(pairs=pairs), shifted(PARAMS, 0.1)
        _, metrics = step(config, learner_for(config, start, REFERENCE), BATCH)
        log_ratio = np.asarray((log_probs(start, BATCH) - log_probs(REFERENCE, BATCH)).sum(-1))
        margins = np.array([log_ratio[i] - log_ratio[j] for i, j in pairs_of(BATCH, pairs)])
        assert metrics["num_pairs"] == len(margins) == {"all": M * (M - 1) // 2, "best_worst": 1}[pairs]
        assert metrics["margin"] == approx(margins.mean(), rel=1e-3)
        assert metrics["accuracy"] == pytest.approx((margins > 0).mean(), rel=1e-5)

    def test_equal_returns_make_no_pair(self):
        config = config_with()
        ones = jnp.where(BATCH.mask, jnp.array([1.0, 0.0, 0.0, 0.0])[:, None], 0).at[:, 1:].set(0)
        _, metrics = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=ones))
        assert metrics["num_pairs"] == M - 1


class TestEpochs:
    @pytest.mark.parametrize("pairs", PAIRS)
    def test_each_lowers_the_loss_of_its_batch(self, pairs):
        config = config_with(pairs=pairs, reference="frozen", optimizer={"learning_rate": 1e-3})
        _, history = step_again_and_again(config, learner_for(config, PARAMS, REFERENCE), BATCH, 10)
        assert (np.diff([float(metrics["loss"]) for metrics in history]) < 0).all()
        assert (np.diff([float(metrics["margin"]) for metrics in history]) > 0).all()


class TestReference:
    def test_decides_the_margins(self):
        config = config_with(reference="frozen", beta=5.0)
        results = [learn(config, learner_for(config, PARAMS, ref), BATCH) for ref in (PARAMS, REFERENCE)]
        assert results[0][1]["margin"] == approx(0, abs=1e-5)
        assert abs(results[1][1]["margin"]) > 0.1
        assert distance(results[0][0].params, results[1][0].params) > 1e-4

    def test_none_is_refused(self):
        with pytest.raises(ConfigError, match="preferences are measured against a reference policy"):
            config_with(reference="none")


def test_the_preferred_become_likelier_than_the_others():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH)
    change = np.asarray((log_probs(after.params, BATCH) - log_probs(PARAMS, BATCH)).sum(-1))
    assert np.mean([change[i] - change[j] for i, j in pairs_of(BATCH, "all")]) > 0.01


def test_equal_returns_move_nothing():
    config = config_with()
    after, metrics = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=jnp.zeros((M, T))))
    assert distance(after.params, PARAMS) == 0
    assert metrics["num_pairs"] == metrics["loss"] == 0


def test_only_the_order_of_returns_matters():
    config = config_with()
    larger = BATCH._replace(rewards=1e3 * BATCH.rewards)
    results = [learn(config, learner_for(config, PARAMS), batch)[0].params for batch in (BATCH, larger)]
    jax.tree.map(np.testing.assert_array_equal, *results)


class TestTracedSettings:
    def test_the_discount_decides_who_is_preferred(self):
        rewards = jnp.zeros((M, T)).at[:, 0].set(jnp.array([1.0, 0.0, 0.5, 0.6])).at[1, 7].set(1.1)
        batch, ends = BATCH._replace(rewards=rewards), []
        for discount, (better, worse) in ((1.0, (1, 2)), (0.5, (0, 1))):
            assert pairs_of(batch, "best_worst", discount) == [(better, worse)]
            config = config_with(discount=discount, pairs="best_worst", reference="frozen")
            after, _ = learn(config, learner_for(config, PARAMS), batch)
            change = np.asarray((log_probs(after.params, batch) - log_probs(PARAMS, batch)).sum(-1))
            assert change[better] > change[worse] + 0.01
            ends.append(after.params)
        assert distance(*ends) > 0.01
