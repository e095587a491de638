"""What training asks of an algorithm, and the steps that algorithms share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from haepo_jax.config import ExperimentConfig, OptimizerConfig
from haepo_jax.environments import Environment
from haepo_jax.policies import Params, Policy, make_policy

Metrics = dict[str, jax.Array]
Loss = Callable[[Params], tuple[jax.Array, Metrics]]
"""`params -> (loss, metrics)`, the batch being fixed."""


@flax.struct.dataclass
class Learner:
    """What an algorithm keeps between updates."""

    params: Params
    optimizer_state: Any
    reference: Any = None
    """Parameters of the reference policy; None for an algorithm without one."""
    environments: Any = None
    """Environments that go on from update to update; None for an algorithm that begins each with a reset."""


class Algorithm(NamedTuple):
    """An algorithm as pure functions of one member of the population.

    `config` carries the traced settings of the member. `Batch` is the algorithm's own: `Trajectories` for
    those that learn from complete episodes.
    """

    policy: Policy
    init: Callable[[ExperimentConfig, jax.Array], Learner]
    """`(config, key) -> learner`."""
    collect: Callable[[ExperimentConfig, Learner, jax.Array], Any]
    """`(config, learner, key) -> batch`."""
    loss: Callable[[ExperimentConfig, Learner, Any], Loss]
    """`(config, learner, batch) -> loss` of the whole batch."""
    learn: Callable[[ExperimentConfig, Learner, Any, jax.Array, jax.Array], tuple[Learner, Metrics]]
    """`(config, learner, batch, number of updates done before, key) -> (learner, metrics)`. Metrics are scalars
    and hold at least `loss` and `grad_norm`."""
    measure: Callable[[Any], Metrics]
    """`batch -> metrics` that every algorithm reports: `episode_return`, `episode_length`, `policy_entropy`,
    the environment's own measures, and `env_steps`, int32."""


def policy_for(config: ExperimentConfig, environment: Environment) -> Policy:
    """The policy that the config describes, for this environment."""
    return make_policy(
        environment.observation_size,
        environment.action_space,
        hidden_sizes=config.policy.hidden_sizes,
        activation=config.policy.activation,
        initial_log_std=config.policy.initial_log_std,
    )


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Adam after a global-norm clip; learning rate and clip may be traced.

    Args:
      config: the settings.
      num_steps: gradient steps in the whole run, over which the schedule falls to 0.
    """
    schedule = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, num_steps),
        "cosine": optax.cosine_decay_schedule(1.0, num_steps),
    }[config.schedule]
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(),
        optax.scale_by_schedule(lambda count: -config.learning_rate * schedule(count)),
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


def scalars(metrics: Mapping[str, jax.Array]) -> Metrics:
    """Diagnostics as float32 scalars, the mean of each over its groups."""
    return {name: scalar(values) for name, values in metrics.items()}


def scalar(values: jax.Array) -> jax.Array:
    """A diagnostic as a float32 scalar."""
    return jnp.mean(values, dtype=jnp.float32)
