"""The settings that tests share whose expectations rest on them: batches of 16 episodes, HAEPO at a fixed temperature.

As a config file it gives them to commands: `f"--config={settings.FILE}"`.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from haepo_jax.config import ExperimentConfig, from_config_dict, to_config_dict
from haepo_jax.config.plain_values import plain

FILE = __file__
FIXED: Mapping[str, Any] = {
    "num_trajectories": 16,
    "min_batch_steps": None,
    "exploration": {"persistences": ()},
    "optimizer": {"learning_rate": 3e-3, "schedule": "constant"},
    "haepo": {
        "normalization": "zscore",
        "temperature": 1.0,
        "projection": "reverse",
        "adapt": "fixed",
        "entropy_coef": 5e-3,
        "kl_coef": 5e-3,
        "num_epochs": 4,
        "reference": "previous",
        "history": 0,
    },
}


def add_fixed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the shared settings to others, which stay as they are."""
    given = plain(values)
    for name, value in FIXED.items():
        if isinstance(value, Mapping) and isinstance(given.get(name, {}), Mapping):
            given[name] = {**value, **given.get(name, {})}
        else:
            given.setdefault(name, value)
    return given


def fixed_config(values: Mapping[str, Any]) -> ExperimentConfig:
    """Makes a config of the shared settings and of these, as `from_config_dict` does of the defaults and these."""
    return from_config_dict(add_fixed(values))


def get_config() -> ml_collections.ConfigDict:
    """The shared settings, for a command."""
    return to_config_dict(fixed_config({}))
