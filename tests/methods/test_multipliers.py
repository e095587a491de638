"""HAEPO's multipliers: how far a batch moves them, and that the meta-gradient is the derivative that it stands for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.settings import fixed_config

from haepo_jax.config.reads import unread
from haepo_jax.errors import ConfigError
from haepo_jax.methods import Group, SeenBatch, haepo
from haepo_jax.methods.multipliers import Multipliers, make_dual, make_meta

M = 8
SETTINGS = fixed_config(
    {"haepo": {"entropy_coef": 0.2, "kl_coef": 0.1, "target_effective_sample_size": 0.5, "target_kl": 0.4}}
).haepo


def batch_of(params, settings, seed, played_by=None):
    """Bandit-like trajectories of a linear policy: as these parameters see them, played by `BEHAVIOUR` or others."""
    features, drawn = np.random.default_rng(seed).normal(size=(2, M, 3))
    features = jnp.asarray(features, jnp.float32)

    def evaluate(params):
        return jax.nn.log_sigmoid(features @ params)

    group = Group(
        returns=jnp.asarray(drawn[:, 0], jnp.float32),
        lengths=jnp.ones(M, jnp.int32),
        behaviour_log_likelihoods=evaluate(BEHAVIOUR if played_by is None else played_by),
        is_reused=True,
    )
    reference = None if settings.reference == "none" else evaluate(REFERENCE)

    def differentiate():
        values, pull_back = jax.vjp(evaluate, params)
        return values, lambda slopes: pull_back(slopes)[0]

    return SeenBatch(group, lambda settings: haepo.objective(settings, group, reference), differentiate), evaluate


BEHAVIOUR, REFERENCE = jnp.array([0.3, -0.5, 0.2]), jnp.array([0.0, -0.2, 0.1])
LAST = jnp.array([0.9, -1.0, 0.1])


class TestDual:
    @pytest.mark.parametrize(
        ("size", "kl", "moves"),
        [
            (M / 2, 0.4, (0.0, 0.0)),
            (M, 0.0, (-1.0, -1.0)),
            (M**0.75 * 2**-0.75 * 2**0.5, 0.3, (None, -0.25)),
            (1.0, 9.0, (1.0, 1.0)),
        ],
    )
    def test_a_multiplier_moves_by_the_excess_of_its_divergence_over_the_limit(self, size, kl, moves):
        dual, settings = make_dual(has_reference=True), dataclasses.replace(SETTINGS, dual_learning_rate=0.3)
        batch, _ = batch_of(LAST, settings, 0)
        before = dual.init(settings, LAST)
        metrics = {"effective_sample_size": jnp.float32(size), "weights_kl": jnp.float32(kl)}
        after = dual.end(settings, before, batch, metrics)
        expected = np.clip(np.log(M / size) / np.log(2) - 1, -1, 1) if moves[0] is None else moves[0]
        assert after.entropy_coef - before.entropy_coef == pytest.approx(0.3 * expected, abs=1e-6)
        assert after.kl_coef - before.kl_coef == pytest.approx(0.3 * moves[1], abs=1e-6)

    def test_multipliers_begin_at_the_coefficients_and_stay_within_bounds(self):
        dual, settings = make_dual(has_reference=True), dataclasses.replace(SETTINGS, dual_learning_rate=3.0)
        batch, _ = batch_of(LAST, settings, 0)
        state = dual.init(settings, LAST)
        adapted, _ = dual.begin(settings, state, batch)
        assert adapted.entropy_coef == pytest.approx(0.2) and adapted.kl_coef == pytest.approx(0.1)
        for size, bound in ((1.0, 1e2), (M, 1e-5)):
            for _ in range(20):
                metrics = {"effective_sample_size": jnp.float32(size), "weights_kl": jnp.inf if size == 1 else 0.0}
                state = dual.end(settings, state, batch, metrics)
            adapted, _ = dual.begin(settings, state, batch)
            assert (adapted.entropy_coef, adapted.kl_coef) == (pytest.approx(bound), pytest.approx(bound))

    def test_without_a_reference_there_is_one_multiplier(self):
        dual, settings = make_dual(has_reference=False), dataclasses.replace(SETTINGS, reference="none", kl_coef=0.0)
        state = dual.init(settings, LAST)
        adapted, _ = dual.begin(settings, state, batch_of(LAST, settings, 0)[0])
        assert state.kl_coef is None and adapted.kl_coef == 0


LINEAR = {"projection": "forward", "target": "linear"}


@pytest.mark.parametrize(
    ("rho", "target"),
    [(0.3, {}), pytest.param(0.5, {}, marks=pytest.mark.slow), (0.8, {}), (0.5, LINEAR)],
    ids=["0.3", "0.5", "0.8", "0.5-linear"],
)
def test_dual_holds_the_effective_sample_size_at_rho_whatever_it_begins_with(rho, target):
    """Of what 30 steps on each of 300 batches come to; scores are free, so that nothing else holds them."""
    settings = dataclasses.replace(
        SETTINGS, reference="none", kl_coef=0.0, target_effective_sample_size=rho, entropy_coef=1e-3, **target
    )
    dual, members = make_dual(has_reference=False), 32

    def batch(multipliers, key):
        group = Group(jax.random.normal(key, (M,)), jnp.ones(M, jnp.int32), jnp.zeros(M), is_reused=True)
        seen = SeenBatch(group, lambda settings: haepo.objective(settings, group, None), None)
        adapted, multipliers = dual.begin(settings, multipliers, seen)
        slopes = jax.grad(seen.make_objective(adapted), has_aux=True)
        scores = jax.lax.fori_loop(0, 30, lambda _, scores: scores - 3 * slopes(scores)[0], jnp.zeros(M))
        metrics = slopes(scores)[1]
        return dual.end(settings, multipliers, seen, metrics), metrics["effective_sample_size"]

    @jax.jit
    @jax.vmap
    def run(key):
        return jax.lax.scan(batch, dual.init(settings, None), jax.random.split(key, 300))[1]

    sizes = run(jax.random.split(jax.random.key(0), members))[:, 150:]
    divergences = jnp.log(M / sizes).mean(axis=1)
    assert jnp.abs(divergences.mean() / -np.log(rho) - 1) < 0.1
    assert jnp.abs(divergences / -np.log(rho) - 1).max() < 0.3


@pytest.mark.parametrize(
    "projection", [{"projection": "reverse"}, {"projection": "forward"}, {"projection": "forward", "target": "linear"}]
)
class TestMeta:
    def effects(self, projection):
        """Settings, the state after a step at `LAST`, and the gradient of that step by the logarithms."""
        meta, settings = make_meta(has_reference=True), dataclasses.replace(SETTINGS, **projection)
        batch, evaluate = batch_of(LAST, settings, 0)
        state = meta.end(settings, meta.init(settings, LAST), batch, {})

        def gradient(logs):
            adapted = dataclasses.replace(settings, entropy_coef=jnp.exp(logs[0]), kl_coef=jnp.exp(logs[1]))
            objective = batch.make_objective(adapted)
            return jax.grad(lambda params: objective(evaluate(params))[0])(LAST)

        return meta, settings, state, gradient, jnp.log(jnp.array([0.2, 0.1]))

    def test_the_closed_form_is_the_second_derivative_of_the_loss(self, projection):
        _, _, state, gradient, logs = self.effects(projection)
        expected = jax.jacfwd(gradient)(logs).T
        np.testing.assert_allclose(state.gradients, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(expected).max() > 1e-3

    def test_a_weight_moves_to_where_the_last_step_would_have_made_the_next_batch_better(self, projection):
        meta, settings, state, gradient, logs = self.effects(projection)
        after = LAST - 0.1 * gradient(logs)
        batch, evaluate = batch_of(after, settings, 1, played_by=after)
        returns = (batch.group.returns - batch.group.returns.mean()) / batch.group.returns.std()

        def outer(logs):
            """Minus the mean return of the next batch, each weighed by its ratio to the policy that played it."""
            ratios = jnp.exp(evaluate(LAST - 0.1 * gradient(logs)) - evaluate(after))
            return -jnp.sum(ratios / ratios.sum() * returns)

        adapted, moved = meta.begin(settings, state, batch)
        slopes = jax.grad(outer)(logs)
        moves = jnp.array(moved.multipliers) - logs
        assert (jnp.sign(moves) == -jnp.sign(slopes)).all() and jnp.abs(slopes).min() > 1e-6
        lengths = jnp.array([optax.tree.norm(row) for row in state.gradients])
        np.testing.assert_allclose(moves * lengths / (moves * lengths)[0], slopes / slopes[0], rtol=1e-3)
        assert jnp.abs(moves).max() <= settings.meta_learning_rate
        assert adapted.entropy_coef == pytest.approx(float(jnp.exp(moved.multipliers.entropy_coef)))

    def test_before_the_first_step_nothing_moves(self, projection):
        meta, settings = make_meta(has_reference=True), dataclasses.replace(SETTINGS, **projection)
        batch, _ = batch_of(LAST, settings, 0)
        _, state = meta.begin(settings, meta.init(settings, LAST), batch)
        assert state.multipliers == Multipliers(*map(jnp.log, (jnp.float32(0.2), jnp.float32(0.1))))


@pytest.mark.parametrize("adapt", ["dual", "meta"])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"entropy_coef": 0.0}, " begins with config.haepo.entropy_coef and multiplies it, so that 0 would stay 0"),
        (
            {"kl_coef": 0.0},
            " begins with config.haepo.kl_coef and multiplies .*; set it above 0, or reference to none",
        ),
        (
            {"num_epochs": 1},
            " learns from the weights at the last step on a batch, which are all equal with score log",
        ),
    ],
)
def test_what_multipliers_cannot_begin_or_learn_from_is_refused(adapt, settings, sentence):
    with pytest.raises(ConfigError, match=f"^config.haepo.adapt {adapt}{sentence}"):
        fixed_config({"haepo": {"adapt": adapt} | settings})


def test_each_adapt_reads_its_own_settings():
    of_adapts = {"target_effective_sample_size", "target_kl", "dual_learning_rate", "meta_learning_rate"}
    for adapt, own in {
        "fixed": set(),
        "ess": {"target_effective_sample_size"},
        "dual": {"target_effective_sample_size", "target_kl", "dual_learning_rate"},
        "meta": {"meta_learning_rate"},
    }.items():
        reasons = unread(fixed_config({"haepo": {"adapt": adapt}}))
        assert {name for name in of_adapts if f"haepo.{name}" not in reasons} == own
    without = fixed_config({"haepo": {"adapt": "dual", "reference": "none", "kl_coef": 0.0}})
    assert unread(without)["haepo.target_kl"].startswith("config.haepo.reference is none; it belongs to frozen or")


def test_a_language_model_is_offered_all_but_meta():
    from haepo_jax.language.config import from_config_dict as of_language

    for adapt in ("ess", "dual"):
        assert of_language({"haepo": {"adapt": adapt, "projection": "forward"}}).haepo.adapt == adapt
    with pytest.raises(ConfigError, match=r"config\.haepo\.adapt 'meta' is not known; allowed: fixed, ess, dual"):
        of_language({"haepo": {"adapt": "meta"}})
