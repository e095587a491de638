"""The folders of runs that are to be compared, and why some cannot be."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.errors import ConfigError
from haepo_jax.reports.configs import find_differing
from haepo_jax.reports.sweep.folder import Sweep, read_sweep
from haepo_jax.reports.sweep.ranking import Scores, score_members
from haepo_jax.runs.files import find_exchange_interval, is_complete, read_identity
from haepo_jax.text import format_value

_TASK = ("env", "env_kwargs", "env_params")


class Compared(NamedTuple):
    """A run that is compared with others.

    Attributes:
      name: as the page calls it, no two alike.
      workdir: its folder.
      sweep: its records, of one point.
      scores: of its members.
    """

    name: str
    workdir: Path
    sweep: Sweep
    scores: Scores

    @property
    def last_steps(self) -> int:
        """The environment steps that every member which did not diverge has taken; of all where all did."""
        last, dead = self.sweep.env_steps.max(axis=1, initial=0), self.scores.diverged
        return int(last.max() if dead.all() else last[~dead].min())


def read_runs(workdirs: Sequence[Path]) -> tuple[Compared, ...]:
    """Reads the records of runs that are to be compared.

    Raises:
      ConfigError: a folder is given twice or holds a copy of another's run; one holds no run, a sweep, a run with
        population-based training, one that is not complete or one without a finite return; their tasks differ.
    """
    for one, other in itertools.combinations(workdirs, 2):
        if one.resolve() == other.resolve():
            raise ConfigError(f"--workdir {one} and --workdir {other} are the same folder; give each run once.")
    runs = [_read_run(workdir) for workdir in workdirs]
    for (one, first), (other, second) in itertools.combinations(zip(workdirs, runs, strict=True), 2):
        if (run := _read_run_id(one)) is not None and run == _read_run_id(other):
            raise ConfigError(f"--workdir {one} and --workdir {other} are copies of the same run; give each run once.")
        _check_task(one, first, other, second)
    counts = Counter(workdir.resolve().name for workdir in workdirs)
    return tuple(
        Compared(
            workdir.resolve().name if counts[workdir.resolve().name] == 1 else str(workdir),
            workdir,
            sweep,
            _score(workdir, sweep),
        )
        for workdir, sweep in zip(workdirs, runs, strict=True)
    )


def _read_run(workdir: Path) -> Sweep:
    sweep = read_sweep(workdir)
    if sweep.settings:
        raise ConfigError(
            f"--workdir {workdir} holds {len(sweep.points)} swept combinations of settings; runs of one setting each "
            "are compared, and the page of a sweep compares its own."
        )
    if find_exchange_interval(sweep.config) is not None:
        raise ConfigError(
            f"--workdir {workdir} holds a run with population-based training, whose members are no independent "
            "seeds; only runs without it are compared."
        )
    if not is_complete(workdir):
        raise ConfigError(
            f"--workdir {workdir} holds a run that is not complete: {int((~sweep.done).sum())} of its "
            f"{len(sweep.done)} members have not ended; resume it by the command that began it."
        )
    return sweep


def _read_run_id(workdir: Path) -> str | None:
    identity = read_identity(workdir)
    return None if identity is None else identity["run"]


def _check_task(one: Path, first: Sweep, other: Path, second: Sweep) -> None:
    differing = find_differing([first.config, second.config], to_json(ExperimentConfig()))
    for name, (left, right) in differing.items():
        if name.partition(".")[0] in _TASK:
            raise ConfigError(
                f"--workdir {one} has {name}={format_value(left)} and --workdir {other} {format_value(right)}; only "
                "runs on the same task are compared."
            )


def _score(workdir: Path, sweep: Sweep) -> Scores:
    try:
        return score_members(sweep)
    except ConfigError as error:
        raise ConfigError(f"--workdir {workdir} holds a run in which no member has a finite return.") from error


def collect_finals(runs: Sequence[Compared]) -> list[np.ndarray]:
    """Collects the final returns of each run's members; one that diverged has the worst of all runs."""
    worst = min(run.scores.worst for run in runs)
    return [np.where(run.scores.diverged, worst, run.scores.finals) for run in runs]


def collect_at_equal_steps(runs: Sequence[Compared]) -> tuple[int, list[np.ndarray]]:
    """Collects the returns of each run's members over the last tenth of the environment steps that all runs have.

    Returns:
      The environment steps; and for each run `[members]` the mean return of the updates that end in the last tenth
      before, or of the newest update where none does. A member that had diverged by then has the worst final return
      of all runs.
    """
    worst, end = min(run.scores.worst for run in runs), min(run.last_steps for run in runs)
    return end, [
        np.array([_average(run, member, end, worst) for member in range(len(run.sweep.point))]) for run in runs
    ]


def _average(run: Compared, member: int, end: int, worst: float) -> float:
    rows = int(run.sweep.rows[member])
    steps, returns = run.sweep.env_steps[member, :rows], run.sweep.returns[member, :rows].astype(np.float64)
    if run.scores.diverged[member] and steps[-1] <= end:
        return worst
    chosen = (steps > math.ceil(0.9 * end)) & (steps <= end) & np.isfinite(returns)
    if not chosen.any():
        known = np.flatnonzero((steps <= end) & np.isfinite(returns))
        return float(returns[known[-1]]) if known.size else worst
    return float(returns[chosen].mean())
