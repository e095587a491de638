"""The methods that are compared on puzzles, each with the same number of settings to choose from.

All that a method does not choose is as its paper or its section of the config has it. What it may choose is its
learning rate and, where there is one that its literature tunes, a coefficient. Model, puzzles, rewards and sampling
are the same for all.
"""

from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import Grid, Method

SETTINGS_PER_METHOD = 4
RATE = "rl.optimizer.learning_rate"
_TWO_RATES: Grid = {RATE: (2e-4, 5e-4)}
_FOUR_RATES: Grid = {RATE: (1e-4, 2e-4, 4e-4, 8e-4)}
"""At first, as it falls to 0. At 1e-3 all along DAPO and HAEPO solve less than before."""


def _make(
    name: str, label: str, algorithm: str, grid: Grid = _FOUR_RATES, cases: tuple[Grid, ...] = ({},), **base: Any
) -> Method:
    settings = {"algorithm": algorithm} | {f"{algorithm}.{field}": value for field, value in base.items()}
    return Method(name, label, settings, grid, SETTINGS_PER_METHOD, cases)


HAEPO = _make(
    "haepo_dual",
    "HAEPO, dual",
    "haepo",
    {**_TWO_RATES, "haepo.target_kl": (0.1, 1.0)},
    score="log_ratio",
    adapt="dual",
    # Where the multipliers begin; the defaults of fixed ones are far from where they stay.
    entropy_coef=0.1,
    kl_coef=0.1,
)
"""Adaptive: both multipliers move while it learns."""
DAPO = _make("dapo", "DAPO", "dapo")
"""GRPO with DAPO's settings: the rival to be at or above."""
_OTHER_HAEPO = (
    _make(
        "haepo_ess",
        "HAEPO, ess",
        "haepo",
        {**_TWO_RATES, "haepo.target_effective_sample_size": (0.5, 0.8)},
        score="log_ratio",
        adapt="ess",
        projection="forward",
        kl_coef=0.0,
    ),
    _make(
        "haepo_fixed",
        "HAEPO, fixed",
        "haepo",
        {**_TWO_RATES, "haepo.kl_coef": (5e-3, 0.1)},
        score="log_ratio",
    ),
)
_OF_STEPS = (
    _make("grpo", "GRPO", "grpo", {**_TWO_RATES, "grpo.kl_coef": (0.0, 0.04)}),
    _make("dr_grpo", "Dr. GRPO", "dr_grpo"),
    _make("cispo", "CISPO", "cispo"),
    _make("sapo", "SAPO", "sapo"),
    _make("reinforce_plus_plus", "REINFORCE++", "reinforce_plus_plus"),
    _make("maxrl", "MaxRL", "maxrl"),
)
_OF_RESPONSES = (
    _make(
        "gspo",
        "GSPO",
        "gspo",
        _TWO_RATES,
        # The paper's bounds, and ones that leave a small model's second epoch something to do.
        tuple({"gspo.clip_low": (low,), "gspo.clip_high": (high,)} for low, high in ((3e-4, 4e-4), (0.03, 0.04))),
    ),
    _make("gmpo", "GMPO", "gmpo"),
    _make("vespo", "VESPO", "vespo"),
    _make("rloo", "RLOO", "rloo"),
    _make("gvpo", "GVPO", "gvpo", {**_TWO_RATES, "gvpo.beta": (0.1, 1.0)}),
    _make("listwise", "listwise", "listwise", {**_TWO_RATES, "listwise.beta": (0.1, 1.0)}),
    _make("vmpo", "V-MPO", "vmpo", {**_TWO_RATES, "vmpo.temperature_bound": (0.1, 0.5)}),
)
METHODS = (HAEPO, *_OTHER_HAEPO, DAPO, *_OF_STEPS, *_OF_RESPONSES)
COMPARED = tuple(method for method in METHODS if method.name in ("haepo_dual", "haepo_ess", "dapo", "grpo"))
"""Those of a study that takes an hour and a half; all of them take four times as long."""
PANELS: Mapping[str, tuple[Method, ...]] = {
    "HAEPO": (HAEPO, *_OTHER_HAEPO, DAPO),
    "ratios of tokens": (HAEPO, DAPO, *_OF_STEPS),
    "ratios of responses": (HAEPO, DAPO, *_OF_RESPONSES),
}
"""What is drawn together."""
