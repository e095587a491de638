"""Jumanji (Bonnet et al. 2024): combinatorial problems, with nested observations and action masks."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jumanji
import numpy as np
from jax.typing import ArrayLike
from jumanji import specs

from haepo_jax.environments.interface import ActionSpace, Box, Discrete, Environment, MultiDiscrete, Step
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.environments.observations import make_observer
from haepo_jax.errors import ConfigError

_NEVER = 2**30  # a limit of time that no episode comes to


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(sorted(jumanji.registered_environments()))


def find(name: str) -> Callable[..., Any]:
    """Returns what makes an environment, with the arguments of its class that a config can hold."""

    def make_jumanji(**arguments: Any) -> Any:
        return jumanji.make(name, **arguments)

    return make_jumanji


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`.

    Its observation is all that the library's has, flattened; `action_mask` becomes the action mask. Where the mask is
    over all combinations of several choices, each combination is one choice. The rewards of several agents are added.
    """
    # Most of them end at a limit of time as at the end of a task; without a limit they end with the task alone.
    limit = getattr(env, "time_limit", None)
    unlimited = copy.copy(env)
    if limit is not None:
        unlimited.time_limit = _NEVER

    begun, first = jax.eval_shape(env.reset, key_shape())
    features, mask = _split(first.observation)
    actions = _read_actions(name, env.action_spec, None if mask is None else mask.shape)
    observer, packing = make_observer(features, mask), StatePacking.of(begun)

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        state, timestep = env.reset(key)
        return packing.pack(state), observer(*_split(timestep.observation))

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        before, own = packing.unpack(state), actions.convert(action)
        after, timestep = env.step(before, own)
        ended = unlimited.step(before, own)[1] if limit is not None else timestep
        return Step(
            packing.pack(after),
            observer(*_split(timestep.observation)),
            jnp.sum(jnp.asarray(timestep.reward, jnp.float32)),
            timestep.last(),
            ended.last() & jnp.all(ended.discount == 0),
            {},
        )

    return Environment(
        name,
        observer.observation_shape,
        actions.space,
        None if limit is None else int(limit),
        {},
        (),
        reset,
        step,
        render=lambda params, states: _draw(env, [packing.unpack(state) for state in states]),
        mask_size=observer.mask_size,
        masked_shape=observer.masked_shape,
    )


def _split(observation: Any) -> tuple[Any, Any]:
    """An observation without its action mask, and the mask, None where it has none."""
    fields = observation._asdict() if hasattr(observation, "_asdict") else observation
    if isinstance(fields, Mapping) or hasattr(fields, "__dataclass_fields__"):
        given = dict(fields) if isinstance(fields, Mapping) else dict(vars(fields))
        mask = given.pop("action_mask", None)
        return tuple(given.values()), mask
    return observation, None


class _Actions(NamedTuple):
    """The actions of a policy, and how they become those of the environment."""

    space: ActionSpace
    convert: Callable[[jax.Array], jax.Array]


def _read_actions(name: str, spec: Any, mask: tuple[int, ...] | None) -> _Actions:
    if isinstance(spec, specs.DiscreteArray):
        n = int(spec.num_values)
        if mask not in (None, (n,)):
            raise _unfit(name, mask, (n,))
        return _Actions(Discrete(n), lambda action: jnp.asarray(action, spec.dtype))
    if isinstance(spec, specs.MultiDiscreteArray):
        return _read_choices(name, np.asarray(spec.num_values), 0, spec, mask)
    low, high = (np.broadcast_to(np.asarray(bound), spec.shape) for bound in (spec.minimum, spec.maximum))
    if jnp.issubdtype(spec.dtype, jnp.integer):
        return _read_choices(name, high - low + 1, low, spec, mask)
    if mask is not None or not np.isfinite([low, high]).all():
        raise ConfigError(f"env {name} has real actions with a mask or without bounds, which no policy can give.")
    middle, half = (high + low) / 2, (high - low) / 2

    def scale(action: jax.Array) -> jax.Array:
        scaled = middle + half * jnp.clip(jnp.reshape(action, spec.shape), -1, 1)
        return jnp.asarray(scaled, spec.dtype)

    return _Actions(Box(math.prod(spec.shape)), scale)


def _read_choices(name: str, counts: np.ndarray, least: Any, spec: Any, mask: tuple[int, ...] | None) -> _Actions:
    """Of several choices at once, which begin at `least`."""
    nvec = tuple(int(n) for n in counts.ravel())

    def as_spec(action: jax.Array) -> jax.Array:
        return jnp.asarray(jnp.reshape(action, counts.shape) + least, spec.dtype)

    each = mask == (len(nvec), max(nvec)) and len(set(nvec)) == 1
    together = mask == nvec
    if mask is not None and each == together:  # both fit two agents of two choices
        raise _unfit(name, mask, nvec)
    if together:
        return _Actions(Discrete(math.prod(nvec)), lambda action: as_spec(jnp.stack(jnp.unravel_index(action, nvec))))
    return _Actions(MultiDiscrete(nvec), as_spec)


def _unfit(name: str, mask: tuple[int, ...] | None, nvec: tuple[int, ...]) -> ConfigError:
    return ConfigError(
        f"env {name} has an action mask of shape {mask}, and its choices are {nvec}; it must be known which entry is "
        "which choice."
    )


def _draw(env: Any, states: Sequence[Any]) -> Iterator[Any]:
    """Yields what the library's viewer shows, which draws on pyplot's current figure unless it returns a picture."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("Agg")
    try:
        for state in states:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that nothing is shown on a screen
                picture = env.render(state)
            canvas: Any = plt.gcf().canvas
            canvas.draw()
            yield np.array(canvas.buffer_rgba() if picture is None else picture)[..., :3]
    finally:
        env.close()
        plt.switch_backend(before)
