"""The record of a method: all that others need to know of it, so that nobody else knows a method by its name.

A record has an objective, which takes what the trained policy makes of a batch; environments and language models share
it. Algorithms, checks, memory rules, sizes and reports follow from the record.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.methods.schedules import add_schedules
from haepo_jax.methods.settings import (
    JOINT,
    Chosen,
    EpochsConfig,
    HistoryConfig,
    JointConfig,
    NoSettings,
    ReferenceConfig,
    SegmentConfig,
    SegmentPlan,
)
from haepo_jax.types import Metrics, Params

Objective = Callable[[Any], tuple[jax.Array, Metrics]]
"""What the trained policy makes of the batch `-> (loss, metrics)`; see `Sees`."""


class Sees(enum.Enum):
    """How closely a method looks at the batch that it learns from: what its objective is made of, and takes."""

    SUMS = "sums"
    """Complete episodes as wholes: `objective(settings, Group, reference log-likelihoods [..., M] or None)` takes
    log-likelihoods `[..., M]`. Their steps need not be kept."""
    STEPS = "steps"
    """Complete episodes step by step: `objective(settings, StepGroup, reference log-probabilities [..., M, T] or
    None)` takes log-probabilities `[..., M, T]`."""
    SEGMENTS = "segments"
    """Segments of environments that go on from update to update, with a value function: `objective(settings, Samples)`
    takes `Evaluated`. The settings are a `SegmentConfig`, whose `segment_plan` may ask for pieces of h steps that
    compete, without a value function, or of whole episodes: then it is `objective(settings, Blocks)`."""


class Group(NamedTuple):
    """Groups of M trajectories as they were sampled, each as a whole."""

    returns: jax.Array
    """`[..., M]`."""
    lengths: jax.Array
    """`[..., M]` integers, steps that count."""
    behaviour_log_likelihoods: jax.Array
    """`[..., M]` under the policy that sampled them."""
    is_reused: bool = False
    """Whether more than one gradient step is taken on them, so that the policy moves away from the one that sampled
    them."""
    valid: jax.Array | None = None
    """`[..., M]` boolean, True for the trajectories that count; None where all do. One that does not count holds
    zeros."""


class Packed(NamedTuple):
    """Where steps of N trajectories lie in M lanes of T steps, in which these follow one another."""

    trajectory_of_step: jax.Array
    """`[..., M, T]` int32, an index into the N; anything where masked."""
    valid: jax.Array
    """`[..., N]` boolean, True for the trajectories that there are."""
    max_steps: int
    """The most steps of a trajectory."""


class StepGroup(NamedTuple):
    """Groups of M trajectories as they were sampled, step by step."""

    returns: jax.Array
    """`[..., M]`."""
    where: jax.Array
    """`[..., M, T]` boolean, True for the steps that count."""
    behaviour_log_probs: jax.Array
    """`[..., M, T]` under the policy that sampled them."""
    is_reused: bool = False
    """As in `Group`."""
    packed: Packed | None = None
    """Where M lanes hold N trajectories; then `returns` are `[..., N]`. None where lane k holds trajectory k."""
    importance_weights: jax.Array | None = None
    """`[..., M, T]` what the loss of each step is weighed by, as another program has sampled it; None without."""
    counts: jax.Array | None = None
    """`[..., M]` boolean, True for the trajectories that count, where they are not packed; None where all do."""

    @property
    def valid(self) -> jax.Array | None:
        """As in `Group`."""
        return self.counts if self.packed is None else self.packed.valid

    def sum_over_steps(self) -> Group:
        """Computes what is left of trajectories that are not packed as wholes."""
        if self.packed is not None:
            raise ValueError("Trajectories that are packed are summed over their steps by packed.trajectory_of_step.")
        behaviour = trajectory_log_likelihood(self.behaviour_log_probs, where=self.where)
        return Group(self.returns, self.where.sum(axis=-1), behaviour, self.is_reused, self.valid)


class Samples(NamedTuple):
    """B steps of segments as they were played."""

    log_probs: jax.Array
    """`[B]` of the actions under the policy that played them."""
    values: jax.Array
    """`[B]` by the value function as it was then."""
    advantages: jax.Array
    """`[B]` generalised advantages, not normalised."""
    targets: jax.Array
    """`[B]` returns that the values are to come to."""
    where: jax.Array | None = None
    """`[B]` boolean, True for the steps that count, which those of an agent that waits for others do not; None where
    all do."""


class Blocks(NamedTuple):
    """B pieces of h steps as they were played, in groups `[...]` where the segments of a time compete.

    A block holds one segment, or where episodes follow one another in it p = h of them at most, each at the place of
    its first step (`haepo_jax.losses.segment_returns`).
    """

    log_probs: jax.Array
    """`[..., B, h]` of the actions under the policy that played them."""
    returns: jax.Array
    """`[..., B, p]` of the segments."""
    where: jax.Array
    """`[..., B, h]` boolean, True for the steps that count."""
    done: jax.Array | None
    """`[..., B, h]` boolean, True where an episode ended or was cut; None where a block is of one episode."""
    values: jax.Array | None = None
    """`[..., B, h]` by the value function as it was then; None without one."""
    targets: jax.Array | None = None
    """`[..., B, h]` returns that the values are to come to; None likewise."""
    reference_log_probs: jax.Array | None = None
    """`[..., B, h]` under the reference policy; None without one."""
    states: jax.Array | None = None
    """`[..., B, p]` int32, equal where segments begin in the same state; None unless these compete."""


class Evaluated(NamedTuple):
    """What the trained networks make of the same steps, `[B]` of `Samples` or `[..., B, h]` of `Blocks`."""

    log_probs: jax.Array
    """Of the actions."""
    entropies: jax.Array
    """Of the policy."""
    values: jax.Array | None
    """None without a value function."""


class ExtraMemory(NamedTuple):
    """Memory that an objective takes beside the batch.

    Of a batch counted in steps such an objective sees each round as a group of its own, `[rounds, M]`, so that this
    grows with the batch and no faster.
    """

    of: str
    """What it is for, in words."""
    bytes: Callable[[int], int]
    """`number -> bytes`, at least: of the M trajectories that compete or, of segments, of the places for them in what
    an objective sees at once."""


PullBack = Callable[[Any], Params]
"""`slopes -> gradient`: the derivative, by the parameters, of the sum of slopes times what an objective takes."""


class SeenBatch(NamedTuple):
    """A batch as one policy sees it, for an `Adaptation`."""

    group: Group | StepGroup | Samples | Blocks
    """What objectives of this batch are made of, all of it."""
    make_objective: Callable[[Any], Objective]
    """`settings -> objective` of this batch."""
    differentiate: Callable[[], tuple[Any, PullBack]]
    """`() -> (what the objective takes, its pull-back)` at the policy: the gradient of a loss whose slopes by what the
    objective takes are c is `pull_back(c)`. It costs what a gradient step does, where it is called."""


@dataclasses.dataclass(frozen=True)
class Adaptation[Settings, State]:
    """How a method sets some of its settings while it learns, by a state that the learner keeps and checkpoints hold.

    Pure functions, which are traced. The state is a tree of arrays, whose structure, shapes and dtypes stay. Settings
    are the method's own with tracers in the place of traced ones, of which others may be made by
    `dataclasses.replace`; those that decide the program must stay.
    """

    init: Callable[[Settings, Params], State]
    """`(settings, first parameters) -> state`."""
    begin: Callable[[Settings, State, SeenBatch], tuple[Settings, State]]
    """`(settings, state, batch as the policy that played it sees it) -> (settings to learn from it with, state)`."""
    end: Callable[[Settings, State, SeenBatch, Metrics], State]
    """`(settings that were learnt with, state, batch as the policy before the last gradient step sees it, metrics of
    that step) -> state`."""


@dataclasses.dataclass(frozen=True)
class OnLanguage[Settings]:
    """How a method learns on language models, where epochs and the reference policy belong to the stage `rl`."""

    settings: Settings
    """Its settings there, with their defaults: those of its loss."""
    comparisons: Callable[[Any, jax.Array, jax.Array], Objective] | None = None
    """For a method that learns from comparisons that are given, rather than from responses that it samples:
    `(settings, reference log-likelihoods [..., 2], lengths [..., 2]) -> objective` of log-likelihoods `[..., 2]`, the
    chosen first."""
    sampled_kl: str | None = None
    """Its setting that weighs a KL divergence estimated from the samples."""
    named_by: tuple[str, ...] = ()
    """Its settings that stand in the name of a run."""
    weighs_steps: bool = False
    """Whether its loss takes importance weights of steps, `StepGroup.importance_weights`."""
    wants_returns_from_0: bool = False
    """Whether it learns from returns that are not negative alone, so that nothing may be taken off them."""
    check: Callable[[Chosen], None] | None = None
    """Refuses its settings there that cannot go together."""

    def __post_init__(self) -> None:
        """Adds the schedules of its coefficients."""
        object.__setattr__(self, "settings", add_schedules(self.settings))


@dataclasses.dataclass(frozen=True)
class Method[Settings]:
    """A method that learns, on environments and where `language` is given on language models."""

    objective: Callable[..., Objective]
    """Its loss with all that it needs put together, and its metrics, scalars; what it is given `sees` says."""
    sees: Sees
    settings: Settings = NoSettings()  # type: ignore[assignment]
    """Its settings with their defaults: a frozen dataclass. Fields made by `haepo_jax.fields` have bounds and may be
    traced; others decide the program. A traced real number X gets a schedule, `X_schedule`. One that is an
    `EpochsConfig` takes several gradient steps on a batch, one that is a `ReferenceConfig` has a reference policy, one
    that is a `HistoryConfig` learns from earlier batches too."""
    metrics: tuple[str, ...] = ()
    """The names of the metrics that its objective gives."""
    check: Callable[[Chosen], None] | None = None
    """Raises a `ConfigError` where its settings are each allowed but make no sense together."""
    extra_memory: ExtraMemory | None = None
    """What its objective takes beside the batch, where that grows faster than the batch."""
    upgrade: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """Its settings as an older `config.json` has them `->` as they are now, to the same numbers."""
    why_unit_free: Callable[[Chosen], str | None] | None = None
    """Why it learns the same from rewards in any unit, which completes "has no effect, as ..."; None where it does
    not."""
    adaptation: Callable[[Any], Adaptation | None] | None = None
    """`settings -> how some of them are set while it learns`, None where they stay as they are."""
    variant: Callable[[Any], "Method[Settings]"] | None = None
    """`settings -> the record that holds with them`, of a method that sees its batches otherwise with some; its
    settings are the same kind. None where this one always does."""
    unread: Callable[[Any], Mapping[str, str | None]] | None = None
    """`settings -> by the name of a setting that these have no use for, the reason`, which completes "has no effect,
    as ...", `{name}` in it being the dotted name of a setting. Those that belong to a choice (`only_with`) need not be
    among them; None says of one that it is read whatever that choice is."""
    language: OnLanguage | None = None
    """None where it does not learn on language models."""

    def __post_init__(self) -> None:
        """Refuses settings that are no settings; adds the schedules of coefficients.

        Raises:
          TypeError: they are no instance of a dataclass, or of no `SegmentConfig` where segments are seen.
        """
        given = self.settings
        if not dataclasses.is_dataclass(given) or isinstance(given, type):
            raise TypeError(f"settings must be an instance of a frozen dataclass, such as MyConfig(), got {given}")
        if self.sees is Sees.SEGMENTS and not isinstance(given, SegmentConfig):
            raise TypeError(f"settings of a method that sees segments must be a SegmentConfig, got {given}")
        object.__setattr__(self, "settings", add_schedules(given))

    @property
    def keeps_steps(self) -> bool:
        """Whether the steps of a batch must be kept until it is learnt from."""
        return self.sees is not Sees.SUMS


def make_section[Settings](method: Method[Settings]) -> Settings:
    """Makes the field of a config that holds a method's settings; the method itself is its metadata."""
    return dataclasses.field(default=method.settings, metadata={"method": method})


