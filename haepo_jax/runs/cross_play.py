"""Games of the policies of a run against one another, and against players that stay the same.

The members of a run and their checkpoints are players; so are random play and, in tic-tac-toe, the perfect player.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.environments.games.against import DRAW_RATE, LINEUP, LOSS_RATE, WIN_RATE, Lineup, Player, play_against
from haepo_jax.environments.games.perfect import KNOWN, make_perfect_player
from haepo_jax.errors import ConfigError
from haepo_jax.networks import Policy
from haepo_jax.rollouts.episode_stats import play
from haepo_jax.rollouts.episodes import EpisodeUnroll
from haepo_jax.runs.checkpoints import list_saved
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.states import LAST, Checkpoint, find_policy_params, list_policy_updates, load_states
from haepo_jax.types import Params

RANDOM, PERFECT = "random", "perfect"
ALL = "all"
"""Every checkpoint that a run has kept."""
_ENDS = (WIN_RATE, DRAW_RATE, LOSS_RATE)
_AT_ONCE = 16
"""Pairs that play side by side."""


class Contestant(NamedTuple):
    """A player."""

    name: str
    member: int | None
    """Its index in the run; None of a player that stays the same."""
    seed: int | None
    update: int | None


class CrossPlay(NamedTuple):
    """Games of N players, each against each other one but for two that stay the same."""

    env: str
    players: tuple[Contestant, ...]
    games: np.ndarray
    """`[N, N]` int64, those that came to an end: one that is cut at the horizon counts for nobody."""
    wins: np.ndarray
    """`[N, N]` int64, of row against column."""
    draws: np.ndarray
    """`[N, N]` int64."""

    @property
    def points(self) -> np.ndarray:
        """`[N, N]`, the wins of row against column, and half of their draws."""
        return self.wins + self.draws / 2

    @property
    def points_of_each(self) -> np.ndarray:
        """`[N]`, those that a player makes in a game on average; NaN of one none of whose games has ended."""
        games = self.games.sum(axis=1)
        return np.divide(self.points.sum(axis=1), games, out=np.full(len(games), np.nan), where=games > 0)


class _Team(NamedTuple):
    """Policies of one network, of all checkpoints, so that one program plays them."""

    config: ExperimentConfig
    environment: Environment
    policy: Policy
    horizon: int
    params: Params
    """`[n, ...]`."""
    numbers: np.ndarray
    """`[n]`, of the players."""


def play_all(
    workdir: StrPath,
    *,
    games: int,
    seed: int = 0,
    checkpoints: Sequence[Checkpoint] = (LAST,),
    greedy: bool = False,
) -> CrossPlay:
    """Lets all policies of a run play against one another; changes nothing in its folder.

    Args:
      workdir: a run folder.
      games: of each pair; who moves first is drawn in each.
      seed: chooses the games.
      checkpoints: whose policies, see `haepo_jax.runs.states.load_states`; one `all` for every one that was kept.
      greedy: whether policies take the mode of each distribution instead of a sample.

    Raises:
      ConfigError: the folder holds no run of a two-player game, or one of several games, or no such checkpoint.
    """
    wanted = list_checkpoints(workdir) if tuple(checkpoints) == (ALL,) else list(checkpoints)
    players, teams, env = _load(workdir, wanted)
    anchors = [RANDOM]
    game = teams[0].environment.game
    if game is not None and game.name in KNOWN:
        anchors.append(PERFECT)
    number = {name: len(players) + k for k, name in enumerate(anchors)}
    players += [Contestant(name, None, None, None) for name in anchors]
    wins, draws, played = np.zeros((3, len(players), len(players)), np.int64)
    root = jax.random.key(seed)

    def note(rows: np.ndarray, columns: np.ndarray, found: dict[str, jax.Array]) -> None:
        won, drawn, lost = (np.rint(np.asarray(found[name], np.float64) * games) for name in _ENDS)
        wins[rows, columns], wins[columns, rows] = won, lost
        draws[rows, columns] = draws[columns, rows] = drawn
        played[rows, columns] = played[columns, rows] = won + drawn + lost

    for k, one in enumerate(teams):
        for name, place in number.items():
            keys = _make_keys(root, one.numbers, np.full_like(one.numbers, place))
            note(one.numbers, np.full_like(one.numbers, place), _play_fixed(one, name, keys, games, greedy))
        for other in teams[k:]:
            pairs = [(i, j) for i in range(len(one.numbers)) for j in range(len(other.numbers))]
            pairs = [(i, j) for i, j in pairs if one is not other or i < j]
            if pairs:
                rows, columns = np.array(pairs).T
                keys = _make_keys(root, one.numbers[rows], other.numbers[columns])
                found = _play_pairs(one, other, rows, columns, keys, games, greedy)
                note(one.numbers[rows], other.numbers[columns], found)
    return CrossPlay(env, tuple(players), played, wins, draws)


def list_checkpoints(workdir: StrPath) -> list[int]:
    """Lists the updates of all checkpoints that a run has kept."""
    folders = sorted(Path(workdir).glob("checkpoints/members-*"))
    return sorted({saved.update for folder in folders for saved in list_saved(folder) if not saved.damage})


def _load(workdir: StrPath, checkpoints: Sequence[Checkpoint]) -> tuple[list[Contestant], list[_Team], str]:
    players: list[Contestant] = []
    teams: list[_Team] = []
    env = ""
    if not checkpoints:
        raise ConfigError(f"--workdir {workdir} holds no good checkpoint; train first.")
    for checkpoint in checkpoints:
        for population, state, update in load_states(workdir, checkpoint):
            functions, env = population.functions, population.config.env
            if functions.environment.game is None:
                raise ConfigError(
                    f"--workdir {workdir} is a run of {env}, in which nobody plays against another one; cross-play "
                    "needs a two-player game, such as TicTacToe-haepo."
                )
            if teams and functions.environment.game != teams[0].environment.game:
                raise ConfigError(
                    f"--workdir {workdir} is a run of several games, {teams[0].environment.name} and "
                    f"{functions.environment.name}, or of one of several sizes; those of one game alone can play "
                    "against one another."
                )
            updates = list_policy_updates(population, state, update, checkpoint)
            params = jax.vmap(lambda member, p=population, c=checkpoint: find_policy_params(p, member, c))(state)
            rows = [
                row
                for row, (own, done) in enumerate(zip(population.members, updates, strict=True))
                if done is not None and not any(p.member == own.index and p.update == done for p in players)
            ]
            if not rows:
                continue
            numbers = np.arange(len(players), len(players) + len(rows))
            for row in rows:
                own = population.members[row]
                named = f"member {own.index}" + (f", update {updates[row]}" if len(checkpoints) > 1 else "")
                players.append(Contestant(named, own.index, own.seed, updates[row]))
            kept = jax.tree.map(lambda leaf, r=rows, p=population: p.here(leaf)[r], params)
            same = next((k for k, team in enumerate(teams) if team.config == population.config), None)
            if same is not None:
                team = teams[same]
                joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), team.params, kept)
                teams[same] = team._replace(params=joined, numbers=np.concatenate([team.numbers, numbers]))
                continue
            algorithm = functions.algorithm
            teams.append(
                _Team(population.config, functions.environment, algorithm.policy, functions.horizon, kept, numbers)
            )
    return players, teams, env


def _make_keys(root: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """The key of each pair, which follows from the numbers of its players."""
    fold = jax.vmap(lambda row, column: jax.random.fold_in(jax.random.fold_in(root, row), column))
    return fold(jnp.asarray(rows), jnp.asarray(columns))


def _play_pairs(
    one: _Team, other: _Team, rows: np.ndarray, columns: np.ndarray, keys: jax.Array, games: int, greedy: bool
) -> dict[str, jax.Array]:
    """Plays `one.params[rows]` against `other.params[columns]`; the shares of each end, `[pairs]`."""

    def act(params: Params, carry: Any, key: jax.Array, observation: jax.Array) -> tuple[Any, jax.Array]:
        carry, distribution = other.policy.step(params, carry, observation)
        if greedy:
            return carry, distribution.mode()
        return carry, other.policy.act(distribution, other.policy.noise(key, ()))

    environment = _against(one, Player(other.policy.start, act, ("other",)))

    @jax.jit
    def play_each(own: Params, theirs: Params, pairs: Any) -> dict[str, jax.Array]:
        def play_pair(pair: Any) -> dict[str, jax.Array]:
            row, column, key = pair
            params = jax.tree.map(lambda leaf: leaf[row], own)
            opponent = jax.tree.map(lambda leaf: leaf[column][None], theirs)
            lineup = Lineup(opponent, jnp.array([-jnp.inf, 0.0]))
            return _play(environment, one, params, key, games, greedy, {LINEUP: lineup})

        return jax.lax.map(play_pair, pairs, batch_size=min(_AT_ONCE, len(rows)))

    return jax.device_get(play_each(one.params, other.params, (jnp.asarray(rows), jnp.asarray(columns), keys)))


def _play_fixed(team: _Team, name: str, keys: jax.Array, games: int, greedy: bool) -> dict[str, jax.Array]:
    """Plays all of a team against a player that stays the same; the shares of each end, `[n]`."""
    player, numbers = Player(lambda: (), lambda params, carry, key, seen: (carry, jnp.int32(0)), ()), {}
    if name == PERFECT:
        perfect = make_perfect_player()
        player = Player(lambda: (), lambda params, carry, key, seen: (carry, perfect(seen, key)), (PERFECT,))
        numbers = {LINEUP: Lineup(jnp.zeros(1), jnp.array([-jnp.inf, 0.0]))}
    environment = _against(team, player)

    @jax.jit
    def play_each(params: Params, keys: jax.Array) -> dict[str, jax.Array]:
        return jax.lax.map(
            lambda pair: _play(environment, team, pair[0], pair[1], games, greedy, numbers),
            (params, keys),
            batch_size=min(_AT_ONCE, len(keys)),
        )

    return jax.device_get(play_each(team.params, keys))


def _against(team: _Team, player: Player) -> Environment:
    assert team.environment.game is not None  # `_load` has refused it
    return play_against(team.environment.game, player)


def _play(
    environment: Environment,
    team: _Team,
    params: Params,
    key: jax.Array,
    games: int,
    greedy: bool,
    numbers: dict[str, Any],
) -> dict[str, jax.Array]:
    unroll = EpisodeUnroll(environment, team.policy, params, key, games, team.horizon, numbers, greedy=greedy)
    found = play(unroll).info_metrics
    return {name: found[name].mean() for name in _ENDS}
