"""Environments by name: any gymnax environment, and our own, behind one small interface.

This is the only part of the package that knows gymnax; it is imported in `gymnax_library.py` alone.
"""

from haepo_jax.environments.adapter import check_param, check_params
from haepo_jax.environments.agents import AgentsStep, MultiAgentEnvironment, Seen, View
from haepo_jax.environments.bandits import bernoulli_arm_means, gaussian_arm_means
from haepo_jax.environments.games.interface import Game
from haepo_jax.environments.interface import ActionSpace, Box, Discrete, Environment, MultiDiscrete, Step
from haepo_jax.environments.registry import environment_names, make, make_agents

__all__ = [
    "ActionSpace",
    "AgentsStep",
    "Box",
    "Discrete",
    "Environment",
    "Game",
    "MultiAgentEnvironment",
    "MultiDiscrete",
    "Seen",
    "Step",
    "View",
    "bernoulli_arm_means",
    "check_param",
    "check_params",
    "environment_names",
    "gaussian_arm_means",
    "make",
    "make_agents",
]
