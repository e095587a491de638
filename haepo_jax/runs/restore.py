"""The one way back into a run: to the newest checkpoint that is the run's own, is good, and whose rows are all there.

What a checkpoint states is compared first. One of another run, of other members or of another structure is refused,
and nothing is touched. Damage means a checksum that does not hold, or data that cannot be read: only then is a
checkpoint set aside, and the one before it taken.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.runs.checkpoints import (
    Record,
    Saved,
    is_update,
    list_misnamed,
    list_saved,
    read_checkpoint,
    read_structure,
)
from haepo_jax.runs.identity import check_numbers
from haepo_jax.runs.metrics.parts import Parts, list_parts
from haepo_jax.runs.metrics.writer import drop_rows
from haepo_jax.runs.older_versions import upgrade_structure
from haepo_jax.runs.origin import describe_versions
from haepo_jax.runs.structure import Structure, Tree, describe_structure, find_difference
from haepo_jax.runtime import processes
from haepo_jax.text import visible

_DAMAGED, _WITHOUT_ROWS = "damaged", "without_rows"
_NOTHING_CHANGED = "Nothing was changed; move it away, or use another --workdir."


class Source(NamedTuple):
    """A folder of checkpoints in which members may be found."""

    directory: Path
    members: range
    """Whose states it holds."""


class Restored(NamedTuple):
    """Where an attempt begins."""

    update: int
    """Updates done; 0 where there is no checkpoint."""
    tree: Tree | None
    """None where there is no checkpoint."""
    rows: int
    """Metric rows of the members before this update."""


class _Candidate(NamedTuple):
    saved: Saved
    row: int
    """Of the first member that is asked for."""
    trouble: str
    """`_DAMAGED`, `_WITHOUT_ROWS` or nothing."""
    why: str


def check_resumable(workdir: Path, sources: Sequence[Source], template: Tree) -> None:
    """Makes sure that a run can resume from what lies in its folder; changes nothing, and reads no arrays.

    Args:
      workdir: the run folder.
      sources: folders that may hold the state, the latest first.
      template: of the state, see `checkpoints.read_checkpoint`.

    Raises:
      ConfigError: a checkpoint is not of this run, or of another structure; or rows are gone that all count on.
    """
    if sources:
        parts = list_parts(workdir)
        candidates = _list_candidates(workdir, parts, sources, describe_structure(template), sources[0].members.start)
        _refuse_lost_rows(workdir, candidates)


def resume(workdir: Path, sources: Sequence[Source], template: Tree, members: range) -> Restored:
    """Finds where an attempt begins, and removes from the folder what comes after it. All processes call it together.

    Args:
      workdir: the run folder, held by this run.
      sources: folders that may hold the state, the latest first.
      template: of the state, see `checkpoints.read_checkpoint`.
      members: those that are asked for, consecutive indices.

    Raises:
      ConfigError: see `check_resumable`; nothing was touched then.
      OSError: the folder cannot be written.
    """
    passed, found, tree = _find_newest(workdir, sources, template, members, resume=True)
    if found is None:
        _refuse_lost_rows(workdir, passed)
    update, rows = 0 if found is None else found.saved.update, np.zeros(1, np.int64)
    if processes.is_first():
        for candidate in passed:
            what = "is damaged" if candidate.trouble == _DAMAGED else "cannot be used"
            _set_aside(candidate.saved.path, candidate.trouble)
            _print(f"The checkpoint after update {candidate.saved.update} {what} ({candidate.why}); it is set aside.")
        for source in sources:
            _rename_after_updates(source.directory)
        if found is None and list_parts(workdir).rows(1, members):
            reason = "No good checkpoint is left" if passed else "No checkpoint is there"
            _print(f"{reason}: starting again from the first update.")
        drop_rows(workdir, update, members)
        rows[0] = list_parts(workdir).rows(update, members)
    return Restored(update, tree, int(processes.from_first(rows)[0]))


def find_newest(
    workdir: Path, sources: Sequence[Source], template: Tree, members: range, *, update: int | None = None
) -> Restored | None:
    """Finds the newest good state, to be looked at; changes nothing. None where there is none.

    Args:
      workdir: the run folder.
      sources: as of `resume`.
      template: as of `resume`.
      members: as of `resume`.
      update: updates done by the state; any by default.

    Raises:
      ConfigError: a checkpoint is not of this run, or of another structure.
    """
    passed, found, tree = _find_newest(workdir, sources, template, members, resume=False, update=update)
    for candidate in passed:
        _print(
            f"The checkpoint after update {candidate.saved.update} is damaged ({candidate.why}); it is passed over."
        )
    return None if found is None else Restored(found.saved.update, tree, 0)


def describe_next_start(workdir: Path) -> str:
    """Says where the same command begins if the process ends now.

    Args:
      workdir: a run folder whose run is under way.
    """
    folders = [*workdir.glob("checkpoints/*"), *workdir.glob("checkpoints/*/*")]
    if any(is_update(folder.name) for folder in folders):  # others are not yet whole
        return "the same command resumes from the last checkpoint."
    return "there is no checkpoint yet, so the same command starts from the first update."


def set_foreign_parts_aside(workdir: Path) -> None:
    """Sets aside what looks like rows in `metrics/` and is none of the run's, and names what else is not read.

    Raises:
      OSError: the folder cannot be written.
    """
    others = list_parts(workdir).others
    for name, why in others.items():
        if name.endswith(".parquet"):
            _set_aside(workdir / "metrics" / name, "set_aside")
            _print(f"metrics/{name} is none of this run's ({why}); it is moved to metrics_set_aside/.")
        else:
            _print(f"metrics/{name} is none of this run's ({why}); it is left as it is.")


def _find_newest(
    workdir: Path,
    sources: Sequence[Source],
    template: Tree,
    members: range,
    *,
    resume: bool,
    update: int | None = None,
) -> tuple[list[_Candidate], _Candidate | None, Tree]:
    """Finds what was passed over, with what is wrong with it; what is taken, None where nothing is; and its arrays."""
    passed: list[_Candidate] = []
    for candidate in _list_agreed(workdir, sources, describe_structure(template), members.start, resume=resume):
        if update is not None and candidate.saved.update != update:
            continue
        trouble, why, tree = candidate.trouble, candidate.why, None
        if not trouble:
            try:
                tree = read_checkpoint(candidate.saved, template, first=candidate.row)
            except Exception as error:  # orbax raises bare Exceptions on damaged data
                trouble, why = _DAMAGED, _describe_error(error)
            # One process may see damage that the others do not.
            if not processes.gathered(np.array([bool(trouble)])).any():
                return passed, candidate, tree
            trouble, why = _DAMAGED, why or "another process found it so"
        passed.append(candidate._replace(trouble=trouble, why=why))
    return passed, None, None


def _list_agreed(
    workdir: Path, sources: Sequence[Source], structure: Structure, first: int, *, resume: bool
) -> list[_Candidate]:
    """Lists the candidates as process 0 sees them; what it refuses, all refuse."""
    seen: dict[str, Any] = {}
    if processes.is_first():
        try:
            parts = list_parts(workdir)
            seen["candidates"] = _list_candidates(workdir, parts, sources, structure, first, resume=resume)
        except (ConfigError, OSError) as error:
            seen = {"refusal": str(error), "storage": isinstance(error, OSError)}
    if jax.process_count() > 1:
        seen = json.loads(processes.texts(json.dumps(seen, default=str))[0])
        seen["candidates"] = [
            _Candidate(Saved(Path(path), update, None if record is None else Record(*record), damage), *rest)
            for (path, update, record, damage), *rest in seen.get("candidates", [])
        ]
    if "refusal" in seen:
        raise StorageError(seen["refusal"]) if seen["storage"] else ConfigError(seen["refusal"])
    return seen["candidates"]


def _list_candidates(
    workdir: Path,
    parts: Parts,
    sources: Sequence[Source],
    structure: Structure,
    first: int,
    *,
    resume: bool = True,
) -> list[_Candidate]:
    """Lists what may be taken, the latest source and the newest update first.

    Raises:
      ConfigError: something is not of this run.
    """
    candidates = []
    for source in sources:
        if not source.directory.is_dir():
            raise ConfigError(f"{source.directory} is no folder, and checkpoints belong there; move it away.")
        for saved in list_saved(source.directory):
            trouble, why = (_DAMAGED, saved.damage) if saved.damage else ("", "")
            if saved.record is not None:
                _compare(workdir, saved.path, saved.record, source, structure, parts.run, resume=resume)
            elif not trouble and parts.run is not None:
                trouble, why = _DAMAGED, "it does not state its run"
            elif not trouble:
                trouble, why = _compare_old(workdir, saved, structure)
            if resume and not trouble and (lost := _describe_lost_rows(parts, saved, source.members)):
                trouble, why = _WITHOUT_ROWS, lost
            candidates.append(_Candidate(saved, first - source.members.start, trouble, why))
    return candidates


def _compare(
    workdir: Path,
    path: Path,
    record: Record,
    source: Source,
    structure: Structure,
    run: str | None,
    *,
    resume: bool,
) -> None:
    if record.run != run:
        raise ConfigError(f"{path} is of another run than that of --workdir {workdir}. {_NOTHING_CHANGED}")
    if range(record.first, record.end) != source.members:
        raise ConfigError(
            f"{path} holds members {record.first} to {record.end - 1}, where members {source.members.start} to "
            f"{source.members.stop - 1} belong. {_NOTHING_CHANGED}"
        )
    names = record.numbers.keys() if resume else ["jax_default_prng_impl"]
    check_numbers(f"{path}", {name: record.numbers[name] for name in names if name in record.numbers})
    _check_structure(workdir, path, record.structure, structure)


def _compare_old(workdir: Path, saved: Saved, structure: Structure) -> tuple[str, str]:
    """Compares a checkpoint of before there were records; says what is wrong with it where it cannot be read."""
    try:
        stored = read_structure(saved)
    except Exception as error:  # orbax raises bare Exceptions on damaged data
        return _DAMAGED, _describe_error(error)
    _check_structure(workdir, saved.path, stored, structure)
    return "", ""


def _check_structure(workdir: Path, path: Path, stored: Structure, expected: Structure) -> None:
    if difference := find_difference(upgrade_structure(stored), expected):
        raise ConfigError(
            f"{path} is of another structure than this run's: {difference}. The network, the optimiser or the package "
            f"has changed. {describe_versions(workdir)} Nothing was changed in the folder; use those that it was "
            "written with, or another --workdir."
        )


def _describe_error(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _describe_lost_rows(parts: Parts, saved: Saved, members: range) -> str:
    """Says what is missing of the rows before a checkpoint, in words; empty where nothing is."""
    there = parts.rows(saved.update, members)
    if saved.record is None:  # it does not say how many there must be
        return parts.gap or ("" if there or not saved.update else "there are no rows from before it")
    if there == saved.record.rows:
        return ""
    return f"{there} of its rows are there, of {saved.record.rows}"


def _refuse_lost_rows(workdir: Path, candidates: Sequence[_Candidate]) -> None:
    """Raises a `ConfigError` where nothing can be taken because of rows: to start again would lose the others."""
    lost = [candidate for candidate in candidates if candidate.trouble == _WITHOUT_ROWS]
    if not lost or any(not candidate.trouble for candidate in candidates):
        return
    others = list_parts(workdir).others
    unread = f" Not read: {'; '.join(f'{name}, as {why}' for name, why in others.items())}." if others else ""
    raise ConfigError(
        f"{workdir / 'metrics'} has lost rows of the run, as {lost[0].saved.path} states: {lost[0].why}.{unread} "
        "Nothing was changed; put the files back, or use another --workdir."
    )


def _rename_after_updates(directory: Path) -> None:
    """Names checkpoints after their updates; a copy of one that is there is set aside."""
    for saved in list_misnamed(directory):
        right = directory / str(saved.update)
        if right.exists():
            _set_aside(saved.path, "set_aside")
            _print(f"{saved.path} is a copy of the checkpoint after update {saved.update}; it is set aside.")
        else:
            saved.path.rename(right)
            _print(f"{saved.path} is the checkpoint after update {saved.update}, and is named so again.")


def _set_aside(path: Path, name: str) -> None:
    """Moves a file or a folder to `PARENT_NAME/`, beside where it was."""
    aside = path.parent.with_name(f"{path.parent.name}_{name}")
    aside.mkdir(exist_ok=True)
    names = itertools.chain([path.name], (f"{path.name}-{number}" for number in itertools.count(2)))
    path.rename(next(aside / free for free in names if not (aside / free).exists()))


def _print(sentence: str) -> None:
    print(visible(sentence), flush=True)
