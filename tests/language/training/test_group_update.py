"""What a batch of given responses teaches, under the configs that are shipped."""

import dataclasses
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_decoder import DECODER, RESPONSE, params_of, sequences

from haepo_jax.language.config import from_config_dict, get_method_settings
from haepo_jax.language.model.sharding import make_mesh
from haepo_jax.language.training.group_update import Experience, _open, make_learn, make_optimizer_of, make_score
from haepo_jax.language.training.learner import init_learner

pytestmark = pytest.mark.usefixtures("exact_products")

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("tldr_*.py"))
GROUPS, SAMPLES = 2, 4


def shipped(path):
    config = from_config_dict(runpy.run_path(str(path))["get_config"]())
    rl = dataclasses.replace(config.rl, num_samples=SAMPLES, gradient="one_shot")
    return dataclasses.replace(config, rl=rl)


def learned(config, updates_done=0):
    """Parameters after the epochs of one batch, where the reference differs from the policy."""
    rows = sequences(GROUPS * SAMPLES)
    score = make_score(config, RESPONSE)
    behaviour = score(DECODER, params_of(), rows)
    experience = Experience(rows, score(DECODER, params_of(seed=1), rows), behaviour, jnp.arange(8.0) % 3)
    learner = init_learner(params_of(), make_optimizer_of(config), seed=0, mesh=make_mesh(1, rows=8))
    learner = dataclasses.replace(learner, updates_done=jnp.int32(updates_done))
    learn = jax.jit(make_learn(config, DECODER, RESPONSE, score=score))
    learner, metrics = learn(learner, None, experience)
    return learner.trained, metrics


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_lambda_changes_what_is_learned(path):
    config = shipped(path)
    assert config.haepo.kl_coef > 0
    without = dataclasses.replace(config, haepo=dataclasses.replace(config.haepo, kl_coef=0.0))
    ours, theirs = learned(config)[0], learned(without)[0]
    change = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), ours, theirs)
    assert max(jax.tree.leaves(change)) > 0.01 * config.rl.optimizer.learning_rate


@pytest.mark.slow
def test_a_scheduled_coefficient_is_its_value_times_the_factor_of_the_updates_done():
    plain = shipped(CONFIGS[0])
    linear = {"kl_coef_schedule": "linear", "kl_coef_schedule_kwargs": {"end": 0.5}}
    config = dataclasses.replace(plain, haepo=dataclasses.replace(plain.haepo, **linear))
    half = dataclasses.replace(plain, haepo=dataclasses.replace(plain.haepo, kl_coef=plain.haepo.kl_coef * 0.75))
    ours, metrics = learned(config, updates_done=config.rl.num_updates // 2)
    assert float(metrics["haepo.kl_coef_scheduled"]) == pytest.approx(half.haepo.kl_coef)
    theirs, others = learned(half)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours, theirs)
    assert metrics.keys() - others.keys() == {"haepo.kl_coef_scheduled"}


@pytest.mark.parametrize("moved", [0.0, 0.7])
def test_a_response_counts_by_its_importance_ratio_in_a_later_epoch_of_rloo(moved):
    config = dataclasses.replace(shipped(CONFIGS[0]), algorithm="rloo")
    rows, returns = sequences(GROUPS * SAMPLES), jnp.arange(8.0) % 3
    behaviour = -jnp.linspace(0.5, 2.0, 8 * RESPONSE).reshape(8, RESPONSE)
    experience = Experience(rows, behaviour, behaviour, returns)
    objective = _open(config, experience, RESPONSE).make_loss(get_method_settings(config))
    log_probs = behaviour + moved * jnp.linspace(-1, 1, RESPONSE)
    gradient = jax.grad(lambda log_probs: objective(log_probs)[0])(log_probs)
    valid = np.asarray(rows.valid[:, -RESPONSE:])
    by_group = np.asarray(returns).reshape(GROUPS, SAMPLES)
    advantages = (by_group - (by_group.sum(-1, keepdims=True) - by_group) / (SAMPLES - 1)).ravel()
    ratios = np.exp(np.where(valid, log_probs - behaviour, 0).sum(-1))
    np.testing.assert_allclose(gradient, -(advantages * ratios)[:, None] * valid / 8, rtol=1e-5, atol=1e-7)
    assert (np.abs(ratios - 1).max() > 0.1) == (moved > 0)


def test_a_method_from_outside_learns_by_its_own_loss():
    config = dataclasses.replace(shipped(CONFIGS[0]), algorithm="helpers.own_methods:ON_LANGUAGE")
    config = dataclasses.replace(config, algorithm_params={"weight": 2.0})
    rows, returns = sequences(GROUPS * SAMPLES), jnp.arange(8.0) % 3
    log_probs = -jnp.linspace(0.5, 2.0, 8 * RESPONSE).reshape(8, RESPONSE)
    experience = Experience(rows, log_probs, log_probs, returns)
    objective = _open(config, experience, RESPONSE).make_loss(get_method_settings(config))
    (_, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(log_probs)
    valid = np.asarray(rows.valid[:, -RESPONSE:])
    np.testing.assert_allclose(gradient, -2.0 * np.asarray(returns)[:, None] * valid / 8, rtol=1e-6)
    assert metrics.keys() == {"sampler_gap"}


@pytest.mark.slow
def test_the_sampler_s_gap_is_that_before_the_policy_moves():
    _, metrics = learned(shipped(CONFIGS[0]))
    assert float(metrics["sampler_gap"]) < 1e-4


@pytest.mark.parametrize("algorithm", ["haepo", "grpo", "rloo"])
def test_a_group_that_does_not_count_changes_nothing_of_what_the_others_teach(algorithm):
    config = dataclasses.replace(shipped(CONFIGS[0]), algorithm=algorithm)
    rows, returns = sequences(2 * GROUPS * SAMPLES), jnp.arange(16.0) % 5
    behaviour = -jnp.linspace(0.5, 2.0, 16 * RESPONSE).reshape(16, RESPONSE)
    log_probs = behaviour + 0.3 * jnp.sin(jnp.arange(16.0))[:, None]

    def learnt(count, counts):
        first = jax.tree.map(lambda leaf: leaf[:count], (rows, behaviour, behaviour - 0.1, returns))
        experience = Experience(first[0], first[2], first[1], first[3], counts)
        objective = _open(config, experience, RESPONSE).make_loss(get_method_settings(config))
        return jax.value_and_grad(objective, has_aux=True)(log_probs[:count])

    (masked, metrics), slopes = learnt(16, jnp.arange(16) < 8)
    (alone, wanted), expected = learnt(8, None)
    np.testing.assert_allclose(masked, alone, rtol=1e-6)
    np.testing.assert_allclose(slopes[:8], expected, rtol=1e-5, atol=1e-8)
    assert not np.any(slopes[8:]) and np.any(slopes[:8])
    assert metrics["sampler_gap"] == wanted["sampler_gap"]
