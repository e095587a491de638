"""A search by Optuna: it proposes settings in batches, and each batch is run with several seeds in one program.

pip install optuna && python examples/optuna_search.py

Takes about a minute on 2 CPU cores, and compiles once.
"""

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
CONFIG = {"env": "Catch-bsuite", "num_updates": 40, "num_trajectories": 16, "policy": {"hidden_sizes": (32,)}}


def search(rounds: int = 4, batch: int = 8) -> optuna.Study:
    """The study after so many rounds of `batch` settings each."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    population = make_population(from_config_dict(CONFIG | {"num_seeds": batch * len(SEEDS)}))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    for _ in range(rounds):
        trials = [study.ask(SPACE) for _ in range(batch)]
        returns = population.run([trial.params for trial in trials], SEEDS)["episode_return"]
        # A member that diverged has no last return, and its setting is worth the least there is.
        scores = np.nan_to_num(returns[:, :, -10:].mean(axis=(1, 2)), nan=-1.0)
        for trial, score in zip(trials, scores, strict=True):
            study.tell(trial, float(score))
    return study


if __name__ == "__main__":
    best = search().best_trial
    settings = ", ".join(f"{name} {value:.3g}" for name, value in best.params.items())
    print(f"The highest mean return of 32 settings, over {len(SEEDS)} seeds: {best.value:.2f} with {settings}.")
