"""A run from its config to its complete folder: groups of members, each in waves of as many as the devices hold."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from haepo_jax.algorithms.base import horizon_without_effect
from haepo_jax.config import ExperimentConfig, get_method
from haepo_jax.config.checks import check_config, check_count, check_seconds
from haepo_jax.config.members import number_of_members
from haepo_jax.config.sweep import Group, Sweep, of_experiment
from haepo_jax.errors import ConfigError, Interrupted, quoted
from haepo_jax.methods import Sees
from haepo_jax.population import sizes
from haepo_jax.population.layout import check_placement
from haepo_jax.population.population import Population
from haepo_jax.runs import agreement
from haepo_jax.runs.attempt import Attempt
from haepo_jax.runs.component_files import Described, add_recorded_folders, describe_components, report_changes
from haepo_jax.runs.files import StrPath, read_summary
from haepo_jax.runs.folder import lock_folder, set_aside, storage_errors, write_json
from haepo_jax.runs.identity import check_run, rewrite_lost_members, write_identity
from haepo_jax.runs.loggers import MakeLogger, make_request
from haepo_jax.runs.placement import Placement, place_groups
from haepo_jax.runs.programs import check_programs, record_programs
from haepo_jax.runs.progress import QUIET_SECONDS, report_waiting
from haepo_jax.runs.restore import check_resumable, describe_next_start, set_foreign_parts_aside
from haepo_jax.runs.summary import find_unfinished, summarize
from haepo_jax.runs.wave_run import WaveRun
from haepo_jax.runs.waves import iterate_waves
from haepo_jax.runtime import paths, processes, signals, startup
from haepo_jax.runtime.precision import DEFAULT, computing_products
from haepo_jax.runtime.watchdog import STALL_SECONDS
from haepo_jax.text import visible

_PLACEMENT = Placement()
_MANY_MEMBERS = 100_000  # which take seconds to list


def run(
    config: ExperimentConfig,
    workdir: StrPath,
    *,
    checkpoint_seconds: float = 10.0,
    stall_seconds: float = STALL_SECONDS,
    loggers: Sequence[str | MakeLogger] = (),
    logged_members: Collection[int] = (0,),
    keep_checkpoints_every: int | None = None,
) -> bool:
    """Runs an experiment, or resumes it, until its folder is complete; see `run_sweep`.

    It uses the devices that JAX has. `haepo_jax.runtime.setup()`, called before JAX computes anything, gives a program
    those of the commands, and so their bits, and their cache of compiled programs.
    """
    check_config(config)
    folder = _check_folder(workdir)
    if (members := number_of_members(config)) > _MANY_MEMBERS:  # `run_sweep` checks too, but has them listed
        sizes.check(config, members, workdir=folder)
    sweep = of_experiment(config)
    return run_sweep(
        sweep,
        workdir,
        checkpoint_seconds=checkpoint_seconds,
        stall_seconds=stall_seconds,
        loggers=loggers,
        logged_members=logged_members,
        keep_checkpoints_every=keep_checkpoints_every,
    )


def run_sweep(
    sweep: Sweep,
    workdir: StrPath,
    *,
    placement: Placement = _PLACEMENT,
    checkpoint_seconds: float = 60.0,
    stall_seconds: float = STALL_SECONDS,
    loggers: Sequence[str | MakeLogger] = (),
    logged_members: Collection[int] = (0,),
    keep_checkpoints_every: int | None = None,
) -> bool:
    """Runs a sweep, or resumes it, until its folder is complete. All processes of a run call it.

    Args:
      sweep: groups of members.
      workdir: the run folder, the same for all processes.
      placement: how members lie on devices.
      checkpoint_seconds: least time between two checkpoints; metrics are written with each. The first chunk of a
        wave and its last one always end with a checkpoint.
      stall_seconds: a process in which nothing has moved for so long ends itself, but never before a chunk of
        updates has taken ten times as long as was to be expected, nor while one process alone does the first update.
      loggers: what shows metrics elsewhere too: `tensorboard`, `wandb`, `mlflow`, `package.module:attribute`, or what
        makes a `haepo_jax.runs.loggers.Logger` itself. They decide no number, and one that fails stops nothing.
      logged_members: the numbers of the members that they show.
      keep_checkpoints_every: updates between two checkpoints that are never dropped, also by later attempts; by
        default the newest three of a wave alone stay. It decides no number.

    Returns:
      False if the folder was complete already and nothing was done.

    Raises:
      ConfigError: a folder or an argument that cannot be used, or an environment that does not exist.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT, to any of the processes.
      Stalled: another process is gone.
    """
    workdir = _check_folder(workdir)
    add_recorded_folders(workdir)
    _check_arguments(sweep, placement, checkpoint_seconds, stall_seconds, keep_checkpoints_every)
    startup.check_flags()
    flags = {"dry_run": False, "keep_checkpoints_every": keep_checkpoints_every}
    agreement.check(sweep, placement._asdict() | flags)
    with processes.all_or_none():
        for group in sweep.groups:  # before the folder is made, as they may need what is not there
            sizes.check(group.config, len(group.members), **placement._asdict(), workdir=workdir)
            words = sizes.describe_long_updates(group.config, len(group.members))
            if words is not None and processes.is_first():
                print(words, flush=True)
        requested = make_request(loggers, logged_members, len(sweep.members))
    with (
        computing_products(_get_common_precision(sweep)),
        agreement.one_folder(workdir),
        _hold(workdir, sweep),
        signals.leaving(lambda: describe_next_start(workdir)),
    ):
        with processes.all_or_none():
            components = describe_components(group.config for group in sweep.groups)
        if processes.from_first(np.array(processes.is_first() and _is_whole(workdir))):
            if processes.is_first():
                report_changes(workdir, components)
            return False
        populations = _prepare_folder(workdir, sweep, placement, components)
        attempt = Attempt(
            workdir,
            sweep.members,
            populations,
            components,
            checkpoint_seconds=checkpoint_seconds,
            stall_seconds=stall_seconds,
            loggers=requested,
            keep_checkpoints_every=keep_checkpoints_every,
        )
        _train(sweep, populations, attempt)
    return True


def _get_common_precision(sweep: Sweep) -> str:
    """Returns the precision of all groups, which the identity of the run then has; `default` where they differ."""
    first, *others = {group.config.precision for group in sweep.groups}
    return DEFAULT if others else first


def _check_folder(workdir: Any) -> Path:
    if not isinstance(workdir, str | os.PathLike):
        raise ConfigError(f"workdir must be a path, got {quoted(workdir)}.")
    return paths.folder("workdir", os.fspath(workdir))


def _check_arguments(
    sweep: Any, placement: Any, checkpoint_seconds: Any, stall_seconds: Any, keep_checkpoints_every: Any
) -> None:
    """Refuses what a run cannot be made of, before anything is made or printed."""
    if not isinstance(sweep, Sweep):
        raise ConfigError(
            f"sweep must be a Sweep, got {quoted(sweep)}; sweeps.from_values and sweeps.of_experiment make one."
        )
    if not isinstance(placement, Placement):
        raise ConfigError(f"placement must be a Placement, got {quoted(placement)}.")
    check_placement(*placement)
    check_seconds("checkpoint_seconds", checkpoint_seconds, may_be_0=True)
    check_seconds("stall_seconds", stall_seconds, may_be_0=False)
    if keep_checkpoints_every is not None:
        check_count("keep_checkpoints_every", keep_checkpoints_every)
        most = max(group.config.num_updates for group in sweep.groups)
        if keep_checkpoints_every > most:
            raise ConfigError(
                f"keep_checkpoints_every {keep_checkpoints_every} is more than config.num_updates {most}, so that no "
                f"checkpoint would be kept; it may be at most {most}."
            )


def _is_whole(workdir: Path) -> bool:
    """Says whether the folder is complete: it has a whole summary, and all rows that it sums up."""
    return os.path.lexists(workdir / "summary.json") and _find_flaw_of_summary(workdir) is None


def _find_flaw_of_summary(workdir: Path) -> ConfigError | None:
    try:
        read_summary(workdir)
        if missing := find_unfinished(workdir):
            raise ConfigError(f"{workdir / 'metrics'} has lost the last rows of {len(missing)} members.")
    except ConfigError as error:
        return error
    return None


@contextlib.contextmanager
def _hold(workdir: Path, sweep: Sweep) -> Iterator[None]:
    """Holds the folder for this run, once it is known to hold no other; process 0 does."""
    with contextlib.ExitStack() as stack:
        with processes.all_or_none():
            if processes.is_first():
                stack.enter_context(lock_folder(workdir))
                check_run(workdir, sweep.record, _describe_members(sweep))
                rewrite_lost_members(workdir, _describe_members(sweep))
        yield


def _prepare_folder(workdir: Path, sweep: Sweep, placement: Placement, components: Described) -> list[Population]:
    """Makes the populations of the groups, and the folder one in which they can run.

    It is only written once all that can be refused has been looked at.
    """
    first = processes.is_first()
    with report_waiting("Tracing", "Traced", quiet_seconds=QUIET_SECONDS, shown=first), processes.all_or_none():
        populations, noted = place_groups(workdir, sweep, placement)
        pairs = list(zip(sweep.groups, populations, strict=True))
        programs = {group.name: population.fingerprint() for group, population in pairs} if first else {}
    with processes.all_or_none():
        if first:
            with storage_errors(workdir):
                check_programs(workdir, programs, components)
                for group, population in pairs:
                    at_once = population.members_at_once(group.members)
                    for wave in iterate_waves(group.members, at_once, workdir / "checkpoints"):
                        check_resumable(workdir, wave.sources, population.template())
                write_identity(workdir, sweep.record, _describe_members(sweep))
                if os.path.lexists(workdir / "summary.json") and (flaw := _find_flaw_of_summary(workdir)):
                    set_aside(workdir / "summary.json", flaw)  # it is made again at the end
                (workdir / "metrics").mkdir(exist_ok=True)
                (workdir / "checkpoints").mkdir(exist_ok=True)
                write_json(workdir / "placement.json", noted)
                record_programs(workdir, programs, components)
                set_foreign_parts_aside(workdir)
            _report_choices(sweep, populations)
    return populations


def _report_choices(sweep: Sweep, populations: Sequence[Population]) -> None:
    notes = [horizon_without_effect(population.config, population.functions.environment) for population in populations]
    for note in dict.fromkeys(note for note in notes if note is not None):
        print(visible(note), flush=True)
    for group, population in zip(sweep.groups, populations, strict=True):
        # Segments are kept whatever is set.
        if group.config.memory == "auto" and get_method(group.config).sees is not Sees.SEGMENTS:
            named = f" in group {group.name}" if len(populations) > 1 else ""
            print(f"Memory: {population.config.memory}{named}, the fastest that fits.", flush=True)


def _describe_members(sweep: Sweep) -> list[dict[str, Any]]:
    """Makes what `members.json` holds."""
    return [member.to_json() for member in sweep.members]


def _train(sweep: Sweep, populations: Sequence[Population], attempt: Attempt) -> None:
    """Trains every group from where the folder stands, and completes the folder."""
    pairs = list(zip(sweep.groups, populations, strict=True))
    waves = [-(-len(group.members) // population.members_at_once(group.members)) for group, population in pairs]
    with contextlib.ExitStack() as stack:
        if jax.process_count() > 1:  # they stop together; one alone has nothing to finish but its updates
            attempt.received = stack.enter_context(signals.collected(together=True))
        stack.enter_context(attempt.watchdog)
        for number, (group, population) in enumerate(pairs, start=1):
            _train_group(attempt, group, population, sum(waves[number:]), num_members=len(sweep.members))
    attempt.note(outcome="complete")
    processes.barrier("every process has written its metrics")
    if processes.is_first():
        with storage_errors(attempt.workdir):
            write_json(attempt.workdir / "summary.json", summarize(attempt.workdir))
    processes.barrier("the summary is written")
    if attempt.received:  # after the last decision
        total = populations[-1].config.num_updates
        raise Interrupted(attempt.received[0], total, total)


def _train_group(
    attempt: Attempt, group: Group, population: Population, waves_of_later_groups: int, *, num_members: int
) -> None:
    done, at_once = 0, population.members_at_once(group.members)
    for wave in iterate_waves(group.members, at_once, attempt.workdir / "checkpoints"):
        if len(wave.members) < num_members and processes.is_first():
            first, last = wave.members[0].index, wave.members[-1].index
            print(visible(f"Group {group.name}: members {first} to {last} of {num_members}."), flush=True)
        done += len(wave.members)
        waves_after = waves_of_later_groups + -(-(len(group.members) - done) // at_once)
        WaveRun(attempt, population.with_members(wave.members), wave, waves_after).run()
