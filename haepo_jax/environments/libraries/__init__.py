"""Environments of other libraries, one file each, imported when one of its environments is asked for.

A file has three functions: `names()`, the ids of the library's environments; `find(id)`, what makes one of them,
called with `config.env_kwargs`; and `adapt(name, environment)`, which makes it an `Environment`. That one never resets
in its step, keeps the end of a task apart from a limit of time, and shows one float32 array.
"""

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from haepo_jax.config.libraries import LIBRARIES
from haepo_jax.errors import CODE_FAILURES, ConfigError, first_line


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Puts on stderr what a library prints, and leaves out its warnings, which are for those who write it."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_library(prefix: str, name: str) -> ModuleType:
    """Imports the file of a library, and with it the library.

    Args:
      prefix: one of `LIBRARIES`.
      name: of the environment that is asked for.

    Returns:
      The file's module.

    Raises:
      ConfigError: the library is not installed, or cannot be imported.
    """
    library = LIBRARIES[prefix]
    if importlib.util.find_spec(library.package) is None:
        raise ConfigError(
            f"env {name} needs the library {library.package}, which is not installed: pip install {library.install}."
        )
    try:
        with aside():
            return importlib.import_module(f"{__name__}.{prefix}")
    except CODE_FAILURES as error:
        raise ConfigError(
            f"env {name} needs the library {library.package}, which cannot be imported ({first_line(error)}): "
            f"pip install {library.install} installs a version that can."
        ) from error
