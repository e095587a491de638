"""Policies without masks: pure functions whose distributions agree with the formulas of their kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.policies import mlp_policy, spread
from scipy.special import log_softmax

from haepo_jax.config import ACTIVATIONS
from haepo_jax.environments import Box, Discrete

pytestmark = pytest.mark.usefixtures("exact_products")

OBSERVATION_SIZE = 3
BATCHES = [(), (50,), (4, 6)]


def policy_for(space, *, hidden_sizes=(8,), activation="tanh", initial_log_std=0.0):
    return mlp_policy(
        (OBSERVATION_SIZE,),
        space,
        hidden_sizes=hidden_sizes,
        activation=activation,
        initial_log_std=initial_log_std,
    )


def observations_of(batch):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, OBSERVATION_SIZE)), jnp.float32)


@pytest.fixture(params=[Discrete(4), Box(2)], ids=["discrete", "real"])
def space(request):
    return request.param


class TestBothKinds:
    def test_init_is_pure(self, space):
        policy = policy_for(space)
        first, same, other = (policy.init(jax.random.key(seed)) for seed in (0, 0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, same)
        assert any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True))

    def test_apply_is_pure(self, space):
        policy = policy_for(space)
        params, observations = policy.init(jax.random.key(0)), observations_of((50,))
        actions = policy.apply(params, observations).sample(seed=jax.random.key(0))
        first, again = (policy.apply(params, observations).log_prob(actions) for _ in range(2))
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize("batch", BATCHES, ids=str)
    def test_batch_shapes(self, space, batch):
        policy = policy_for(space)
        distribution = policy.apply(policy.init(jax.random.key(0)), observations_of(batch))
        actions, log_probs = distribution.sample_and_log_prob(seed=jax.random.key(1))
        event = () if isinstance(space, Discrete) else (space.size,)
        assert distribution.batch_shape == batch and distribution.event_shape == event
        assert actions.shape == distribution.mode().shape == batch + event
        assert log_probs.shape == distribution.entropy().shape == distribution.log_prob(actions).shape == batch
        assert log_probs.dtype == distribution.entropy().dtype == jnp.float32

    def test_a_batch_equals_its_rows(self, space):
        policy = policy_for(space)
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((4, 6))
        whole = policy.apply(params, observations)
        rows = [policy.apply(params, row) for row in observations]
        actions = whole.sample(seed=jax.random.key(1))
        np.testing.assert_allclose(
            whole.log_prob(actions),
            [row.log_prob(action) for row, action in zip(rows, actions, strict=True)],
            rtol=1e-5,
        )

    def test_log_prob_of_samples_is_finite_and_that_of_log_prob(self, space):
        policy = policy_for(space)
        distribution = policy.apply(spread(policy.init(jax.random.key(0))), observations_of((50,)))
        actions, log_probs = distribution.sample_and_log_prob(seed=jax.random.key(1))
        assert np.isfinite(log_probs).all()
        np.testing.assert_allclose(log_probs, distribution.log_prob(actions), rtol=1e-5)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_every_activation_is_used(self, activation):
        policy = policy_for(Box(2), activation=activation)
        params = spread(policy.init(jax.random.key(0)))
        first = jnp.concatenate([params["MLP_0"]["Dense_0"]["kernel"], params["MLP_0"]["Dense_0"]["bias"][None]])
        observations = observations_of((50,))
        hidden = getattr(jax.nn, activation)(jnp.concatenate([observations, jnp.ones((50, 1))], axis=1) @ first)
        last = params["MLP_0"]["Dense_1"]
        outputs = hidden @ last["kernel"] + last["bias"][None]
        np.testing.assert_allclose(policy.apply(params, observations).mode(), outputs, rtol=1e-4, atol=1e-5)

    def test_gradient_reaches_every_parameter(self, space):
        policy = policy_for(space, hidden_sizes=(8, 8))
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((50,))
        actions = policy.apply(params, observations).sample(seed=jax.random.key(1))
        grads = jax.grad(lambda params: policy.apply(params, observations).log_prob(actions).sum())(params)
        assert all(np.abs(leaf).max() > 0 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


class TestDiscrete:
    def test_first_policy_is_nearly_uniform(self):
        policy = policy_for(Discrete(4), hidden_sizes=(64, 64))
        probabilities = policy.apply(policy.init(jax.random.key(0)), 3 * observations_of((50,))).probs
        np.testing.assert_allclose(probabilities, np.full((50, 4), 0.25), atol=0.01)

    def test_log_prob_and_entropy_are_those_of_the_softmax(self):
        policy = policy_for(Discrete(4), hidden_sizes=())
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((50,))
        dense = params["MLP_0"]["Dense_0"]
        expected = log_softmax(np.asarray(observations) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]), -1)
        distribution = policy.apply(params, observations)
        for action in range(4):
            log_probs = distribution.log_prob(jnp.full((50,), action))
            np.testing.assert_allclose(log_probs, expected[:, action], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(distribution.entropy(), -(np.exp(expected) * expected).sum(-1), rtol=1e-4)
        np.testing.assert_array_equal(distribution.mode(), expected.argmax(-1))
        assert np.unique(expected.argmax(-1)).size > 1

    def test_samples_follow_the_probabilities(self):
        policy = policy_for(Discrete(4))
        distribution = policy.apply(spread(policy.init(jax.random.key(0))), observations_of(()))
        samples = distribution.sample(seed=jax.random.key(1), sample_shape=20_000)
        np.testing.assert_allclose(np.bincount(samples, minlength=4) / 20_000, distribution.probs, atol=0.02)


class TestReal:
    @pytest.mark.parametrize("initial_log_std", [0.0, -1.5, 0.7])
    def test_first_policy_is_centred_with_the_given_deviation(self, initial_log_std):
        policy = policy_for(Box(2), hidden_sizes=(64, 64), initial_log_std=initial_log_std)
        distribution = policy.apply(policy.init(jax.random.key(0)), 3 * observations_of((50,)))
        np.testing.assert_allclose(distribution.mode(), np.zeros((50, 2)), atol=0.05)
        np.testing.assert_allclose(distribution.stddev(), np.full((50, 2), np.exp(initial_log_std)), rtol=1e-6)

    def test_log_prob_and_entropy_are_sums_over_normals(self):
        policy = policy_for(Box(2))
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((4, 6))
        distribution = policy.apply(params, observations)
        actions = distribution.sample(seed=jax.random.key(1))
        normal = scipy.stats.norm(np.asarray(distribution.mode()), np.exp(np.asarray(params["log_std"])))
        np.testing.assert_allclose(distribution.log_prob(actions), normal.logpdf(actions).sum(-1), rtol=1e-4)
        np.testing.assert_allclose(distribution.entropy(), normal.entropy().sum(-1), rtol=1e-5)
        assert len(set(params["log_std"].tolist())) == 2  # each action has its own

    def test_deviation_does_not_depend_on_the_observation(self):
        policy = policy_for(Box(2))
        deviations = policy.apply(spread(policy.init(jax.random.key(0))), observations_of((50,))).stddev()
        np.testing.assert_array_equal(deviations, np.broadcast_to(deviations[:1], (50, 2)))
