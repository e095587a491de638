"""Segments of fixed length on the device, from environments that carry on from one segment to the next."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import Environment, Step
from haepo_jax.networks import Policy
from haepo_jax.networks.recurrent import Carry
from haepo_jax.types import Params


@flax.struct.dataclass
class Totals:
    """Sums over an episode, for N environments, each `[N]` float32."""

    returns: jax.Array
    lengths: jax.Array
    info_metrics: Mapping[str, jax.Array]
    """The environment's info metrics by name."""


@flax.struct.dataclass
class Running:
    """N environments between two segments, in the midst of their episodes."""

    state: Any
    observation: jax.Array
    """`[N, *O]`."""
    current: Totals
    """Of the episode that is being played."""
    last: Totals
    """Of the newest episode that has ended; 0 where none has."""
    has_ended: jax.Array
    """`[N]` boolean, True once an episode has ended."""
    carry: Carry = ()
    """`[N, *C]`, what the policy remembers; empty for a policy without memory."""
    value_carry: Carry = ()
    """`[N, *C]`, what a value function beside it remembers, which whoever learns sets."""


class Segment(NamedTuple):
    """`num_steps` steps of N environments. An episode that ends is followed by the next one."""

    observations: jax.Array
    """`[N, S, *O]` as the policy saw them."""
    next_observations: jax.Array
    """`[N, S, *O]` after the action: an episode's true last observation, not the next one's first."""
    actions: jax.Array
    """`[N, S]` or `[N, S, A]`."""
    log_probs: jax.Array
    """`[N, S]` log-probability of the action under the policy that sampled it, in nats."""
    rewards: jax.Array
    """`[N, S]`."""
    terminated: jax.Array
    """`[N, S]` boolean, the task itself ended the episode here."""
    done: jax.Array
    """`[N, S]` boolean, the episode ended here, or was cut at its time limit."""
    entropies: jax.Array
    """`[N, S]` entropy of the policy, in nats."""
    running: Running
    """The environments after the segment."""

    @property
    def resets(self) -> jax.Array:
        """`[N, S]` boolean, True where a step follows the end of an episode within the segment."""
        return jnp.pad(self.done[:, :-1], ((0, 0), (1, 0)))


def start(
    environment: Environment,
    env_params: Mapping[str, jax.Array | float],
    key: jax.Array,
    num: int,
    *,
    carry: Carry = (),
    value_carry: Carry = (),
) -> Running:
    """Resets `num` environments; the carries are those of `Policy.start` and `Value.start`."""
    state, observation = _reset(environment, env_params, key, num)
    zeros = jnp.zeros((num,), jnp.float32)
    empty = Totals(zeros, zeros, dict.fromkeys(environment.info_metrics, zeros))
    return Running(state, observation, empty, empty, jnp.zeros((num,), bool), carry, value_carry)


def collect_segment(
    environment: Environment,
    policy: Policy,
    params: Params,
    running: Running,
    key: jax.Array,
    *,
    num_steps: int,
    horizon: int,
    env_params: Mapping[str, jax.Array | float],
) -> Segment:
    """Plays `num_steps` more steps in each environment.

    Args:
      environment: where to play.
      policy: who plays.
      params: the policy's parameters.
      running: the environments, from `start` or from the segment before.
      key: typed PRNG key.
      num_steps: S.
      horizon: steps at which an episode is cut.
      env_params: numbers of the environment, by name; its defaults for those left out.

    Returns:
      `Segment`.
    """
    num = running.observation.shape[0]
    step_environments = jax.vmap(environment.step, in_axes=(None, 0, 0, 0))

    @jax.vmap
    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        act_key, env_key, reset_key = jax.random.split(key, 3)
        return policy.noise(act_key, (num,)), env_key, reset_key

    def step(running: Running, randomness: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Running, tuple]:
        noise, env_key, reset_key = randomness
        carry, distribution = policy.step(params, running.carry, running.observation)
        action = policy.act(distribution, noise)
        after = step_environments(env_params, jax.random.split(env_key, num), running.state, action)
        done = after.done | (running.current.lengths + 1 >= horizon)
        record = (
            running.observation,
            after.observation,
            action,
            distribution.log_prob(action),
            after.reward,
            after.terminated,
            done,
            distribution.entropy(),
        )
        fresh = (*_reset(environment, env_params, reset_key, num), policy.start(num))
        return _next(running, after, done, carry, fresh), record

    # To draw the randomness of all steps at once costs a fraction of drawing it step by step.
    running, records = jax.lax.scan(step, running, draw(jax.random.split(key, num_steps)))
    by_environment: list[jax.Array] = [jnp.moveaxis(record, 0, 1) for record in records]
    return Segment._make([*by_environment, running])


def segment_metrics(segment: Segment) -> dict[str, jax.Array]:
    """Computes the metrics that any segment reports.

    Args:
      segment: N environments, S steps.

    Returns:
      float32 scalars: `episode_return` (undiscounted), `episode_length` and the environment's info metrics, each the
      mean over the newest ended episodes of the environments in which one has ended, NaN before there is any;
      `policy_entropy`, the mean over all steps; and `env_steps`, int32.
    """
    last, has_ended = segment.running.last, segment.running.has_ended

    def mean(values: jax.Array) -> jax.Array:
        # An episode that has not ended would count with the part of its return that it has so far.
        return jnp.mean(values, where=has_ended)

    return {
        "episode_return": mean(last.returns),
        "episode_length": mean(last.lengths),
        "policy_entropy": segment.entropies.mean(dtype=jnp.float32),
        "env_steps": jnp.int32(segment.rewards.size),
    } | {name: mean(values) for name, values in last.info_metrics.items()}


def _reset(
    environment: Environment, env_params: Mapping[str, jax.Array | float], key: jax.Array, num: int
) -> tuple[Any, jax.Array]:
    return jax.vmap(environment.reset, in_axes=(None, 0))(env_params, jax.random.split(key, num))


def _next(
    running: Running, after: Step, done: jax.Array, carry: Carry, fresh: tuple[Any, jax.Array, Carry]
) -> Running:
    """The environments after a step, `fresh` where an episode has ended: state, observation and carry."""

    def choose(condition: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (jnp.ndim(no) - 1)), yes, no)

    taken = Totals(after.reward, jnp.ones_like(after.reward), after.info_metrics)
    current = jax.tree.map(jnp.add, running.current, taken)
    state, observation, carry = jax.tree.map(
        lambda first, old: choose(done, first, old), fresh, (after.state, after.observation, carry)
    )
    return Running(
        state=state,
        observation=observation,
        current=jax.tree.map(lambda values: jnp.where(done, 0, values), current),
        last=jax.tree.map(lambda new, old: jnp.where(done, new, old), current, running.last),
        has_ended=running.has_ended | done,
        carry=carry,
        value_carry=running.value_carry,
    )
