"""Every setting of an experiment, with its default and what it may be; a method's stand in its file in `methods/`.

A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from haepo_jax.fields import (
    BOUNDS,
    SWEEP,
    TRACED,
    choice,
    component,
    count,
    group_of,
    leaves,
    number,
    static_arguments,
    text,
    traced_arguments,
)
from haepo_jax.methods import METHODS, MethodSettings
from haepo_jax.methods.schedules import SCHEDULES, WITH_END
from haepo_jax.runtime.precision import DEFAULT, PRECISIONS

ALGORITHMS = tuple(METHODS)
"""The methods of the package, by name."""
ACTIVATIONS = (
    *("tanh", "relu", "silu", "swish", "gelu", "elu", "selu", "celu", "leaky_relu", "relu6", "mish", "softplus"),
    *("sigmoid", "soft_sign", "log_sigmoid", "squareplus", "sparse_plus", "sparse_sigmoid", "identity"),
    *("hard_tanh", "hard_sigmoid", "hard_silu", "hard_swish"),
)
"""The functions of `jax.nn` that change each number by itself."""
RECURRENT = ("gru", "lstm")
NETWORKS = ("mlp", "cnn", *RECURRENT)
TRANSFORMS = ("adam",)
NOTHING = ("none",)
"""Of a component that need not be there."""
OPPONENTS = ("random", "newest", "pool")
"""Whom a learner meets in a two-player game."""
OPPONENT_DRAWS = ("uniform", "newest", "win_rate")
"""How an episode's opponent is drawn from the pool."""
SNAPSHOTS = ("own", "population")
"""Whose policies enter the pool."""
MEMORIES = ("auto", "store", "remat", "recompute")
"""How an update gets the log-probabilities of its steps for the gradient."""

MAX_SEED = 2**32 - 1
"""A PRNG key holds 32 bits of its seed; beyond, seeds would repeat."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """The network."""

    network: str = component("mlp", NETWORKS, takes_arguments=True)
    """What turns an observation into features: `mlp`, `cnn` for small images, `gru` or `lstm`, which remember the
    episode, or `package.module:attribute`, a Flax module `[..., *observation_shape] -> [..., features]` or a recurrent
    cell such as `flax.linen:MGUCell`. PPO has a second network of the same for its values."""
    network_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the network: channels, kernel_size and dense_size of `cnn`, or those of one from outside."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of `mlp`, or of a network from outside that takes them. Of a recurrent network the
    last is the size of what it remembers, and the others are the layers before it."""
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
    schedule: str = component("linear", SCHEDULES, takes_arguments=WITH_END)
    """How the learning rate falls from its value to 0, or to the share `end` of it, over the run, be it ended by
    `num_updates` or `max_env_steps`; `constant` does not. Or `package.module:attribute`, a function of the gradient
    steps done and of those of the run that gives a factor."""
    schedule_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the schedule that decide the program: `end`, or those of one from outside."""
    schedule_params: Mapping[str, float] = traced_arguments()
    """Arguments of the schedule that may vary, and be swept, within one program."""
    max_grad_norm: float = number(0.5, above=0.0)
    """Largest global norm of the gradient; a longer one is scaled down to it."""


@dataclasses.dataclass(frozen=True)
class NormalizationConfig:
    """How observations and rewards are normalised."""

    epsilon: float = number(1e-8, above=0.0, traced=False)
    """What is added to a variance before its root divides."""
    clip_observations: float = number(10.0, above=0.0, traced=False)
    """The largest size of a normalised observation's entry, in deviations; a larger one is cut to it."""
    clip_rewards: float = number(10.0, above=0.0, traced=False)
    """The largest size of a normalised reward, of a method that learns from single rewards; that of whole episodes has
    their returns divided, which are not cut."""


@dataclasses.dataclass(frozen=True)
class ExplorationConfig:
    """Action noise that lasts for several steps, in as many of the episodes as it is worth."""

    persistences: tuple[int, ...] = (1, 4, 8, 16, 32)
    """Steps for which the noise of an episode's actions may last, each another kind of episode: 1 first, as then each
    step has its own, and rising, such as 1, 4, 8, 16, 32. Empty for no exploration of this kind."""
    max_share: float = number(0.5, low=0.0, high=1.0)
    """Share of the episodes with a persistence above 1 at first, each of these equally often, and at most."""
    rate: float = number(0.3, low=0.0, high=1.0)
    """How far each update moves the shares to the persistences of its better episodes: 0 not at all, 1 all the way."""
    floor: float = number(0.0025, low=0.0, high=0.5)
    """The least share of each persistence, so that none is given up."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99)
    """How many of an update's episodes count as the better ones, as a share of all."""


@dataclasses.dataclass(frozen=True)
class AgentsConfig:
    """Several agents in one environment."""

    networks: str = choice("shared", ("shared", "kind", "each"))
    """Which networks agents have: one `shared` by all, one for each `kind` of agents that the environment tells
    apart, or one `each`. It holds for policies and value functions."""
    sees_number: bool = True
    """Whether a network that several agents have sees which of them it acts for, as one entry for each agent of which
    one is 1."""


