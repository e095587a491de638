"""Settings that several methods share, with their checks. A method's own settings are a dataclass made of these."""

import dataclasses
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice, count, number

JOINT, OWN, ALL = "joint", "own", "all"
"""Of several agents: their team's together, each one's own, or that of all, see `JointConfig`."""
REFERENCES = ("none", "frozen", "periodic", "ema", "previous")
"""How the reference policy lags behind the policy that is trained."""


class Chosen(NamedTuple):
    """A method's settings in an experiment, for its checks."""

    settings: Any
    swept: Mapping[str, tuple[Any, ...]]
    """Those that differ between members, each with its values, or with the bounds between which population-based
    training changes it; one of a group of arguments is `GROUP.NAME`."""
    names: Mapping[str, str]
    """Each by the dotted name that it has in the config."""
    num_trajectories: int
    changed: Container[str] = ()
    """Those that population-based training changes."""
    steps_of_batch: int | None = None
    """Gradient steps on a batch where they are none of the method's settings, as on language models; `names` has the
    name of that setting under `num_epochs`."""

    def values(self, name: str) -> tuple[Any, ...]:
        """Every value that a setting has among the members, or the least and the largest that it may come to."""
        return self.swept.get(name, (getattr(self.settings, name),))

    def where(self, name: str) -> str:
        """A setting as a sentence names it."""
        return f"config.{self.names[name]}"


def why_normalization_is_unit_free(chosen: Chosen) -> str | None:
    """Says why returns that a `normalization` brings to one scale have no unit; None where it leaves them."""
    how = chosen.settings.normalization
    return None if how == "none" else f"{chosen.where('normalization')} {how} takes the unit out of returns"


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """For a method without settings."""


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """The rule by which a reference policy follows the trained one (`haepo_jax.algorithms.reference`)."""

    reference: str = choice("previous", REFERENCES)
    """`frozen` the first policy, `periodic` a copy every `reference_period` updates, `ema` a running mean,
    `previous` the policy of the update before, `none`."""
    reference_period: int = count(5, low=1, traced=True, only_with={"reference": ("periodic",)})
    """Updates between two copies of the policy, for `periodic`."""
    reference_decay: float = number(0.9, low=0.0, high=1.0, only_with={"reference": ("ema",)})
    """Share of the old reference that `ema` keeps at each update."""


@dataclasses.dataclass(frozen=True)
class EpochsConfig:
    """For a method that may learn from a batch more than once."""

    num_epochs: int = count(4, low=1)
    """Gradient steps on each batch of trajectories."""


@dataclasses.dataclass(frozen=True)
class HistoryConfig:
    """For a method whose loss allows for episodes that an earlier policy has played."""

    history: int = count(0, low=0)
    """Batches before the newest whose episodes compete again with its own."""


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """For a method whose trajectories compete, where several agents play in one environment."""

    joint: str = choice(JOINT, (JOINT, OWN))
    """Whose trajectories compete: `joint`, those of teams, each with the sum of its agents' log-likelihoods and the
    mean of their returns; or each agent's `own`, with its own of other episodes."""


class SegmentPlan(NamedTuple):
    """How a method that sees segments cuts them, and what plays them."""

    length: int | None = None
    """h, the most steps of those that compete with one another; None for a method that learns from single steps."""
    by_time: bool = False
    """Whether a minibatch holds the segments of all environments at some times, in place of any segments."""
    by_state: bool = False
    """Whether it is told which segments begin in the same state."""
    has_critic: bool = True
    """Whether a value function learns beside the policy."""
    shares_torso: bool = False
    """Whether the value function has the policy's torso, and a head of its own alone."""
    carries_on: bool = True
    """Whether environments carry on from update to update, rather than each update playing whole episodes."""


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """Learning from segments of `num_steps` steps in `num_trajectories` environments that go on in between."""

    num_steps: int = count(128, low=1)
    """S, the steps of a segment in each environment."""
    num_epochs: int = count(4, low=1)
    """Times that an update goes through its segments."""
    num_minibatches: int = count(4, low=1)
    """Gradient steps of an epoch, each on its own share of the segments' steps."""
    gae_lambda: float = number(0.95, low=0.0, high=1.0)
    """Decay of generalised advantages: 0 looks one step ahead, 1 to the end."""
    critic_sees: str = choice(OWN, (OWN, ALL))
    """Where several agents play in one environment, what the value function of one sees: its `own` observation, or
    `all`, as a central critic: the state that the environment shows such, or what all agents see."""

    @property
    def segment_plan(self) -> SegmentPlan | None:
        """How segments are cut and played; None where these settings ask for none."""
        return SegmentPlan()


