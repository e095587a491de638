"""Environments by name: any gymnax environment, behind one small interface.

This is the only part of the package that knows gymnax.
"""

from haepo_jax.environments.interface import Box, Discrete, Environment
from haepo_jax.environments.registry import environment_names, make

__all__ = ["Box", "Discrete", "Environment", "environment_names", "make"]
