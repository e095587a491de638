"""Masked and several choices at once: distributions against NumPy in float64, with finite gradients everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toy_environments import NVEC, choices_of, make_toy

from haepo_jax.config import PolicyConfig
from haepo_jax.environments import Discrete, MultiDiscrete
from haepo_jax.networks import make_policy, make_torso, make_value, mask_logits, split_mask

pytestmark = pytest.mark.usefixtures("exact_products")

SPACES = {"discrete": Discrete(4), "multi_discrete": MultiDiscrete(NVEC)}
FEATURES = 3


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request):
    return request.param


@functools.cache
def policy_for(space, mask_size=0):
    """A policy, and parameters far from the first ones, so that the choices differ."""
    torso = make_torso(PolicyConfig(hidden_sizes=(8,), activation="tanh"), (FEATURES,))
    policy = make_policy((FEATURES,), space, make_torso=torso, initial_log_std=0.0, mask_size=mask_size)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return policy, jax.tree.map(lambda leaf: jnp.asarray(2 * rng.normal(size=leaf.shape), jnp.float32), shapes)


def masks_of(space, batch):
    """At random, with one choice at least allowed everywhere."""
    rng = np.random.default_rng(2)
    masks = []
    for n in choices_of(space):
        mask = rng.random((*batch, n)) < 0.5
        mask[..., rng.integers(n)] = True
        masks.append(mask)
    return np.concatenate(masks, axis=-1)


def observations_of(space, batch, mask=None):
    features = np.random.default_rng(0).normal(size=(*batch, FEATURES))
    return jnp.asarray(features if mask is None else np.concatenate([features, mask], axis=-1), jnp.float32)


def reference(space, params, observations, mask):
    """Probabilities of each choice in float64: a softmax over the allowed ones."""
    (torso,) = params
    layers = [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[torso][f"Dense_{k}"]) for k in (0, 1)]
    hidden = np.tanh(np.asarray(observations[..., :FEATURES], np.float64) @ layers[0]["kernel"] + layers[0]["bias"])
    logits = hidden @ layers[1]["kernel"] + layers[1]["bias"]
    ends = np.cumsum(choices_of(space))[:-1]
    for own, allowed in zip(np.split(logits, ends, axis=-1), np.split(mask, ends, axis=-1), strict=True):
        weights = np.where(allowed, np.exp(own - own.max(axis=-1, keepdims=True)), 0.0)
        yield weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_log_probs_and_entropies_are_those_of_a_softmax_over_the_allowed_choices(space, masked, batch):
    total = sum(choices_of(space))
    mask = masks_of(space, batch) if masked else np.ones((*batch, total), bool)
    policy, params = policy_for(space, total if masked else 0)
    observations = observations_of(space, batch, mask if masked else None)
    distribution = policy.apply(params, observations)
    actions = policy.act(distribution, policy.noise(jax.random.key(4), batch))
    event = (len(choices_of(space)),) if isinstance(space, MultiDiscrete) else ()
    assert distribution.batch_shape == batch and distribution.event_shape == event
    assert actions.shape == distribution.mode().shape == batch + event and actions.dtype == jnp.int32
    each = np.asarray(actions).reshape(*batch, -1)
    log_prob, entropy, modes = 0.0, 0.0, []
    for k, probs in enumerate(reference(space, params, observations, mask)):
        chosen = np.take_along_axis(probs, each[..., k : k + 1], axis=-1)[..., 0]
        assert (chosen > 0).all()
        log_prob = log_prob + np.log(chosen)
        entropy = entropy - np.sum(probs * np.log(np.where(probs > 0, probs, 1.0)), axis=-1)
        modes.append(probs.argmax(axis=-1))
    np.testing.assert_allclose(distribution.log_prob(actions), log_prob, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(distribution.entropy(), entropy, rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(distribution.mode().reshape(*batch, -1), np.stack(modes, axis=-1))


def test_samples_are_as_frequent_as_their_probabilities(space):
    mask = masks_of(space, ())
    policy, params = policy_for(space, mask.size)
    observation = observations_of(space, (), mask)
    observations = jnp.broadcast_to(observation, (4000, *observation.shape))
    distribution = policy.apply(params, observations)
    actions = np.asarray(policy.act(distribution, policy.noise(jax.random.key(1), (4000,)))).reshape(4000, -1)
    for k, probs in enumerate(reference(space, params, observation, mask)):
        shares = np.bincount(actions[:, k], minlength=probs.size) / 4000
        np.testing.assert_allclose(shares, probs, atol=0.04)
        assert not shares[probs == 0].any()


@pytest.mark.parametrize("allowed", ["one", "none"])
def test_gradients_are_finite_where_one_choice_is_allowed_and_where_none_is(space, allowed):
    total = sum(choices_of(space))
    mask = np.zeros(total, bool)
    if allowed == "one":
        mask[np.cumsum((0, *choices_of(space)[:-1]))] = True
    policy, params = policy_for(space, total)
    observation = observations_of(space, (), mask)

    @jax.jit
    def measure(params):
        distribution = policy.apply(params, observation)
        return distribution.log_prob(distribution.mode()) + distribution.entropy()

    value, slope = jax.value_and_grad(measure)(params)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    if allowed == "one":
        assert value == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(slope))


def test_a_choice_that_is_not_allowed_moves_no_weight():
    slope = jax.grad(lambda logits: jax.nn.log_softmax(mask_logits(logits, jnp.array([True, False, True])))[0])
    assert slope(jnp.array([0.5, 3.0, -1.0]))[1] == 0


def test_the_network_gets_an_image_in_its_own_shape_and_a_value_does_not_see_the_mask():
    environment = make_toy(SPACES["multi_discrete"], image=True)
    assert environment.feature_shape == (3, 9) and environment.observation_shape == (3 * 9 + 9,)
    torso = make_torso(PolicyConfig(hidden_sizes=(4,)), environment.feature_shape)
    _, observation = environment.reset({}, jax.random.key(0))
    features, mask = split_mask(observation, environment.feature_shape, environment.mask_size)
    assert features.shape == (3, 9) and mask.dtype == bool and mask.sum() == 6
    value = make_value(environment.feature_shape, make_torso=torso, mask_size=environment.mask_size)
    shapes = jax.eval_shape(value.init, jax.random.key(1))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01), shapes)
    other = observation.at[-environment.mask_size :].set(1.0)
    assert (
        value.apply(params, observation) == value.apply(params, other) != value.apply(params, observation.at[0].add(1))
    )
