"""The same numbers as the losses of TRL, verl and OpenRLHF, on one batch and in float64.

Runs where TRL is installed, or with the interpreter named in HAEPO_TORCH_PYTHON, for as many of the libraries as that
one has. What they do otherwise is said beside the case: there the numbers are equal after it is taken into account.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import library_losses
from helpers.torch_python import find_python, run_script

import haepo_jax.losses as hj
from haepo_jax.losses import presets

OWN = SimpleNamespace(**library_losses.SETTINGS)
LOW, HIGH = OWN.importance
GROUPS, SAMPLES, STEPS = 3, 4, 7
ROWS = GROUPS * SAMPLES


def make_batch():
    """Responses `[12, 7]` of 1 to 7 steps to 3 prompts, the second with equal returns; garbage where masked.

    The libraries take a batch as rows and know no groups but in the advantages, so that here all rows are one group.
    """
    rng = np.random.default_rng(0)
    log_probs = -np.exp(rng.normal(size=(ROWS, STEPS)))
    behaviour = log_probs - 0.3 * rng.standard_t(2, size=log_probs.shape)
    lengths = 1 + rng.permutation(ROWS) % STEPS
    returns = rng.normal(size=(GROUPS, SAMPLES))
    returns[1] = 0.3
    values = rng.normal(size=log_probs.shape)
    where = np.arange(STEPS) < lengths[:, None]
    return {
        "log_probs": log_probs,
        "behaviour": behaviour,
        "sampler": behaviour - 0.5 * rng.normal(size=log_probs.shape),
        "reference": log_probs + 0.4 * rng.normal(size=log_probs.shape),
        "where": where,
        "returns": returns,
        "advantages": np.where(np.arange(ROWS) == 5, 0, rng.normal(size=ROWS)),
        "step_advantages": rng.normal(size=log_probs.shape),
        "desirable": np.arange(ROWS) % 3 > 0,
        "kl_log_likelihoods": rng.normal(size=ROWS),
        "kl_reference": rng.normal(size=ROWS) - 1,
        "values": values,
        "behaviour_values": values - 0.3 * rng.normal(size=values.shape),
        "targets": values + rng.normal(size=values.shape),
        "rewards": np.where(where, rng.normal(size=values.shape), 0),
    }


BATCH = SimpleNamespace(**make_batch())


def ratio(preset, **options):
    return lambda x: preset(x, BATCH.behaviour, BATCH.advantages, where=BATCH.where, **options)


def weights(level, mode, low=None, high=None):
    options = {"level": level, "mode": mode, "low": low, "high": high, "where": BATCH.where}
    return hj.importance_weights(BATCH.behaviour - BATCH.sampler, **options)


def sums(x):
    return jnp.sum(jnp.where(BATCH.where, x, 0), axis=-1)


def halves(of_rows):
    """Pairs: the first half of the rows is preferred, each to one of the others."""
    return of_rows[: ROWS // 2], of_rows[ROWS // 2 :]


def means(x):
    return sums(x) / BATCH.where.sum(-1)


def listwise(x):
    chosen_first = [jnp.stack(halves(sums(array)), axis=-1) for array in (x, BATCH.reference)]
    return hj.listwise_preference_loss(*chosen_first, jnp.broadcast_to(jnp.array([1.0, 0.0]), (6, 2)), beta=OWN.beta)


def kto(x, kl):
    desirable_weight, undesirable_weight = OWN.weights
    options = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    return hj.kto_loss(sums(x), sums(BATCH.reference), BATCH.desirable, beta=OWN.beta, kl=kl, **options)


def first_is_empty():
    where = BATCH.where.copy()
    where[0] = False
    return where


def weighed_dapo(**of_weights):
    def loss_of(x):  # the weights are computed in here, where numbers are in float64
        return ratio(presets.dapo, importance_weights=weights(**of_weights))(x)

    return loss_of


def masked_by_means(x):
    """OpenRLHF drops responses by their mean step, and weighs the steps of the others by their own ratios."""
    kept = weights("geometric_mean", "mask", LOW, HIGH) > 0
    return ratio(presets.dapo, importance_weights=jnp.where(kept, weights("token", "mask"), 0))(x)


def of_the_sampler(x):
    """TRL multiplies the ratio to the policy before the update by that of trainer to sampler."""
    return presets.vespo(x, BATCH.sampler, BATCH.advantages, where=BATCH.where)


SEQUENCE_BOUNDS = {"clip_low": OWN.sequence_low, "clip_high": OWN.sequence_high}
LOSSES = {
    "grpo": ratio(presets.grpo),
    "grpo_of_an_empty_response": lambda x: presets.grpo(x, BATCH.behaviour, BATCH.advantages, where=first_is_empty()),
    "grpo_kl": ratio(presets.grpo, reference_log_probs=BATCH.reference, kl_coef=OWN.kl_coef),
    "dr_grpo": ratio(presets.dr_grpo, max_steps=OWN.max_steps),
    "dapo": ratio(presets.dapo),
    "dapo_weighed": weighed_dapo(level="token", mode="truncate", low=LOW, high=HIGH),
    "dapo_capped": weighed_dapo(level="token", mode="truncate", high=HIGH),
    "dapo_masked": weighed_dapo(level="token", mode="mask", low=LOW, high=HIGH),
    "dapo_masked_by_means": masked_by_means,
    "ppo": lambda x: hj.clipped_surrogate_loss(
        x, BATCH.behaviour, BATCH.step_advantages, clip_epsilon=OWN.clip, where=BATCH.where
    ),
    "gspo": ratio(presets.gspo, **SEQUENCE_BOUNDS),
    "gmpo": ratio(presets.gmpo),
    "cispo": ratio(presets.cispo),
    "sapo": ratio(presets.sapo, temperatures=OWN.temperatures),
    "vespo": ratio(presets.vespo, kernels=OWN.kernels),
    "vespo_of_the_sampler": of_the_sampler,
    "dpo": lambda x: hj.dpo_loss(*halves(sums(x)), *halves(sums(BATCH.reference)), beta=OWN.beta),
    "dpo_smoothed": lambda x: hj.dpo_loss(
        *halves(sums(x)), *halves(sums(BATCH.reference)), beta=OWN.beta, label_smoothing=OWN.smoothing
    ),
    "ipo": lambda x: hj.ipo_loss(*halves(sums(x)), *halves(sums(BATCH.reference)), beta=OWN.beta),
    "ipo_of_means": lambda x: hj.ipo_loss(*halves(means(x)), *halves(means(BATCH.reference)), beta=OWN.beta),
    "simpo": lambda x: hj.simpo_loss(*halves(sums(x)), *halves(BATCH.where.sum(-1)), beta=OWN.beta, margin=OWN.margin),
    "kto": lambda x: kto(x, np.mean(BATCH.kl_log_likelihoods - BATCH.kl_reference)),
    "kto_of_the_reference": lambda x: kto(x, 0.0),
    "rloo": lambda x: hj.rloo_loss(sums(x).reshape(GROUPS, SAMPLES), BATCH.returns),
    "value": lambda x: hj.clipped_value_loss(
        x, BATCH.behaviour_values, BATCH.targets, clip_epsilon=OWN.value_clip, where=BATCH.where
    ),
}
"""Of the log-probabilities `[12, 7]`, or values; pairs are the first half of the rows and the second."""


def of_sample_deviations(epsilon):
    """They divide by the sample's standard deviation, and add more to it."""
    ours = hj.group_relative_advantages(BATCH.returns) * (BATCH.returns.std(-1, keepdims=True) + 1e-8)
    return (ours / (BATCH.returns.std(-1, ddof=1, keepdims=True) + epsilon)).ravel()


