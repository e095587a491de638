"""Running normalisation: of the observations that networks see, and of the rewards that are learnt from.

Statistics of observations stay as they are while a batch is played and learnt from, and count it afterwards, so that
the policy that learns is the one that played. Those of returns count it before, as rewards belong to no policy.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax.algorithms.agents import count_lanes
from haepo_jax.algorithms.base import LearnerState
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.algorithms.running_statistics import (
    RunningStatistics,
    measure_statistics,
    merge_statistics,
    no_statistics,
)
from haepo_jax.config import ExperimentConfig, TracedConfig, carries_on, normalizes_rewards
from haepo_jax.environments import Environment
from haepo_jax.networks import Policy
from haepo_jax.rollouts.segments import Segment
from haepo_jax.rollouts.steps import Steps, steps_of
from haepo_jax.types import Params


class NormalizedParams(NamedTuple):
    """Parameters of networks that see normalised observations, and what these are normalised by.

    Nothing but the parameters has a gradient.
    """

    params: Params
    mean: jax.Array
    """`[*O]`, what is taken from an observation."""
    scale: jax.Array
    """`[*O]`, what the difference is multiplied by."""


@flax.struct.dataclass
class Normalization:
    """What a learner has seen of observations and returns so far."""

    observations: RunningStatistics | None = None
    """`[*O]`; None where they are not normalised."""
    returns: RunningStatistics | None = None
    """`[]`, of the discounted returns of each episode up to each of its steps; None where rewards are not
    normalised."""
    returns_so_far: jax.Array | None = None
    """`[N]`, those of the episodes that go on in the next update; None where none does."""


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """The normalisation of one member, as functions of what it keeps; where it is off they change nothing."""

    config: ExperimentConfig
    environment: Environment

    def init(self) -> Normalization | None:
        """Makes what a learner begins with; None where nothing is normalised."""
        config, observations, returns, so_far = self.config, None, None, None
        if config.normalize_observations:
            observations = no_statistics(self.environment.observation_shape)
        if self._scales_rewards:
            returns = no_statistics(())
            so_far = jnp.zeros(count_lanes(config, self.environment)) if carries_on(config) else None
        if observations is None and returns is None:
            return None
        return Normalization(observations, returns, so_far)

    def wrap_policy(self, policy: Policy) -> Policy:
        """Makes a policy whose parameters are `NormalizedParams`; the same where observations stay as they are."""
        if not self.config.normalize_observations:
            return policy

        def init(key: jax.Array) -> NormalizedParams:
            return NormalizedParams(policy.init(key), *self._factors(no_statistics(self._shape)))

        return policy.map_inputs(self.see)._replace(init=init)

    def see(self, given: Params, observations: jax.Array) -> tuple[Params, jax.Array]:
        """Returns the parameters in what `bind` gives, and observations `[..., *O]` as their networks see them."""
        if not self.config.normalize_observations:
            return given, observations
        mean, scale = jax.lax.stop_gradient((given.mean, given.scale))
        clip = self.config.normalization.clip_observations
        normalized = jnp.clip((observations - mean) * scale, -clip, clip)
        if size := self.environment.num_flags:
            normalized = jnp.concatenate([normalized[..., :-size], observations[..., -size:]], axis=-1)
        return given.params, normalized

    def bind(self, normalization: Normalization | None, params: Params) -> Params:
        """Returns what a wrapped network takes: these parameters, and what observations are normalised by."""
        if normalization is None or normalization.observations is None:
            return params
        return NormalizedParams(params, *self._factors(normalization.observations))

    def policy_params(self, learner: LearnerState) -> Params:
        """Returns what the wrapped policy of a learner takes."""
        return self.bind(learner.normalization, learner.params)

    def count_observations(self, normalization: Normalization | None, batch: Any) -> Normalization | None:
        """Adds the observations of a batch."""
        if normalization is None or normalization.observations is None:
            return normalization
        steps = steps_of(batch)
        new = batch.observations if steps is None else measure_statistics(steps.observations, steps.mask)
        return dataclasses.replace(normalization, observations=merge_statistics(normalization.observations, new))

    def count_returns(
        self, traced: TracedConfig, normalization: Normalization | None, batch: Any
    ) -> Normalization | None:
        """Adds the returns of a batch."""
        if normalization is None or normalization.returns is None:
            return normalization
        steps = steps_of(batch)
        assert isinstance(steps, Steps)  # a config that normalises rewards keeps them
        goes_on = isinstance(batch, Segment)
        follows = jnp.pad((steps.mask & ~steps.ends)[:, :-1], ((0, 0), (1, 0)), constant_values=goes_on)
        before = normalization.returns_so_far if goes_on else None
        rewards = jnp.where(steps.mask, make_rewards(self.config)(traced, batch), 0)
        so_far = discounted_returns_so_far(rewards, follows, traced.discount, before)
        counted = merge_statistics(normalization.returns, measure_statistics(so_far, steps.mask))
        carried = jnp.where(steps.ends[:, -1], 0, so_far[:, -1]) if goes_on else normalization.returns_so_far
        return Normalization(normalization.observations, counted, carried)

    def scale_returns(self, normalization: Normalization | None, returns: jax.Array) -> jax.Array:
        """Divides the returns of whole episodes, of any shape."""
        if normalization is None or normalization.returns is None:
            return returns
        return returns * self._inverse_root(normalization.returns)

    def scale_rewards(self, normalization: Normalization | None, rewards: jax.Array) -> jax.Array:
        """Divides rewards of single steps, of any shape, and cuts those that are still large."""
        if normalization is None or normalization.returns is None:
            return rewards
        clip = self.config.normalization.clip_rewards
        return jnp.clip(self.scale_returns(normalization, rewards), -clip, clip)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.environment.observation_shape

    @property
    def _scales_rewards(self) -> bool:
        return normalizes_rewards(self.config)

    def _factors(self, statistics: RunningStatistics) -> tuple[jax.Array, jax.Array]:
        return statistics.mean.value, self._inverse_root(statistics)

    def _inverse_root(self, statistics: RunningStatistics) -> jax.Array:
        return 1 / jnp.sqrt(statistics.variance + self.config.normalization.epsilon)


def discounted_returns_so_far(
    rewards: jax.Array, follows: jax.Array, discount: jax.Array | float, before: jax.Array | None = None
) -> jax.Array:
    """Computes what has come in each episode up to each of its steps: g_t = r_t + discount g_(t-1).

    Args:
      rewards: `[N, T]`.
      follows: `[N, T]` boolean, True where the step before is of the same episode.
      discount: of one step.
      before: `[N]`, what had come before the first step; 0 by default.

    Returns:
      `[N, T]` float32.
    """

    def combine(earlier: tuple[jax.Array, jax.Array], later: tuple[jax.Array, jax.Array]) -> tuple:
        (factor, value), (next_factor, next_value) = earlier, later
        return factor * next_factor, next_value + next_factor * value

    factors = jnp.where(follows, jnp.asarray(discount, jnp.float32), 0)
    kept, so_far = jax.lax.associative_scan(combine, (factors, rewards.astype(jnp.float32)), axis=1)
    return so_far if before is None else so_far + kept * before[:, None]
