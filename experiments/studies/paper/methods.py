"""The methods that are compared, with the settings that each may choose from.

What a method may tune is its own learning rate and the coefficients that its literature tunes; everything else is at
its usual value. The network, the optimiser and M are the same for all, and so is the number of settings, but for the
paper's own form: the claims are judged by it, and no smaller share of its range is tried for that.
"""

import dataclasses
import functools

from experiments.studies.methods import Method

SETTINGS_PER_METHOD = 8
_make_method = functools.partial(Method, num_settings=SETTINGS_PER_METHOD)

_HAEPO = {
    "algorithm": "haepo",
    "haepo.adapt": "fixed",
    "haepo.projection": "reverse",
    "haepo.reference": "previous",
}
"""Stated, so that no default decides what is judged."""
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
BETAS = (5e-5, 5e-4, 5e-3, 1e-2)
"""From one end of the paper's range to the other."""
SETTINGS_OF_PAPER = 48
"""Sixteen of the paper's range and temperatures, each with three learning rates: larger ones, as one step wants."""


def _paper(name: str, label: str, normalization: str) -> Method:
    return Method(
        name=name,
        label=label,
        base=_HAEPO | {"haepo.score": "sum", "haepo.normalization": normalization, "haepo.num_epochs": 1},
        grid={"optimizer.learning_rate": LEARNING_RATES, "haepo.temperature": (1.0, 4.0)},
        num_settings=SETTINGS_OF_PAPER,
        cases=tuple({"haepo.entropy_coef": (beta,), "haepo.kl_coef": (beta, 0.0)} for beta in BETAS),
        patience=2,
    )


PAPER = _paper("haepo_paper", "HAEPO, paper's form", "sum")
"""HAEPO as the paper has it, by which its claims are judged."""
PAPER_ZSCORED = _paper("haepo_paper_zscored", "HAEPO, paper's form, z-scored", "zscore")
"""The same with the paper's other normalisation, which it has for long horizons and rewards that are rare."""
PAPER_FORM = (
    f"score sum, returns divided by their sum, beta of {BETAS[0]:g} to {BETAS[-1]:g}, lambda 0 or beta, one gradient "
    "step a batch"
)
"""What is known of the paper's form, in words."""


def _haepo(score: str, entropy_coefs: tuple[float, float], temperatures: tuple[float, float]) -> Method:
    return _make_method(
        name=f"haepo_{score}",
        label=f"HAEPO, {score}",
        base=_HAEPO
        | {"haepo.score": score, "haepo.normalization": "zscore", "haepo.num_epochs": 4, "haepo.kl_coef": 5e-3},
        grid={
            "optimizer.learning_rate": (3e-3, 1e-2),
            "haepo.entropy_coef": entropy_coefs,
            "haepo.temperature": temperatures,
        },
    )


HAEPO = {
    "sum": _haepo("sum", (5e-3, 0.3), (1.0, 4.0)),
    "mean": _haepo("mean", (5e-3, 0.3), (1.0, 4.0)),
    # The entropy term holds log-ratios to about temperature / entropy_coef nats a unit of return:
    # docs/experiments/cartpole_race_settings.md.
    "log_ratio": _haepo("log_ratio", (0.1, 0.3), (8.0, 32.0)),
}
PPO = _make_method(
    name="ppo",
    label="PPO",
    base={"algorithm": "ppo", "discount": 0.99},
    grid={
        "optimizer.learning_rate": (1e-3, 3e-3),
        "ppo.gae_lambda": (0.8, 0.95),
        "ppo.entropy_coef": (0.0, 0.01),
    },
)
PPO_10_EPOCHS = dataclasses.replace(
    PPO, name="ppo_10_epochs", label="PPO, 10 epochs", base={**PPO.base, "ppo.num_epochs": 10}
)
GRPO = _make_method(
    name="grpo",
    label="GRPO",
    base={"algorithm": "grpo"},
    grid={
        "optimizer.learning_rate": (3e-3, 1e-2),
        "grpo.clip_epsilon": (0.2, 0.5),
        "grpo.kl_coef": (0.0, 5e-3),
    },
)
DPO = _make_method(
    name="dpo",
    label="DPO",
    base={"algorithm": "dpo"},
    grid={
        "optimizer.learning_rate": (3e-3, 1e-2),
        "dpo.beta": (0.03, 0.1, 0.3, 1.0),
    },
)
REINFORCE = _make_method(
    name="reinforce",
    label="REINFORCE",
    base={"algorithm": "reinforce"},
    grid={"optimizer.learning_rate": (1e-3, 2e-3, 3e-3, 6e-3, 1e-2, 2e-2, 3e-2, 6e-2)},
)
BASELINES = (PPO, GRPO, DPO, REINFORCE)
METHODS = (PAPER, PAPER_ZSCORED, *HAEPO.values(), *BASELINES)
