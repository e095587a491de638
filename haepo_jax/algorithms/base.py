"""What training asks of an algorithm, and the steps that algorithms share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import optax

from haepo_jax.algorithms.agents import count_lanes, feature_shape_of, for_agents
from haepo_jax.config import ExperimentConfig, TracedConfig
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError
from haepo_jax.networks import Policy, make_policy, make_torso
from haepo_jax.rollouts.rounds import RoundBounds
from haepo_jax.runtime.precision import with_precision
from haepo_jax.types import Metrics, Params

Loss = Callable[[Params], tuple[jax.Array, Metrics]]
"""`params -> (loss, metrics)`, the batch being fixed."""


@flax.struct.dataclass
class LearnerState:
    """What an algorithm keeps between updates."""

    params: Params
    """What is trained; `Algorithm.policy_params` makes what the policy takes of it."""
    optimizer_state: Any
    reference: Any = None
    """What the policy takes as of the reference policy; None for an algorithm without one."""
    environments: Any = None
    """Environments that go on from update to update; None for an algorithm that begins each with a reset."""
    exploration: jax.Array | None = None
    """`[K]` float32, the share of the episodes that have each of `config.exploration.persistences`; None without."""
    history: Any = None
    """Earlier batches (`haepo_jax.algorithms.history`); None where none compete again."""
    adaptation: Any = None
    """State of the method's adaptation; None for a method whose settings stay as they are."""
    normalization: Any = None
    """What was seen of observations and returns (`haepo_jax.algorithms.normalization`); None where neither is
    normalised."""


class Algorithm(NamedTuple):
    """An algorithm as pure functions of one member of the population.

    `traced` carries the traced settings of the member. `batch` is the algorithm's own: `Trajectories` for
    those that learn from complete episodes and keep their steps, or `PackedEpisodes` if it is counted in steps.
    """

    policy: Policy
    policy_params: Callable[[LearnerState], Params]
    """`learner -> what `policy` takes`: its parameters, and where observations are normalised what by."""
    init: Callable[[TracedConfig, jax.Array], LearnerState]
    """`(traced, key) -> learner`."""
    collect: Callable[[TracedConfig, LearnerState, jax.Array], Any]
    """`(traced, learner, key) -> batch`."""
    loss: Callable[[TracedConfig, LearnerState, Any], Loss]
    """`(traced, learner, batch) -> loss` of the whole batch."""
    learn: Callable[[TracedConfig, LearnerState, Any, jax.Array, jax.Array], tuple[LearnerState, Metrics]]
    """`(traced, learner, batch, number of updates done before, key) -> (learner, metrics)`. Metrics are scalars
    and hold at least `loss` and `grad_norm`."""
    measure: Callable[[Any], Metrics]
    """`batch -> metrics` that every algorithm reports: `episode_return`, `episode_length`, `policy_entropy`,
    the environment's info metrics, and `env_steps`, int32."""


def policy_for(config: ExperimentConfig, environment: Environment) -> Policy:
    """The policy that the config describes, for this environment."""
    shape = feature_shape_of(config, environment)
    policy = make_policy(
        shape,
        environment.action_space,
        make_torso=make_torso(config.policy, shape),
        initial_log_std=config.policy.initial_log_std,
        mask_size=environment.mask_size,
    )
    # Also for those who apply it outside of an update, such as the player of a finished run.
    return for_agents(config, environment, policy).map_apply(functools.partial(with_precision, config.precision))


def horizon_of(config: ExperimentConfig, environment: Environment) -> int:
    """Computes T, the steps at which episodes are cut.

    Raises:
      ConfigError: neither the config nor the environment sets a limit.
    """
    limits = [limit for limit in (config.horizon, environment.max_steps) if limit is not None]
    if not limits:
        raise ConfigError(
            f"env {environment.name} sets no max_steps_in_episode of its own: give config.horizon, the steps at which "
            "its episodes are cut."
        )
    return min(limits)


def round_bounds_of(config: ExperimentConfig, environment: Environment) -> RoundBounds | None:
    """Computes when a batch of complete episodes that is counted in steps ends; None for a batch of M episodes.

    Raises:
      ConfigError: as of `horizon_of`, or a bound that one round may pass.
    """
    if config.min_batch_steps is None:
        return None
    horizon = horizon_of(config, environment)
    whole = config.num_trajectories * horizon
    if config.max_batch_steps is not None and config.max_batch_steps < whole:
        raise ConfigError(
            f"config.max_batch_steps {config.max_batch_steps:,} is less than the {whole:,} steps that "
            f"num_trajectories {config.num_trajectories:,} episodes of at most {horizon:,} steps may take; give at "
            "least as many, or take fewer episodes or a shorter horizon."
        )
    # In lanes: of several agents each step of an environment is one of each.
    number, most = environment.num_agents, config.max_batch_steps
    return RoundBounds(
        count_lanes(config, environment),
        horizon,
        config.min_batch_steps * number,
        None if most is None else most * number,
    )


def horizon_without_effect(config: ExperimentConfig, environment: Environment) -> str | None:
    """Writes a sentence about a horizon that the environment's own limit comes before; None where there is none."""
    if config.horizon is None or environment.max_steps is None or config.horizon <= environment.max_steps:
        return None
    return (
        f"{environment.name} ends its episodes after {environment.max_steps} steps; config.horizon {config.horizon} "
        "has no effect."
    )


def gradient_step(
    loss_fn: Loss,
    optimizer: optax.GradientTransformation,
    params: Params,
    optimizer_state: Any,
) -> tuple[Params, Any, Metrics]:
    """One step down the gradient of `loss_fn`; adds `loss` and `grad_norm` (before the clip) to its metrics."""
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
    metrics = metrics | {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return optax.apply_updates(params, updates), optimizer_state, metrics
