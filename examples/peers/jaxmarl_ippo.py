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
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


def final_return(logged: np.ndarray, scale: float) -> float:
    """Averages what a seed logged over the last tenth of its updates.

    Args:
      logged: `[updates, ...]` returns of the newest ended episodes.
      scale: what they are divided by.
    """
    by_update = logged.reshape(len(logged), -1).mean(axis=-1)
    return float(by_update[-max(1, len(logged) // END) :].mean()) / scale


def main() -> None:
    """Trains, and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of a checkout of JaxMARL")
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--seeds", type=int, help="how many seeds are trained")
    parser.add_argument("--env_steps", type=int, default=1_000_000, help="environment steps of a seed")
    arguments = parser.parse_args()
    with stdout_to_stderr():
        result = train(arguments.checkout, arguments.benchmark, arguments.seeds, arguments.env_steps)
    print(json.dumps(result))


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends what is printed to stderr: JaxMARL prints while it is imported, and undoes a change of `sys.stdout`."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def train(checkout: Path, benchmark: str, seeds: int | None, env_steps: int) -> dict[str, Any]:
    """Trains the seeds of a benchmark one after the other, and tells each one's return as it has it.

    Args:
      checkout: folder of a checkout of JaxMARL.
      benchmark: name of one of `BENCHMARKS`.
      seeds: how many; those of the benchmark when None.
      env_steps: of a seed.

    Returns:
      What is printed.
    """
    import jax  # only now: they are not there where this file is tested
    import jax.experimental
    import jaxmarl
    import wandb
    from omegaconf import OmegaConf

    rules, folder, name = BENCHMARKS[benchmark], checkout / "baselines" / "IPPO", f"ippo_ff_{benchmark}"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    baseline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(baseline)
    config = OmegaConf.to_container(OmegaConf.load(folder / "config" / f"{name}.yaml"))
    agents = jaxmarl.make(config["ENV_NAME"], **config["ENV_KWARGS"]).num_agents
    steps = env_steps * (agents if rules.counts_agents else 1)
    config |= {"TOTAL_TIMESTEPS": steps, "NUM_SEEDS": seeds or rules.seeds}

    wandb.init(mode="disabled")  # it logs from within
    run, returns = jax.jit(baseline.make_train(config)), []
    for key in jax.random.split(jax.random.PRNGKey(0), config["NUM_SEEDS"]):
        logged = np.asarray(run(key)["metrics"]["returned_episode_returns"], np.float64)
        returns.append(final_return(logged, agents if rules.logs_times_agents else 1))
        print(f"Seed {len(returns)} of {config['NUM_SEEDS']}: {returns[-1]:.4g}", flush=True)
    return {
        "code": "JaxMARL's IPPO",
        "env": config["ENV_NAME"],
        "env_steps": config["NUM_UPDATES"] * config["NUM_STEPS"] * config["NUM_ENVS"],
        "returns": returns,
    }


if __name__ == "__main__":
    main()
