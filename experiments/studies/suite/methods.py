"""The methods of the suite, each with the same number of settings to choose from.

A method may tune its learning rate and the coefficients that its literature tunes, all of them numbers of one compiled
program. Network and optimiser are the same for all, and none is set for a task.
"""

import functools
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import STATED, Method
from haepo_jax.config import ExperimentConfig
from haepo_jax.fields import leaves

SETTINGS_PER_METHOD = 8
_make_method = functools.partial(Method, num_settings=SETTINGS_PER_METHOD)

# Whatever HAEPO's defaults are, its rivals have what is named here. The schedule is HAEPO's.
_AS_IT_WAS: Mapping[str, Any] = {"exploration.persistences": (), "optimizer.schedule": "constant"}
_PLAIN: Mapping[str, Any] = {"exploration.persistences": (), "optimizer.schedule": "linear"}
# As many steps as PPO takes, 8 environments of 128 steps.
_EPISODES: Mapping[str, Any] = {**_PLAIN, "num_trajectories": 16, "min_batch_steps": 1024}
_LEARNING_RATES = (1e-3, 2e-3, 3e-3, 6e-3, 1e-2, 2e-2, 3e-2, 6e-2)

_DEFAULTS = {name: value for name, value, _ in leaves(ExperimentConfig())}
# The default config, and around it. What is chosen from is not taken from there: the choice decides the default.
_HAEPO_GRID: Mapping[str, tuple[float, ...]] = {
    "optimizer.learning_rate": (3e-3, 6e-3),
    "haepo.temperature": (4.0, 8.0),
    "haepo.target_effective_sample_size": (0.5, 0.7),
}
HAEPO = _make_method(
    name="haepo",
    label="HAEPO adaptive",
    base={name: _DEFAULTS[name] for name in ("algorithm", "num_trajectories", *STATED) if name not in _HAEPO_GRID},
    grid=_HAEPO_GRID,
)
FIXED_HAEPO = _make_method(
    name="haepo_fixed",
    label="HAEPO as it was",
    # The settings of configs/cartpole.py, and around them.
    base={
        **_AS_IT_WAS,
        "num_trajectories": 16,
        "min_batch_steps": None,
        "algorithm": "haepo",
        "haepo.score": "log_ratio",
        "haepo.adapt": "fixed",
        "haepo.projection": "reverse",
        "haepo.history": 0,
        "haepo.normalization": "zscore",
        "haepo.num_epochs": 4,
        "haepo.kl_coef": 5e-3,
        "haepo.reference": "previous",
    },
    grid={
        "optimizer.learning_rate": (1e-3, 3e-3),
        "haepo.entropy_coef": (0.1, 0.3),
        "haepo.temperature": (4.0, 16.0),
    },
)
PPO = _make_method(
    name="ppo",
    label="PPO",
    base={
        **_PLAIN,
        "num_trajectories": 8,
        "min_batch_steps": None,
        "algorithm": "ppo",
        "ppo.num_steps": 128,
        "discount": 0.99,
    },
    grid={
        "optimizer.learning_rate": (1e-3, 3e-3),
        "ppo.gae_lambda": (0.8, 0.95),
        "ppo.entropy_coef": (0.0, 0.01),
    },
)
GRPO = _make_method(
    name="grpo",
    label="GRPO",
    base={**_EPISODES, "algorithm": "grpo"},
    grid={
        "optimizer.learning_rate": (3e-3, 1e-2),
        "grpo.clip_epsilon": (0.2, 0.5),
        "grpo.kl_coef": (0.0, 5e-3),
    },
)
RLOO = _make_method(
    name="rloo",
    label="RLOO",
    base={**_EPISODES, "algorithm": "rloo"},
    grid={"optimizer.learning_rate": _LEARNING_RATES},
)
DPO = _make_method(
    name="dpo",
    label="DPO",
    base={**_EPISODES, "algorithm": "dpo"},
    grid={"optimizer.learning_rate": (3e-3, 1e-2), "dpo.beta": (0.03, 0.1, 0.3, 1.0)},
)
REINFORCE = _make_method(
    name="reinforce",
    label="REINFORCE",
    base={**_EPISODES, "algorithm": "reinforce"},
    grid={"optimizer.learning_rate": _LEARNING_RATES},
)
RIVALS = (FIXED_HAEPO, PPO, GRPO, RLOO, DPO, REINFORCE)
METHODS = (HAEPO, *RIVALS)
