"""CartPole-v1: the two regularisers of HAEPO on and off, for each of its three scores at the settings chosen for it.

python -m experiments.sweep --config=configs/sweeps/ablation.py --workdir=runs/ablation

Takes 5 min on 2 CPU cores, 10 s of it to compile three programs. Expect 321 to 372 for score sum (the most without
both), 414 to 417 for mean and 440 to 451 for log_ratio, as interquartile means over seeds of the mean return over
learning: what `python -m experiments.paper` finds in its study of ablations.
"""

import ml_collections

from configs import cartpole
from haepo_jax.config.sweep import with_search

# As `python -m experiments.paper` chose them on its tuning seeds.
_CHOSEN = {
    "sum": {"learning_rate": 1e-2, "entropy_coef": 0.3, "temperature": 4.0},
    "mean": {"learning_rate": 3e-3, "entropy_coef": 5e-3, "temperature": 1.0},
    "log_ratio": {"learning_rate": 1e-2, "entropy_coef": 0.3, "temperature": 8.0},
}
_KL_COEF = 5e-3


def get_config() -> ml_collections.ConfigDict:
    """64 seeds, up to 60 updates of 16 episodes, 150 thousand environment steps each."""
    config = with_search(cartpole.get_config())
    config.num_seeds = 64
    config.num_updates = 60
    config.max_env_steps = 150_000
    config.search.points = tuple(
        {
            "haepo.score": score,
            "optimizer.learning_rate": chosen["learning_rate"],
            "haepo.temperature": chosen["temperature"],
            "haepo.entropy_coef": entropy_coef,
            "haepo.kl_coef": kl_coef,
        }
        for score, chosen in _CHOSEN.items()
        for entropy_coef in (chosen["entropy_coef"], 0.0)
        for kl_coef in (_KL_COEF, 0.0)
    )
    return config
