"""The parts of gymnax that are used here, imported without the libraries that draw its environments.

gymnax imports those with every environment, which would be two seconds of each start; they come once it draws.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["environment", "make", "register", "registered_envs", "spaces"]

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


with _left_for_later(_FOR_DRAWING):
    from gymnax import make
    from gymnax.environments import environment, spaces
    from gymnax.registration import register, registered_envs
