"""Policies of small networks."""

import jax

from haepo_jax.networks import MLP, make_policy, make_torso


def mlp_torso(observation_shape, *, hidden_sizes=(8,), activation="tanh"):
    return make_torso(
        "mlp",
        MLP,
        observation_shape,
        kwargs={},
        hidden_sizes=hidden_sizes,
        activation=getattr(jax.nn, activation),
    )


def mlp_policy(observation_shape, space, *, initial_log_std=0.0, **network):
    torso = mlp_torso(observation_shape, **network)
    return make_policy(observation_shape, space, make_torso=torso, initial_log_std=initial_log_std)
