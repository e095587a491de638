"""The parts of gymnax that are used here, imported without what its import does beside.

gymnax imports libraries that draw with every environment, which would be two seconds of each start; they come once it
draws. It also makes arrays at its import, which starts JAX's devices: after that their number cannot be chosen, a
process cannot join others, and a forked one hangs. These arrays are made where they are used.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["environment", "make", "make_visualizer", "register", "registered_envs", "spaces"]

_FOR_DRAWING = ("matplotlib.pyplot", "seaborn")


class _Later(ModuleType):
    """Stands for a module that is imported once something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _left_for_later(names: tuple[str, ...]) -> Iterator[None]:
    """While it is open, imports of these modules give their stand-ins, but for those that are there already."""
    stand_ins = {name: _Later(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _Constant:
    """Stands for a constant array, which JAX makes where it is used."""

    def __init__(self, values: Any, *args: Any, **kwargs: Any) -> None:
        self._values, self._args, self._kwargs = values, args, kwargs

    def __jax_array__(self) -> jax.Array:
        return jnp.array(self._values, *self._args, **self._kwargs)

    def __getitem__(self, index: Any) -> jax.Array:
        return self.__jax_array__()[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__jax_array__(), name)


@contextlib.contextmanager
def _constants_for_later() -> Iterator[None]:
    """While it is open, `jnp.array` gives stand-ins."""
    make, jnp.array = jnp.array, _Constant  # type: ignore[assignment]
    try:
        yield
    finally:
        jnp.array = make


with _left_for_later(_FOR_DRAWING), _constants_for_later():
    from gymnax import make
    from gymnax.environments import environment, spaces
    from gymnax.registration import register, registered_envs


def make_visualizer(env: Any, params: Any, states: Sequence[Any]) -> Any:
    """Makes gymnax's visualizer of an episode, which imports what draws.

    Args:
      env: one of gymnax's environments.
      params: its `EnvParams`.
      states: of the episode.

    Returns:
      It draws on its figure `fig`, by `init()` and then by `update(number of the state)`; `close()` frees the figure.
    """
    import matplotlib.pyplot as plt
    from gymnax.visualize import Visualizer

    visualizer = Visualizer(env, params, states)
    visualizer.close = lambda: plt.close(visualizer.fig)
    return visualizer
