"""JaxMARL's own baselines, whose numbers are read from files that `examples/peers/jaxmarl_ippo.py` has printed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.json_files import read_json

_SHAPE = {"code": str, "env": str, "env_steps": int, "returns": [float | int]}


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What another code came to on a task."""

    code: str
    """Its name and method."""
    env_steps: int
    """Of a seed."""
    returns: np.ndarray
    """`[seeds]`, means over agents in the last tenth of learning."""


def keep(directory: Path, files: Sequence[str]) -> None:
    """Keeps the results of baselines in the folder of the study, one for each environment.

    Args:
      directory: of the study.
      files: JSON, as the baseline printed it. One of an environment that is there already takes its place.

    Raises:
      ConfigError: a file is missing, or holds something else.
      StorageError: the folder could not be written to.
    """
    for file in files:
        given = read_json(Path(file), _SHAPE)
        if not given["returns"]:
            raise ConfigError(f"{file} holds no return; it must have one for each seed.")
        path = _find(directory, given["env"])
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, given)


def load(directory: Path, env: str) -> Baseline | None:
    """Loads what was kept of an environment, such as `MPE_simple_spread_v3`; None where nothing was.

    Raises:
      ConfigError: the file is damaged.
    """
    path = _find(directory, env)
    if not path.exists():
        return None
    given: Mapping = read_json(path, _SHAPE)
    return Baseline(given["code"], given["env_steps"], np.array(given["returns"], np.float64))


def _find(directory: Path, env: str) -> Path:
    if not env.replace("_", "").isalnum():
        raise ConfigError(
            f"env must be the name of an environment of JaxMARL, such as MPE_simple_spread_v3; got {env!r}."
        )
    return directory / "baselines" / f"{env}.json"
