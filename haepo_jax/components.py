"""Loads what a config names and the package does not have: `package.module:attribute`.

A run is resumed, evaluated and swept from its `config.json` alone, in processes and on hosts that have imported
nothing of the user's. So a part that comes from outside is named by a text that can be imported. In a program, where
no file has to name it, the config may hold the part itself.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import operator
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.errors import (
    CODE_FAILURES,
    ConfigError,
    Interrupted,
    Stalled,
    StorageError,
    how_it_ended,
    nearest,
    quoted,
    said_first,
    suggestion,
    with_name,
)

_HOW_TO_FIND = "it is looked for in the folder of the config file, in the current one and in those of PYTHONPATH"


class Source(NamedTuple):
    """Where a component lies."""

    sha256: str | None
    """Of the file that defines it; None for one without a file, such as a function of Python's own."""
    file: str | None
    folder: str | None
    """From which its module can be imported."""


def is_outside(name: Any) -> bool:
    """Returns whether a component is not built in: a name with a colon, or no name but the component itself.

    Example:
      >>> is_outside("optax:scale_by_lion"), is_outside("adam")
      (True, False)
    """
    return not isinstance(name, str) or ":" in name


def check_name(path: str, value: Any, built_in: Sequence[str] = ()) -> str:
    """Checks how a component is named; it is not loaded yet.

    Args:
      path: the setting, such as `policy.network`, or the flag, such as `--loggers`.
      value: what it is set to.
      built_in: the names that are allowed beside `package.module:attribute`; any when there are none.

    Raises:
      ConfigError: it is no such name.

    Example:
      >>> check_name("optimizer.transform", "optax:scale_by_lion", ["adam"])
      'optax:scale_by_lion'
    """
    if callable(value) or type(value).__module__ != "builtins":
        raise ConfigError(
            f"{_written(path)} must be text, as config.json holds it, got {quoted(value)}{_name_of(value)}."
        )
    if not isinstance(value, str):
        raise ConfigError(f"{_written(path)} must be text, got {quoted(value)}.")
    if is_outside(value):
        module, _, attribute = value.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise _no_name(path, value)
    elif built_in and value not in built_in:
        near = nearest(value, built_in) if len(built_in) > _FEW else ""
        raise ConfigError(
            f"{_written(path)} {quoted(value)} is not known"
            + (near[:-1] if near else f"; allowed: {', '.join(built_in)}")
            + ", or one of your own as package.module:attribute."
        )
    return value


_FEW = 8  # names that a sentence can list


def _written(path: str) -> str:
    """A setting, or a flag of a command, as a sentence names it."""
    return path if path.startswith("--") else f"config.{path}"


def _no_name(path: str, value: str) -> ConfigError:
    return ConfigError(
        f"{_written(path)} {quoted(value)} names nothing that can be imported; it is written as "
        "package.module:attribute, such as my_project.maze:Maze."
    )


def load(path: str, name: Any, is_right: Callable[[Any], bool] = callable, kind: str = "a function or a class") -> Any:
    """Imports a component, or returns the one that the config holds itself.

    Args:
      path: the setting or the flag that names it, for the sentence of an error.
      name: `package.module:attribute`, or the component.
      is_right: whether it is of the kind that is asked for.
      kind: that kind, in words.

    Returns:
      The attribute.

    Raises:
      ConfigError: the module cannot be imported, has no such attribute, or one of another kind.

    Example:
      >>> load("policy.activation", "math:tanh") is __import__("math").tanh
      True
    """
    found = _find(path, name) if isinstance(name, str) else name
    if not is_right(found):
        named = f" {name}" if isinstance(name, str) else ""
        raise ConfigError(f"{_written(path)}{named} is {quoted(found)}; it must be {kind}.")
    return found


def _find(path: str, name: str) -> Any:
    check_name(path, name)
    if not is_outside(name):
        raise _no_name(path, name)
    module_name, _, attribute = name.partition(":")
    try:
        return operator.attrgetter(attribute)(_imported(path, name, module_name))
    except AttributeError as error:
        module = sys.modules[module_name]
        near = nearest(attribute, [known for known in vars(module) if not known.startswith("_")]) or "."
        where = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise ConfigError(f"{_written(path)} {name}: {module_name}{where} has no {attribute}{near}") from error


def _imported(path: str, name: str, module: str) -> ModuleType:
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{_written(path)} {name} cannot be imported: there is no module {error.name}; {_HOW_TO_FIND}."
            ) from error
        raise _failed(path, name, module, error) from error
    except CODE_FAILURES as error:
        raise _failed(path, name, module, error) from error


