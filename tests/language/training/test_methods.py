"""Every method on language models: what padding, microbatches, weights of tokens and a dual do to what it learns.

The policy is one table of logits, a row for each position, so that programs are small.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.language.config import ON_LANGUAGE, from_config_dict, get_method_settings
from haepo_jax.language.model.sharding import make_mesh
from haepo_jax.language.training import group_update
from haepo_jax.language.training.group_update import (
    Experience,
    _open,
    make_init_adaptation,
    make_learn,
    make_optimizer_of,
)
from haepo_jax.language.training.learner import init_learner
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.methods import Adaptation

pytestmark = pytest.mark.usefixtures("exact_products")

GROUPS, SAMPLES, RESPONSE, VOCAB = 3, 4, 5, 7
ROWS = GROUPS * SAMPLES
QUICK = ("dapo",)
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ON_LANGUAGE]
NO_PENALTY = {"kl_penalty": 0.0, "missing_eos_penalty": 0.0}


def config_of(algorithm, rl=None, **own):
    values = {"num_samples": SAMPLES, "num_prompts": GROUPS, "gradient": "one_shot", "microbatch": 5} | NO_PENALTY
    # Adam with its own eps makes a step of what is rounding alone, as of a token of a group of equal returns.
    optimizer = {"learning_rate": 0.05, "schedule": "constant", "transform_params": {"eps": 1e-5}}
    values |= {"optimizer": optimizer} | (rl or {})
    return from_config_dict({"algorithm": algorithm, "rl": values, algorithm: own})


def drawn(seed, *shape):
    return np.random.default_rng(seed).uniform(-1.5, -0.2, shape).astype(np.float32)


def experience(response=RESPONSE):
    """Responses of 1 to 5 tokens; of `response` tokens with padding, the rest of it garbage."""
    rng = np.random.default_rng(0)
    lengths = 1 + np.arange(ROWS) % RESPONSE
    valid = np.arange(response) < lengths[:, None]
    tokens = np.where(valid, np.pad(rng.integers(0, VOCAB, (ROWS, RESPONSE)), ((0, 0), (0, response - RESPONSE))), 3)
    sequences = Sequences(
        jnp.asarray(np.pad(tokens, ((0, 0), (1, 0))), jnp.int32),
        jnp.asarray(np.pad(valid, ((0, 0), (1, 0)), constant_values=True)),
    )
    pad = ((0, 0), (0, response - RESPONSE))
    reference, behaviour = (np.pad(drawn(seed, ROWS, RESPONSE), pad, constant_values=-77.0) for seed in (1, 2))
    returns = jnp.asarray(np.random.default_rng(3).integers(0, 2, ROWS), jnp.float32)
    return Experience(sequences, jnp.asarray(reference), jnp.asarray(behaviour), returns)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ON_LANGUAGE)
def test_padding_changes_neither_the_loss_nor_its_slopes(algorithm):
    own = {"aggregation": "token_mean"} if algorithm in ("dr_grpo", "maxrl") else {}
    config = config_of(algorithm, **own)  # theirs divides by the length that there may be

    def of(response):
        given = experience(response)
        loss = _open(config, given, response).make_loss(get_method_settings(config))
        log_probs = given.behaviour_log_probs + 0.3 * jnp.cos(jnp.arange(float(ROWS)))[:, None]
        return jax.jit(jax.value_and_grad(lambda log_probs: loss(log_probs)[0]))(log_probs)

    (loss, slopes), (padded, padded_slopes) = of(RESPONSE), of(RESPONSE + 3)
    np.testing.assert_allclose(padded, loss, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(padded_slopes[:, :RESPONSE], slopes, rtol=1e-4, atol=1e-7)
    assert not np.any(padded_slopes[:, RESPONSE:]) and np.any(slopes)
    valid = np.asarray(experience().sequences.valid)[:, 1:]
    assert not np.any(np.where(valid, 0, slopes))


def score(decoder, params, rows):
    """The table's log-probabilities of the tokens."""
    del decoder
    tokens = rows.tokens[:, 1:]
    logits = jnp.broadcast_to(params["table"], (*tokens.shape, VOCAB))
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


