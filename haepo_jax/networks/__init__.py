"""Policies and value functions: a torso, then a head of ours that ends in a distrax distribution or in a value.

This is the only part of the package that knows distrax. A torso is a Flax module that maps observations
`[..., *observation_shape]` to features `[..., F]`, whatever axes lead: `mlp` and `cnn` of `torsos`, those with a
memory of `recurrent`, others from outside.
"""

from haepo_jax.networks.agents import get_seen_shape, make_one_each, see_as_agent
from haepo_jax.networks.interface import Policy, Recurrence, Value, action_log_probs, unroll_log_probs
from haepo_jax.networks.loading import is_cell, make_torso
from haepo_jax.networks.making import make_policy, make_value, share_torso
from haepo_jax.networks.masks import mask_logits, split_mask
from haepo_jax.networks.torsos import CNN, MLP

__all__ = [
    "CNN",
    "MLP",
    "Policy",
    "Recurrence",
    "Value",
    "action_log_probs",
    "get_seen_shape",
    "is_cell",
    "make_one_each",
    "make_policy",
    "make_torso",
    "make_value",
    "mask_logits",
    "see_as_agent",
    "share_torso",
    "split_mask",
    "unroll_log_probs",
]
