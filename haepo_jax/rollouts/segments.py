"""Segments of fixed length on the device, from environments that carry on from one segment to the next."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import Environment, Step
from haepo_jax.networks import Policy
from haepo_jax.networks.recurrent import Carry
from haepo_jax.rollouts.lanes import average_by_kind, choose, of_environments, reset_environments, step_environments
from haepo_jax.types import Params


@flax.struct.dataclass
class Totals:
    """Sums over an episode, for N lanes, each `[N]` float32."""

    returns: jax.Array
    lengths: jax.Array
    info_metrics: Mapping[str, jax.Array]
    """The environment's info metrics by name."""


@flax.struct.dataclass
class Running:
    """N environments between two segments, in the midst of their episodes; of several agents, N lanes."""

    state: Any
    observation: jax.Array
    """`[N, *O]`."""
    current: Totals
    """Of the episode that is being played, up to its end where an agent waits."""
    last: Totals
    """Of the newest episode that has ended, of several agents for all of them; 0 where none has."""
    has_ended: jax.Array
    """`[N]` boolean, True once an episode has ended."""
    carry: Carry = ()
    """`[N, *C]`, what the policy remembers; empty for a policy without memory."""
    value_carry: Carry = ()
    """`[N, *C]`, what a value function beside it remembers, which whoever learns sets."""
    waits: Any = ()
    """`[N]` boolean, True for an agent whose episode has ended before that of others; empty where none can."""


