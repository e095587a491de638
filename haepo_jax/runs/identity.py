"""Which run a folder holds: its config, its members, its identity, and what decides its numbers beside them.

`run.json` holds a random id that every metrics part and every checkpoint of the run states too, and the settings of
JAX under which it was begun.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

import haepo_jax
from haepo_jax.config import differing_fields
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import StrPath, read_identity, read_record
from haepo_jax.runs.folder import clear_leftovers, lock_folder, storage_errors, write_json
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.metrics.parts import list_parts
from haepo_jax.runs.origin import find_origin

NUMBERS = 1
"""The version of the numbers: raised whenever an update comes to give others from the same state and config, so that
no run mixes the two."""

FLAGS = (  # of JAX, that decide numbers whatever the program
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_random_seed_offset",
)


@contextlib.contextmanager
def open_run(
    workdir: StrPath,
    config: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[None]:
    """Holds the run folder for this run alone, after making it or checking that it holds this very run.

    Args:
      workdir: the run folder.
      config: what its `config.json` holds.
      members: what its `members.json` holds.
      defaults: see `check_run`.

    Raises:
      ConfigError: see `lock_folder` and `check_run`.
    """
    workdir = Path(workdir)
    with lock_folder(workdir):
        check_run(workdir, config, members, defaults)
        write_identity(workdir, config, members)
        yield


def check_run(
    workdir: Path,
    config: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Makes sure that the folder holds this very run, or none; changes nothing.

    Args:
      workdir: a folder that this process holds.
      config: what `config.json` holds.
      members: what `members.json` holds.
      defaults: those of settings that are none of an experiment's, which one that came later than the run has in it.

    Raises:
      ConfigError: it holds a run with another config (the differing fields are named), other members, or one begun
        under other settings of JAX or another version of the numbers; or files of a run without its config.
    """
    for name in ("checkpoints", "metrics"):
        if _is_there(workdir / name) and not (workdir / name).is_dir():
            raise ConfigError(f"{workdir / name} is no folder, and {name} of the run belong there; move it away.")
    if not holds_run(workdir):
        left = [name for name in ("checkpoints", "metrics") if _holds_something(workdir / name)]
        if left:
            raise ConfigError(
                f"--workdir {workdir} holds {' and '.join(left)} of a run, but no config.json that says which; put it "
                "back, or use another folder."
            )
        return
    differences = differing_fields(read_record(workdir), config, defaults)
    if differences:
        raise ConfigError(
            f"--workdir {workdir} holds a run with another config: {', '.join(differences)}; "
            "use another folder, or the settings it was started with."
        )
    if _is_there(workdir / "members.json"):
        _check_members(workdir, read_json(workdir / "members.json"), json.loads(json.dumps(list(members))))
    noted = read_identity(workdir)
    if noted is not None:
        check_numbers(f"--workdir {workdir}", noted["numbers"])


def holds_run(workdir: Path) -> bool:
    """Returns whether the folder holds a run."""
    return _is_there(workdir / "config.json")


def rewrite_lost_members(workdir: Path, members: Sequence[Mapping[str, Any]]) -> None:
    """Writes `members.json` again where a run has lost it.

    Raises:
      StorageError: the folder cannot be written.
    """
    if holds_run(workdir) and not _is_there(workdir / "members.json"):
        with storage_errors(workdir):
            write_json(workdir / "members.json", list(members))


def write_identity(workdir: Path, config: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> None:
    """Writes what is not there yet of the files that say which run it is, `config.json` last.

    Args:
      workdir: a folder that this process holds and `check_run` has found good.
      config: what `config.json` holds.
      members: what `members.json` holds.

    Raises:
      ConfigError: `run.json` is lost, and the parts in `metrics/` do not agree on what it said.
      StorageError: the folder cannot be written.
    """
    with storage_errors(workdir):
        for folder in (workdir, workdir / "metrics"):
            if folder.is_dir():
                clear_leftovers(folder)
        begun = holds_run(workdir)
        if not begun:
            write_json(workdir / "members.json", list(members))
        rewrite_lost_members(workdir, members)
        if not begun or not _is_there(workdir / "run.json"):
            run = list_parts(workdir).run if begun else secrets.token_hex(16)
            version = find_origin(workdir)[0] if begun else haepo_jax.__version__
            write_json(workdir / "run.json", {"run": run, "numbers": describe_numbers(), "haepo_jax": version})
        if not begun:
            write_json(workdir / "config.json", dict(config))


def read_run_id(workdir: Path) -> str | None:
    """Reads the id of the run in this folder; None for one that was begun before there were ids.

    Raises:
      ConfigError: its `run.json` is damaged.
    """
    noted = read_identity(workdir)
    return None if noted is None else noted["run"]


def describe_numbers() -> dict[str, Any]:
    """Describes what decides the numbers of this process, beside the config, the code of an update and the devices."""
    return {"version": NUMBERS} | {flag: getattr(jax.config, flag) for flag in FLAGS}


def check_numbers(what: str, noted: Mapping[str, Any]) -> None:
    """Makes sure that this process computes the numbers of what is there.

    Args:
      what: whose they are, in words.
      noted: as `describe_numbers` gave it then.

    Raises:
      ConfigError: something differs; it is named with both values.
    """
    now = describe_numbers()
    for name in now:
        if name in noted and noted[name] != now[name]:
            if name == "version":
                raise ConfigError(
                    f"{what} was begun with version {noted[name]} of the package's numbers, and this is version "
                    f"{now[name]}, whose updates give others; use the package it was begun with, or another --workdir."
                )
            raise ConfigError(
                f"{what} was begun with {name} {noted[name]!r}, and now it is {now[name]!r}, which gives other "
                f"numbers; set {name.upper()}={noted[name]} in the environment, or use another --workdir."
            )


def _is_there(path: Path) -> bool:
    """Says whether something is there, also where it is a link to nothing, or no file."""
    return os.path.lexists(path)


def _check_members(workdir: Path, found: Any, expected: list[Any]) -> None:
    if found == expected:
        return
    what = f"{len(found)} members" if isinstance(found, list) else "no list of members"
    if isinstance(found, list) and len(found) == len(expected):
        which = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        what = f"another member {which}"
    raise ConfigError(
        f"{workdir / 'members.json'} holds {what}, unlike the {len(expected)} members that follow from config.json; "
        "it was changed. Remove it, and the same command writes it again."
    )


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
