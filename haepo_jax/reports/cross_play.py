"""The games of the policies of a run against one another: files of games and ratings, and a figure of both."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet
from rich.table import Table

from haepo_jax.analysis.ratings import ELO, rate
from haepo_jax.errors import StorageError
from haepo_jax.reports.figures.heat_map import heat_map
from haepo_jax.runs.cross_play import PERFECT, RANDOM, CrossPlay
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import write_file
from haepo_jax.text import add_row, make_table

PRIOR_GAMES = 1.0
"""Drawn games of each player besides, against one of rating 0; see `haepo_jax.analysis.ratings`."""
FOLDER, GAMES, RATINGS, FIGURE = "cross_play", "games.parquet", "ratings.parquet", "matrix.svg"


class Rated(NamedTuple):
    """The players of a cross-play by strength."""

    result: CrossPlay
    elo: np.ndarray
    """`[N]`, in Elo points above random play."""
    elo_error: np.ndarray
    """`[N]`, the standard error of that; 0 of random play itself."""

    @property
    def order(self) -> np.ndarray:
        """`[N]`, the strongest first."""
        return np.argsort(-self.elo, kind="stable")


def rate_all(result: CrossPlay) -> Rated:
    """Computes the ratings of all players of a cross-play."""
    ratings = rate(result.points, prior_games=PRIOR_GAMES)
    random = next(k for k, player in enumerate(result.players) if player.name == RANDOM)
    above, errors = ratings.compare_with(random)
    return Rated(result, ELO * above, ELO * errors)


def write(workdir: StrPath, rated: Rated) -> Path:
    """Writes games, ratings and the figure into the folder `cross_play` of a run, and returns its path.

    Raises:
      StorageError: it cannot be written.
    """
    folder = Path(workdir) / FOLDER
    tables = {GAMES: _list_games(rated.result), RATINGS: _list_ratings(rated)}
    try:
        folder.mkdir(exist_ok=True)
        for name, table in tables.items():
            write_file(folder / name, functools.partial(parquet.write_table, table))
        write_file(folder / FIGURE, lambda path: path.write_bytes(draw_matrix(rated)))
    except OSError as error:
        raise StorageError(f"{folder} is not written: {error.strerror}.") from error
    return folder


def _list_games(result: CrossPlay) -> pyarrow.Table:
    """Lists each pair that has played, from both sides."""
    rows, columns = np.nonzero(result.games)
    names = [player.name for player in result.players]
    won, drawn, all_games = (array[rows, columns] for array in (result.wins, result.draws, result.games))
    return pyarrow.table(
        {
            "player": [names[row] for row in rows],
            "opponent": [names[column] for column in columns],
            "games": all_games,
            "wins": won,
            "draws": drawn,
            "losses": all_games - won - drawn,
        }
    )


def _list_ratings(rated: Rated) -> pyarrow.Table:
    """Lists the players, the strongest first."""
    players = [rated.result.players[k] for k in rated.order]
    numbers = {
        name: pyarrow.array([getattr(player, name) for player in players], pyarrow.int64())
        for name in ("member", "seed", "update")
    }
    values = {"elo": rated.elo, "elo_error": rated.elo_error, "points": rated.result.points_of_each}
    return pyarrow.table(
        {"player": [player.name for player in players]}
        | numbers
        | {name: array[rated.order] for name, array in values.items()}
    )


def draw_matrix(rated: Rated) -> bytes:
    """Draws the points of each player a game against each other one, the strongest first, as an SVG."""
    result, order = rated.result, rated.order
    points = np.divide(result.points, result.games, out=np.full(result.points.shape, np.nan), where=result.games > 0)[
        np.ix_(order, order)
    ]
    names = [f"{result.players[k].name} ({rated.elo[k]:+.0f})" for k in order]
    return heat_map(
        points,
        np.zeros(points.shape),
        x_names=names,
        y_names=names,
        x_label="opponent (Elo points above random play)",
        y_label="player",
        value_label="points of the player a game: 1 for a win, a half for a draw",
        failed_label="",
        limits=(0.0, 1.0),
        title=f"Cross-play in {result.env}",
    )


def make_ratings_table(rated: Rated) -> Table:
    """Makes the table of the players, the strongest first, with their ends against those that stay the same."""
    result = rated.result
    anchors = [k for k, player in enumerate(result.players) if player.name in (RANDOM, PERFECT)]
    games, share = int(result.games.max()), result.points_of_each
    headings = ["player", "Elo", "error", "points"]
    headings += [f"won, drawn, lost against {result.players[k].name}" for k in anchors]
    table = make_table(f"{result.env}, {games} games of each pair; Elo points above random play", headings)
    for k in rated.order:
        cells = [result.players[k].name, f"{rated.elo[k]:.0f}", f"{rated.elo_error[k]:.0f}", f"{share[k]:.3f}"]
        add_row(table, cells + [_describe_ends(result, k, anchor) for anchor in anchors])
    return table


def _describe_ends(result: CrossPlay, row: int, column: int) -> str:
    games = result.games[row, column]
    if not games:
        return "-"
    ends = (result.wins[row, column], result.draws[row, column], result.wins[column, row])
    return " ".join(f"{end / games:.1%}" for end in ends)
