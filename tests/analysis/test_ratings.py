"""Ratings of Bradley and Terry: references made by hand, and what games alone do not decide."""

import numpy as np
import pytest
from scipy.optimize import minimize

from haepo_jax.analysis.ratings import ELO, rate


def test_two_players_have_the_odds_of_their_points():
    ratings = rate(np.array([[0, 75], [25, 0]]), prior_games=1e-5)
    np.testing.assert_allclose(ratings.values, [np.log(3) / 2, -np.log(3) / 2], rtol=1e-5)
    assert np.isclose((ratings.values[0] - ratings.values[1]) * ELO, 190.85, atol=0.01)  # of Elo's table for 0.75


def test_the_prior_of_one_game_is_that_of_a_game_drawn_against_a_player_of_rating_0():
    """A player that won its one game: the slope 1 - p + 1/2 - q is 0, by symmetry of the two with p at twice q's."""
    ratings = rate(np.array([[0.0, 1.0], [0.0, 0.0]]))
    value = ratings.values[0]
    chance = 1 / (1 + np.exp(-np.array([2 * value, value])))
    assert np.isclose(1 - chance[0] + 0.5 - chance[1], 0, atol=1e-9) and np.isclose(ratings.values[1], -value)


def test_ratings_are_those_of_the_largest_likelihood():
    points = np.random.default_rng(0).integers(0, 20, (5, 5)).astype(float)
    np.fill_diagonal(points, 0)

    def loss(r):
        wins = sum(points[i, j] * np.log1p(np.exp(r[j] - r[i])) for i in range(5) for j in range(5) if i != j)
        return wins + 0.25 * sum(np.log1p(np.exp(-x)) + np.log1p(np.exp(x)) for x in r)

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(rate(points, prior_games=0.5).values, found.x, atol=1e-5)


def test_a_draw_is_half_a_win_for_both():
    drawn, shared = rate(np.array([[0, 5], [5, 0]])), rate(np.array([[0, 0], [0, 0]]))
    np.testing.assert_allclose(drawn.values, 0, atol=1e-12)
    np.testing.assert_allclose(shared.values, 0, atol=1e-12)
    assert (np.diag(drawn.covariance) < np.diag(shared.covariance)).all()


def test_the_error_of_a_difference_is_that_of_the_odds_between_two_and_knows_no_more_of_the_prior():
    """Of n games at the chance p the logarithm of the odds has the variance 1 / (n p (1 - p)), of random draws too."""
    ratings = rate(np.array([[0, 75], [25, 0]]), prior_games=1e-5)
    above, errors = ratings.compare_with(1)
    np.testing.assert_allclose(above, [np.log(3), 0], atol=1e-5)
    np.testing.assert_allclose(errors, [1 / np.sqrt(100 * 0.75 * 0.25), 0], rtol=1e-4)
    drawn = np.random.default_rng(0).binomial(100, 0.75, 400)
    found = [rate(np.array([[0, won], [100 - won, 0]]), prior_games=1e-5).compare_with(1)[0][0] for won in drawn]
    np.testing.assert_allclose(np.std(found), errors[0], rtol=0.15)
    of_chain = rate(np.array([[0, 8, 0], [2, 0, 5], [0, 5, 0]]), prior_games=1e-5).compare_with(2)[1]
    np.testing.assert_allclose(of_chain[0] ** 2, 1 / 1.6 + 1 / 2.5, rtol=1e-4)  # 0 against 1, and 1 against 2


def test_a_player_without_a_loss_and_players_that_never_met_have_finite_ratings():
    points = np.zeros((4, 4))
    points[0, 1], points[2, 3] = 1000, 10  # two pairs, in each of which one has won everything
    values = rate(points).values
    assert np.isfinite(values).all() and values[0] > values[2] > 0 > values[3] > values[1]
    assert (np.diff([rate(points * share).values[0] for share in (0.01, 0.1, 1.0)]) > 0).all()


def test_nothing_is_learnt_of_games_against_oneself():
    points = np.array([[0.0, 6.0], [2.0, 0.0]])
    np.testing.assert_array_equal(rate(points + np.diag([50.0, 0.0])).values, rate(points).values)


@pytest.mark.parametrize(
    ("points", "prior", "sentence"),
    [
        (np.zeros((2, 3)), 1, r"points must be \[N, N\]"),
        (np.array([[0, -1], [0, 0]]), 1, "at least 0"),
        (np.array([[0, np.nan], [0, 0]]), 1, "finite"),
        (np.zeros((2, 2)), 0, "prior_games must be a number above 0, got 0"),
    ],
)
def test_what_no_games_can_be_is_refused(points, prior, sentence):
    with pytest.raises(ValueError, match=sentence):
        rate(points, prior_games=prior)