def _failed(path: str, name: str, module: str, error: BaseException) -> ConfigError:
    return ConfigError(f"{_written(path)} {name} cannot be imported: {module} {how_it_ended(error)}.")


def call(
    path: str, component: Callable, *arguments: Any, kwargs: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Any:
    """Calls a component with the arguments that a config gives it by name.

    Args:
      path: the setting that names it, such as `optimizer.transform`.
      component: what was loaded.
      arguments: what it always gets.
      kwargs: the setting `{path}_kwargs`.
      params: the setting `{path}_params`, if there is one; its values may be tracers.

    Raises:
      ConfigError: it has no such argument, one of the two settings gives what the other gives too, or it fails, which
        is said with the line.
    """
    check_arguments(path, component, len(arguments), kwargs=kwargs, params=params)
    with failures_named(f"config.{path} {show_name(component)}", component, constants=f"config.{path}_kwargs"):
        return component(*arguments, **kwargs, **(params or {}))


@contextlib.contextmanager
def failures_named(
    who: str, component: Any = None, constants: str | None = None, when: str = "", *, in_thread: bool = False
) -> Iterator[None]:
    """Turns what a component raises while it is called, or asked to make something, into one sentence.

    Args:
      who: the component, as the sentence begins.
      component: what was loaded, or a tuple of its functions; the sentence has the line of its file that failed.
      constants: the group of arguments, if there is one, whose values are no tracers.
      when: it fails, as the sentence goes on, such as " at its first step".
      in_thread: whether it is called in a thread of its own, where no signal is raised: a `KeyboardInterrupt` there
        is the component's.

    Raises:
      ConfigError: the component has raised anything, `SystemExit` included.
    """
    failures = (BaseException,) if in_thread else CODE_FAILURES
    try:
        yield
    except (ConfigError, StorageError, Interrupted, Stalled):  # sentences already
        raise
    except failures as error:
        line = _line_of(error, component)
        comma = "," if when and line else ""
        raise ConfigError(f"{who} fails{when}{comma}{line}: {reason_of(error, constants)}.") from error


def reason_of(error: BaseException, constants: str | None = None) -> str:
    r"""Words why a component failed, as the end of a sentence without its stop.

    Args:
      error: what it has raised.
      constants: as of `failures_named`.

    Example:
      >>> reason_of(ValueError("no maze.\nMore of it"))
      'ValueError: no maze'
    """
    if isinstance(error, _NEEDS_A_VALUE):
        instead = f", and arguments that decide in Python belong in {constants}" if constants else ""
        return (
            "it asks for the value of a traced array, as Python's if does; a choice by such a value is made by "
            f"jnp.where{instead}"
        )
    return with_name(error, said_first(error).strip())


_NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def _line_of(error: BaseException, component: Any) -> str:
    """Where in the file of the component, as a part of a sentence."""
    files = {_file_of(part) for part in (component if isinstance(component, tuple) else (component,))}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f" at line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""


def checked_numbers(who: str, found: Any, shape: tuple[int, ...], what: str, *, real: bool = False) -> jax.Array:
    """Returns what a component gives as an array, in its own dtype.

    Args:
      who: the component, as the sentence of an error begins.
      found: what it gives.
      shape: that of what it must give.
      what: it must give, as that sentence ends.
      real: whether whole numbers and truth values will not do, as what has a gradient must be real.

    Raises:
      ConfigError: no array of this shape, or one of other numbers.

    Example:
      >>> checked_numbers("config.returns mine:double", 2.0, (), "one number").dtype
      dtype('float32')
    """
    is_array = isinstance(found, jax.Array | np.ndarray | np.generic | bool | int | float)
    kinds = (jnp.floating,) if real else (jnp.floating, jnp.integer, jnp.bool_)
    if not is_array or jnp.shape(found) != shape or not any(jnp.issubdtype(_dtype(found), kind) for kind in kinds):
        raise ConfigError(f"{who} gives {describe(found)}; it must give {what}.")
    return jnp.asarray(float(found) if isinstance(found, int) else found)


def _dtype(number: Any) -> Any:
    return getattr(number, "dtype", type(number))


def describe(found: Any) -> str:
    """Words what a component has given: an array by its dtype and shape, anything else as it is.

    Example:
      >>> describe(jnp.zeros(3)), describe(None)
      ('float32[3]', 'None')
    """
    if isinstance(found, jax.Array | np.ndarray):
        return f"{found.dtype}[{', '.join(map(str, found.shape))}]"
    return quoted(found)


def check_same_arrays(what: str, whose: str, before: Any, after: Any) -> None:
    """Refuses a tree of arrays that has changed its fields, or the dtype or shape of an array.

    Args:
      what: what it is, which begins the sentence of the error.
      whose: what it was before, in words.
      before: the tree.
      after: what was made of it.

    Raises:
      ConfigError: see above.
    """
    structure: Any = jax.tree.structure(before)  # whose type has no == for mypy
    if structure != jax.tree.structure(after):
        raise ConfigError(f"{what} of other fields than those {whose}; they must have the same.")
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if (jnp.shape(new), jnp.result_type(new)) != (jnp.shape(old), jnp.result_type(old)):
            raise ConfigError(
                f"{what} with {describe(new)} where those {whose} have {describe(old)}; both must be the same."
            )


def check_arguments(
    path: str,
    component: Callable,
    positional: int = 0,
    *,
    kwargs: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
) -> None:
    """Refuses arguments that a component does not have.

    Args:
      path: as of `call`.
      component: as of `call`.
      positional: how many arguments it always gets.
      kwargs: as of `call`.
      params: as of `call`.

    Raises:
      ConfigError: names the first of them, and what is allowed.
    """
    try:
        known = inspect.signature(component).parameters.values()
    except (TypeError, ValueError):  # of a built-in; calling it will show
        return
    groups = {f"{path}_kwargs": kwargs} | ({} if params is None else {f"{path}_params": params})
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known)
    by_name = [
        parameter.name
        for k, parameter in enumerate(known)
        if parameter.kind is parameter.KEYWORD_ONLY
        or (parameter.kind is parameter.POSITIONAL_OR_KEYWORD and k >= positional)
    ]
    for setting, given in groups.items():
        for name in given:
            if name not in by_name and not takes_any:
                what = f"config.{setting}.{name} is not an argument of {show_name(component)}"
                raise ConfigError(what + suggestion(name, by_name))
    for name in kwargs.keys() & (params or {}).keys():
        raise ConfigError(
            f"config.{path}_kwargs.{name} and config.{path}_params.{name} are one argument; give it once."
        )
    missing = [
        parameter.name
        for parameter in known
        if parameter.name in by_name and parameter.default is parameter.empty
        if not any(parameter.name in given for given in groups.values())
    ]
    if missing:
        where = " or ".join(f"config.{setting}.{missing[0]}" for setting in groups)
        raise ConfigError(f"{show_name(component)} needs the argument {missing[0]}: give {where}.")


