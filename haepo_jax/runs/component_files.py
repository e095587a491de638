"""Components from outside that a run is made with: their files as they were when it was begun, and as they are now.

`run.json` holds for each the settings that name it, the hash of the file that defines it, and the folder that its
module was imported from, so that other commands find it wherever they are called.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from haepo_jax.components import make_importable, source
from haepo_jax.config.method import components_of
from haepo_jax.config.sweep import Sweep, from_record
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import StrPath, read_identity, read_record
from haepo_jax.runs.origin import describe_versions, is_of_this_version
from haepo_jax.text import visible

Described = Mapping[str, Mapping[str, Any]]
"""Components by what names them; see `describe_components`."""
_DIGITS = 12  # of a hash in a sentence


def describe_components(configs: Iterable[Any]) -> Described:
    """Describes the components from outside that these configs name, importing them.

    Args:
      configs: experiments, or language models.

    Returns:
      By `package.module:attribute`: `settings`, the names of the settings that name it; `sha256` and `file` of its
      source, and `folder`, from which it can be imported, each None where there is none.

    Raises:
      ConfigError: one of them cannot be imported.
    """
    found: dict[str, dict[str, Any]] = {}
    for config in configs:
        for setting, name in components_of(config).items():
            if name not in found:
                found[name] = {"settings": []} | source(setting, name)._asdict()
            if setting not in found[name]["settings"]:
                found[name]["settings"].append(setting)
    return found


def load_sweep(workdir: StrPath) -> Sweep:
    """Loads what the run in this folder runs; its components can be imported from then on, where they still lie.

    Raises:
      ConfigError: there is no run, its `config.json` is damaged, or its method cannot be imported.
    """
    add_recorded_folders(workdir)
    record = read_record(workdir)
    try:
        return from_record(record)
    except ConfigError as error:
        if is_of_this_version(Path(workdir)):
            raise
        raise ConfigError(f"{error} {describe_versions(Path(workdir))}") from error


def add_recorded_folders(workdir: StrPath) -> None:
    """Lets the modules be imported that the run in this folder was begun with, from where they were then.

    What can be imported without that stays first.

    Raises:
      ConfigError: its `run.json` is damaged.
    """
    for component in _read_recorded(workdir).values():
        if component["folder"] is not None and Path(component["folder"]).is_dir():
            make_importable(component["folder"])


def find_changes(workdir: StrPath, now: Described) -> list[str]:
    """Finds the components whose files have changed since the run in this folder was begun.

    Args:
      workdir: the run folder.
      now: as `describe_components` gives them.

    Returns:
      A clause for each, with both hashes.

    Raises:
      ConfigError: its `run.json` is damaged.
    """
    before = _read_recorded(workdir)
    return [
        f"config.{component['settings'][0]} {name} has changed ({_describe_change(before[name], component)})"
        for name, component in now.items()
        if name in before and before[name]["sha256"] != component["sha256"]
    ]


def _describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = (_shorten(component["sha256"]) for component in (before, now))
    if before["file"] == now["file"]:
        return f"{now['file']} had the SHA-256 {old} and has {new} now"
    return f"it was {before['file']}, SHA-256 {old}, and is {now['file']}, SHA-256 {new}, now"


def report_changes(workdir: StrPath, now: Described) -> None:
    """Prints which components of a run have changed since it was begun. Arguments as of `find_changes`.

    Raises:
      ConfigError: its `run.json` is damaged.
    """
    for change in find_changes(workdir, now):
        print(visible(f"Since the run was begun {change}."), flush=True)


def _read_recorded(workdir: StrPath) -> Described:
    return (read_identity(workdir) or {}).get("components", {})


def _shorten(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:_DIGITS]}..."
