"""Folders of sweeps of every kind that the page distinguishes."""

import numpy as np
from helpers.made_up_sweeps import (
    ENTROPY,
    RATE,
    RATES,
    SCORE,
    UPDATES,
    grid,
    hump,
    hump_that_diverges,
    write_sweep,
)

ENTROPIES = (0.0, 5e-3, 3e-2)
GRID = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)
SCORES = grid(haepo__score=("sum", "mean", "log_ratio"), optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)


def drawn(count):
    rng = np.random.default_rng(0)
    return [
        {
            RATE: float(10 ** rng.uniform(-4, -1)),
            ENTROPY: float(rng.uniform(0, 0.1)),
            "haepo.temperature": float(10 ** rng.uniform(-1, 1)),
            "haepo.num_epochs": int(rng.integers(1, 9)),
            "policy.hidden_sizes": [[64, 64], [32]][int(rng.integers(2))],
        }
        for _ in range(count)
    ]


DISTRIBUTIONS = {
    RATE: {"log_uniform": [1e-4, 0.1]},
    ENTROPY: {"uniform": [0.0, 0.1]},
    "haepo.temperature": {"log_uniform": [0.1, 10.0]},
    "haepo.num_epochs": {"integer": [1, 8]},
    "policy.hidden_sizes": [[64, 64], [32]],
}


def rows_of_score(member):
    return {"log_ratio": UPDATES, "mean": 12, "sum": 0}[member.settings[SCORE]]


FOLDERS = {
    "grid": lambda folder: write_sweep(folder, GRID, hump_that_diverges, seeds=6),
    "random": lambda folder: write_sweep(
        folder, drawn(40), hump, seeds=2, num_samples=40, sweep=DISTRIBUTIONS, fixed=["policy.hidden_sizes"]
    ),
    "running": lambda folder: write_sweep(
        folder, SCORES, hump_that_diverges, seeds=3, fixed=[SCORE], rows=rows_of_score, complete=False
    ),
    "one setting": lambda folder: write_sweep(
        folder, grid(optimizer__learning_rate=RATES), hump_that_diverges, seeds=6, max_env_steps=2000
    ),
    "one value": lambda folder: write_sweep(folder, grid(optimizer__learning_rate=(3e-3,)), hump, seeds=2),
}
