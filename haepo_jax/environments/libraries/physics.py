"""What Brax and MuJoCo Playground share: environments of one interface, which know no limit of time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.environments.interface import Box, Environment, Step
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.environments.observations import make_observer

_REWARD = "reward"  # begins the names of parts of the reward among the metrics


def adapt_physics(
    name: str,
    env: Any,
    episode_length: int,
    action_repeat: int,
    observe: Callable[[Any], Any],
    render: Callable[[Sequence[Any]], Iterator[Any]],
) -> Environment:
    """Makes an environment of Brax's interface an `Environment`.

    Args:
      name: its id.
      env: with `reset(key)`, `step(state, action)` and `action_size`; actions are from -1 to 1.
      episode_length: steps of the physics at which an episode is cut.
      action_repeat: for how many of them an action lasts. Their rewards and metrics are added.
      observe: `state -> observation`, of any structure.
      render: `states of an episode -> a picture of each`.

    Returns:
      The `Environment`. Its state counts the steps beside the library's.
    """
    begun = jax.eval_shape(env.reset, key_shape())
    observer, packing = make_observer(observe(begun)), StatePacking.of(begun)
    max_steps = -(-episode_length // action_repeat)
    metrics = tuple(key for key in begun.metrics if key.startswith(_REWARD))

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        state = env.reset(key)
        return (packing.pack(state), jnp.int32(0)), observer(observe(state))

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        arrays, time = state
        clipped = jnp.clip(action, -1, 1)

        def advance(arrays: tuple[jax.Array, ...], _: None) -> tuple[Any, tuple[jax.Array, dict[str, jax.Array]]]:
            after = env.step(packing.unpack(arrays), clipped)
            parts = {key: jnp.asarray(after.metrics[key], jnp.float32) for key in metrics}
            return packing.pack(after), (jnp.asarray(after.reward, jnp.float32), parts)

        if action_repeat == 1:
            arrays, (reward, parts) = advance(arrays, None)
        else:
            arrays, each = jax.lax.scan(advance, arrays, None, action_repeat)
            reward, parts = jax.tree.map(lambda values: jnp.sum(values, axis=0), each)
        after = packing.unpack(arrays)
        terminated = jnp.asarray(after.done, bool)
        return Step(
            (arrays, time + 1),
            observer(observe(after)),
            reward,
            terminated | (time + 1 >= max_steps),
            terminated,
            parts,
        )

    return Environment(
        name,
        observer.observation_shape,
        Box(int(env.action_size)),
        max_steps,
        {},
        metrics,
        reset,
        step,
        render=lambda params, states: render([packing.unpack(arrays) for arrays, _ in states]),
    )
