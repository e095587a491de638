"""What a logger gets, and what it must be able to do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class LoggedRun(NamedTuple):
    """One member of a run, as a logger is made for it."""

    id: str
    """The same in every attempt at the run, and different for every member of every run."""
    name: str
    """Of the run folder and the member: `cartpole/member-00005`."""
    group: str
    """Of the run folder, which its members share."""
    folder: Path
    """The logger's own folder for this member, within the run folder; not made yet."""
    member: int
    """Its number in the run."""
    seed: int
    settings: Mapping[str, Any]
    """The settings that are swept, by dotted name."""
    config: Mapping[str, Any]
    """What `config.json` holds, as nested dictionaries."""
    first_update: int
    """The update that this attempt begins with. What an earlier attempt has logged at it or later is to be replaced,
    and is logged again with the same values."""


class Logger(Protocol):
    """Shows the metrics of one member. It is made by calling what `--loggers` names with a `LoggedRun`."""

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of one update; those that it has no value of, as between two evaluations, are left out."""

    def close(self) -> None:
        """Ends the logger, also one whose `write` has failed; nothing is written after it.

        Metrics may be missing, as the run may resume later.
        """
