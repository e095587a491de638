"""JaxMARL's own IPPO on simple spread or on the switch riddle, beside which `experiments.agents` sets ours.

Its baselines are in no package, so this runs beside a checkout of it, in an environment of its own:

    python3.12 -m venv .venv/jaxmarl
    .venv/jaxmarl/bin/pip install jaxmarl==0.2.0 optax distrax hydra-core omegaconf wandb
    git clone https://github.com/FLAIROx/JaxMARL
    .venv/jaxmarl/bin/python examples/peers/jaxmarl_ippo.py JaxMARL mpe > spread.json
    python -m experiments.agents --workdir=runs/agents --baseline=spread.json

It prints a JSON object: the return of each seed over the last tenth of its updates, the mean over agents. Settings are
those of JaxMARL's own config, but for the environment steps and the seeds.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

END = 10  # the last tenth of the updates


class Benchmark(NamedTuple):
    """What differs between the two."""

    seeds: int
    counts_agents: bool
    """Whether TOTAL_TIMESTEPS are those of all agents together, rather than of environments."""
    logs_times_agents: bool
    """Whether the returns that it logs are multiplied by the agents."""


BENCHMARKS = {"mpe": Benchmark(8, False, True), "switch_riddle": Benchmark(16, True, False)}


def final_returns(logged: np.ndarray, scale: float) -> list[float]:
    """Averages what was logged over the last tenth of the updates.

    Args:
      logged: `[seeds, updates, ...]` returns of the newest ended episodes.
      scale: what they are divided by.
    """
    by_update = logged.reshape(*logged.shape[:2], -1).mean(axis=-1)
    last = max(1, by_update.shape[1] // END)
    return [float(value) / scale for value in by_update[:, -last:].mean(axis=1)]


def main() -> None:
    """Trains, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of a checkout of JaxMARL")
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--seeds", type=int, help="seeds that are trained at once")
    parser.add_argument("--env_steps", type=int, default=1_000_000, help="environment steps of a seed")
    arguments = parser.parse_args()

    import jax  # only now: they are not there where this file is tested
    import jax.experimental
    import jaxmarl
    import wandb
    from omegaconf import OmegaConf

    benchmark, folder = BENCHMARKS[arguments.benchmark], arguments.checkout / "baselines" / "IPPO"
    name = f"ippo_ff_{arguments.benchmark}"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    baseline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(baseline)
    config = OmegaConf.to_container(OmegaConf.load(folder / "config" / f"{name}.yaml"))
    agents = jaxmarl.make(config["ENV_NAME"], **config["ENV_KWARGS"]).num_agents
    steps = arguments.env_steps * (agents if benchmark.counts_agents else 1)
    config |= {"TOTAL_TIMESTEPS": steps, "NUM_SEEDS": arguments.seeds or benchmark.seeds}

    wandb.init(mode="disabled")  # it logs from within
    keys = jax.random.split(jax.random.PRNGKey(0), config["NUM_SEEDS"])
    out = jax.vmap(jax.jit(baseline.make_train(config)))(keys)
    logged = np.asarray(out["metrics"]["returned_episode_returns"], np.float64)
    result = {
        "code": "JaxMARL's IPPO",
        "env": config["ENV_NAME"],
        "env_steps": config["NUM_UPDATES"] * config["NUM_STEPS"] * config["NUM_ENVS"],
        "returns": final_returns(logged, agents if benchmark.logs_times_agents else 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
