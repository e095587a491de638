"""HAEPO: what one update does to the parameters, and that every setting of the loss takes part in it."""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import approx, assert_close
from helpers.updates import (
    BATCH,
    ENVIRONMENT,
    PARAMS,
    POLICY,
    PROGRAMS,
    REFERENCE,
    M,
    T,
    arrays_of,
    batch_from,
    by_hand,
    config_for,
    distance,
    learn,
    learner_for,
    log_probs,
    returns_of,
    shifted,
    step_again_and_again,
)

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import REFERENCES, SCORES, traced_settings
from haepo_jax.config.libraries import LIBRARIES, split_name
from haepo_jax.losses import haepo_loss
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member

METRICS = {
    "loss",
    "grad_norm",
    "effective_sample_size",
    "max_weight",
    "weights_entropy",
    "weights_kl",
    "returns_sum_not_positive",
}


def config_with(**settings):
    return config_for("haepo", **{"num_epochs": 1, "entropy_coef": 0.1, "kl_coef": 0.1} | settings)


class TestAgainstTheLossByHand:
    @staticmethod
    def expected(config, params, reference, batch):
        """Parameters and metrics after the epochs, from the definition of the scores, `haepo_loss` and optax."""

        def scores(params):
            likelihoods = log_probs(params, batch).sum(-1)
            return {
                "sum": likelihoods,
                "mean": likelihoods / batch.mask.sum(-1),
                "log_ratio": likelihoods - jnp.where(batch.mask, batch.log_probs, 0).sum(-1),
            }[config.haepo.score]

        def loss_fn(params):
            return haepo_loss(
                scores(params),
                returns_of(batch, config.discount),
                scores(reference),
                entropy_coef=config.haepo.entropy_coef,
                kl_coef=config.haepo.kl_coef,
                temperature=config.haepo.temperature,
                normalization=config.haepo.normalization,
            )[0]

        return by_hand(config, params, loss_fn, [()] * config.haepo.num_epochs)

    @pytest.mark.parametrize(
        "settings",
        [
            {"score": "sum", "num_epochs": 1, "reference": "frozen"},
            pytest.param(
                {"score": "mean", "num_epochs": 3, "normalization": "sum"}, marks=pytest.mark.slow, id="mean"
            ),
            {"score": "log_ratio", "num_epochs": 2, "normalization": "none", "reference": "ema", "temperature": 2.0},
        ],
        ids=lambda settings: settings["score"],
    )
    def test_an_update_equals_the_composition(self, settings):
        config = config_with(**settings, optimizer={"max_grad_norm": 0.05}, discount=0.9)
        start = shifted(PARAMS, 0.1)
        batch = batch_from(start)
        learner, metrics = learn(config, learner_for(config, start, REFERENCE), batch)
        expected, history = self.expected(config, start, REFERENCE, batch)
        assert_close(learner.params, expected)
        assert_close({name: metrics[name] for name in history[-1]}, history[-1])
        assert distance(learner.params, start) > 0.01


class TestMetrics:
    def test_on_fresh_data_log_ratio_weights_are_uniform(self):
        config = config_with(score="log_ratio", num_epochs=1)
        _, metrics = learn(config, learner_for(config, PARAMS), BATCH)
        assert metrics["effective_sample_size"] == approx(M, rel=1e-4)
        assert metrics["max_weight"] == approx(1 / M, rel=1e-4)
        assert metrics["weights_entropy"] == approx(np.log(M), rel=1e-4)
        assert metrics["weights_kl"] == pytest.approx(0, abs=1e-5)

    def test_a_metric_flags_groups_whose_returns_sum_normalization_drops(self):
        config = config_with(score="mean", num_epochs=3, normalization="sum")
        for sign, expected in ((1, 0), (-1, 1)):
            _, metrics = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=sign * BATCH.rewards))
            assert metrics["returns_sum_not_positive"] == expected


class TestEpochs:
    @pytest.mark.parametrize(
        "score", [pytest.param(score, marks=() if score == "log_ratio" else pytest.mark.slow) for score in SCORES]
    )
    def test_each_epoch_lowers_the_loss_of_its_batch(self, score):
        config = config_with(score=score, reference="frozen", optimizer={"learning_rate": 1e-3})
        _, history = step_again_and_again(config, learner_for(config, PARAMS, REFERENCE), BATCH, 10)
        assert (np.diff([float(metrics["loss"]) for metrics in history]) < 0).all()


class TestReinforceIdentity:
    def test_log_ratio_with_one_epoch_and_no_regularisers_is_reinforce(self):
        config = config_with(score="log_ratio", entropy_coef=0.0, kl_coef=0.0, normalization="zscore")
        algorithm = make_algorithm(dataclasses.replace(config, algorithm="reinforce"), ENVIRONMENT)
        other = dataclasses.replace(algorithm.init(config, jax.random.key(0)), params=PARAMS)
        learner, learn_other = learner_for(config, PARAMS), jax.jit(functools.partial(algorithm.learn, config))
        key = jax.random.key(0)
        for update in range(3):
            batch = batch_from(other.params, update)
            learner, metrics = learn(config, learner, batch, update)
            other, other_metrics = learn_other(other, batch, update, key)
            assert metrics["grad_norm"] == approx(float(other_metrics["grad_norm"]), rel=1e-3)
            assert metrics["grad_norm"] > 1e-3
        assert_close(learner.params, other.params, atol=1e-4)
        assert distance(other.params, PARAMS) > 0.1


