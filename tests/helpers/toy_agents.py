"""Small environments of several agents, whose rewards and ends are known by heart."""

import jax
import jax.numpy as jnp

from haepo_jax.environments import AgentsStep, Discrete, MultiAgentEnvironment, View

NUM_AGENTS, NUM_CHOICES = 3, 4


def make_relay(ends_early=True, masked=True):
    """Makes three agents of which agent i is done after i + 1 steps, or all after 3.

    All see `[time, number drawn at the reset]`. Each step pays agent i 10 (i + 1) plus its action, also when it is
    done; agent i has the choices 0, ..., i + 1 alone where there is a mask. What all see together is `[time, 7]`.
    """
    numbers = jnp.arange(NUM_AGENTS)

    def look(state):
        time, drawn = state
        observations = jnp.broadcast_to(jnp.stack([time.astype(jnp.float32), drawn]), (NUM_AGENTS, 2))
        allowed = jnp.arange(NUM_CHOICES) <= numbers[:, None] + 1
        return View(observations, allowed if masked else None, jnp.stack([time, 7]).astype(jnp.float32))

    def reset(params, key):
        state = jnp.int32(0), jax.random.uniform(key)
        return state, look(state)

    def step(params, key, state, actions):
        time, drawn = state
        rewards = 10.0 * (numbers + 1) + actions
        done, state = time + 1 >= NUM_AGENTS, (time + 1, drawn)
        ended = time >= numbers
        return AgentsStep(
            state, look(state), rewards, done, done, {"ticks": jnp.float32(1)}, ended if ends_early else None
        )

    return MultiAgentEnvironment(
        "relay",
        NUM_AGENTS,
        (2,),
        Discrete(NUM_CHOICES),
        NUM_AGENTS,
        {},
        ("ticks",),
        reset,
        step,
        mask_size=NUM_CHOICES if masked else 0,
        world_size=2,
        kinds={"last": (2,), "first": (0, 1)},
        ends_early=ends_early,
    )
