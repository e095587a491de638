"""Policies of small networks."""

from haepo_jax.config import PolicyConfig
from haepo_jax.networks import make_policy, make_torso


def mlp_policy(observation_shape, space, *, network="mlp", hidden_sizes=(8,), activation="tanh", initial_log_std=0.0):
    config = PolicyConfig(network=network, hidden_sizes=hidden_sizes, activation=activation)
    torso = make_torso(config, observation_shape)
    return make_policy(observation_shape, space, make_torso=torso, initial_log_std=initial_log_std)
