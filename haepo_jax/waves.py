"""Which members run when, and where their checkpoints lie.

As many members run at once as the devices hold; a larger group runs in waves. A wave keeps its checkpoints in a folder
named after its members, `checkpoints/members-FIRST-END/`, so that a run that goes on with other devices finds each
member wherever it was saved last, though its waves are then others.
"""

import re
from pathlib import Path
from typing import NamedTuple

from haepo_jax.members import Member


class Wave(NamedTuple):
    """Members that run together."""

    members: tuple[Member, ...]
    sources: tuple[tuple[Path, int], ...]
    """Folders that may hold their state, the latest first, and the row of the first member in each."""
    directory: Path
    """Where their checkpoints go."""


def next_wave(members: tuple[Member, ...], done: int, capacity: int, directory: Path) -> Wave:
    """The wave that begins with the member after the first `done` ones of a group.

    Args:
      members: of the group.
      done: how many of them have run.
      capacity: the most that run at once, a multiple of the members of a device.
      directory: the `checkpoints/` of the run folder.
    """
    first = members[done].index
    end = min(first + capacity, members[-1].index + 1)
    saved = _ranges(directory)
    # The narrower folder is the later one: a wave only ever splits.
    covering = sorted((folder for folder in saved if first in folder), key=len)
    if covering:
        end = min(end, covering[0].stop)
    else:
        end = min([end, *(folder.start for folder in saved if folder.start > first)])
    return Wave(
        members[done : done + end - first],
        tuple((_folder(directory, folder), first - folder.start) for folder in covering),
        _folder(directory, range(first, end)),
    )


def _ranges(directory: Path) -> list[range]:
    if not directory.is_dir():
        return []
    matches = (re.fullmatch(r"members-(\d+)-(\d+)", path.name) for path in directory.iterdir())
    return [range(int(match[1]), int(match[2])) for match in matches if match]


def _folder(directory: Path, members: range) -> Path:
    return directory / f"members-{members.start:06d}-{members.stop:06d}"
