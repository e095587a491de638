"""Environments by name: any gymnax environment, and our own, behind one small interface.

This is the only part of the package that knows gymnax.
"""

from haepo_jax.environments.adapter import check_params
from haepo_jax.environments.interface import Box, Discrete, Environment, Step
from haepo_jax.environments.registry import environment_names, make

__all__ = ["Box", "Discrete", "Environment", "Step", "check_params", "environment_names", "make"]