def whitened_over_steps():
    """verl lets a response count by its length, and divides by the sample's standard deviation."""
    lengths = BATCH.where.sum(-1)
    of_steps = hj.reinforce_plus_plus_advantages(np.repeat(BATCH.returns.ravel(), lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return of_steps[starts] * np.sqrt(1 - 1 / lengths.sum())


def whitened(baseline):
    """Of equal lengths only the sample's standard deviation is left."""
    ours = hj.reinforce_plus_plus_advantages(BATCH.returns, baseline=baseline)
    return ours.ravel() * np.sqrt(1 - 1 / (ROWS * STEPS))


def generalized_returns():
    last = np.arange(STEPS) == BATCH.where.sum(-1, keepdims=True) - 1
    values = BATCH.behaviour_values
    advantages = hj.generalized_advantages(
        BATCH.rewards,
        values,
        np.roll(values, -1, axis=-1),
        terminated=last,
        done=last,
        discount=OWN.discount,
        gae_lambda=OWN.gae_lambda,
    )
    return jnp.where(BATCH.where, advantages + values, 0)


VALUES = {
    "group_relative_advantages_unscaled": lambda: hj.group_relative_advantages(BATCH.returns, scale=False).ravel(),
    "leave_one_out_advantages": lambda: hj.leave_one_out_advantages(BATCH.returns).ravel(),
    "reinforce_plus_plus_advantages": whitened_over_steps,
    "reinforce_plus_plus_advantages_of_equal_lengths": lambda: whitened(baseline=False),
    "reinforce_plus_plus_advantages_with_a_baseline": lambda: whitened(baseline=True),
    "generalized_returns": generalized_returns,
    **{
        f"importance_{level}_{mode}": lambda level=level, mode=mode: weights(level, mode, LOW, HIGH)
        for level in ("token", "sequence")
        for mode in ("truncate", "mask")
    },
    **{
        f"importance_{level}_cap": lambda level=level: weights(level, "truncate", high=HIGH)
        for level in ("token", "sequence")
    },
}
"""What has no slopes."""
OF_THE_GROUP = ("group_relative_advantages_unscaled", "leave_one_out_advantages")
COMPARED = {
    "trl": (
        *("grpo", "grpo_of_an_empty_response", "grpo_kl", "dr_grpo", "dapo", "dapo_weighed", "gspo", "gmpo", "cispo"),
        *("sapo", "vespo", "vespo_of_the_sampler", "dpo", "ipo_of_means", "simpo", "kto", "kto_of_the_reference"),
        *("rloo", "group_relative_advantages", *OF_THE_GROUP),
        *(f"importance_{level}_{mode}" for level in ("token", "sequence") for mode in ("truncate", "mask")),
    ),
    "verl": (
        *("grpo", "grpo_of_an_empty_response", "grpo_kl", "dr_grpo", "dapo", "dapo_capped", "ppo", "gspo", "gmpo"),
        *("cispo", "sapo", "value", "group_relative_advantages", *OF_THE_GROUP, "generalized_returns"),
        "reinforce_plus_plus_advantages",
        "reinforce_plus_plus_advantages_of_equal_lengths",
        "reinforce_plus_plus_advantages_with_a_baseline",
        *(f"importance_{level}_{mode}" for level in ("token", "sequence") for mode in ("cap", "mask")),
    ),
    "openrlhf": (
        *("grpo", "grpo_of_an_empty_response", "dapo", "dapo_weighed", "dapo_masked", "dapo_masked_by_means", "ppo"),
        *("gspo", "dpo", "dpo_smoothed", "ipo", "value"),
    ),
}
"""What each library has of this."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the libraries' imports take minutes of a busy machine


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """What the libraries make of the batch; or skips and says why."""
    python = find_python("torch", "trl", needs=f"torch and one of {', '.join(library_losses.LIBRARIES)}")
    folder = tmp_path_factory.mktemp("libraries")
    np.savez(folder / "batch.npz", **vars(BATCH))
    done = run_script(python, library_losses.__file__, folder / "batch.npz", folder / "outputs.npz", timeout=480)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "outputs.npz"))


@pytest.fixture
def find(libraries):
    """`library -> {case: {value, slopes}}`, or skips where the library is missing."""

    def cases_of(library):
        if f"{library}/missing" in libraries:
            pytest.skip(f"the interpreter has no {library}: {libraries[f'{library}/missing']}")
        found = {}
        for key, array in libraries.items():
            if key.startswith(f"{library}/") and key.count("/") == 2:
                _, case, name = key.split("/")
                found.setdefault(case, {})[name] = array
        return found

    return cases_of


@pytest.mark.parametrize("library", COMPARED)
def test_all_that_a_library_was_asked_for_is_compared(find, library):
    assert find(library).keys() == set(COMPARED[library])


def assert_same(ours, theirs):
    """To what a 1e-8 that some of them add to a count makes."""
    assert np.shape(ours) == np.shape(theirs)
    assert np.std(theirs) > 0 or np.ndim(theirs) == 0
    np.testing.assert_allclose(ours, theirs, rtol=3e-8, atol=1e-10)


@pytest.mark.parametrize(("library", "case"), [(name, case) for name in COMPARED for case in COMPARED[name]])
def test_has_the_numbers_of(find, x64, library, case):
    theirs = find(library)[case]
    if case == "group_relative_advantages":
        epsilon = library_losses.TRL_EPSILON if library == "trl" else library_losses.VERL_EPSILON
        assert_same(of_sample_deviations(epsilon), theirs["value"])
        return
    if case in VALUES:
        assert_same(VALUES[case](), theirs["value"])
        return
    of = jax.jit(jax.value_and_grad(lambda x: LOSSES[case](x)[0]))
    value, slopes = of(jnp.asarray(BATCH.values if case == "value" else BATCH.log_probs))
    assert value.dtype == slopes.dtype == jnp.float64
    factor = 1.0
    if case == "grpo_of_an_empty_response" and library == "trl":
        factor = ROWS / (ROWS - 1)  # which counts an empty response in its mean, and others do not
    assert_same(slopes, factor * theirs["slopes"])
    if case != "rloo":  # theirs is the ratio, ours its logarithm, whose slopes agree on fresh samples
        assert_same(value, factor * theirs["value"])
