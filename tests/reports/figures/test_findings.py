import numpy as np

from haepo_jax.reports import figures

X = np.arange(4.0)
PPO = figures.Series("PPO", X, np.array([1.0, 2.0, 3.0, np.nan]))
HAEPO = figures.Series("HAEPO", X, np.full(4, np.nan))


def test_curves_are_described_by_where_they_end():
    assert figures.describe(figures.curves, [PPO, HAEPO]) == "PPO ends at 3; HAEPO ends at no value"
    assert figures.describe(figures.panels, [("K = 10", [PPO]), ("", [PPO])]) == "K = 10: PPO ends at 3; PPO ends at 3"


def test_profiles_are_described_by_the_score_that_half_of_the_runs_are_above():
    falling = figures.Series("PPO", X, np.array([1.0, 0.6, 0.4, 0.0]))
    never = figures.Series("GRPO", X, np.full(4, 0.4))
    assert figures.describe(figures.profiles, [falling, never]) == (
        "half of the runs of PPO are above 1; half of the runs of GRPO are below all scores shown"
    )


def test_rows_are_described_by_their_values():
    rows = [("PPO", 12_000.0, 1.0, np.inf), ("GRPO", np.inf, np.inf, np.inf)]
    assert figures.describe(figures.intervals, rows) == "PPO 12,000; GRPO never"
    values = np.array([[1.0, np.nan]])
    assert figures.describe(figures.grouped_intervals, "a", "xy", values, values, values) == "a: x 1, y no value"
    seeds = [("PPO", [3.0, 1.0, np.inf, np.nan]), ("GRPO", [np.nan])]
    assert figures.describe(figures.strip, seeds) == "the median of PPO is 3; the median of GRPO is no value"


def test_a_kind_without_words_has_none():
    assert figures.describe(lambda values: b"", [1.0]) == ""
