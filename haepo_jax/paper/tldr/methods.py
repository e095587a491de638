"""The methods that are compared on summaries, each with the same number of settings to choose from.

What a method may tune is its own learning rate and the coefficients that its literature tunes; model, data, reward
model, sampling and the penalties on the reward are the same for all.
"""

from haepo_jax.paper.methods import Method


def _haepo(score: str, entropy_coefs: tuple[float, float], temperatures: tuple[float, float]) -> Method:
    return Method(
        name=f"haepo_{score}",
        label=f"HAEPO, {score}",
        base={"algorithm": "haepo", "haepo.score": score},
        grid={
            "rl.optimizer.learning_rate": (3e-4, 1e-3),
            "haepo.entropy_coef": entropy_coefs,
            "haepo.temperature": temperatures,
        },
    )


HAEPO = {
    "sum": _haepo("sum", (5e-3, 0.3), (1.0, 4.0)),
    "mean": _haepo("mean", (5e-3, 0.3), (1.0, 4.0)),
    "log_ratio": _haepo("log_ratio", (5e-3, 0.3), (1.0, 8.0)),
}
GRPO = Method(
    name="grpo",
    label="GRPO",
    base={"algorithm": "grpo"},
    grid={
        "rl.optimizer.learning_rate": (3e-4, 1e-3),
        "grpo.clip_epsilon": (0.2, 0.5),
        "grpo.kl_coef": (0.0, 5e-3),
    },
)
RLOO = Method(
    name="rloo",
    label="RLOO",
    base={"algorithm": "rloo"},
    grid={"rl.optimizer.learning_rate": (3e-5, 1e-4, 2e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3)},
)
DPO = Method(
    name="dpo",
    label="DPO",
    # As many responses an update as the others sample.
    base={"algorithm": "dpo", "rl.num_prompts": 32},
    grid={
        "rl.optimizer.learning_rate": (3e-4, 1e-3),
        "dpo.beta": (0.05, 0.1, 0.2, 0.5),
    },
)
BASELINES = (GRPO, RLOO, DPO)
METHODS = (*HAEPO.values(), *BASELINES)