def check_reference_acts(chosen: Chosen) -> None:
    """Refuses a KL term, weighed by `kl_coef`, whose reference never differs from the policy it is taken at.

    Raises:
      ConfigError: there is no reference, or the only step on a batch is taken where both are equal.
    """
    settings, kl_coef = chosen.settings, max(chosen.values("kl_coef"))
    if not any(chosen.values("kl_coef")):
        return
    if settings.reference == "none":
        raise ConfigError(
            f"{chosen.where('kl_coef')} {kl_coef} needs a reference policy, but {chosen.where('reference')} is none; "
            f"choose one of {', '.join(REFERENCES[1:])}, or set kl_coef to 0."
        )
    if isinstance(settings, EpochsConfig) and settings.num_epochs > 1:
        return
    if settings.reference == "periodic" and min(chosen.values("reference_period")) == 1:
        raise ConfigError(
            f"{chosen.where('reference_period')} 1 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use reference=previous, or a period of at least 2."
        )
    if settings.reference == "ema" and min(chosen.values("reference_decay")) == 0:
        raise ConfigError(
            f"{chosen.where('reference_decay')} 0 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use a decay above 0."
        )


def check_minibatches(chosen: Chosen) -> None:
    """Refuses minibatches of a `SegmentConfig` that do not share the steps, or segments, of an update evenly.

    Raises:
      ConfigError: their number does not divide the steps, or leaves one step to each.
    """
    settings: SegmentConfig = chosen.settings
    plan = settings.segment_plan
    assert plan is not None
    if plan.length is not None:
        _check_minibatches_of_segments(chosen, plan.length, by_time=plan.by_time, carries_on=plan.carries_on)
        return
    steps = chosen.num_trajectories * settings.num_steps
    given = f"{chosen.where('num_minibatches')} {settings.num_minibatches}"
    if steps % settings.num_minibatches:
        raise ConfigError(
            f"{given} does not divide the {steps} steps of an update (num_trajectories {chosen.num_trajectories} "
            f"times {chosen.names['num_steps']} {settings.num_steps})."
        )
    if steps == settings.num_minibatches:
        raise ConfigError(
            f"{given} leaves one step to each, where a normalised advantage is always 0; it may be at most "
            f"{steps // 2}."
        )


def _check_minibatches_of_segments(chosen: Chosen, length: int, *, by_time: bool, carries_on: bool) -> None:
    settings: SegmentConfig = chosen.settings
    times = -(-settings.num_steps // length)
    units = times if by_time else chosen.num_trajectories * times
    if length > settings.num_steps and carries_on:
        raise ConfigError(
            f"{chosen.where('segment_length')} {length} is longer than the {settings.num_steps} steps that an update "
            f"plays in each environment; raise {chosen.where('num_steps')}, or take shorter segments."
        )
    given = f"{chosen.where('num_minibatches')} {settings.num_minibatches}"
    what = f"{times} times at which segments begin" if by_time else f"{units} segments of an update"
    how = f"{settings.num_steps} steps in pieces of {chosen.names['segment_length']} {length}"
    if not by_time:
        how = f"num_trajectories {chosen.num_trajectories} times {how}"
    if units % settings.num_minibatches:
        divisors = [number for number in range(1, units + 1) if units % number == 0]
        nearest = min(divisors, key=lambda number: abs(number - settings.num_minibatches))
        raise ConfigError(f"{given} does not divide the {what} ({how}); {nearest} does.")
    if not by_time and units == settings.num_minibatches:
        raise ConfigError(f"{given} leaves one segment to each, which has none to compete with; it may be fewer.")