LAGGING = tuple(name for name in REFERENCES if name != "none")


class TestReference:
    def test_the_reference_begins_as_the_policy(self):
        config = config_with()
        learner = make_algorithm(config, ENVIRONMENT).init(config, jax.random.key(0))
        assert distance(learner.params, learner.reference) == 0
        assert distance(learner.params, POLICY.init(jax.random.key(0))) == 0
        assert distance(learner.params, POLICY.init(jax.random.key(1))) > 0

    @pytest.mark.parametrize(
        "rule",
        [rule if rule in ("previous", "ema") else pytest.param(rule, marks=pytest.mark.slow) for rule in LAGGING],
    )
    def test_the_reference_moves_after_each_update_as_its_rule_says(self, rule):
        config = config_with(reference=rule, reference_period=2, reference_decay=0.5)
        learner, params, references = learner_for(config, PARAMS), [PARAMS], []
        for update in range(4):
            references.append(learner.reference)
            learner, _ = learn(config, learner, batch_from(learner.params, update), update)
            params.append(learner.params)

        def mean(reference, params):
            return jax.tree.map(lambda old, new: (old + new) / 2, reference, params)

        expected = {
            "frozen": lambda u: params[0],
            "periodic": lambda u: params[u - u % 2],
            "ema": lambda u: mean(references[u - 1], params[u]) if u else params[0],
            "previous": lambda u: params[max(u - 1, 0)],
        }[rule]
        for u, reference in enumerate(references):
            assert_close(reference, expected(u))


class TestKlCoefficient:
    @pytest.mark.parametrize("rule", LAGGING)
    def test_kl_coef_changes_the_update_once_the_reference_lags(self, rule):
        params = {}
        for kl_coef in (0.0, 0.5):
            config = config_with(reference=rule, reference_period=2, reference_decay=0.5, kl_coef=kl_coef)
            learner = learner_for(config, PARAMS)
            for update in range(3):
                learner, _ = learn(config, learner, batch_from(learner.params, update), update)
            params[kl_coef] = learner.params
        assert distance(params[0.0], params[0.5]) > 1e-3 * distance(params[0.0], PARAMS)

    @pytest.mark.parametrize("rule", LAGGING)
    def test_kl_coef_has_no_effect_while_the_reference_is_the_policy(self, rule):
        norms = []
        for kl_coef in (0.0, 0.5):
            config = config_with(reference=rule, kl_coef=kl_coef)
            norms.append(float(learn(config, learner_for(config, PARAMS), BATCH)[1]["grad_norm"]))
        assert norms[0] > 1e-3 and norms[0] == approx(norms[1], rel=1e-4)

    def test_kl_coef_draws_the_weights_to_the_reference(self):
        divergences = []
        for kl_coef in (0.0, 10.0):
            config = config_with(kl_coef=kl_coef, score="mean", reference="frozen")
            _, history = step_again_and_again(config, learner_for(config, PARAMS, REFERENCE), BATCH, 10)
            divergences.append(float(history[-1]["weights_kl"]))
        assert divergences[1] < 0.5 * divergences[0]

    def test_kl_coef_0_works_without_a_reference(self):
        results = []
        for rule in ("none", "previous"):
            config = config_with(reference=rule, kl_coef=0.0)
            results.append(learn(config, learner_for(config, PARAMS), BATCH)[0])
        assert results[0].reference is None and results[1].reference is not None
        assert_close(results[0].params, results[1].params)


class TestTargetEffectiveSampleSize:
    def test_rho_is_swept_in_one_program_and_decides_how_far_the_weights_go(self):
        sizes, programs = [], len(PROGRAMS)
        for rho in (0.3, 0.5, 0.9):
            config = config_with(adapt="ess", target_effective_sample_size=rho, kl_coef=0.0, num_epochs=20)
            _, metrics = learn(config, learner_for(config, PARAMS), BATCH)
            assert metrics["target_effective_sample_size"] == pytest.approx(rho * M, rel=1e-3)
            sizes.append(float(metrics["effective_sample_size"]))
        assert sizes[0] < sizes[1] < sizes[2] < M and len(PROGRAMS) == programs + 1

    def test_rewards_in_another_unit_give_the_same_update(self):
        config = config_with(adapt="ess", normalization="none", num_epochs=1, score="sum", projection="forward")
        ends = []
        for rewards in (BATCH.rewards, 7 * BATCH.rewards):
            ends.append(
                learn(config, learner_for(config, PARAMS, REFERENCE), BATCH._replace(rewards=rewards))[0].params
            )
        assert_close(*ends)
        assert distance(ends[0], PARAMS) > 1e-3