PROGRAMS = {}


def learn_of(config):
    """The compiled epochs; configs that are alike share a program."""
    if repr(config) not in PROGRAMS:
        PROGRAMS[repr(config)] = jax.jit(make_learn(config, None, RESPONSE, score=score))
    return PROGRAMS[repr(config)]


def learnt(config, given=None, updates=1):
    """The learner and the metrics after these updates, each on the same batch."""
    given = experience() if given is None else given
    params = {"table": jnp.asarray(np.random.default_rng(5).normal(size=(RESPONSE, VOCAB)), jnp.float32)}
    learner = init_learner(
        params,
        make_optimizer_of(config),
        seed=0,
        mesh=make_mesh(1, rows=8),
        init_adaptation=make_init_adaptation(config),
    )
    metrics = None
    for _ in range(updates):
        learner, metrics = learn_of(config)(learner, None, given)
    return learner, metrics


@pytest.mark.parametrize("algorithm", EVERY)
def test_microbatches_that_cut_groups_change_nothing(algorithm):
    whole, pieces = (config_of(algorithm, {"gradient": gradient}) for gradient in ("one_shot", "two_pass"))
    (ours, metrics), (theirs, others) = learnt(whole), learnt(pieces)
    np.testing.assert_allclose(theirs.trained["table"], ours.trained["table"], rtol=1e-4, atol=1e-6)
    assert metrics.keys() == others.keys() >= {"loss", "grad_norm"}
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    assert metrics["grad_norm"] > 0


class TestWeightsOfTokens:
    def test_the_slopes_of_a_fresh_batch_are_those_of_grpo_times_the_ratio_of_trainer_to_sampler(self):
        given = experience()
        config = config_of("grpo", {"num_epochs": 1, "importance": {"level": "token", "high": 1.5}}, kl_coef=0.0)
        _, metrics = learnt(config, given)
        params = {"table": jnp.asarray(np.random.default_rng(5).normal(size=(RESPONSE, VOCAB)), jnp.float32)}
        trainer = np.asarray(score(None, params, given.sequences), np.float64)
        valid = np.asarray(given.sequences.valid)[:, 1:]
        ratios = np.where(valid, np.exp(trainer - np.asarray(given.behaviour_log_probs, np.float64)), 0)
        weights = np.minimum(ratios, 1.5)
        returns = np.asarray(given.returns, np.float64).reshape(GROUPS, SAMPLES)
        advantages = (returns - returns.mean(-1, keepdims=True)) / (returns.std(-1, keepdims=True) + 1e-8)
        slopes = -weights * advantages.reshape(-1, 1) * valid / valid.sum(-1, keepdims=True) / ROWS
        loss = lambda params: jnp.sum(slopes * score(None, params, given.sequences))  # noqa: E731
        expected = np.linalg.norm(jax.grad(loss)(params)["table"])
        np.testing.assert_allclose(metrics["grad_norm"], expected, rtol=1e-4)
        np.testing.assert_allclose(metrics["importance_weight"], weights[valid].mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["importance_held"], np.mean(ratios[valid] > 1.5), rtol=1e-6)
        gap = np.abs(np.sum(np.where(valid, trainer - given.behaviour_log_probs, 0), axis=-1)).max()
        np.testing.assert_allclose(metrics["sampler_gap"], gap, rtol=1e-5)

    @pytest.mark.slow
    def test_where_sampler_and_trainer_agree_they_change_nothing(self):
        params = {"table": jnp.asarray(np.random.default_rng(5).normal(size=(RESPONSE, VOCAB)), jnp.float32)}
        given = experience()
        given = given._replace(behaviour_log_probs=score(None, params, given.sequences))
        plain, weighed = (
            learnt(config_of("dapo", {"importance": {"level": level}}), given)[0].trained["table"]
            for level in ("none", "sequence")
        )
        np.testing.assert_allclose(weighed, plain, rtol=1e-5, atol=1e-7)


