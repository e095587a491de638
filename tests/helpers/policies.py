"""Policies of small networks, and a torso from outside."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.config import PolicyConfig
from haepo_jax.networks import make_policy, make_torso


def mlp_policy(observation_shape, space, *, network="mlp", hidden_sizes=(8,), activation="tanh", initial_log_std=0.0):
    config = PolicyConfig(network=network, hidden_sizes=hidden_sizes, activation=activation)
    torso = make_torso(config, observation_shape)
    return make_policy(observation_shape, space, make_torso=torso, initial_log_std=initial_log_std)


def spread(params):
    """Parameters far from the first ones, so that nothing is near 0 by luck."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)


class Rows(nn.Module):
    """A torso as a user may write one: it takes of the config the activation alone."""

    size: int
    activation: object

    @nn.compact
    def __call__(self, observations):
        return self.activation(nn.Dense(self.size)(observations)).max(axis=-2)
