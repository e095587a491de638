"""The methods for teams, each with as many settings to choose from: HAEPO in four forms, IPPO and MAPPO."""

import functools
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import Method
from experiments.studies.segments.methods import DEFAULT, change

SETTINGS_PER_METHOD = 6
_make_method = functools.partial(Method, num_settings=SETTINGS_PER_METHOD)
_LEARNING_RATES = (1e-3, 3e-3, 1e-2)

_ALL: Mapping[str, Any] = {
    "exploration.persistences": (),
    "optimizer.schedule": "linear",
    "agents.networks": "shared",
    "agents.sees_number": True,
}
_OF_SHARPNESS = {"haepo.target_effective_sample_size": (0.5, 0.8)}
JOINT = _make_method(
    name="joint",
    label="joint HAEPO",
    base={
        **_ALL,
        "algorithm": "haepo",
        "haepo.joint": "joint",
        "haepo.score": "log_ratio",
        "haepo.temperature": 4.0,
        "haepo.projection": "forward",
        "haepo.target": "linear",
        "haepo.adapt": "ess",
        "haepo.reference": "none",
        "haepo.kl_coef": 0.0,
    },
    grid={"optimizer.learning_rate": _LEARNING_RATES, **_OF_SHARPNESS},
)
"""As the default config has it, but that no earlier batch competes again: a group is an update's episodes."""
OWN = change(JOINT, "own", "own HAEPO", **{"haepo.joint": "own"})
SUM = change(JOINT, "joint_sum", "joint HAEPO, score sum", **{"haepo.score": "sum"})
"""The paper's score: a team's log-likelihood grows with its agents."""
SEGMENTS = _make_method(
    name="segments",
    label="HAEPO with segments",
    base={
        **_ALL,
        "algorithm": "haepo",
        "discount": 0.99,
        "haepo.segment_length": 1,
        "haepo.num_epochs": 4,
        "haepo.num_minibatches": 4,
        "haepo.bootstrap": "value",
        "haepo.gae_lambda": 0.95,
        "haepo.policy_entropy_coef": 0.01,
        "haepo.score": "log_ratio",
        "haepo.reference": "none",
        "haepo.kl_coef": 0.0,
    },
    grid={"optimizer.learning_rate": _LEARNING_RATES, **_OF_SHARPNESS},
)
IPPO = _make_method(
    name="ippo",
    label="IPPO",
    base={
        **_ALL,
        "algorithm": "ppo",
        "discount": 0.99,
        "ppo.num_epochs": 4,
        "ppo.num_minibatches": 4,
        "ppo.value_coef": 0.5,
        "ppo.entropy_coef": 0.01,
    },
    grid={"optimizer.learning_rate": _LEARNING_RATES, "ppo.gae_lambda": (0.8, 0.95)},
)
MAPPO = change(IPPO, "mappo", "MAPPO", **{"ppo.critic_sees": "all"})

RANKINGS = (JOINT, OWN, SUM)
"""Those whose trajectories compete."""
ON_SIGNALS = (*RANKINGS, IPPO, MAPPO)
ON_SPREAD = (JOINT, SEGMENTS, IPPO, MAPPO)
_RIDDLE_STEPS: Mapping[str, Any] = {
    "num_trajectories": 128,
    "min_batch_steps": None,
    "optimizer.learning_rate": 1e-2,
    "optimizer.schedule": "linear",
}
SEGMENTS_ON_RIDDLE = change(
    DEFAULT,
    "segments",
    SEGMENTS.label,
    **{
        **_RIDDLE_STEPS,
        "haepo.segment_length": 1,
        "haepo.num_steps": 6,
        "haepo.bootstrap": "value",
        "haepo.critic_sees": "all",
        "haepo.target_effective_sample_size": 0.8,
        "haepo.policy_entropy_coef": 0.01,
    },
)
"""As configs/switch_riddle.py: chosen on seeds from 1000 up (docs/agents.md)."""
JOINT_ON_RIDDLE = change(
    DEFAULT,
    "joint",
    JOINT.label,
    **{
        "num_trajectories": 64,
        "min_batch_steps": 2048,
        "haepo.joint": "joint",
        "haepo.history": 0,
        "haepo.target_effective_sample_size": 0.8,
        "exploration.persistences": (),
    },
)
"""Whole episodes, chosen by hand among those of docs/decisions/who_is_outside_the_room.md, on seeds from 1000 up."""
MAPPO_ON_RIDDLE = Method(
    name="mappo",
    label=MAPPO.label,
    base={
        **_RIDDLE_STEPS,
        "algorithm": "ppo",
        "ppo.num_steps": 6,
        "ppo.critic_sees": "all",
        "ppo.entropy_coef": 0.01,
    },
    grid={},
    num_settings=1,
)
ON_RIDDLE = (SEGMENTS_ON_RIDDLE, JOINT_ON_RIDDLE, MAPPO_ON_RIDDLE)
"""The first is what the riddle's target is about."""
