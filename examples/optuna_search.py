"""A search with Optuna: it proposes settings in batches, and each batch trains with several seeds in one program.

pip install optuna && python examples/optuna_search.py

Takes about a minute on 2 CPU cores, and compiles once.
"""

import operator
from typing import Any

import jax
import numpy as np
import optuna

from haepo_jax.config import from_config_dict
from haepo_jax.population import make_population

SEEDS = range(4)
SPACE = {
    "optimizer.learning_rate": optuna.distributions.FloatDistribution(1e-4, 3e-2, log=True),
    "haepo.entropy_coef": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
    "haepo.temperature": optuna.distributions.FloatDistribution(0.5, 16.0, log=True),
}
CONFIG = {
    "env": "Catch-bsuite",
    "num_updates": 40,
    "num_trajectories": 16,
    "policy": {"hidden_sizes": (32,)},
    # As the default finds the target's sharpness by itself, where entropy_coef would have nothing to say.
    "haepo": {"adapt": "fixed"},
}


def search(rounds: int = 4, batch: int = 8) -> tuple[optuna.Study, Any]:
    """Searches in `rounds` batches of settings; returns the study, and the parameters of its best setting by seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    population = make_population(from_config_dict(CONFIG | {"num_seeds": batch * len(SEEDS)}))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    best: tuple[float, Any] = (-np.inf, None)
    for _ in range(rounds):
        trials = [study.ask(SPACE) for _ in range(batch)]
        trained = population.run([trial.params for trial in trials], SEEDS)
        # A member that diverged has no last return: its setting scores the least that Catch gives.
        scores = np.nan_to_num(trained["episode_return"][:, :, -10:].mean(axis=(1, 2)), nan=-1.0)
        for trial, score in zip(trials, scores, strict=True):
            study.tell(trial, float(score))
        top = int(scores.argmax())
        if scores[top] > best[0]:
            best = scores[top], jax.tree.map(operator.itemgetter(top), trained.params)
    return study, best[1]


if __name__ == "__main__":
    study, params = search()
    settings = ", ".join(f"{name} {value:.3g}" for name, value in study.best_trial.params.items())
    size = sum(leaf[0].size for leaf in jax.tree.leaves(params))
    print(
        f"The highest mean return of 32 settings, over {len(SEEDS)} seeds: {study.best_value:.2f} with {settings}. "
        f"Its policies are kept, {size:,} numbers for each seed."
    )