class TestEntropyCoefficient:
    def test_entropy_coef_spreads_the_weights(self):
        equal_returns = BATCH._replace(rewards=jnp.zeros((M, T)))  # nothing else moves the policy
        sizes = {}
        for entropy_coef in (0.0, 0.1):
            config = config_with(entropy_coef=entropy_coef, kl_coef=0.0, score="sum", reference="frozen")
            _, history = step_again_and_again(config, learner_for(config, PARAMS), equal_returns, 10)
            sizes[entropy_coef] = [float(metrics["effective_sample_size"]) for metrics in history]
        assert set(sizes[0.0]) == {sizes[0.0][0]}
        assert sizes[0.1][-1] > sizes[0.1][0] + 0.5


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def small(path):
    """The config of a file, with fewer and shorter episodes and a smaller network.

    None if it has no KL term, or if the library of its environment is not installed.
    """
    values = load(path)
    if values.get("algorithm") != "haepo" or "env" not in values:
        return None
    if (library := split_name(values.env)) and not importlib.util.find_spec(LIBRARIES[library[0]].package):
        return None
    values.num_trajectories = M
    values.policy.hidden_sizes = (8,)
    values.horizon = min(values.horizon or T, T)
    config = fixed_config(values)
    return config if any(config.sweep.get("haepo.kl_coef", (config.haepo.kl_coef,))) else None


class TestShippedConfigs:
    def test_the_shipped_configs_are_found(self):
        assert "cartpole" in [path.stem for path in CONFIGS if small(path)]

    @pytest.mark.parametrize(
        "path",
        [
            pytest.param(path, marks=() if path.stem.startswith("cartpole") else pytest.mark.slow, id=path.stem)
            for path in CONFIGS
            if small(path)
        ],
    )
    def test_kl_coef_changes_the_gradient(self, path):
        config = small(path)
        functions = make_member(config)
        shipped = max(config.sweep.get("haepo.kl_coef", (config.haepo.kl_coef,)))
        defaults = arrays_of(traced_settings(config))
        start = functions.init(jax.random.key(0), defaults)

        @jax.jit
        def update(state):
            batch = functions.collect(state)
            # Rewards of our own: the policy has to move, even where the environment pays late or never.
            rewards = jax.random.normal(jax.random.key(state.updates_done), batch.rewards.shape)
            return functions.learn(state, batch._replace(rewards=rewards))[0]

        params = {}
        for kl_coef in (0.0, shipped):
            state = dataclasses.replace(start, settings=defaults | {"haepo.kl_coef": jnp.float32(kl_coef)})
            for _ in range(3):
                state = update(state)
            assert not state.diverged
            params[kl_coef] = state.learner.params
        assert distance(params[0.0], params[shipped]) > 1e-5 * distance(params[0.0], start.learner.params)

    @pytest.mark.slow
    @pytest.mark.parametrize(("score", "learns"), [("log_ratio", True), ("sum", False)])
    def test_the_long_horizon_is_learned_unless_the_weights_saturate(self, score, learns):
        values = load(Path(__file__).parents[2] / "configs" / "long_horizon.py")
        values.num_updates, values.haepo.score = 10, score
        values.num_seeds = 1
        population = make_population(fixed_config(values), devices=jax.devices()[:1])
        success = population.run([{}], [2])["success"][0, 0]  # seed 2 is among the first to see a reward
        assert success[0] < 0.1
        assert (success[-3:].min() >= 0.9) == learns


class TestOptimizer:
    @staticmethod
    def adam_mean(state):
        """The gradient that Adam saw at its first step."""
        return optax.tree.scale(1 / (1 - 0.9), optax.tree.get(state, "mu"))

    @pytest.mark.parametrize("max_grad_norm", [1e-3, 1e3])
    def test_the_gradient_is_clipped_by_its_global_norm(self, max_grad_norm):
        config = config_with(optimizer={"max_grad_norm": max_grad_norm})
        learner, metrics = learn(config, learner_for(config, PARAMS), BATCH)
        unclipped = float(metrics["grad_norm"])
        assert 1e-3 < unclipped < 1e3
        seen = float(optax.tree.norm(self.adam_mean(learner.optimizer_state)))
        assert seen == pytest.approx(min(unclipped, max_grad_norm), rel=1e-4)

    @pytest.mark.parametrize("schedule", [pytest.param("linear", marks=pytest.mark.slow), "cosine"])
    def test_the_schedule_ends_with_the_last_epoch_of_the_last_update(self, schedule):
        config = config_with(num_epochs=3, optimizer={"schedule": schedule}, num_updates=2)
        steps, learner = [], learner_for(config, PARAMS)
        for update in range(3):
            after, _ = learn(config, learner, BATCH, update)
            steps.append(distance(after.params, learner.params))
            learner = after
        assert steps[0] > 1e-3 and steps[1] > 1e-3
        assert steps[2] < 1e-6 * steps[0]
