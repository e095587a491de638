"""Arguments of all public losses: a wrong one is refused in words that name it, and 0 times infinity adds nothing."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import losses

GROUP, STEPS = jnp.array([-1.0, -2.0, -4.0]), -jnp.ones((3, 2))
FLAGS, MASK = jnp.zeros(3, bool), jnp.ones(3, bool)
NUMBERS = {"entropy_coef": 0.1, "kl_coef": 0.1, "temperature": 1.0}
CALLS = {
    "haepo_loss": {"scores": GROUP, "returns": GROUP, "reference_scores": GROUP, "where": MASK, **NUMBERS},
    "haepo_coefficients": {"scores": GROUP, "returns": GROUP, "reference_scores": GROUP, "where": MASK, **NUMBERS},
    "grpo_loss": {
        "log_probs": STEPS,
        "behaviour_log_probs": STEPS,
        "advantages": GROUP,
        "reference_log_probs": STEPS,
        "clip_epsilon": 0.2,
        "kl_coef": 0.1,
        "where": jnp.ones((3, 2), bool),
    },
    "policy_ratio_loss": {
        "log_probs": STEPS,
        "behaviour_log_probs": STEPS,
        "advantages": GROUP,
        "reference_log_probs": STEPS,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_coef": 0.1,
        "importance_weights": jnp.ones((3, 2)),
        "where": jnp.ones((3, 2), bool),
    },
    "importance_weights": {"log_ratio": GROUP, "level": "token", "low": 0.5, "high": 2.0, "where": MASK},
    "varied_groups": {"returns": GROUP, "where": MASK},
    "finished_mask": {"done": FLAGS, "where": MASK},
    "ipo_loss": {
        "chosen": GROUP,
        "rejected": GROUP,
        "reference_chosen": GROUP,
        "reference_rejected": GROUP,
        "beta": 0.1,
        "where": MASK,
    },
    "simpo_loss": {
        "chosen": GROUP,
        "rejected": GROUP,
        "chosen_lengths": GROUP,
        "rejected_lengths": GROUP,
        "beta": 0.1,
        "margin": 0.1,
        "where": MASK,
    },
    "kto_loss": {
        "log_likelihoods": GROUP,
        "reference_log_likelihoods": GROUP,
        "desirable": FLAGS,
        "beta": 0.1,
        "kl": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "where": MASK,
    },
    "listwise_preference_loss": {
        "log_likelihoods": GROUP,
        "reference_log_likelihoods": GROUP,
        "returns": GROUP,
        "beta": 0.1,
        "where": MASK,
    },
    "gvpo_loss": {
        "log_likelihoods": GROUP,
        "reference_log_likelihoods": GROUP,
        "returns": GROUP,
        "beta": 0.1,
        "where": MASK,
    },
    "vmpo_loss": {
        "log_likelihoods": GROUP,
        "advantages": GROUP,
        "kl": GROUP,
        "temperature": 1.0,
        "temperature_bound": 0.1,
        "kl_multiplier": 1.0,
        "kl_bound": 0.1,
        "top_share": 0.5,
        "where": MASK,
    },
    "reinforce_plus_plus_advantages": {"returns": GROUP, "where": MASK},
    "maxrl_advantages": {"returns": -GROUP, "where": MASK},
    "clipped_surrogate_loss": {
        "log_probs": GROUP,
        "behaviour_log_probs": GROUP,
        "advantages": GROUP,
        "clip_epsilon": 0.2,
        "where": MASK,
    },
    "approximate_kl": {"log_probs": GROUP, "behaviour_log_probs": GROUP, "where": MASK},
    "dpo_loss": {
        "chosen": GROUP,
        "rejected": GROUP,
        "reference_chosen": GROUP,
        "reference_rejected": GROUP,
        "beta": 0.1,
        "label_smoothing": 0.1,
        "where": MASK,
    },
    "reinforce_loss": {"log_likelihoods": GROUP, "advantages": GROUP, "where": MASK},
    "rloo_loss": {"log_likelihoods": GROUP, "returns": GROUP, "where": MASK},
    "preference_pairs": {"returns": GROUP, "where": MASK},
    "normalize_returns": {"returns": GROUP, "where": MASK},
    "returns_sum_not_positive": {"returns": GROUP, "where": MASK},
    "group_relative_advantages": {"returns": GROUP, "where": MASK},
    "leave_one_out_advantages": {"returns": GROUP, "where": MASK},
    "generalized_advantages": {
        "rewards": GROUP,
        "values": GROUP,
        "next_values": GROUP,
        "terminated": FLAGS,
        "done": FLAGS,
        "discount": 0.9,
        "gae_lambda": 0.9,
    },
    "trajectory_returns": {"rewards": GROUP, "discount": 0.9, "where": MASK},
    "trajectory_log_likelihood": {"log_probs": GROUP, "where": MASK},
    "trajectory_scores": {"log_likelihoods": GROUP, "lengths": GROUP, "behaviour_log_likelihoods": GROUP},
    "plackett_luce_log_weights": {"scores": GROUP, "temperature": 1.0, "where": MASK},
    "weights_entropy": {"log_weights": GROUP},
    "weights_kl": {"log_weights": GROUP, "reference_log_weights": GROUP},
    "effective_sample_size": {"log_weights": GROUP},
    "first_episode_mask": {"done": FLAGS},
    "target_temperature": {"normalized_returns": GROUP, "effective_sample_size": 0.5, "where": MASK},
    "target_log_weights": {
        "normalized_returns": GROUP,
        "reference_log_weights": GROUP,
        "temperature": 1.0,
        "where": MASK,
    },
}
OPTIONAL = {"where", "reference_scores", "reference_log_probs", "lengths", "behaviour_log_likelihoods"}
OPTIONAL_THERE = {
    ("target_log_weights", "reference_log_weights"),
    ("target_log_weights", "temperature"),
    ("policy_ratio_loss", "clip_low"),
    ("policy_ratio_loss", "clip_high"),
    ("policy_ratio_loss", "importance_weights"),
    ("importance_weights", "low"),
    ("importance_weights", "high"),
    ("vmpo_loss", "kl"),
    ("vmpo_loss", "kl_multiplier"),
    ("vmpo_loss", "kl_bound"),
}
CHOICES = [
    ("haepo_loss", "normalization", "zscore, sum, none"),
    ("haepo_loss", "projection", "reverse, forward"),
    ("haepo_coefficients", "projection", "reverse, forward"),
    ("haepo_loss", "target", "boltzmann, linear"),
    ("haepo_coefficients", "target", "boltzmann, linear"),
    ("target_log_weights", "kind", "boltzmann, linear"),
    ("target_temperature", "kind", "boltzmann, linear"),
    ("haepo_coefficients", "normalization", "zscore, sum, none"),
    ("normalize_returns", "method", "zscore, sum, none"),
    ("grpo_loss", "aggregation", "sequence_mean, token_mean, constant"),
    ("policy_ratio_loss", "aggregation", "sequence_mean, token_mean, constant"),
    ("policy_ratio_loss", "level", "token, sequence, geometric_mean"),
    ("policy_ratio_loss", "shape", "clip, cispo, sapo, vespo, none"),
    ("importance_weights", "level", "token, sequence, geometric_mean"),
    ("importance_weights", "mode", "truncate, mask"),
    ("preference_pairs", "pairs", "all, best_worst"),
    ("trajectory_scores", "kind", "sum, mean, log_ratio"),
]
ARGUMENTS = [
    (name, argument)
    for name, arguments in CALLS.items()
    for argument, value in arguments.items()
    if not isinstance(value, str)
]


def call(name, **changes):
    return getattr(losses, name)(**CALLS[name] | changes)


def is_number(name, argument):
    return isinstance(CALLS[name][argument], float)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
@pytest.mark.parametrize(
    "value", [None, "zscroe", {"a": 1}, [[1.0], [1.0, 2.0]]], ids=["None", "text", "dict", "rows"]
)
def test_what_is_no_number_is_named(name, argument, value):
    if value is None and (argument in OPTIONAL or (name, argument) in OPTIONAL_THERE):
        return
    with pytest.raises(TypeError, match=rf"^{argument} must be .*, got "):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if is_number(*pair)])
def test_an_array_or_nan_in_place_of_a_number_is_named(name, argument):
    with pytest.raises(ValueError, match=rf"^{argument} must be a scalar, got an array of shape \(2,\)"):
        call(name, **{argument: jnp.ones(2)})
    with pytest.raises(ValueError, match=rf"^{argument} must be .*, got nan"):
        call(name, **{argument: float("nan")})
    with pytest.raises(TypeError, match=rf"^{argument} must be real numbers, got dtype complex64"):
        call(name, **{argument: 1j})


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if not is_number(*pair)])
def test_an_array_of_another_shape_is_named_with_its_shape(name, argument):
    if len(CALLS[name].keys() - {"discount", "temperature", "clip_epsilon"}) < 2:
        return  # nothing to compare with
    other = CALLS[name][argument][..., :1]
    with pytest.raises(AssertionError, match=rf"{argument} \({'3, 1' if other.ndim == 2 else '1,'}"):
        call(name, **{argument: other})


@pytest.mark.parametrize(("name", "argument", "allowed"), CHOICES)
def test_an_unknown_choice_is_named_with_what_is_allowed(name, argument, allowed):
    for value in ("zscroe", None, 3, ["sum"]):
        sentence = re.escape(f"{argument} must be one of {allowed}, got {value!r}.")
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            call(name, **{argument: value})


def test_the_normalization_that_needs_positive_returns_is_named_as_it_was_given():
    with pytest.raises(ValueError, match=r"^normalization 'sum' needs returns with a positive sum"):
        call("haepo_loss", normalization="sum")
    with pytest.raises(ValueError, match=r"^method 'sum' needs returns with a positive sum"):
        call("normalize_returns", method="sum")


def test_a_flag_takes_no_text():
    with pytest.raises(TypeError, match=r"^scale must be True or False, got 'std'"):
        call("group_relative_advantages", scale="std")


@pytest.mark.parametrize(
    "name", ["haepo_loss", "haepo_coefficients", "normalize_returns", "plackett_luce_log_weights", "weights_kl"]
)
def test_an_axis_that_is_not_mapped_is_named(name):
    with pytest.raises(ValueError, match=r"^axis_name 'devices' is not the name of an axis that is mapped here"):
        call(name, axis_name="devices")


@pytest.mark.parametrize("kind", losses.SCORES)
@pytest.mark.parametrize("argument", ["lengths", "behaviour_log_likelihoods"])
def test_steps_in_place_of_trajectories_are_refused_where_another_argument_gives_them_away(kind, argument):
    given = {"lengths": jnp.ones(3), "behaviour_log_likelihoods": GROUP}
    steps = {"log_likelihoods": STEPS} | {name: STEPS for name in given if name != argument}
    with pytest.raises(AssertionError, match=r"trajectory_log_likelihood sums log-probabilities of steps"):
        losses.trajectory_scores(**given | steps, kind=kind)


@pytest.mark.parametrize(
    "name",
    ["haepo_loss", "reinforce_loss", "rloo_loss", "listwise_preference_loss", "gvpo_loss", "vmpo_loss", "kto_loss"],
)
def test_steps_against_one_number_a_trajectory_are_refused_with_the_way_to_sum_them(name):
    argument = next(iter(CALLS[name]))
    with pytest.raises(AssertionError, match=r"trajectory_log_likelihood sums log-probabilities of steps"):
        call(name, **{argument: STEPS})


UNBOUNDED = jnp.array([-1.0, -jnp.inf, -4.0])


def slopes(function, *args):
    """Value and gradients of a jitted function, all of whose arguments are traced."""
    return jax.jit(jax.value_and_grad(function, argnums=tuple(range(len(args)))))(*args)


class TestZeroTimesInfinity:
    """Each coefficient of 0 is traced, as a sweep's are, and what it multiplies is infinite."""

    @staticmethod
    def assert_equal(got, expected):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), got, expected)

    @pytest.mark.parametrize(("garbage", "normalization"), [(-jnp.inf, "zscore"), (jnp.nan, "none")])
    def test_of_haepo_is_the_loss_without_a_reference(self, garbage, normalization):
        spoilt = GROUP.at[1].set(garbage)

        def loss(scores, kl_coef, reference):
            return losses.haepo_loss(
                scores, GROUP, reference, entropy_coef=0.3, kl_coef=kl_coef, normalization=normalization
            )[0]

        def without(scores):
            return losses.haepo_loss(scores, GROUP, entropy_coef=0.3, kl_coef=0, normalization=normalization)[0]

        value, (slope, *_) = slopes(loss, GROUP, 0.0, spoilt)
        self.assert_equal((value, (slope,)), slopes(without, GROUP))
        coefficients = jax.jit(
            lambda kl_coef: losses.haepo_coefficients(
                GROUP, GROUP, spoilt, entropy_coef=0.3, kl_coef=kl_coef, normalization=normalization
            )
        )
        self.assert_equal(coefficients(0.0), slope)

    def test_of_haepo_is_nothing_for_the_members_of_a_sweep_alone(self):
        def loss(kl_coef):
            return losses.haepo_loss(GROUP, GROUP, UNBOUNDED, entropy_coef=0.3, kl_coef=kl_coef)[0]

        values = jax.vmap(loss)(jnp.array([0.0, 0.1]))
        assert np.isfinite(values[0]) and values[1] == jnp.inf

    def test_of_haepo_is_nothing_where_a_score_is_infinite(self):
        def loss(scores, entropy_coef):
            return losses.haepo_loss(scores, GROUP, entropy_coef=entropy_coef, kl_coef=0, normalization="none")[0]

        value, (slope, _) = slopes(loss, UNBOUNDED, 0.0)
        kept = jnp.array([0, 2])
        left_out = jnp.array([True, False, True])
        expected = losses.haepo_loss(GROUP, GROUP, entropy_coef=0, kl_coef=0, normalization="none", where=left_out)[0]
        self.assert_equal(value, expected)
        assert slope[1] == 0 and np.isfinite(slope[kept]).all()

    @pytest.mark.parametrize(("garbage", "aggregation"), [(-jnp.inf, "sequence_mean"), (jnp.nan, "token_mean")])
    def test_of_grpo_is_the_loss_without_a_reference(self, garbage, aggregation):
        options = {"clip_epsilon": 0.2, "aggregation": aggregation}

        def loss(log_probs, kl_coef, reference):
            return losses.grpo_loss(log_probs, STEPS, GROUP, reference, kl_coef=kl_coef, **options)[0]

        def without(log_probs):
            return losses.grpo_loss(log_probs, STEPS, GROUP, kl_coef=0, **options)[0]

        value, (slope, *_) = slopes(loss, STEPS + 0.01, 0.0, STEPS.at[0, 1].set(garbage))
        self.assert_equal((value, (slope,)), slopes(without, STEPS + 0.01))

    @pytest.mark.parametrize("name", ["clipped_surrogate_loss", "grpo_loss"])
    def test_of_an_advantage_adds_nothing_to_a_clipped_loss(self, name):
        shape = CALLS[name]["log_probs"]
        options = {"clip_epsilon": 0.2} | ({"kl_coef": 0} if name == "grpo_loss" else {})
        behaviour = shape.at[0].set(-jnp.inf)  # an infinite ratio

        def loss(log_probs, advantages):
            return getattr(losses, name)(log_probs, behaviour, advantages, **options)[0]

        value, (slope, _) = slopes(loss, shape, jnp.array([0.0, 1.0, -1.0]))
        assert np.isfinite(value) and np.isfinite(slope).all() and not slope[0].any() and slope[1].all()

    @pytest.mark.parametrize("name", ["reinforce_loss", "rloo_loss"])
    def test_of_an_advantage_adds_nothing_to_reinforce(self, name):
        def loss(log_likelihoods, weights):
            return getattr(losses, name)(log_likelihoods, weights)[0]

        # Four of them: a mean of three is rounded by some versions of XLA, and the second's advantage then not 0.
        log_likelihoods, weights = jnp.array([-1.0, -jnp.inf, -3.0, -4.0]), jnp.array([1.0, 0.0, 0.0, -1.0])
        value, (slope, _) = slopes(loss, log_likelihoods, weights)
        scale = 4 / 3 if name == "rloo_loss" else 1.0  # M / (M - 1), as the mean is 0
        self.assert_equal((value, slope), (-scale * 3 / 4, scale / 4 * jnp.array([-1.0, 0.0, 0.0, 1.0])))

    def test_of_label_smoothing_is_the_loss_without_it(self):
        def loss(chosen, rejected, label_smoothing):
            return losses.dpo_loss(chosen, rejected, GROUP, GROUP, beta=0.5, label_smoothing=label_smoothing)[0]

        def without(chosen, rejected):
            return losses.dpo_loss(chosen, rejected, GROUP, GROUP, beta=0.5)[0]

        value, (*got, _) = slopes(loss, GROUP, UNBOUNDED, 0.0)
        expected_value, expected = slopes(without, GROUP, UNBOUNDED)
        assert np.isfinite(value)
        self.assert_equal((value, tuple(got)), (expected_value, expected))


