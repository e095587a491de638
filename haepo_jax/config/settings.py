"""Every setting of an experiment, with its default and what it may be: the one place to add a setting.

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
    optional_number,
    static_arguments,
    traced_arguments,
)
from haepo_jax.losses import AGGREGATIONS, NORMALIZATIONS, PAIRS, SCORES

ALGORITHMS = ("haepo", "ppo", "grpo", "rloo", "dpo", "reinforce")
ON_LOG_LIKELIHOODS = ("haepo", "rloo", "dpo", "reinforce")
"""The algorithms whose loss sees of each episode its log-likelihood alone, so that it need not be kept."""
REFERENCES = ("none", "frozen", "periodic", "ema", "previous")
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
ADVANTAGE_SCALES = ("std", "none")
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
class ReferenceConfig:
    """The rule by which a reference policy follows the trained one (`haepo_jax.algorithms.reference`)."""

    reference: str = choice("previous", REFERENCES)
    """`frozen` the first policy, `periodic` a copy every `reference_period` updates, `ema` a running mean,
    `previous` the policy of the update before, `none`."""
    reference_period: int = count(5, low=1, traced=True)
    """Updates between two copies of the policy, for `periodic`."""
    reference_decay: float = number(0.9, low=0.0, high=1.0)
    """Share of the old reference that `ema` keeps at each update."""


@dataclasses.dataclass(frozen=True)
class HaepoLossConfig:
    """The HAEPO loss."""

    score: str = component("log_ratio", SCORES)
    """What of each episode makes its weight: the `sum` of its log-probabilities, their `mean`, the `log_ratio` to
    the policy that played it, or `package.module:attribute`."""
    score_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of a score from outside that decide the program."""
    score_params: Mapping[str, float] = traced_arguments()
    """Arguments of a score from outside that may vary, and be swept, within one program."""
    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""
    temperature: float = number(1.0, above=0.0)
    """What scores are divided by before they make weights; the larger, the more even the weights."""
    entropy_coef: float = number(5e-3, low=0.0)
    """Beta: weight of the entropy of the weights, which the loss raises."""
    kl_coef: float = number(5e-3, low=0.0)
    """Lambda: weight of the divergence from the reference policy's weights, which the loss lowers."""


@dataclasses.dataclass(frozen=True)
class HaepoConfig(HaepoLossConfig, ReferenceConfig):
    """HAEPO on an environment."""

    num_epochs: int = count(4, low=1)
    """Gradient steps on each batch of trajectories."""


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """PPO: actor-critic on segments of `num_steps` steps in `num_trajectories` environments that go on in between."""

    num_steps: int = count(128, low=1)
    """S, the steps of a segment in each environment."""
    num_epochs: int = count(4, low=1)
    """Times that an update goes through its segments."""
    num_minibatches: int = count(4, low=1)
    """Gradient steps of an epoch, each on its own share of the segments' steps."""
    clip_epsilon: float = number(0.2, above=0.0)
    """Bound on how far the probability ratio of a step may move from 1."""
    value_clip_epsilon: float | None = optional_number(above=0.0)
    """Bound on how far a value may move in an update, in the unit of returns; no bound when unset."""
    gae_lambda: float = number(0.95, low=0.0, high=1.0)
    """Decay of generalised advantages: 0 looks one step ahead, 1 to the end."""
    value_coef: float = number(0.5, low=0.0)
    """Weight of the value function's loss."""
    entropy_coef: float = number(0.01, low=0.0)
    """Weight of the policy's entropy, which the loss raises."""


@dataclasses.dataclass(frozen=True)
class GrpoLossConfig:
    """The GRPO loss: a trajectory's return against its group's is the advantage of all its steps."""

    advantage_scale: str = choice("std", ADVANTAGE_SCALES)
    """What divides the group's centred returns."""
    aggregation: str = choice("sequence_mean", AGGREGATIONS)
    """How the loss is averaged: `sequence_mean` over the steps of each episode first, `token_mean` over all steps
    alike, `constant` by the most steps that there can be."""
    clip_epsilon: float = number(0.2, above=0.0)
    """Bound on how far the probability ratio of a step may move from 1."""
    kl_coef: float = number(5e-3, low=0.0)
    """Weight of the divergence from the reference policy, which the loss lowers."""


@dataclasses.dataclass(frozen=True)
class GrpoConfig(GrpoLossConfig, ReferenceConfig):
    """GRPO on an environment, where the batch is one group."""

    num_epochs: int = count(4, low=1)
    """Gradient steps on each batch of trajectories."""


@dataclasses.dataclass(frozen=True)
class DpoLossConfig:
    """The loss of Direct Preference Optimisation."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the larger, the nearer the policy stays to its reference."""
    label_smoothing: float = number(0.0, low=0.0, high=0.49)
    """Share of the preferences that are taken to be the wrong way round."""


@dataclasses.dataclass(frozen=True)
class DpoConfig(DpoLossConfig, ReferenceConfig):
    """DPO on an environment: pairs of a batch's trajectories, the one of larger return preferred."""

    pairs: str = choice("all", PAIRS)
    """Which pairs of a batch are compared: `all` of unequal returns, or the best with the worst."""
    num_epochs: int = count(4, low=1)
    """Gradient steps on each batch of trajectories."""


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE with the group's returns as its baseline."""

    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the numbers of an experiment. Two equal configs give equal runs."""

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
    """Arguments of `metrics`."""
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
    haepo: HaepoConfig = HaepoConfig()
    ppo: PpoConfig = PpoConfig()
    grpo: GrpoConfig = GrpoConfig()
    dpo: DpoConfig = DpoConfig()
    reinforce: ReinforceConfig = ReinforceConfig()
    sweep: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict, metadata={"group": SWEEP})
    """Traced settings by dotted name (in a ConfigDict: nested by section), each with its values: every combination
    is run with every seed."""


def gradient_steps(config: ExperimentConfig) -> int:
    """Counts the gradient steps of an update."""
    section = getattr(config, config.algorithm, None)
    return getattr(section, "num_epochs", 1) * getattr(section, "num_minibatches", 1)


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