class TestAdaptiveHaepo:
    @pytest.mark.slow
    def test_the_sharpness_that_a_share_of_the_responses_gives_has_no_unit(self):
        settings = {"adapt": "ess", "normalization": "none", "projection": "forward", "kl_coef": 0.0}
        given = experience()
        given = given._replace(returns=jnp.asarray(np.random.default_rng(6).normal(size=ROWS), jnp.float32))
        config = config_of("haepo", {"gradient": "two_pass"}, **settings)
        (ours, metrics), (theirs, _) = (
            learnt(config, given._replace(returns=factor * given.returns)) for factor in (1.0, 40.0)
        )
        np.testing.assert_allclose(theirs.trained["table"], ours.trained["table"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics["target_effective_sample_size"], 0.5 * SAMPLES, rtol=1e-3)

    def test_a_dual_moves_both_weights_with_each_update_from_their_coefficients(self):
        own = {"adapt": "dual", "entropy_coef": 0.3, "kl_coef": 0.2, "target_kl": 1e-4, "dual_learning_rate": 0.2}
        config = config_of("haepo", {"gradient": "two_pass"}, **own)
        (first, begun), (_, after) = learnt(config), learnt(config, updates=2)
        np.testing.assert_allclose([begun["entropy_weight"], begun["kl_weight"]], [0.3, 0.2], rtol=1e-5)
        moved = np.log([after["entropy_weight"] / 0.3, after["kl_weight"] / 0.2])
        np.testing.assert_allclose(
            np.exp([first.adaptation.entropy_coef, first.adaptation.kl_coef]),
            [after["entropy_weight"], after["kl_weight"]],
            rtol=1e-5,
        )
        spread = np.log(SAMPLES / begun["effective_sample_size"]) / np.log(2) - 1
        np.testing.assert_allclose(moved[0], 0.2 * np.clip(spread, -1, 1), rtol=1e-3)
        np.testing.assert_allclose(moved[1], 0.2, rtol=1e-3)  # the weights are far beyond the limit

    def test_a_method_whose_settings_stay_keeps_no_state(self):
        assert make_init_adaptation(config_of("haepo")) is None
        assert make_init_adaptation(config_of("vmpo")) is not None


@pytest.mark.slow
def test_an_adaptation_sees_the_gradient_of_what_the_method_takes():
    """Through the pull-back of a `SeenBatch`, in microbatches: of sums, and of log-probabilities token by token."""
    config = config_of("vmpo")
    params = {"table": jnp.asarray(np.random.default_rng(5).normal(size=(RESPONSE, VOCAB)), jnp.float32)}
    given, seen = experience(), []

    def begin(settings, state, batch):
        seen.append(batch)
        values, pull = batch.differentiate()
        slopes = jnp.cos(jnp.arange(float(ROWS))).reshape(values.shape)
        return settings, (values, pull(slopes)["table"])

    spying = Adaptation(lambda settings, params: None, begin, lambda settings, state, batch, metrics: state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_update, "find_adaptation_of", lambda config: spying)
        learn = make_learn(config, None, RESPONSE, score=score)
        learner, _ = learn(
            init_learner(params, make_optimizer_of(config), seed=0, mesh=make_mesh(1, rows=8)), None, given
        )
    valid = given.sequences.valid[:, 1:]

    def weighted(params):
        sums = jnp.sum(jnp.where(valid, score(None, params, given.sequences), 0), axis=-1)
        return jnp.sum(jnp.cos(jnp.arange(float(ROWS))) * sums), sums

    (_, sums), expected = jax.value_and_grad(weighted, has_aux=True)(params)
    values, got = learner.adaptation
    np.testing.assert_allclose(values.ravel(), sums, rtol=1e-5)
    np.testing.assert_allclose(got, expected["table"], rtol=1e-4, atol=1e-6)
    assert seen[0].group.returns.shape == (GROUPS, SAMPLES)
