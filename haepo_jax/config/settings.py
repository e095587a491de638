"""Every setting of an experiment, with its default and what it may be; a method's stand in its file in `methods/`.

A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from haepo_jax.fields import choice, count, number
from haepo_jax.methods import METHODS, MethodSettings

ALGORITHMS = tuple(METHODS)
SCHEDULES = ("constant", "linear", "cosine")
ACTIVATIONS = ("tanh", "relu", "silu")
MEMORIES = ("auto", "store", "remat", "recompute")

MAX_SEED = 2**32 - 1
"""A PRNG key holds 32 bits of its seed; beyond, seeds would repeat."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """The network."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers; PPO has a second network of the same for its values."""
    activation: str = choice("tanh", ACTIVATIONS)
    """What follows each hidden layer."""
    initial_log_std: float = number(0.0, traced=False)
    """Real actions only: log of the first standard deviation, in units of half the action range."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, after clipping the gradient by its global norm."""

    learning_rate: float = number(3e-3, above=0.0)
    """Adam's step size."""
    schedule: str = choice("constant", SCHEDULES)
    """How the learning rate falls from its value to 0 over the run, be it ended by `num_updates` or `max_env_steps`;
    `constant` does not."""
    max_grad_norm: float = number(0.5, above=0.0)
    """Largest global norm of the gradient; a longer one is scaled down to it."""


@dataclasses.dataclass(frozen=True)
class _General:
    """What does not belong to a method; it stands first in the config."""

    env: str = "CartPole-v1"
    """Id of the environment: any of gymnax, or one of ours, such as RandomWalk-haepo."""
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the environment's constructor, which decide shapes: `{"size": 12}` for DeepSea-bsuite."""
    env_params: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Numbers of the environment that may vary, and be swept, within one program: fields of its EnvParams."""
    algorithm: str = choice("haepo", ALGORITHMS)
    """The method that learns; the settings of the others are then not read."""
    seed: int = count(0, low=0, high=MAX_SEED)
    """Seed of the first member; the next has `seed + 1`, and so on."""
    num_seeds: int = count(32, low=1)
    """Members of each setting, which differ in their seed alone."""
    num_updates: int = count(40, low=1)
    """The most updates of a member."""
    max_env_steps: int | None = count(None, low=1)
    """A member stops after the update that brings it to this many environment steps; no such limit when unset."""
    num_trajectories: int = count(16, low=2)
    """M, the episodes of an update, which compete with one another; for PPO the environments stepped side by side."""
    horizon: int | None = count(None, low=1)
    """T, the steps at which an episode is cut; the environment's own limit when unset."""
    discount: float = number(1.0, low=0.0, high=1.0)
    """What a reward one step later counts."""
    memory: str = choice("auto", MEMORIES)
    """What is kept of an update's episodes for the gradient: `store` all, `remat` their steps, `recompute` nothing, so
    that they are played again; `auto` the fastest that fits. PPO keeps its segments whatever is set."""
    policy: PolicyConfig = PolicyConfig()
    optimizer: OptimizerConfig = OptimizerConfig()


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(MethodSettings, _General):
    """Everything that decides the numbers of an experiment. Two equal configs give equal runs."""

    sweep: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Traced settings by dotted name (in a ConfigDict: nested by section), each with its values: every combination
    is run with every seed."""
