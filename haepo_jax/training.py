"""Training of one member of a population, as pure functions: init, then updates of (collect, learn)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms import MAKERS, Learner
from haepo_jax.algorithms.interface import Metrics, scalar
from haepo_jax.config import ExperimentConfig, with_settings
from haepo_jax.environments import Environment, make
from haepo_jax.policies import Policy
from haepo_jax.rollout import Trajectories, collect

# What a member's key is folded with, so that no two purposes ever share randomness.
_INIT, _TRAIN, EVALUATE = range(3)


@flax.struct.dataclass
class MemberState:
    """Everything that a member needs to go on: what a checkpoint holds."""

    learner: Learner
    key: jax.Array
    """Typed PRNG key of the member, which never changes; each use folds its purpose and time into it."""
    updates_done: jax.Array
    """int32."""
    settings: dict[str, jax.Array]
    """The traced settings by dotted name."""
    alive: jax.Array
    """boolean, False once loss or parameters were not finite; the learner is then the last finite one."""
    death_update: jax.Array
    """int32, the update that was not finite; -1 for a member that is alive."""


class Train(NamedTuple):
    """The pure functions of training. An update is `learn(state, collect(state))`."""

    init: Callable[[jax.Array, Mapping[str, jax.Array]], MemberState]
    """`(key, traced settings) -> state`."""
    collect: Callable[[MemberState], Trajectories]
    """`state -> trajectories` of this update's episodes."""
    learn: Callable[[MemberState, Trajectories], tuple[MemberState, Metrics]]
    """`(state, trajectories) -> (state, metrics)`: scalars by name, float32 (NaN for a member that is not alive),
    and `env_steps`, int32 (0 for such a member)."""
    policy: Policy
    environment: Environment
    horizon: int
    """T, the steps at which episodes are cut."""


def make_train(config: ExperimentConfig) -> Train:
    """Training as the config describes it, for one member; vmap it over members.

    Args:
      config: the experiment. Its traced settings only matter as defaults: members carry their own.

    Returns:
      `Train`.

    Raises:
      ConfigError: an environment that does not exist.
    """
    environment = make(config.env)
    algorithm = MAKERS[config.algorithm](config, environment)
    horizon = min(config.horizon or environment.max_steps, environment.max_steps)

    def init(key: jax.Array, settings: Mapping[str, jax.Array]) -> MemberState:
        return MemberState(
            learner=algorithm.init(with_settings(config, settings), jax.random.fold_in(key, _INIT)),
            key=key,
            updates_done=jnp.int32(0),
            settings=dict(settings),
            alive=jnp.bool_(True),
            death_update=jnp.int32(-1),
        )

    def collect_batch(state: MemberState) -> Trajectories:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _TRAIN), state.updates_done)
        return collect(
            environment,
            algorithm.policy,
            state.learner.params,
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon,
        )

    def learn(state: MemberState, trajectories: Trajectories) -> tuple[MemberState, Metrics]:
        learner, metrics = algorithm.learn(
            with_settings(config, state.settings), state.learner, trajectories, state.updates_done
        )
        metrics = _batch_metrics(trajectories) | metrics
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.sum(learner.params))
        keep = state.alive & finite
        died = state.alive & ~finite
        return dataclasses.replace(
            state,
            learner=jax.tree.map(lambda new, old: jnp.where(keep, new, old), learner, state.learner),
            updates_done=state.updates_done + 1,
            alive=keep,
            death_update=jnp.where(died, state.updates_done, state.death_update),
        ), {name: jnp.where(state.alive, value, _missing(value)) for name, value in metrics.items()}

    return Train(init, collect_batch, learn, algorithm.policy, environment, horizon)


def _batch_metrics(trajectories: Trajectories) -> Metrics:
    """What every algorithm reports of a batch: undiscounted return, length and policy entropy."""
    lengths = trajectories.mask.sum(axis=-1)
    rewards = jnp.where(trajectories.mask, trajectories.rewards, 0).sum(axis=-1)
    entropy = jnp.where(trajectories.mask, trajectories.entropies, 0).sum()
    return {
        "episode_return": scalar(rewards),
        "episode_length": scalar(lengths),
        "policy_entropy": entropy / lengths.sum(),
        "env_steps": lengths.sum(dtype=jnp.int32),
    }


def _missing(value: jax.Array) -> float | int:
    return jnp.nan if jnp.issubdtype(value.dtype, jnp.floating) else 0