@dataclasses.dataclass(frozen=True)
class PbtConfig:
    """Population-based training: members that do badly copy members that do well, and change their settings."""

    every: int | None = count(None, low=1)
    """Updates between two exchanges, at which the worst members copy the best ones; no population-based training when
    unset."""
    fraction: float = number(0.2, low=0.0, high=0.5, traced=False)
    """The share of a population that copies, and the share that is copied, rounded down and at least one member each;
    0 copies nobody, which makes a random search of the same first settings."""
    populations: int = count(1, low=1)
    """Independent populations that the seeds are divided among; none copies from another."""
    metric: str = text("episode_return")
    """The metric that members are compared by, the larger the better: its mean over the updates since the exchange
    before. `eval_return` goes with `evaluate_every`."""
    perturb: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict, metadata={"group": BOUNDS})
    """Traced settings by dotted name (in a ConfigDict: nested by section), each with its lowest and highest value: a
    member that copies changes them, and one that has no swept value draws its first one. When empty, the swept
    settings, between the least and the largest of their values."""
    factor: float = number(1.25, above=1.0, traced=False)
    """What a setting is multiplied or divided by when it changes, either with equal chance."""


_OF_POOL = {"opponents": ("pool",)}


@dataclasses.dataclass(frozen=True)
class SelfPlayConfig:
    """Whom the learner of a two-player game plays against; each episode draws its opponent."""

    opponents: str = component("random", OPPONENTS)
    """Who plays against the learner: `random` moves; `newest`, its own policy as it is in that update; `pool`, its
    earlier selves, and its newest one; or `package.module:attribute`, a function that makes
    `(observation, key) -> action`, such as `haepo_jax.environments.games.perfect:make_perfect_player`."""
    opponents_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of opponents from outside."""
    random_share: float = number(0.1, low=0.0, high=1.0)
    """Share of the episodes whose opponent moves at random, whoever the others are."""
    newest_share: float = number(0.5, low=0.0, high=1.0, only_with=_OF_POOL)
    """Share of the other episodes whose opponent is the newest policy, and none of the pool."""
    pool_size: int = count(8, low=1, only_with=_OF_POOL)
    """Earlier policies in the pool; a newer one takes the place of the oldest."""
    snapshot_every: int = count(10, low=1, only_with=_OF_POOL)
    """Updates between two policies that enter the pool, which begins with the first policy."""
    snapshots: str = choice("own", SNAPSHOTS, only_with=_OF_POOL)
    """Whose policies enter the pool: the member's `own`, or each time that of another member of its `population`,
    which goes with population-based training."""
    draw: str = choice("uniform", OPPONENT_DRAWS, only_with=_OF_POOL)
    """How an opponent is drawn from the pool: `uniform`ly, the `newest` of it, or by `win_rate`, those most often
    against whom the learner does worst."""


@dataclasses.dataclass(frozen=True)
class _General:
    """What does not belong to a method; it stands first in the config."""

    env: str = component("CartPole-v1", takes_arguments=True)
    """Id of the environment: any of gymnax, or one of ours, such as RandomWalk-haepo; of another library after its
    prefix, such as navix:Navix-DoorKey-8x8-v0; or `package.module:attribute`, what makes an environment of your
    own."""
    env_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of the environment's constructor, which decide shapes: `{"size": 12}` for DeepSea-bsuite."""
    env_params: Mapping[str, float] = traced_arguments(keep_whole=True)
    """Numbers of the environment that may vary, and be swept, within one program: fields of its EnvParams."""
    algorithm: str = component("haepo", ALGORITHMS)
    """The method that learns; the settings of the others are then not read. Or `package.module:attribute`."""
    algorithm_kwargs: Mapping[str, Any] = static_arguments(hold_groups=True)
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
    num_trajectories: int = count(4, low=2)
    """M, the episodes of an update, which compete with one another; for PPO, and for HAEPO with segments, the
    environments stepped side by side."""
    min_batch_steps: int | None = count(512, low=1)
    """An update plays M whole episodes again and again until it has come to this many environment steps, and all of
    them compete; once when unset. PPO and HAEPO with segments take more steps in each environment."""
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
    normalize_observations: bool = False
    """Networks see each entry of an observation less its running mean and divided by its running deviation, over all
    steps that the member has played; evaluations change neither."""
    normalize_rewards: bool = False
    """Rewards are learnt from in units of the running deviation of discounted returns; returns that are
    reported stay in the task's."""
    memory: str = choice("auto", MEMORIES)
    """What is kept of an update's episodes for the gradient: `store` all, `remat` their steps, `recompute` nothing, so
    that they are played again; `auto` the fastest that fits. PPO keeps its segments whatever is set."""
    piece_rows: int | None = count(None, low=1)
    """Steps of an update whose gradient a member takes at a time with `memory` `remat`; by the device and its memory
    when unset: 128 on CPUs, up to 8,192 on GPUs."""
    unrolled_steps: int | None = count(None, low=1)
    """Steps of play that are compiled as one turn of a loop; by the device when unset: 1 on CPUs, 5 on GPUs. More make
    fewer and larger kernels, and take longer to compile."""
    precision: str = choice(DEFAULT, PRECISIONS)
    """Of matrix products: `float32`, or the device's `default`, which is TF32 on GPUs, bfloat16 on TPUs and float32 on
    CPUs, unless the flag `jax_default_matmul_precision` of JAX says otherwise."""
    policy: PolicyConfig = PolicyConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    normalization: NormalizationConfig = NormalizationConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    agents: AgentsConfig = AgentsConfig()
    pbt: PbtConfig = PbtConfig()
    self_play: SelfPlayConfig = SelfPlayConfig()


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


FIELDS = {name: field for name, _, field in leaves(ExperimentConfig())}
"""Those of an experiment by dotted name."""