def parameters_of(component: Callable) -> tuple[str, ...]:
    """Lists the arguments that a component names.

    Example:
      >>> parameters_of(lambda size, depth=2: None)
      ('size', 'depth')
    """
    try:
        return tuple(inspect.signature(component).parameters)
    except (TypeError, ValueError):  # of a built-in
        return ()


def source(path: str, name: str) -> Source:
    """Finds the file of a component, imported if it is not yet, and what it holds now.

    Raises:
      ConfigError: see `load`.
    """
    found = load(path, name, is_right=lambda _: True)
    module = sys.modules[name.partition(":")[0]]
    file = _file_of(found) or getattr(module, "__file__", None)
    digest = None
    if file is not None and Path(file).is_file():
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return Source(digest, file, _folder_of(module))


def _file_of(component: Any) -> str | None:
    """The file that defines it, which its module may only import it from."""
    try:
        return inspect.getsourcefile(inspect.unwrap(component))
    except TypeError:  # of an object that is no class or function, or of Python's own
        return None


def _folder_of(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    depth = module.__name__.count(".") + (1 if hasattr(module, "__path__") else 0)
    return str(Path(file).resolve().parents[depth])


def make_importable(folder: str | Path) -> None:
    """Lets modules of a folder be imported, after those that can be already, so that none of them is hidden."""
    text = str(Path(folder).resolve())
    if text not in sys.path:
        sys.path.append(text)


def _name_of(component: Any) -> str:
    """How a config would name it, as the end of a sentence."""
    module, attribute = getattr(component, "__module__", None), getattr(component, "__qualname__", None)
    if not module or not attribute or "<" in attribute or module == "__main__":
        return "; give it a name in a module of its own, and write package.module:attribute"
    return f"; write '{module}:{attribute}'"


def show_name(component: Any) -> str:
    """Names a component for a sentence: the text that a config has, or the name of the object itself.

    Example:
      >>> show_name("my_project:Conv"), show_name(functools.partial(is_outside))
      ('my_project:Conv', 'is_outside')
    """
    if isinstance(component, str):
        return component
    if isinstance(component, functools.partial):
        return show_name(component.func)
    return getattr(component, "__qualname__", None) or type(component).__name__
