"""Every setting of an experiment, with its default and what it may be; a method's stand in its file in `methods/`.

A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from haepo_jax.components import is_outside
from haepo_jax.fields import (
    SWEEP,
    TRACED,
    choice,
    component,
    count,
    group_of,
    leaves,
    number,
    static_arguments,
    traced_arguments,
)
from haepo_jax.methods import METHODS, MethodSettings

ALGORITHMS = tuple(METHODS)
SCHEDULES = ("constant", "linear", "cosine")
ACTIVATIONS = (
    *("tanh", "relu", "silu", "swish", "gelu", "elu", "selu", "celu", "leaky_relu", "relu6", "mish", "softplus"),
    *("sigmoid", "soft_sign", "log_sigmoid", "squareplus", "sparse_plus", "sparse_sigmoid", "identity"),
    *("hard_tanh", "hard_sigmoid", "hard_silu", "hard_swish"),
)
"""The functions of `jax.nn` that change each number by itself."""
NETWORKS = ("mlp", "cnn")
TRANSFORMS = ("adam",)
NOTHING = ("none",)
"""Of a component that need not be there."""
MEMORIES = ("auto", "store", "remat", "recompute")

MAX_SEED = 2**32 - 1
"""A PRNG key holds 32 bits of its seed; beyond, seeds would repeat."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """The network."""

    network: str = component("mlp", NETWORKS, takes_arguments=True)
    """What turns an observation into features: `mlp`, `cnn` for small images, or `package.module:attribute`, a Flax
    module `[..., *observation_shape] -> [..., features]`. PPO has a second network of the same for its values."""
    network_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the network: channels, kernel_size and dense_size of `cnn`, or those of one from outside."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of `mlp`, or of a network from outside that takes them."""
    activation: str = component("tanh", ACTIVATIONS)
    """A function that follows each hidden layer: one of `jax.nn`, or `package.module:attribute`."""
    initial_log_std: float = number(0.0, traced=False)
    """Real actions only: log of the first standard deviation, in units of half the action range."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """What turns gradients into steps, after clipping them by their global norm."""

    learning_rate: float = number(3e-3, above=0.0)
    """What the transformed gradient is multiplied by."""
    transform: str = component("adam", TRANSFORMS, takes_arguments=True)
    """What transforms the clipped gradient: `adam`, or `package.module:attribute`, a function that makes an
    `optax.GradientTransformation`, such as `optax:scale_by_lion`."""
    transform_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the transform that decide the program."""
    transform_params: Mapping[str, float] = traced_arguments()
    """Arguments of the transform that may vary, and be swept, within one program: `{"b1": 0.95}` of `adam`."""
    schedule: str = component("constant", SCHEDULES)
    """How the learning rate falls from its value to 0 over the run, be it ended by `num_updates` or `max_env_steps`;
    `constant` does not. Or `package.module:attribute`, a function of the gradient steps done and of those of the
    run that gives a factor."""
    schedule_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of a schedule from outside that decide the program."""
    schedule_params: Mapping[str, float] = traced_arguments()
    """Arguments of a schedule from outside that may vary, and be swept, within one program."""
    max_grad_norm: float = number(0.5, above=0.0)
    """Largest global norm of the gradient; a longer one is scaled down to it."""


@dataclasses.dataclass(frozen=True)
class _General:
    """What does not belong to a method; it stands first in the config."""

    env: str = component("CartPole-v1", takes_arguments=True)
    """Id of the environment: any of gymnax, or one of ours, such as RandomWalk-haepo; or `package.module:attribute`,
    what makes an environment of your own."""
    env_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the environment's constructor, which decide shapes: `{"size": 12}` for DeepSea-bsuite."""
    env_params: Mapping[str, float] = traced_arguments(keep_whole=True)
    """Numbers of the environment that may vary, and be swept, within one program: fields of its EnvParams."""
    algorithm: str = component("haepo", ALGORITHMS)
    """The method that learns; the settings of the others are then not read. Or `package.module:attribute`."""
    algorithm_kwargs: Mapping[str, Any] = static_arguments()
    """Settings of an algorithm from outside that decide the program."""
    algorithm_params: Mapping[str, float] = traced_arguments()
    """Settings of an algorithm from outside that may vary, and be swept, within one program."""
    returns: str = component("none", NOTHING)
    """What changes the rewards that are learnt from, such as a shaping or an intrinsic reward, as
    `package.module:attribute`; `none` leaves them as they are."""
    returns_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of `returns` that decide the program."""
    returns_params: Mapping[str, float] = traced_arguments()
    """Arguments of `returns` that may vary, and be swept, within one program."""
    metrics: str = component("none", NOTHING)
    """What reports more of each update's batch, as `package.module:attribute`; `none` does not."""
    metrics_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of `metrics` that decide the program."""
    metrics_params: Mapping[str, float] = traced_arguments()
    """Arguments of `metrics` that may vary, and be swept, within one program."""
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
    min_batch_steps: int | None = count(None, low=1)
    """An update plays M whole episodes again and again until it has come to this many environment steps, and all of
    them compete; once when unset. PPO takes longer segments."""
    max_batch_steps: int | None = count(None, low=1)
    """With `min_batch_steps`: no further M episodes begin that could bring an update beyond this many steps, those
    that an ended episode waits for the longest of its M counted too; no such bound when unset."""
    horizon: int | None = count(None, low=1)
    """T, the steps at which an episode is cut; the environment's own limit when unset."""
    discount: float = number(1.0, low=0.0, high=1.0)
    """What a reward one step later counts."""
    evaluate_every: int | None = count(None, low=1)
    """Updates between two greedy evaluations on held-out episodes during training, whose best policy is kept; none
    when unset."""
    evaluate_episodes: int = count(16, low=1)
    """Episodes of such an evaluation, the same ones at each."""
    memory: str = choice("auto", MEMORIES)
    """What is kept of an update's episodes for the gradient: `store` all, `remat` their steps, `recompute` nothing, so
    that they are played again; `auto` the fastest that fits. PPO keeps its segments whatever is set."""
    policy: PolicyConfig = PolicyConfig()
    optimizer: OptimizerConfig = OptimizerConfig()


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(MethodSettings, _General):
    """Everything that decides the numbers of an experiment. Two equal configs give equal runs."""

    sweep: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict, metadata={"group": SWEEP})
    """Traced settings by dotted name (in a ConfigDict: nested by section), each with its values: every combination
    is run with every seed."""


def is_traced(name: str) -> bool:
    """Returns whether a setting of an experiment may vary within one program.

    Example:
      >>> is_traced("env_params.length"), is_traced("env_kwargs.size"), is_traced("haepo.kl_coef")
      (True, False, True)
    """
    group = group_of(name, FIELDS)
    if group is not None:
        return FIELDS[group].metadata["group"] == TRACED
    return name in FIELDS and bool(FIELDS[name].metadata.get("traced"))


def components_of(config: Any) -> dict[str, str]:
    """Finds the components from outside that a config names, by the setting that does.

    Example:
      >>> components_of(ExperimentConfig(env="my_project.maze:Maze"))
      {'env': 'my_project.maze:Maze'}
    """
    return {
        name: value for name, value, field in leaves(config) if field.metadata.get("component") and is_outside(value)
    }


FIELDS = {name: field for name, _, field in leaves(ExperimentConfig())}
"""Those of an experiment by dotted name."""