@pytest.mark.parametrize("name", ["policy_ratio_loss", "grpo_loss"])
@pytest.mark.parametrize("aggregation", ["constant", "token_mean"])
def test_the_most_steps_are_a_whole_number(name, aggregation):
    for value in (0, -4, True, 2.5, "ab", np.array([4, 8])):
        with pytest.raises(ValueError, match=r"^max_steps must be a whole number of at least 1, got "):
            call(name, aggregation=aggregation, max_steps=value)
    loss = {most: float(call(name, aggregation="constant", max_steps=most, kl_coef=0.0)[0]) for most in (2, 4)}
    assert loss[2] == 2 * loss[4] != 0
    assert float(call(name, aggregation="constant", max_steps=np.int64(4), kl_coef=0.0)[0]) == loss[4]


@pytest.mark.parametrize("name", ["ipo_loss", "simpo_loss", "kto_loss", "gvpo_loss", "listwise_preference_loss"])
def test_an_infinite_beta_is_refused_as_its_loss_would_be_no_number(name):
    with pytest.raises(ValueError, match=r"^beta must be finite, got inf"):
        call(name, beta=float("inf"))


def test_labels_that_are_no_booleans_are_refused():
    for labels in (jnp.array([1, -1, 1]), jnp.array([1.0, 0.0, jnp.nan])):
        with pytest.raises(TypeError, match=r"^desirable must be boolean \(True = desirable\), got dtype "):
            call("kto_loss", desirable=labels)


@pytest.mark.parametrize("value", [2, -1, np.nan])
def test_flags_may_be_numbers_but_only_0_and_1(value):
    done = np.array([[0.0], [1.0], [0.0]])
    found = losses.episodes_in_segment(done, 2)
    jax.tree.map(np.testing.assert_array_equal, found, losses.episodes_in_segment(done == 1, 2))
    constant, rows = jnp.asarray(done), done.tolist()
    for given in (done, constant, rows):  # seen where a function is traced, as well
        traced = jax.jit(lambda given=given: losses.episodes_in_segment(given, 2))
        jax.tree.map(np.testing.assert_array_equal, traced(), found)
    jax.jit(lambda flag: losses.episodes_in_segment([[flag], [flag]], 2))(jnp.float32(1))
    done[1] = value
    with pytest.raises(ValueError, match=r"^done must be booleans, or 0 and 1, got "):
        losses.episodes_in_segment(done, 2)
