"""The trained members of a run, read from its checkpoints to be looked at."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from haepo_jax.config.checks import is_whole_number
from haepo_jax.config.sweep import Group
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.population.member import MemberState
from haepo_jax.population.population import Population, make_population
from haepo_jax.runs.checkpoints import list_saved
from haepo_jax.runs.component_files import describe_components, load_sweep, report_changes
from haepo_jax.runs.files import StrPath, read_placement
from haepo_jax.runs.restore import find_newest
from haepo_jax.runs.waves import Wave, iterate_waves
from haepo_jax.types import Params

Checkpoint = str | int
"""`last`; `best`, the policy of the best evaluation in training; or a number of updates."""
LAST, BEST = "last", "best"


class LoadedMember(NamedTuple):
    """One member of a run."""

    population: Population
    """That it was trained in: its config and its functions."""
    row: int
    """Its place in `population.members`."""
    params: Params
    """NumPy arrays."""
    update: int
    """Updates done by this policy."""


def load_states(
    workdir: StrPath, checkpoint: Checkpoint = LAST, *, member: int | None = None
) -> Iterator[tuple[Population, MemberState, int]]:
    """Loads a good state of each wave of a run; changes nothing in the folder.

    Args:
      workdir: a run folder.
      checkpoint: which state; that of the best policies is the last one, whose policies `find_policy_params` knows. Of
        a number of updates, waves that had ended before have their last state.
      member: whose wave alone is loaded; all by default.

    Yields:
      The population of a wave, its state on the devices, and the updates that its checkpoint has done.

    Raises:
      ConfigError: the folder holds no run, or no such good checkpoint; or nothing was evaluated in training.
    """
    workdir, checkpoint = Path(workdir), check_checkpoint("checkpoint", checkpoint)
    sweep = load_sweep(workdir)
    report_changes(workdir, describe_components(group.config for group in sweep.groups))
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"--workdir {workdir} holds no checkpoint yet; train first.")
    if member is not None and not 0 <= member < len(sweep.members):
        raise ConfigError(f"member {member} is none of --workdir {workdir}; it has 0 to {len(sweep.members) - 1}.")
    if checkpoint == BEST and any(group.config.evaluate_every is None for group in sweep.groups):
        raise ConfigError(
            f"--workdir {workdir} has no best policy, as its config.evaluate_every is unset; choose the checkpoint "
            "last, or a number of updates."
        )
    most = max(group.config.num_updates for group in sweep.groups)
    if isinstance(checkpoint, int) and checkpoint > most:
        raise ConfigError(f"--workdir {workdir} has {most} updates, so that there is no checkpoint of {checkpoint}.")
    placement = read_placement(workdir, [group.name for group in sweep.groups])
    found_any = False
    for group in sweep.groups:
        if member is not None and member not in (own.index for own in group.members):
            continue
        for population, wave in _iterate_populations(workdir, group, placement):
            if member is not None and member not in wave.indices:
                continue
            found = _find(workdir, population, wave, checkpoint)
            if found is not None:
                found_any = True
                yield population, *found
    if not found_any:
        raise ConfigError(f"--workdir {workdir} holds no good checkpoint; train first.")


def load_member(workdir: StrPath, member: int, checkpoint: Checkpoint = LAST) -> LoadedMember:
    """Loads the policy of one member of a run; changes nothing in the folder.

    Args:
      workdir: a run folder.
      member: its index.
      checkpoint: which policy, see `load_states`.

    Raises:
      ConfigError: as of `load_states`; or the member was not evaluated before it ended.
    """
    if not is_whole_number(member):
        raise ConfigError(f"member must be a whole number, its index in members.json, got {quoted(member)}.")
    ((population, state, update),) = load_states(workdir, checkpoint, member=member)
    row = next(row for row, own in enumerate(population.members) if own.index == member)
    done = list_policy_updates(population, state, update, checkpoint)[row]
    if done is None:
        raise ConfigError(
            f"member {member} of --workdir {workdir} has no best policy yet, as it was not evaluated; choose the "
            "checkpoint last."
        )
    params = jax.vmap(lambda member: find_policy_params(population, member, checkpoint))(state)
    return LoadedMember(population, row, jax.tree.map(lambda leaf: population.here(leaf)[row], params), done)


def find_policy_params(population: Population, member: MemberState, checkpoint: Checkpoint) -> Params:
    """Finds what the policy of a member takes: of the best one those scored best in training, zeros before any was.

    Args:
      population: as of `load_states`.
      member: one member of the state as of `load_states`.
      checkpoint: as given to `load_states`.
    """
    if checkpoint != BEST:
        return population.functions.algorithm.policy_params(member.learner)
    assert member.best is not None  # `load_states` has refused it
    return member.best.params


def list_policy_updates(
    population: Population, state: MemberState, update: int, checkpoint: Checkpoint
) -> list[int | None]:
    """Lists the updates done by the policy of each member; None for a member without an evaluation.

    Args:
      population: as of `load_states`.
      state: as of `load_states`.
      update: as of `load_states`.
      checkpoint: as given to `load_states`.
    """
    if checkpoint != BEST:
        return [update] * len(population.members)
    assert state.best is not None  # `load_states` has refused it
    return [int(done) if done > 0 else None for done in population.here(state.best.update)]


def check_checkpoint(what: str, value: Any) -> Checkpoint:
    """Checks the name of a checkpoint; a number may be written in digits.

    Args:
      what: what it is called, for the sentence of the error.
      value: what was given.

    Raises:
      ConfigError: it is none.
    """
    if value in (LAST, BEST):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if not is_whole_number(value) or value < 1:
        raise ConfigError(f"{what} must be last, best or a number of updates from 1 on, got {quoted(value)}.")
    return int(value)


def _iterate_populations(workdir: Path, group: Group, placement: dict[str, Any]) -> Iterator[tuple[Population, Wave]]:
    population = make_population(
        dataclasses.replace(group.config, memory=placement["memory"][group.name]),
        members=group.members,
        members_per_device=placement["members_per_device"][group.name],
    )
    for wave in iterate_waves(group.members, population.members_at_once(group.members), workdir / "checkpoints"):
        yield population.with_members(wave.members), wave


def _find(workdir: Path, population: Population, wave: Wave, checkpoint: Checkpoint) -> tuple[MemberState, int] | None:
    number = checkpoint if isinstance(checkpoint, int) else None
    template = population.template()
    found = find_newest(workdir, wave.sources, template, wave.indices, update=number)
    if found is None and number is not None:
        found = find_newest(workdir, wave.sources, template, wave.indices)
        if found is None or not _ended_before(population, population.resumed(found.tree), found.update, number):
            _refuse_number(workdir, wave, number)
    if found is None:
        return None
    return population.resumed(found.tree), found.update


def _ended_before(population: Population, state: MemberState, update: int, number: int) -> bool:
    """Says whether no member of a wave has trained from its newest checkpoint up to this number of updates."""
    return update < number and (update >= population.config.num_updates or not population.running(state).any())


def _refuse_number(workdir: Path, wave: Wave, number: int) -> None:
    there = sorted({saved.update for source in wave.sources for saved in list_saved(source.directory)})
    has = f"it has those of {', '.join(map(str, there))}" if there else "it has none"
    raise ConfigError(
        f"--workdir {workdir} holds no good checkpoint of {number} updates for members {wave.indices.start} to "
        f"{wave.indices.stop - 1}; {has}. A run keeps more with --keep_checkpoints_every."
    )
