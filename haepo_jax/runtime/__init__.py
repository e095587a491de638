"""Processes, signals, caches, and how JAX is started."""

from haepo_jax.runtime.startup import setup

__all__ = ["setup"]
