"""The methods of the study: HAEPO whose segments compete, and PPO, with equally many settings to choose from.

Both step 64 environments, as many as gymnax's PPO on MinAtar, for 128 steps an update, and learn from them in 4
epochs. An epoch has as many minibatches as serve each best on tuning seeds of Breakout-MinAtar, 4 or 8, and HAEPO's
share of the effective sample size was chosen there of 0.5, 0.7 and 0.9.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import STATED, Method
from haepo_jax.config import ExperimentConfig
from haepo_jax.fields import leaves

SETTINGS_PER_METHOD = 9
_make_method = functools.partial(Method, num_settings=SETTINGS_PER_METHOD)
_LEARNING_RATES = (2e-3, 5e-3, 1e-2)
_LAMBDAS = (0.8, 0.9, 0.95)
NUM_STEPS = 128
LENGTH = "haepo.segment_length"

_DEFAULTS: Mapping[str, Any] = {
    name: value for name, value, _ in leaves(ExperimentConfig()) if name in ("algorithm", "num_trajectories", *STATED)
}
_BOTH: Mapping[str, Any] = {
    "exploration.persistences": (),
    "optimizer.schedule": "linear",
    "num_trajectories": 64,
    "min_batch_steps": None,
    "discount": 0.99,
    "policy.activation": "relu",
}
HAEPO = _make_method(
    name="haepo",
    label="HAEPO with segments",
    base={
        **_DEFAULTS,  # what segments do not read
        **_BOTH,
        "algorithm": "haepo",
        LENGTH: 1,
        "haepo.num_steps": NUM_STEPS,
        "haepo.num_epochs": 4,
        "haepo.num_minibatches": 4,
        "haepo.bootstrap": "value",
        "haepo.target_effective_sample_size": 0.7,
        "haepo.value_coef": 0.5,
        "haepo.policy_entropy_coef": 0.01,
        "haepo.group_by": "minibatch",
        "haepo.score": "log_ratio",
        "haepo.normalization": "zscore",
        "haepo.segment_adapt": "dual",
        "haepo.segment_projection": "reverse",
        "haepo.segment_temperature": 1.0,
        "haepo.reference": "none",
        "haepo.kl_coef": 0.0,
    },
    grid={"optimizer.learning_rate": _LEARNING_RATES, "haepo.gae_lambda": _LAMBDAS},
)
PPO = _make_method(
    name="ppo",
    label="PPO",
    base={
        **_BOTH,
        "algorithm": "ppo",
        "ppo.num_steps": NUM_STEPS,
        "ppo.num_epochs": 4,
        "ppo.num_minibatches": 8,
        "ppo.value_coef": 0.5,
        "ppo.entropy_coef": 0.01,
    },
    grid={"optimizer.learning_rate": _LEARNING_RATES, "ppo.gae_lambda": _LAMBDAS},
)
METHODS = (HAEPO, PPO)

DEFAULT = Method(name="haepo", label="HAEPO", base=_DEFAULTS, grid={}, num_settings=1)
"""HAEPO as the default config has it, from whole episodes."""


def change(method: Method, name: str, label: str, **changes: Any) -> Method:
    """Makes a method of another that differs in these settings, by dotted name (dots as they are)."""
    return dataclasses.replace(method, name=name, label=label, base={**method.base, **changes})


REMEMBERING = dataclasses.replace(
    change(
        HAEPO,
        HAEPO.name,
        HAEPO.label,
        **{
            "num_trajectories": 16,
            "optimizer.learning_rate": 2e-3,
            "haepo.gae_lambda": 0.95,
            "haepo.target_effective_sample_size": 0.5,
        },
    ),
    grid={},
    num_settings=1,
)
"""HAEPO with segments on a task of short episodes, with more updates of fewer steps; nothing of it was tuned."""
