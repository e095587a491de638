"""How good the policies of a run are: greedy and sampled returns over fresh episodes."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.config import with_settings
from haepo_jax.experiment import restore
from haepo_jax.population import Population
from haepo_jax.rollout import collect
from haepo_jax.run_folder import storage_errors, write_json
from haepo_jax.training import EVALUATE, MemberState


def evaluate(workdir: Path, *, episodes: int, seed: int = 0) -> dict[str, Any]:
    """Plays the newest policies of a run, and writes `evaluation.json` into its folder.

    Args:
      workdir: a run folder with a checkpoint.
      episodes: episodes of each member, for greedy and for sampled actions.
      seed: chooses the episodes; none is ever one that was trained on.

    Returns:
      What is written: for each member the mean and the standard deviation over episodes of both returns.

    Raises:
      ConfigError: the folder holds no run, or no good checkpoint.
      StorageError: the result could not be written.
    """
    waves = [
        _evaluate_wave(population, state, update, episodes, seed) for population, state, update in restore(workdir)
    ]
    result = {
        "env": waves[0].env,
        "update": min(wave.update for wave in waves),
        "episodes": episodes,
        "seed": seed,
        "members": [member for wave in waves for member in wave.members],
    }
    with storage_errors(workdir):
        write_json(workdir / "evaluation.json", result)
    return result


class _Wave(NamedTuple):
    """What was seen of members that were trained together."""

    env: str
    update: int
    members: list[dict[str, Any]]


def _evaluate_wave(population: Population, state: MemberState, update: int, episodes: int, seed: int) -> _Wave:
    config, train = population.config, population.train

    def play(member: MemberState) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(member.key, EVALUATE), seed)
        returns = {}
        for kind, greedy in (("greedy", True), ("sampled", False)):
            trajectories = collect(
                train.environment,
                train.algorithm.policy,
                member.learner.params,
                key,
                num_trajectories=episodes,
                horizon=train.horizon,
                env_params=with_settings(config, member.settings).env_params,
                greedy=greedy,
            )
            returns[kind] = jnp.where(trajectories.mask, trajectories.rewards, 0).sum(axis=-1)
        return returns

    played = population.map_members(play, state)
    alive = population.here(state.alive)
    members = [
        {
            "member": member.index,
            "seed": member.seed,
            "settings": member.settings,
            "status": "ok" if alive[row] else "diverged",
            "update": update,
        }
        | {f"{kind}_return": float(values[row].mean()) for kind, values in played.items()}
        | {f"{kind}_return_std": float(values[row].std()) for kind, values in played.items()}
        for row, member in enumerate(population.members)
    ]
    return _Wave(config.env, update, members)