class Segment(NamedTuple):
    """`num_steps` steps of N environments, or lanes. An episode that ends is followed by the next one."""

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
    """`[N, S]` boolean, the episode ended here, or was cut at its time limit; or nothing goes on as an agent waits."""
    entropies: jax.Array
    """`[N, S]` entropy of the policy, in nats."""
    running: Running
    """The environments after the segment."""
    mask: jax.Array | None = None
    """`[N, S]` boolean, False while an agent waits for others whose episode goes on; None where none can."""

    @property
    def where(self) -> jax.Array:
        """`[N, S]` boolean, True for the steps that count."""
        return jnp.ones(self.rewards.shape, bool) if self.mask is None else self.mask

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
    """Resets `num` environments; the carries are those of `Policy.start` and `Value.start`, of their lanes."""
    state, observation = _reset(environment, env_params, key, num)
    num_lanes = num * environment.num_agents
    zeros, nowhere = jnp.zeros((num_lanes,), jnp.float32), jnp.zeros((num_lanes,), bool)
    empty = Totals(zeros, zeros, dict.fromkeys(environment.info_metrics, zeros))
    waits = nowhere if environment.ends_early else ()
    return Running(state, observation, empty, empty, nowhere, carry, value_carry, waits)


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
    unrolled_steps: int = 1,
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
      unrolled_steps: that are compiled as one turn of a loop.

    Returns:
      `Segment`.
    """
    num_lanes = running.observation.shape[0]
    num = num_lanes // environment.num_agents

    @jax.vmap
    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        act_key, env_key, reset_key = jax.random.split(key, 3)
        return policy.noise(act_key, (num_lanes,)), env_key, reset_key

    def step(running: Running, randomness: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Running, tuple]:
        noise, env_key, reset_key = randomness
        carry, distribution = policy.step(params, running.carry, running.observation)
        action = policy.act(distribution, noise)
        env_keys = jax.random.split(env_key, num)
        after = step_environments(environment, env_params, env_keys, running.state, action)
        done = after.done | (running.current.lengths + 1 >= horizon)
        record: tuple[jax.Array, ...] = (
            running.observation,
            after.observation,
            action,
            distribution.log_prob(action),
            after.reward,
            after.terminated,
            done,
            distribution.entropy(),
        )
        fresh = (*_reset(environment, env_params, reset_key, num), policy.start(num_lanes))
        if not environment.ends_early:
            return _next(environment, running, after, done, carry, fresh), record
        # An agent that waits is in an episode that ends with every step, until all begin anew.
        waits = running.waits
        after = after._replace(reward=jnp.where(waits, 0, after.reward), terminated=after.terminated | waits)
        done |= waits
        record = (*record[:4], after.reward, after.terminated, done, record[7], ~waits)
        return _next(environment, running, after, done, carry, fresh), record

    # To draw the randomness of all steps at once costs a fraction of drawing it step by step.
    randomness = draw(jax.random.split(key, num_steps))
    running, records = jax.lax.scan(step, running, randomness, unroll=min(unrolled_steps, num_steps))
    by_environment: list[jax.Array] = [jnp.moveaxis(record, 0, 1) for record in records]
    mask = by_environment.pop() if environment.ends_early else None
    return Segment._make([*by_environment, running, mask])


def segment_metrics(segment: Segment, *, environment: Environment | None = None) -> dict[str, jax.Array]:
    """Computes the metrics that any segment reports.

    Args:
      segment: N environments or lanes, S steps.
      environment: of several agents; None where there is one.

    Returns:
      float32 scalars: `episode_return` (undiscounted; the mean over agents), `episode_length`, the environment's info
      metrics and the returns of agents of several kinds, each the mean over the newest ended episodes of the
      environments in which one has ended, NaN before there is any; `policy_entropy`, the mean over all steps; and
      `env_steps`, int32.
    """
    by_kind: dict[str, jax.Array] = {}
    num_agents = 1
    if environment is not None:
        num_agents = environment.num_agents
        by_kind = average_by_kind(environment, segment.running.last.returns)
    last, has_ended = _join_agents(segment.running.last, segment.running.has_ended, num_agents)

    def mean(values: jax.Array) -> jax.Array:
        # An episode that has not ended would count with the part of its return that it has so far.
        return jnp.mean(values, where=has_ended)

    return {
        "episode_return": mean(last.returns),
        "episode_length": mean(last.lengths),
        "policy_entropy": jnp.mean(segment.entropies, dtype=jnp.float32, where=segment.mask),
        "env_steps": jnp.int32(segment.rewards.size // num_agents),
    } | {name: mean(values) for name, values in {**last.info_metrics, **by_kind}.items()}


def _reset(
    environment: Environment, env_params: Mapping[str, jax.Array | float], key: jax.Array, num: int
) -> tuple[Any, jax.Array]:
    return reset_environments(environment, env_params, jax.random.split(key, num))


def _next(
    environment: Environment,
    running: Running,
    after: Step,
    done: jax.Array,
    carry: Carry,
    fresh: tuple[Any, jax.Array, Carry],
) -> Running:
    """The environments after a step, `fresh` where an episode has ended: state, observation and carry."""
    taken = Totals(after.reward, jnp.ones_like(after.reward), after.info_metrics)
    current = jax.tree.map(jnp.add, running.current, taken)
    are_over = of_environments(environment, done)
    state = choose(are_over, fresh[0], after.state)
    begins, waits = done, running.waits
    if environment.ends_early:
        current = choose(waits, running.current, current)
        begins = jnp.repeat(are_over, environment.num_agents)
        waits = done & ~begins
    observation, carry = choose(begins, fresh[1:], (after.observation, carry))
    return Running(
        state=state,
        observation=observation,
        current=jax.tree.map(lambda values: jnp.where(begins, 0, values), current),
        last=choose(begins, current, running.last),
        has_ended=running.has_ended | begins,
        carry=carry,
        value_carry=running.value_carry,
        waits=waits,
    )


def _join_agents(last: Totals, has_ended: jax.Array, num_agents: int) -> tuple[Totals, jax.Array]:
    """Puts the newest episode of a team's agents together."""
    if num_agents == 1:
        return last, has_ended
    last, has_ended = jax.tree.map(lambda leaf: leaf.reshape(-1, num_agents), (last, has_ended))
    longest = jnp.argmax(last.lengths, axis=-1, keepdims=True)
    length, metrics = jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, longest, axis=-1)[:, 0], (last.lengths, last.info_metrics)
    )
    return Totals(last.returns.mean(axis=-1), length, metrics), has_ended.all(axis=-1)
