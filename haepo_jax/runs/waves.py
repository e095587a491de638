"""Which members run when, and where their checkpoints lie.

As many members run at once as the devices hold; a larger group runs in waves. A wave keeps its checkpoints in a folder
named after its members, `checkpoints/members-FIRST-END/`, so that a run that resumes with other devices finds each
member wherever it was saved last, though its waves are then others.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from haepo_jax.config.members import Member
from haepo_jax.runs.restore import Source


class Wave(NamedTuple):
    """Members that run together."""

    members: tuple[Member, ...]
    sources: tuple[Source, ...]
    """Folders that may hold their state, the latest first."""
    directory: Path
    """Where their checkpoints go."""

    @property
    def indices(self) -> range:
        """The members' indices, which follow one another."""
        return range(self.members[0].index, self.members[-1].index + 1)


def iterate_waves(members: tuple[Member, ...], capacity: int, directory: Path) -> Iterator[Wave]:
    """Makes the waves of a group, in order, each once the one before it has run. Arguments as of `make_next_wave`."""
    done = 0
    while done < len(members):
        wave = make_next_wave(members, done, capacity, directory)
        yield wave
        done += len(wave.members)


def make_next_wave(members: tuple[Member, ...], done: int, capacity: int, directory: Path) -> Wave:
    """Makes the wave that begins with the member after the first `done` ones of a group.

    Args:
      members: of the group.
      done: how many of them have run.
      capacity: the most that run at once, a multiple of the members of a device.
      directory: the `checkpoints/` of the run folder.
    """
    first = members[done].index
    end = min(first + capacity, members[-1].index + 1)
    saved = _list_ranges(directory)
    # The narrower folder is the later one: a wave only ever splits.
    covering = sorted((folder for folder in saved if first in folder), key=len)
    if covering:
        end = min(end, covering[0].stop)
    else:
        end = min([end, *(folder.start for folder in saved if folder.start > first)])
    return Wave(
        members[done : done + end - first],
        tuple(Source(_name_folder(directory, folder), folder) for folder in covering),
        _name_folder(directory, range(first, end)),
    )


def _list_ranges(directory: Path) -> list[range]:
    if not directory.is_dir():
        return []
    matches = (re.fullmatch(r"members-([0-9]{6,9})-([0-9]{6,9})", path.name) for path in directory.iterdir())
    found = (range(int(match[1]), int(match[2])) for match in matches if match)
    # Under their own names alone, which say where they lie.
    return [folder for folder in found if folder and os.path.lexists(_name_folder(directory, folder))]


def _name_folder(directory: Path, members: range) -> Path:
    return directory / f"members-{members.start:06d}-{members.stop:06d}"
