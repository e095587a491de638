"""Environments by name: those of gymnax, our own, `library:id`, and `package.module:attribute` from outside."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.typing import ArrayLike

from haepo_jax import components
from haepo_jax.config.libraries import LIBRARIES, split_name
from haepo_jax.environments import gymnax_library as gymnax
from haepo_jax.environments import signals
from haepo_jax.environments.adapter import adapt, with_params
from haepo_jax.environments.agents import MultiAgentEnvironment, Seen, as_lanes
from haepo_jax.environments.agents_contract import check_agents
from haepo_jax.environments.bandits import BernoulliBandit, GaussianBandit
from haepo_jax.environments.contract import check_environment
from haepo_jax.environments.games.against import play_against
from haepo_jax.environments.games.interface import Game
from haepo_jax.environments.games.lines import make_connect_four, make_tic_tac_toe
from haepo_jax.environments.interface import Environment
from haepo_jax.environments.libraries import aside, load_library
from haepo_jax.environments.long_chain import LongChain
from haepo_jax.environments.random_walk import RandomWalk
from haepo_jax.errors import CODE_FAILURES, ConfigError, choose, first_line, nearest, quoted, suggestion

Kwargs = Sequence[tuple[str, Any]]

_OURS = {
    "GaussianBandit-haepo": GaussianBandit,
    "BernoulliBandit-haepo": BernoulliBandit,
    "RandomWalk-haepo": RandomWalk,
    "LongChain-haepo": LongChain,
}
_GAMES = {"TicTacToe-haepo": make_tic_tac_toe, "ConnectFour-haepo": make_connect_four}
"""Two-player games, which gymnax has no place for."""
_OURS_OF_AGENTS: dict[str, Callable[..., MultiAgentEnvironment]] = {signals.NAME: signals.make_signals}


def register_ours() -> None:
    """Puts our environments into gymnax's registry, for `gymnax.make` too; those already there stay."""
    for name, factory in _OURS.items():
        # gymnax refuses an id twice, which a reload of this module would be.
        if name not in gymnax.registered_envs:
            gymnax.register(name, factory)


register_ours()


def environment_names() -> tuple[str, ...]:
    """The ids that `make` accepts."""
    return (*gymnax.registered_envs, *_OURS_OF_AGENTS, *_GAMES)


def make(name: Any, kwargs: Kwargs = (), seen: Seen | None = None) -> Environment:
    """The environment with this id; the same object for the same arguments, so that compiled programs are shared.

    One of many agents is given as lanes (`environments.agents`).

    Args:
      name: a gymnax id, such as `CartPole-v1`, one of ours, such as `RandomWalk-haepo`, one of another library after
        its prefix, such as `navix:Navix-DoorKey-8x8-v0`, or `package.module:attribute` of what makes a gymnax
        environment, an `Environment`, a `MultiAgentEnvironment` or a two-player `Game`; or one of these itself.
      kwargs: `(name, value)` pairs for the constructor of the environment: what decides shapes.
      seen: what the observation of each of several agents holds beside its own; `Seen()` by default.

    Returns:
      The `Environment`.

    Raises:
      ConfigError: an unknown id or argument, a value that cannot be used, or an environment whose observations
        or actions are not supported.

    Example:
      >>> make("CartPole-v1").observation_shape
      (4,)
      >>> make("DeepSea-bsuite", (("size", 12),)).observation_shape
      (12, 12)
      >>> make("Signals-haepo", (("num_agents", 5),)).num_agents
      5
    """
    found = _find(name, kwargs)
    return as_lanes(found, seen) if isinstance(found, MultiAgentEnvironment) else found


def make_agents(name: Any, kwargs: Kwargs = ()) -> MultiAgentEnvironment:
    """The environment of many agents with this id, before it is made lanes; arguments and errors as of `make`.

    Raises:
      ConfigError: also one of a single agent.
    """
    found = _find(name, kwargs)
    if not isinstance(found, MultiAgentEnvironment):
        raise ConfigError(f"env {found.name} has one agent; it must be an environment of many.")
    return found


def _find(name: Any, kwargs: Kwargs) -> Environment | MultiAgentEnvironment:
    if (found := split_name(name)) is not None:
        return _make_of_library(*found, kwargs)
    if isinstance(name, str) and name in _OURS_OF_AGENTS:
        return _make_outside(_OURS_OF_AGENTS[name], kwargs, name)
    if components.is_outside(name):
        return _make_outside(name, kwargs)
    choose("env", name, environment_names())
    if name in _GAMES:
        return _make_game(name, kwargs)
    # Checked before the cache, which takes 12, 12.0 and True == 1 for the same key.
    return _make(name, _checked(name, kwargs) if kwargs else ())


@functools.cache
def _make(name: str, kwargs: tuple[tuple[str, Any], ...]) -> Environment:
    try:
        env, params = gymnax.make(name, **dict(kwargs))
        if kwargs:
            # Some constructors accept what their reset cannot use.
            jax.eval_shape(env.reset_env, jax.random.key(0), params)
    except Exception as error:
        if isinstance(error, OSError) and not kwargs:
            raise ConfigError(
                f"env {name} downloads its data, which failed ({first_line(error)}); it needs a network, or another "
                "env."
            ) from error
        raise _not_made(name, kwargs, error) from error
    return adapt(name, env, params)


