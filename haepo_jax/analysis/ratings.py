"""Ratings of players by the games that they played against one another: Bradley and Terry's (1952).

A player of rating r_i scores against one of rating r_j with the probability 1 / (1 + exp(r_j - r_i)); a draw counts as
half a win for both. The ratings are those of the largest likelihood.

Games alone do not decide all of it: only differences of ratings count, two sets of players that never met have no
difference, and a player that has won all its games would have no finite rating. So each player has a stated number of
games besides, all drawn, against one of rating 0. That is a prior that is symmetric around 0, it makes the maximum one
finite point, and it counts for less the more games there are.
"""

from typing import NamedTuple

import numpy as np

ELO = 400 / np.log(10)
"""Elo points of a rating of 1, in the convention in which 400 points are odds of ten to one."""
_MOST_STEPS = 100
_NEAR = 1e-10  # the largest slope at the maximum, in games


class Ratings(NamedTuple):
    """Ratings of N players, natural logarithms of odds."""

    values: np.ndarray
    """`[N]` float64."""
    covariance: np.ndarray
    """`[N, N]` float64, of the curvature at the maximum."""

    def compare_with(self, player: int) -> tuple[np.ndarray, np.ndarray]:
        """Computes how far each player is above one of them, and the standard error of that, both `[N]`.

        The error of a difference is not that of a rating: how far all of them are from 0 is known by the prior alone.
        """
        spread = np.diag(self.covariance)
        variances = spread + spread[player] - 2 * self.covariance[player]
        return self.values - self.values[player], np.sqrt(np.maximum(variances, 0))


def rate(points: np.ndarray, *, prior_games: float = 1.0) -> Ratings:
    """Computes the ratings of players.

    Args:
      points: `[N, N]`, the wins of row against column, and half of their draws.
      prior_games: drawn games of each player against one of rating 0, above 0.

    Returns:
      `Ratings`, by Newton's method in float64.

    Raises:
      ValueError: points that are no square of finite numbers of at least 0, or no prior.

    Example:
      >>> ratings = rate(np.array([[0.0, 30.0], [10.0, 0.0]]), prior_games=1e-6)
      >>> difference = ratings.values[0] - ratings.values[1]
      >>> round(float(np.exp(difference)), 3)  # odds of three to one
      3.0
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[0] != points.shape[1] or not points.size:
        raise ValueError(f"points must be [N, N], a row and a column for each player, not {list(points.shape)}.")
    if not np.isfinite(points).all() or (points < 0).any():
        raise ValueError("points must be finite numbers of at least 0.")
    if not 0 < prior_games < np.inf:
        raise ValueError(f"prior_games must be a number above 0, got {prior_games}.")
    points = points - np.diag(np.diag(points))  # against oneself nothing is learnt
    games = points + points.T

    def evaluate(ratings: np.ndarray) -> float:
        """The logarithm of the likelihood."""
        expected = _log_odds_to_log_chance(ratings[:, None] - ratings[None])
        of_prior = _log_odds_to_log_chance(ratings) + _log_odds_to_log_chance(-ratings)
        return float((points * expected).sum() + prior_games / 2 * of_prior.sum())

    def differentiate(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slope `[N]`, and the curvature `[N, N]`, which is positive definite."""
        chances = np.exp(_log_odds_to_log_chance(ratings[:, None] - ratings[None]))
        of_prior = np.exp(_log_odds_to_log_chance(ratings))
        slope = (points - games * chances).sum(axis=1) + prior_games * (0.5 - of_prior)
        spread = games * chances * (1 - chances)
        return slope, np.diag(spread.sum(axis=1) + prior_games * of_prior * (1 - of_prior)) - spread

    ratings = np.zeros(len(points))
    for _ in range(_MOST_STEPS):
        slope, curvature = differentiate(ratings)
        if np.abs(slope).max() <= _NEAR * max(1.0, games.max()):
            break
        step, share, before = np.linalg.solve(curvature, slope), 1.0, evaluate(ratings)
        while evaluate(ratings + share * step) < before and share > 1e-12:  # Newton alone may go too far
            share /= 2
        ratings = ratings + share * step
    return Ratings(ratings, np.linalg.inv(differentiate(ratings)[1]))


def _log_odds_to_log_chance(odds: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -odds)
