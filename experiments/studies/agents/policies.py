"""What the policies of a run of tic-tac-toe come to, at every checkpoint: exactly, by all games that there are."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from haepo_jax.environments.games import exact
from haepo_jax.runs.cross_play import list_checkpoints
from haepo_jax.runs.states import find_policy_params, load_states
from haepo_jax.types import Params


def load_tables(workdir: Path, every: int) -> tuple[list[int], np.ndarray]:
    """Loads the chances of each move in each position, of policies that a run has kept.

    Args:
      workdir: a run folder of one group of members.
      every: updates between two checkpoints that are looked at, besides the last. A run keeps its newest ones too.

    Returns:
      The updates done at the C checkpoints, and `[C, members, P, 9]`.
    """
    saved, kept, policy = list_checkpoints(workdir), [], None
    updates = [update for update in saved if update % every == 0 or update == saved[-1]]
    for checkpoint in updates:
        waves = []
        for population, state, _ in load_states(workdir, checkpoint):
            policy = population.functions.algorithm.policy
            params = jax.vmap(functools.partial(find_policy_params, population, checkpoint=checkpoint))(state)
            waves.append(jax.tree.map(population.here, params))
        kept.append(jax.tree.map(lambda *leaves: np.concatenate(leaves), *waves))
    assert policy is not None  # a run has a checkpoint at its end
    apply = policy.apply

    @jax.jit
    def compute_chances(params: Params, observations: jax.Array) -> jax.Array:
        return jax.lax.map(jax.vmap(lambda own: apply(own, observations).probs), params)

    every = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    return updates, np.asarray(compute_chances(every, exact.list_observations()), np.float64)


def measure(workdir: Path, *, every: int) -> dict[str, Any]:
    """Measures the policies of a run.

    Args:
      workdir: its folder.
      every: as of `load_tables`.

    Returns:
      `updates` `[C]`, and of policies that draw their moves and of those that take the likeliest (`greedy_`), each
      `[C, members]`: `exploitability`, what the best answer is worth, the mean over who moves first;
      `lost_to_random` and `lost_to_perfect`, shares of the games. `points` `[members, C + 1, C + 1]` are those that a
      policy of a member makes in a game against another one of the same member, both drawing their moves: 1 for a
      win, a half for a draw. The last row and column is random play.
    """
    updates, tables = load_tables(workdir, every)
    random = exact.make_random_table()
    measured: dict[str, Any] = {"updates": updates}
    for prefix, players in (("", tables), ("greedy_", exact.make_greedy(tables))):
        measured |= {prefix + name: values.tolist() for name, values in _measure_players(players, random).items()}
    with_random = np.concatenate([tables, np.broadcast_to(random, (1, *tables.shape[1:]))])
    measured["points"] = np.stack([_meet(of_member) for of_member in with_random.swapaxes(0, 1)]).tolist()
    return measured


def _measure_players(players: np.ndarray, random: np.ndarray) -> dict[str, np.ndarray]:
    perfect = exact.make_perfect_table()
    return {
        "exploitability": exact.compute_exploitability(players).mean(axis=-1),
        "lost_to_random": exact.compute_ends(players, random)[..., exact.LOSS].mean(axis=-1),
        "lost_to_perfect": exact.compute_ends(players, perfect)[..., exact.LOSS].mean(axis=-1),
    }


def _meet(players: np.ndarray) -> np.ndarray:
    """The points of each player `[n, P, 9]` in a game against each other one, `[n, n]`; who moves first is drawn."""
    ends = exact.compute_ends(players[:, None], players[None]).mean(axis=-2)
    return ends[..., exact.WIN] + ends[..., exact.DRAW] / 2
