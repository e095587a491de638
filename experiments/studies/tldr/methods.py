"""The methods that are compared on summaries, each with the same number of settings to choose from.

What a method may tune is its own learning rate and the coefficients that its literature tunes; model, data, reward
model, sampling and the penalties on the reward are the same for all.
"""

from experiments.studies.methods import Method

SETTINGS_PER_METHOD = 4


def _method(name: str, label: str, base: dict, grid: dict[str, tuple[float, ...]]) -> Method:
    return Method(name, label, base, grid, SETTINGS_PER_METHOD)


def _haepo(score: str, grid: dict[str, tuple[float, ...]]) -> Method:
    return _method(f"haepo_{score}", f"HAEPO, {score}", {"algorithm": "haepo", "haepo.score": score}, grid)


HAEPO = {
    # Without a higher temperature a single response has all the weight: docs/experiments/tldr_settings.md.
    "sum": _haepo("sum", {"haepo.temperature": (1.0, 8.0), "haepo.kl_coef": (5e-3, 0.1)}),
    "mean": _haepo("mean", {"rl.optimizer.learning_rate": (3e-4, 6e-4), "haepo.kl_coef": (5e-3, 0.1)}),
    "log_ratio": _haepo("log_ratio", {"rl.optimizer.learning_rate": (3e-4, 6e-4), "haepo.kl_coef": (0.1, 0.5)}),
}
GRPO = _method(
    "grpo",
    "GRPO",
    {"algorithm": "grpo"},
    {"rl.optimizer.learning_rate": (3e-4, 6e-4), "grpo.kl_coef": (5e-3, 0.15)},
)
RLOO = _method("rloo", "RLOO", {"algorithm": "rloo"}, {"rl.optimizer.learning_rate": (1.5e-4, 3e-4, 6e-4, 1.2e-3)})
DPO = _method(
    "dpo",
    "DPO",
    {"algorithm": "dpo", "rl.num_prompts": 32},  # as many responses an update as the others sample
    {"rl.optimizer.learning_rate": (3e-4, 1e-3), "dpo.beta": (0.1, 0.5)},
)
BASELINES = (GRPO, RLOO, DPO)
METHODS = (*HAEPO.values(), *BASELINES)
