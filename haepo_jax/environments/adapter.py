"""One gymnax environment behind the package's interface: float32 observations, one action scale."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax.components import failures_named
from haepo_jax.environments.contract import (
    check_choices,
    check_real_actions,
    check_state,
    checked_info_metrics,
    checked_state,
    own_limit,
)
from haepo_jax.environments.drawing import find_drawing
from haepo_jax.environments.gymnax_library import spaces
from haepo_jax.environments.interface import Box, Discrete, Environment, Step
from haepo_jax.errors import ConfigError, suggestion

# Parameters that gymnax computes from others once, in its defaults; here they follow.
_DERIVED: dict[str, dict[str, Callable[[Any], Any]]] = {
    "CartPole-v1": {
        "total_mass": lambda params: params.masscart + params.masspole,
        "polemass_length": lambda params: params.masspole * params.length,
    }
}


def adapt(name: str, env: Any, defaults: Any) -> Environment:
    """The gymnax environment `env` with the default parameters `defaults` as an `Environment`.

    Args:
      name: its id.
      env: an instance of `gymnax.environments.environment.Environment`. Its attribute `info_metrics`, where it has
        one, names the entries of its `info` that are metrics; `param_limits` are those of `Environment`; its method
        `render(state, params)`, where it has one, returns a picture as of `Environment.render`.
      defaults: its `EnvParams`.

    Returns:
      The `Environment`.

    Raises:
      ConfigError: its observations or actions are of a kind that is not supported, or its step does not return what
        its reset does.
    """
    max_steps = own_limit(name, defaults)
    if max_steps is None and hasattr(defaults, "max_steps_in_episode"):
        defaults = defaults.replace(max_steps_in_episode=2**31 - 1)
    observe, observation_shape = _observer(name, env.observation_space(defaults))
    act, action_space = _actor(name, env, defaults)
    derived = _DERIVED.get(name, {})
    numbers = _numbers(defaults, derived)
    info_metrics = checked_info_metrics(name, _info_metrics(name, env))
    types = checked_state(name, env, defaults, act, action_space, info_metrics)

    def complete(params: Mapping[str, ArrayLike]) -> Any:
        _check(name, numbers, params)
        given = {key: jnp.asarray(value, type(numbers[key])) for key, value in params.items()}
        full = defaults.replace(**given)
        return full.replace(**{key: rule(full) for key, rule in derived.items()})

    who = f"env {name}"

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        full = complete(params)
        with failures_named(f"{who}{with_params(params)}", type(env), constants="config.env_kwargs"):
            observation, state = env.reset_env(key, full)
        return jax.tree.map(lambda leaf, kind: jnp.asarray(leaf, kind.dtype), state, types), observe(observation)

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        full = complete(params)
        with failures_named(f"{who}{with_params(params)}", type(env), constants="config.env_kwargs"):
            observation, next_state, reward, terminated, info = env.step_env(key, state, act(action, full), full)
            truncated = env.is_truncated(next_state, full)
        # Again, as parameters of other dtypes than the defaults may give the state another one.
        check_state(name, state, next_state)
        next_state = jax.tree.map(_strong, next_state)
        return Step(
            next_state,
            observe(observation),
            _scalar(reward, jnp.float32),
            _scalar(jnp.logical_or(terminated, truncated), bool),
            _scalar(terminated, bool),
            {measure: _scalar(info[measure], jnp.float32) for measure in info_metrics},
        )

    limits = getattr(env, "param_limits", {})
    draw = find_drawing(name, env)
    return Environment(
        name,
        observation_shape,
        action_space,
        max_steps,
        numbers,
        info_metrics,
        reset,
        step,
        limits,
        observes_choices=isinstance(env.observation_space(defaults), spaces.Discrete),
        render=None if draw is None else lambda params, states: draw(states, complete(params)),
    )


def _info_metrics(name: str, env: Any) -> Any:
    """Reads the names that the environment gives to the metrics in its `info`."""
    if not hasattr(env, "info_metrics") and hasattr(env, "measures"):
        warnings.warn(f"env {name}: the attribute measures is called info_metrics now; rename it.", FutureWarning, 2)
        return env.measures
    return getattr(env, "info_metrics", ())


def with_params(params: Mapping[str, ArrayLike]) -> str:
    """Says which parameters are set, as an environment may work with its defaults alone."""
    return f" with config.env_params.{', '.join(sorted(params))}" if params else ""


def check_params(environment: Environment, names: Sequence[str]) -> None:
    """Refuses names that are not parameters of the environment.

    Raises:
      ConfigError: names the first such name, and what is allowed.

    Example:
      >>> from haepo_jax.environments import make
      >>> check_params(make("CartPole-v1"), ["gravity", "length"])
    """
    _check(environment.name, environment.params, names)


def check_param(environment: Environment, path: str, values: Sequence[float]) -> None:
    """Refuses a parameter that the environment has not, or values that make no sense for it.

    Args:
      environment: whose parameter it is.
      path: its dotted name in a config, such as `sweep.env_params.length`.
      values: what it is set to.

    Raises:
      ConfigError: names the parameter, the first such value, and what is allowed.

    Example:
      >>> from haepo_jax.environments import make
      >>> check_param(make("RandomWalk-haepo"), "env_params.length", (10, 20))
    """
    name = path.rpartition(".")[2]
    check_params(environment, [name])
    least, most = environment.param_limits.get(name, (-math.inf, math.inf))
    for value in values:
        if isinstance(environment.params[name], int) and value != int(value):
            raise ConfigError(f"config.{path} of {environment.name} must be a whole number, got {value}.")
        if not least <= value <= most:
            allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise ConfigError(f"config.{path} of {environment.name} must be {allowed}, got {value}.")


def _check(name: str, known: Mapping[str, float | int], names: Any) -> None:
    for given in names:
        if given == "max_steps_in_episode":
            raise ConfigError(
                "config.env_params.max_steps_in_episode cannot be set; config.horizon cuts episodes short."
            )
        if given not in known:
            raise ConfigError(
                f"config.env_params.{given} is not a parameter of {name}{suggestion(given, tuple(known))}"
            )


def _numbers(defaults: Any, derived: Mapping[str, Any]) -> dict[str, float | int]:
    """The numbers in `EnvParams` that may be traced: neither switches nor arrays nor what follows from others."""
    values = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and name != "max_steps_in_episode"
        and name not in derived
    }


def _strong(leaf: Any) -> jax.Array:
    """Strips the weak type of Python numbers in a state, which would make a second call recompile."""
    return jnp.asarray(leaf, jnp.asarray(leaf).dtype)


def _scalar(value: Any, dtype: Any) -> jax.Array:
    return jnp.reshape(jnp.asarray(value, dtype), ())


def _observer(name: str, space: Any) -> tuple[Callable[[Any], jax.Array], tuple[int, ...]]:
    """A function from raw observations to float32 arrays, and their shape; of choices, one entry for each."""
    if isinstance(space, spaces.Discrete):
        check_choices(name, "observations", space)
        return lambda raw: jax.nn.one_hot(raw, space.n, dtype=jnp.float32), (int(space.n),)
    if isinstance(space, spaces.Box):
        return lambda raw: jnp.asarray(raw, jnp.float32), tuple(map(int, space.shape))
    raise ConfigError(
        f"env {name} has observations of kind {type(space).__name__}; Box and Discrete are supported, and "
        "haepo_jax.environments.observations.make_observer makes one array of several."
    )


def _actor(name: str, env: Any, defaults: Any) -> tuple[Callable[[Any, Any], Any], Discrete | Box]:
    """A function from a policy's actions and the parameters to the environment's actions, and the policy's space."""
    space = env.action_space(defaults)
    if isinstance(space, spaces.Discrete):
        check_choices(name, "actions", space)
        return lambda action, params: action, Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        check_real_actions(name, space)
        bounded = all(np.isfinite(np.asarray(bound, np.float32)).all() for bound in (space.low, space.high))

        def act(action: jax.Array, params: Any) -> jax.Array:
            # Bounds may be parameters too, such as Pendulum's max_torque.
            bounds = env.action_space(params)
            low, high = (
                jnp.broadcast_to(jnp.asarray(bound, jnp.float32), space.shape) for bound in (bounds.low, bounds.high)
            )
            scaled = jnp.reshape(action, space.shape)
            if bounded:
                # Halves first: the sum and the difference of large bounds are beyond float32.
                scaled = (high / 2 + low / 2) + (high / 2 - low / 2) * scaled
            return jnp.clip(scaled, low, high)

        return act, Box(math.prod(space.shape))
    raise ConfigError(f"env {name} has actions of kind {type(space).__name__}; Box and Discrete are supported.")
