"""Pictures of an environment's states: by its own method `render`, or by gymnax where that can draw it."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from haepo_jax.components import failures_named
from haepo_jax.environments.gymnax_library import make_visualizer
from haepo_jax.errors import ConfigError, first_line

Draw = Callable[[Sequence[Any], Any], Iterator[Any]]
"""`(states of an episode, EnvParams) -> a picture of each`."""


def find_drawing(name: str, env: Any) -> Draw | None:
    """Finds how an environment is drawn.

    Args:
      name: its id.
      env: of gymnax's kind. The method `render(state, params)` of one from outside returns an array, a figure, or a
        figure and its axes.

    Returns:
      The function that draws it; None where there is none. Which of gymnax's own it can draw, gymnax alone knows: one
      that it cannot is refused when it is drawn.
    """
    if type(env).__module__.partition(".")[0] == "gymnax":
        return functools.partial(_draw_by_gymnax, env)
    if callable(getattr(env, "render", None)):
        return functools.partial(_draw_by_itself, name, env)
    return None


def _draw_by_itself(name: str, env: Any, states: Sequence[Any], params: Any) -> Iterator[Any]:
    """Yields what the environment's own method returns of each state.

    Raises:
      ConfigError: the method fails.
    """
    for state in states:
        with failures_named(f"env {name}: its render", type(env)):
            picture = env.render(state, params)
        yield picture


def _draw_by_gymnax(env: Any, states: Sequence[Any], params: Any) -> Iterator[Any]:
    """Yields one figure again and again, each time of the next state.

    Raises:
      ConfigError: gymnax does not draw this environment, or a library is missing for it.
    """
    visualizer = make_visualizer(env, params, states)
    try:
        try:
            visualizer.init()
        except Exception as error:  # gymnasium has its own for a library that is missing
            raise ConfigError(f"env {env.name} cannot be drawn: {first_line(error)}.") from error
        if not hasattr(visualizer, "im"):
            raise ConfigError(f"env {env.name} cannot be drawn: gymnax draws others, but not this one.")
        for k in range(len(states)):
            visualizer.update(k)
            yield visualizer.fig
    finally:
        visualizer.close()
