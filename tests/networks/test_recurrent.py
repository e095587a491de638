"""Networks that remember: steps one by one, T at once, and what is no cell."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.policies import mlp_policy, spread
from helpers.tolerances import assert_allclose, assert_same_products

from haepo_jax.config import PolicyConfig
from haepo_jax.environments import Box, Discrete
from haepo_jax.errors import ConfigError
from haepo_jax.networks import make_torso, make_value
from haepo_jax.networks.recurrent import RecurrentTorso

N, T = 3, 7
RESETS = jnp.zeros((N, T), bool).at[1, 3].set(True).at[:, 5].set(True)
NETWORKS = ["gru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "flax.linen:SimpleCell"))]


def observations_of(*batch):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, 2, 3)), jnp.float32)


def policy_of(network, space=Discrete(3), hidden_sizes=(6, 4)):  # noqa: B008
    return mlp_policy((2, 3), space, network=network, hidden_sizes=hidden_sizes)


def begin_anew(carry, initial, begins):
    return jax.tree.map(lambda old, first: jnp.where(begins[:, None], first, old), carry, initial)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_unroll_is_one_step_after_the_other_that_begins_anew_where_it_is_reset(network):
    policy = policy_of(network, Box(2))
    params, observations = spread(policy.init(jax.random.key(0))), observations_of(N, T)
    initial = policy.start(N)
    carry, expected = initial, []
    for t in range(T):
        carry = begin_anew(carry, initial, RESETS[:, t])
        carry, distribution = policy.step(params, carry, observations[:, t])
        expected.append(distribution.mode())
    end, distribution = policy.unroll(params, initial, observations, RESETS)
    assert_allclose(distribution.mode(), jnp.stack(expected, 1), rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), end, carry)
    assert_allclose(policy.apply(params, observations[:, 5]).mode(), expected[5], rtol=1e-5, atol=1e-6)


def test_what_came_before_decides_the_action_until_the_episode_begins_anew():
    policy = policy_of("gru")
    params, observations = spread(policy.init(jax.random.key(0))), observations_of(N, T)
    other = observations.at[:, 0].add(1.0)
    logits, changed = (
        policy.unroll(params, policy.start(N), seen, RESETS)[1].logits for seen in (observations, other)
    )
    moved = np.abs(logits - changed).max(-1) > 1e-6
    np.testing.assert_array_equal(
        moved, [[True] * 5 + [False] * 2, [True] * 3 + [False] * 4, [True] * 5 + [False] * 2]
    )


@pytest.mark.parametrize("network", ["gru", "mlp"])
def test_values_of_next_observations_follow_from_the_memory_of_their_own_episode(network):
    value = make_value((2, 3), make_torso=make_torso(PolicyConfig(network=network, hidden_sizes=(6, 4)), (2, 3)))
    params, observations = spread(value.init(jax.random.key(0))), observations_of(N, T)
    following = jnp.roll(observations, -1, axis=1)
    end, values, next_values = value.unroll_with_next(params, value.start(N), observations, following, RESETS)
    same_end, same_values = value.unroll(params, value.start(N), observations, RESETS)
    assert_same_products((end, values), (same_end, same_values))
    goes_on = ~np.asarray(RESETS)[:, 1:]
    assert_allclose(next_values[:, :-1][goes_on], values[:, 1:][goes_on], rtol=1e-5, atol=1e-6)
    if network == "gru":  # after an end the next value is that of the last episode, whose memory it has
        assert np.abs(next_values[:, :-1] - values[:, 1:])[~goes_on].min() > 1e-4


def test_a_policy_without_memory_takes_all_steps_as_a_batch_and_carries_nothing():
    policy = policy_of("mlp")
    params, observations = policy.init(jax.random.key(0)), observations_of(N, T)
    assert policy.start(N) == () and policy.recurrence is None
    for carry, distribution in (
        policy.step(params, (), observations),
        policy.unroll(params, (), observations, RESETS),
    ):
        assert carry == ()
        np.testing.assert_array_equal(distribution.logits, policy.apply(params, observations).logits)


@pytest.mark.parametrize("network", NETWORKS)
def test_changed_inputs_are_those_that_every_function_sees(network):
    policy = policy_of(network)
    params, observations = spread(policy.init(jax.random.key(0))), observations_of(N, T)
    mapped = policy.map_inputs(lambda given, seen: (given["own"], 2 * seen))
    for theirs, ours in (
        (policy.unroll(params, policy.start(N), 2 * observations, RESETS), None),
        (policy.step(params, policy.start(N), 2 * observations[:, 0]), 0),
    ):
        if ours is None:
            found = mapped.unroll({"own": params}, mapped.start(N), observations, RESETS)
        else:
            found = mapped.step({"own": params}, mapped.start(N), observations[:, 0])
        jax.tree.map(np.testing.assert_array_equal, found[1].logits, theirs[1].logits)
    np.testing.assert_array_equal(
        mapped.apply({"own": params}, observations).logits, policy.apply(params, 2 * observations).logits
    )


def test_the_last_hidden_size_is_that_of_the_memory_and_the_others_are_layers_before_it():
    policy = policy_of("gru", hidden_sizes=(6, 5, 4))
    shapes = jax.tree.map(jnp.shape, policy.init(jax.random.key(0)))["RecurrentTorso_0"]
    assert policy.start(2).shape == (2, 4) and policy.start().shape == (4,)
    assert shapes["encoder"]["Dense_0"]["kernel"] == (6, 6) and shapes["encoder"]["Dense_1"]["kernel"] == (6, 5)
    assert shapes["head"]["kernel"] == (4, 3)
    assert policy_of("gru", hidden_sizes=(4,)).start().shape == (4,)


class Grows(nn.RNNCellBase):
    """A cell whose carry changes its shape."""

    features: int = 2

    @nn.compact
    def __call__(self, carry, inputs):
        return jnp.concatenate([carry, carry], -1), nn.Dense(self.features)(inputs)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(self.features)

    @property
    def num_feature_axes(self):
        return 1


class Counts(Grows):
    @nn.compact
    def __call__(self, carry, inputs):
        return carry + 1, nn.Dense(self.features)(inputs)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.int32(0)


class Fading(Grows):
    """A cell of a user: a mean that fades, from a first state of its own, with an argument."""

    decay: float = 0.5

    @nn.compact
    def __call__(self, carry, inputs):
        carry = self.decay * carry + nn.Dense(self.features)(inputs)
        return carry, carry

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.arange(1.0, 1 + self.features)


def makes_a_cell():
    return nn.GRUCell(4)


def torso_of(**settings):
    return make_torso(PolicyConfig(**settings), (2, 3))


def test_a_cell_from_outside_begins_each_episode_with_its_own_first_state():
    network = f"{__name__}:Fading"
    torso = torso_of(network=network, network_kwargs={"decay": 0.25}, hidden_sizes=(3,))()
    assert isinstance(torso, RecurrentTorso) and torso.make_cell().decay == 0.25
    np.testing.assert_array_equal(policy_of(network, hidden_sizes=(3,)).start(2), [[1, 2, 3]] * 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"network": "gru", "hidden_sizes": ()},
            r"hidden_sizes must not be empty where config\.policy\.network is gru",
        ),
        (
            {"network": f"{__name__}:Grows"},
            r"carry float32\[2, 64\] one of float32\[2, 128\]; it must be of real numbers",
        ),
        ({"network": f"{__name__}:Counts"}, r"carry int32\[2\] one of int32\[2\]; it must be of real numbers"),
        ({"network": f"{__name__}:makes_a_cell"}, r"makes a recurrent cell, GRUCell; name the class of the cell\."),
    ],
)
def test_what_is_no_cell_with_a_carry_is_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        torso_of(**settings)