def make_language_section(method: Method[Any]) -> Any:
    """Makes the field of a config that holds a method's settings on language models; as `make_section` does."""
    assert method.language is not None
    return dataclasses.field(default=method.language.settings, metadata={"method": method})


def count_gradient_steps(settings: Any) -> int:
    """Counts the gradient steps that a method with these settings takes in an update."""
    if isinstance(settings, SegmentConfig) and settings.segment_plan is not None:
        return settings.num_epochs * settings.num_minibatches
    return settings.num_epochs if isinstance(settings, EpochsConfig) else 1


def get_reference_rule(settings: Any) -> str:
    """Returns the name of the rule by which a reference policy follows, `none` where there is no such policy."""
    return settings.reference if isinstance(settings, ReferenceConfig) else "none"


def get_segment_plan(settings: Any) -> SegmentPlan | None:
    """Returns how a method with these settings cuts and plays segments; None where it sees complete episodes."""
    return settings.segment_plan if isinstance(settings, SegmentConfig) else None


def get_joint(settings: Any) -> str:
    """Returns whose trajectories compete where several agents play: `joint`, unless the settings choose."""
    return settings.joint if isinstance(settings, JointConfig) else JOINT


def get_history(settings: Any) -> int:
    """Returns the number of earlier batches whose episodes compete again; segments do not."""
    return settings.history if isinstance(settings, HistoryConfig) and get_segment_plan(settings) is None else 0


def make_scalars(metrics: Mapping[str, jax.Array]) -> Metrics:
    """Converts diagnostics to float32 scalars, the mean of each over its groups."""
    return {name: jnp.mean(values, dtype=jnp.float32) for name, values in metrics.items()}