def _not_made(name: str, kwargs: Kwargs, error: BaseException) -> ConfigError:
    if kwargs:
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs)
        return ConfigError(f"config.env_kwargs ({given}) cannot be used by {name}: {first_line(error)}.")
    return ConfigError(f"env {name} could not be made: {first_line(error)}.")


def _make_game(name: str, kwargs: Kwargs) -> Environment | MultiAgentEnvironment:
    components.check_arguments("env", _GAMES[name], kwargs=dict(kwargs))
    return _made_game(name)


@functools.cache
def _made_game(name: str) -> Environment | MultiAgentEnvironment:
    return _held(play_against(_GAMES[name]()))


def _make_of_library(prefix: str, own: str, kwargs: Kwargs) -> Environment | MultiAgentEnvironment:
    name = f"{prefix}:{own}"
    library = load_library(prefix, name)
    choose(f"env {prefix}:", own, library.names())
    factory = library.find(own)
    components.check_arguments("env", factory, kwargs=dict(kwargs))
    # With their types, as the cache takes 12, 12.0 and True == 1 for the same key.
    return _made_of_library(prefix, own, factory, tuple(sorted(kwargs)), repr(kwargs))


@functools.cache
def _made_of_library(
    prefix: str, own: str, factory: Any, kwargs: tuple[tuple[str, Any], ...], types: str
) -> Environment | MultiAgentEnvironment:
    del types
    name = f"{prefix}:{own}"
    try:
        with aside():
            return _held(load_library(prefix, name).adapt(name, factory(**dict(kwargs))))
    except ConfigError:
        raise
    except CODE_FAILURES as error:
        raise _not_made(name, kwargs, error) from error


def _make_outside(component: Any, kwargs: Kwargs, name: str | None = None) -> Environment | MultiAgentEnvironment:
    if isinstance(component, Environment | MultiAgentEnvironment | Game | gymnax.environment.Environment):
        return _adapted(type(component).__name__, component)
    factory = _load_outside(component)
    components.check_arguments("env", factory, kwargs=dict(kwargs))
    if name is None:
        name = component if isinstance(component, str) else getattr(component, "__qualname__", "environment")
    # With their types, as the cache takes 12, 12.0 and True == 1 for the same key.
    return _made_outside(name, factory, tuple(kwargs), repr(kwargs))


def _load_outside(component: Any) -> Any:
    try:
        return components.load("env", component, kind="a function or a class that makes an environment")
    except ConfigError as error:
        near = nearest(component.partition(":")[0], tuple(LIBRARIES)) if isinstance(component, str) else ""
        if not near or not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        raise ConfigError(f"{str(error)[:-1]}{near}") from error


@functools.cache
def _made_outside(
    name: str, factory: Any, kwargs: tuple[tuple[str, Any], ...], types: str
) -> Environment | MultiAgentEnvironment:
    del types
    try:
        made = factory(**dict(kwargs))
    except CODE_FAILURES as error:
        raise _not_made(name, kwargs, error) from error
    if isinstance(made, Environment | MultiAgentEnvironment | Game):
        return _adapted(name, made._replace(name=name))
    if not isinstance(made, gymnax.environment.Environment):
        raise ConfigError(
            f"env {name} makes {quoted(made)}; it must make a gymnax environment or a "
            "haepo_jax.environments Environment, MultiAgentEnvironment or Game."
        )
    return _adapted(name, made)


def _adapted(name: str, made: Any) -> Environment | MultiAgentEnvironment:
    if isinstance(made, Game):
        with components.failures_named(f"env {made.name}"):
            made = play_against(made)
    if isinstance(made, Environment | MultiAgentEnvironment):
        return _held(made)
    with components.failures_named(f"env {name}", type(made)):
        return adapt(name, made, made.default_params)


@functools.cache
def _held(made: Environment | MultiAgentEnvironment) -> Environment | MultiAgentEnvironment:
    """An environment of the package's own interfaces, held to it."""
    if isinstance(made, MultiAgentEnvironment):
        check_agents(made)
    else:
        check_environment(made)

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(params: Mapping[str, ArrayLike], *arguments: Any) -> Any:
            with components.failures_named(f"env {made.name}{with_params(params)}", function):
                return function(params, *arguments)

        return wrapped

    return made._replace(reset=named(made.reset), step=named(made.step))


def _checked(name: str, kwargs: Kwargs) -> tuple[tuple[str, Any], ...]:
    """The arguments in the order of the alphabet, each of the type of its default."""
    allowed = _arguments(name)
    checked = {}
    for key, value in kwargs:
        if key not in allowed:
            raise ConfigError(f"config.env_kwargs.{key} is not an argument of {name}{suggestion(key, tuple(allowed))}")
        kind = allowed[key]
        if kind is float and type(value) is int:
            value = float(value)  # noqa: PLW2901
        if type(value) is not kind:
            raise ConfigError(f"config.env_kwargs.{key} of {name} must be of type {kind.__name__}, got {value!r}.")
        checked[key] = value
    return tuple(sorted(checked.items()))


@functools.cache
def _arguments(name: str) -> dict[str, type]:
    """Names and types of the constructor's arguments that a config can hold."""
    env, _ = gymnax.make(name)
    defaults = {key: argument.default for key, argument in inspect.signature(type(env)).parameters.items()}
    return {key: type(default) for key, default in defaults.items() if type(default) in {bool, int, float, str}}
