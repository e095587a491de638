"""The runs behind the report: done once, sealed with checksums, and done again alone when damaged.

DIR/runs/NAME/               a run folder as any other, without checkpoints once it is sealed
DIR/runs/NAME/policies.json  what was measured of the policies in its checkpoints, where that was asked for
DIR/runs/NAME/seal.json      checksums of its files; its presence means that the run needs nothing more
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from experiments.studies.countdown import Countdown
from experiments.studies.methods import nest_settings
from experiments.studies.run_data import POLICIES, RunData
from haepo_jax.config import differing_fields, from_config_dict
from haepo_jax.config.sweep import Sweep, from_values, of_experiment
from haepo_jax.errors import ConfigError
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.files import StrPath, read_record, read_summary
from haepo_jax.runs.folder import lock_folder, storage_errors, write_json
from haepo_jax.runs.json_files import read_json
from haepo_jax.text import visible

_SEAL = "seal.json"
_CHECKPOINT_SECONDS = 10.0


class Scale(Protocol):
    """How large a study is, as far as its runs need to know."""

    @property
    def quick(self) -> bool:
        """Whether it is the quick study, for a look."""

    @property
    def runs(self) -> int:
        """The runs that the study asks for in all."""


class Look(NamedTuple):
    """A look at the policies of a run while they learn."""

    every: int
    """Updates between two checkpoints that are kept for it."""
    measure: Callable[[Path], Any]
    """Gives what the policies in the checkpoints of a run folder come to, as JSON can hold it."""


class Runs[Size: Scale]:
    """All runs under one folder. Asking for one does what is missing of it."""

    def __init__(self, directory: StrPath, scale: Size) -> None:
        """Nothing is done before a run is asked for."""
        self.directory = Path(directory)
        self.scale = scale
        self.done: dict[str, Sweep] = {}
        """The runs asked for so far, by name."""
        self._countdown = Countdown(scale.runs)

    def get(self, name: str, settings: Mapping[str, Any], look: Look | None = None) -> RunData:
        """Returns the data of a run, which is done first unless its folder holds it whole.

        Args:
          name: the folder under `runs/`, such as `cartpole/ppo`.
          settings: its config by dotted name; with `search.points` it is a sweep of these.
          look: what is measured of its policies once it is done, before its checkpoints go: `RunData.policies`.

        Returns:
          What it recorded.

        Raises:
          ConfigError: settings that are not allowed, or a folder that holds a run of other settings.
          StorageError: the folder could not be written to any more.
          Interrupted: SIGTERM or SIGINT; asked again, the run resumes.
        """
        sweep = _make_sweep(settings)
        path = self.directory / "runs" / name
        if not self._is_whole(path, sweep):
            print(f"{name}: {_describe(sweep)} ({self._countdown.words()})", flush=True)
            _finish(path, sweep, look)
            jax.clear_caches()  # the next run is another program
        if name not in self.done:
            clock = read_summary(path)["wall_clock"]
            self._countdown.finished(clock["compile_seconds"] + clock["run_seconds"])
        self.done[name] = sweep
        return RunData(path)

    def _is_whole(self, path: Path, sweep: Sweep) -> bool:
        """Whether a sealed run with this config is there, all of whose files are as they were.

        One whose own seal does not hold is removed. A sound one of other settings is refused, sealed or begun: it may
        be days of another study.
        """
        sealed = os.path.lexists(path / _SEAL)
        if sealed and not _seal_holds(path):
            print(visible(f"{path} is damaged: its seal does not hold. It is done again."), flush=True)
            _remove(path)
            return False
        if os.path.lexists(path / "config.json"):
            differences = differing_fields(read_record(path), _round_trip(sweep.record))
            if differences:
                own, other = ("quick", "full") if self.scale.quick else ("full", "quick")
                raise ConfigError(
                    f"{path} holds a run of other settings: {', '.join(differences)}. Is it of the {other} study, or "
                    f"of an earlier version? This is the {own} one. Use another --workdir, or remove that folder."
                )
        return sealed


def is_finished(directory: StrPath, name: str) -> bool:
    """Returns whether a run under the folder of a study needs nothing more, its files perhaps damaged since."""
    return (Path(directory) / "runs" / name / _SEAL).is_file()


def count_finished(directory: Path) -> int:
    """Counts the runs under the folder of a study that need nothing more."""
    return sum(1 for _ in (directory / "runs").rglob(_SEAL))


def _make_sweep(settings: Mapping[str, Any]) -> Sweep:
    nested = nest_settings(settings)
    return from_values(nested) if "search" in nested else of_experiment(from_config_dict(nested))


def _describe(sweep: Sweep) -> str:
    config = sweep.groups[0].config
    settings = len(sweep.members) // config.num_seeds
    members = f"{settings} settings with {config.num_seeds}" if settings > 1 else str(config.num_seeds)
    return f"{members} seeds of {config.algorithm} on {config.env}"


def _finish(path: Path, sweep: Sweep, look: Look | None) -> None:
    """Does the run or the rest of it, looks at its policies, and seals it."""
    every = None if look is None else look.every
    run_sweep(sweep, path, checkpoint_seconds=_CHECKPOINT_SECONDS, keep_checkpoints_every=every)
    measured = None if look is None else look.measure(path)
    with storage_errors(path):
        if look is not None:
            write_json(path / POLICIES, measured)
        write_json(path / _SEAL, _hash_files(path))
        shutil.rmtree(path / "checkpoints", ignore_errors=True)


def _seal_holds(path: Path) -> bool:
    try:
        return read_json(path / _SEAL, dict) == _hash_files(path)
    except (ConfigError, OSError):
        return False


def _remove(path: Path) -> None:
    with lock_folder(path), storage_errors(path):
        # Renamed first: what an interrupted removal leaves must not look like a run.
        rest = path.with_name(f".{path.name}.damaged")
        if rest.exists():
            shutil.rmtree(rest)
        path.rename(rest)
        shutil.rmtree(rest)


def _round_trip(record: Mapping[str, Any]) -> Any:
    """The record of a run as it comes back from a JSON file, tuples as lists."""
    return json.loads(json.dumps(record))


def _hash_files(path: Path) -> dict[str, str]:
    files = [path / name for name in ("config.json", "members.json", "provenance.json", "summary.json")]
    files += sorted((path / "metrics").glob("*.parquet")) + [path / POLICIES] * (path / POLICIES).exists()
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
