"""How good the policies of a run are: greedy and sampled returns over fresh episodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from haepo_jax.config import with_settings
from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.population import Population
from haepo_jax.population.member import EVALUATE, MemberState
from haepo_jax.population.sizes import check_episodes
from haepo_jax.rollouts.episode_stats import play
from haepo_jax.rollouts.episodes import EpisodeUnroll
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import replace_non_finite
from haepo_jax.runs.states import LAST, Checkpoint, find_policy_params, list_policy_updates, load_states


def evaluate(workdir: StrPath, *, episodes: int, seed: int = 0, checkpoint: Checkpoint = LAST) -> dict[str, Any]:
    """Plays the policies of a run, and writes `evaluation.json` into its folder.

    Arguments and result as of `measure`.

    Raises:
      ConfigError: the folder holds no run, or no good checkpoint.
      StorageError: the result could not be written.
    """
    result = measure(workdir, episodes=episodes, seed=seed, checkpoint=checkpoint)
    write(workdir, result)
    return result


def measure(workdir: StrPath, *, episodes: int, seed: int = 0, checkpoint: Checkpoint = LAST) -> dict[str, Any]:
    """Plays the policies of a run, and changes nothing in its folder.

    Args:
      workdir: a run folder with a checkpoint.
      episodes: episodes of each member, for greedy and for sampled actions.
      seed: chooses the episodes; none is ever one that was trained on, or that chose the best policy.
      checkpoint: whose policies, see `load_states`.

    Returns:
      For each member the mean and the standard deviation over episodes of both returns; None where that is not finite,
      or where the member has no such policy.

    Raises:
      ConfigError: the folder holds no run, or no good checkpoint, or a device cannot hold so many episodes.
    """
    waves = [
        (
            population.config.env,
            _play_wave(population, state, update, checkpoint, episodes, seed),
        )
        for population, state, update in load_states(workdir, checkpoint)
    ]
    members = [member for _, members in waves for member in members]
    updates = [member["update"] for member in members if member["update"] is not None]
    if not updates:
        raise ConfigError(f"--workdir {workdir} has no best policy yet, as no member was evaluated; train on.")
    return {
        "env": waves[0][0],
        "checkpoint": checkpoint,
        "update": min(updates),
        "episodes": episodes,
        "seed": seed,
        "members": members,
    }


def write(workdir: StrPath, result: dict[str, Any]) -> Path:
    """Writes what `measure` has found, and returns the path of the file.

    Raises:
      StorageError: the folder cannot be written.
    """
    path = Path(workdir) / "evaluation.json"
    try:
        write_json(path, result)
    except OSError as error:
        raise StorageError(f"{path} is not written: {error.strerror}.") from error
    return path


def _play_wave(
    population: Population, state: MemberState, update: int, checkpoint: Checkpoint, episodes: int, seed: int
) -> list[dict[str, Any]]:
    """What was seen of members that were trained together; arguments as of `list_policy_updates`."""
    updates = list_policy_updates(population, state, update, checkpoint)
    config, functions = population.config, population.functions
    check_episodes(config, functions.environment, episodes, population.members_per_device)

    def returns(member: MemberState) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(member.key, EVALUATE), seed)
        env_params = with_settings(config, member.settings).env_params
        params, policy = find_policy_params(population, member, checkpoint), functions.algorithm.policy
        # Sums alone are kept: an episode may have a million steps.
        return {
            kind: play(
                EpisodeUnroll(
                    functions.environment, policy, params, key, episodes, functions.horizon, env_params, greedy=greedy
                )
            ).returns
            for kind, greedy in (("greedy", True), ("sampled", False))
        }

    has_policy = np.array([update is not None for update in updates])[:, None]
    played = {
        kind: np.where(has_policy, values.astype(np.float64), np.nan)
        for kind, values in population.map_members(returns, state).items()
    }
    diverged = population.here(state.diverged)
    changed = {name: population.here(state.settings[name]) for name in population.changing}
    return [
        {
            "member": member.index,
            "seed": member.seed,
            "settings": member.settings | {name: values[row].item() for name, values in changed.items()},
            "status": "diverged" if diverged[row] else "ok",
            "update": updates[row],
        }
        | {f"{kind}_return": _compute_statistic(np.mean, values[row]) for kind, values in played.items()}
        | {f"{kind}_return_std": _compute_statistic(np.std, values[row]) for kind, values in played.items()}
        for row, member in enumerate(population.members)
    ]


def _compute_statistic(statistic: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float | None:
    """Computes a statistic of returns; None where one of them, and so the statistic, is not finite."""
    return replace_non_finite(float(statistic(values))) if np.isfinite(values).all() else None
