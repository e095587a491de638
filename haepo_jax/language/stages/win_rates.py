"""Win rates: how often one policy's answers beat another's, also with the difference in length taken out."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

_RIDGE = 1e-5  # on the slope, so that it stays finite where length decides every comparison


def compute_wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Computes wins `[N]`: 1 where our score is larger, 0 where it is smaller, 1/2 where they are equal."""
    return np.where(ours > theirs, 1.0, np.where(ours < theirs, 0.0, 0.5))


def compute_length_controlled_win_rate(won: np.ndarray, length_difference: np.ndarray) -> float:
    """Computes the win rate that is left where both answers are of one length.

    A logistic regression of the wins on the hyperbolic tangent of the standardised difference in length, read at a
    difference of 0: the length term of Dubois et al. (2024), "Length-controlled AlpacaEval", without its terms for
    models and prompts.

    Args:
      won: `[N]` as of `compute_wins`.
      length_difference: `[N]` our length less theirs, in tokens.

    Returns:
      A share between 0 and 1; the plain win rate where all differences are 0.
    """
    spread = np.sqrt(np.mean(np.square(length_difference)))
    feature = np.tanh(length_difference / spread) if spread > 0 else np.zeros(len(won))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = weights[0] + weights[1] * feature
        residual = expit(logits) - won
        value = np.mean(np.logaddexp(0, logits) - won * logits) + _RIDGE * weights[1] ** 2
        return value, np.array([residual.mean(), (residual * feature).mean() + 2 * _RIDGE * weights[1]])

    return float(expit(minimize(loss, np.zeros(2), jac=True).x[0]))
