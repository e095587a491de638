"""Inputs that must not change during a run: noted when the run begins, and compared when it resumes."""

import os
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.json_files import read_json


def check_frozen(frozen: Any, workdir: Path) -> None:
    """Compares the frozen parameters with those that the run began with.

    Raises:
      ConfigError: they differ.
      StorageError: their checksums could not be written.
    """
    changed = _find_changed(frozen, workdir / "frozen.json")
    if changed:
        raise ConfigError(
            f"{workdir} was started with another reference policy or reward model ({changed[0]} differs); "
            "use another --workdir, or those that it was started with."
        )


def check_examples(examples: Any, source: str, workdir: Path) -> None:
    """Compares the examples, as they are learnt from and in their order, with those that the run began with.

    Args:
      examples: a pytree of arrays.
      source: the file or folder that they are from.
      workdir: of the run.

    Raises:
      ConfigError: they differ; `source` is named.
      StorageError: their checksums could not be written.
    """
    if _find_changed(examples, workdir / "examples.json"):
        raise ConfigError(
            f"{source} has changed since {workdir} was started: its rows, or their order, give other examples; use "
            "the same data, or use another --workdir."
        )


def _find_changed(tree: Any, path: Path) -> list[str]:
    """Lists the arrays whose checksum is not the one in a file, which is written where there is none."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = {
        jax.tree_util.keystr(path, simple=True, separator="."): zlib.crc32(np.ascontiguousarray(leaf).tobytes())
        for path, leaf in leaves
    }
    if not os.path.lexists(path):
        with storage_errors(path.parent):
            write_json(path, sums)
        return []
    noted = read_json(path, dict)
    return sorted(name for name in sums.keys() | noted.keys() if sums.get(name) != noted.get(name))
