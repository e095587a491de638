"""Policies of small networks."""

from haepo_jax.config import PolicyConfig
from haepo_jax.networks import make_policy, make_torso


def mlp_policy(observation_shape, space, *, hidden_sizes=(8,), activation="tanh", initial_log_std=0.0):
    torso = make_torso(PolicyConfig(hidden_sizes=hidden_sizes, activation=activation), observation_shape)
    return make_policy(observation_shape, space, make_torso=torso, initial_log_std=initial_log_std)
