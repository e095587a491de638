"""A method of one's own in a single file, with the config that trains it: reward-weighted regression.

Episodes of a batch are imitated, each as much as its return says: the loss is minus the mean log-probability of an
episode's actions, weighted by the softmax of the group's normalised returns over a temperature (Peters and Schaal
2007, "Reinforcement learning by reward-weighted regression for operational space control"). A reference policy that
lags behind holds it back.

Nothing of the package is edited: `config.algorithm` names the record below by the module that it is in. It trains,
stops, resumes, evaluates, sweeps and reports like a built-in method:

    python examples/custom_algorithm.py
    python -m experiments.train --config=examples/custom_algorithm.py --workdir=runs/own
    python -m experiments.sweep --config=examples/custom_algorithm.py --workdir=runs/temperatures \
        --config.sweep.algorithm_params.temperature="(0.1, 0.5, 2.0)"
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from haepo_jax.config import default_config, from_config_dict
from haepo_jax.fields import number
from haepo_jax.losses import normalize_returns
from haepo_jax.methods import EpochsConfig, Group, Method, Objective, ReferenceConfig, Sees, check_reference_acts
from haepo_jax.population import make_population
from haepo_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class RegressionConfig(EpochsConfig, ReferenceConfig):
    """Reward-weighted regression; epochs and the rule of the reference policy are the package's."""

    temperature: float = number(0.5, above=0.0)
    """What normalised returns are divided by before they make weights; the larger, the more even the weights."""
    kl_coef: float = number(0.1, low=0.0)
    """Weight of the squared distance from the reference policy, in nats a step."""


def objective(settings: RegressionConfig, group: Group, reference: jax.Array | None) -> Objective:
    """Makes the loss of a group; `reference` holds log-likelihoods `[M]` under the reference policy."""
    valid = group.valid  # which of the episodes there are, where a batch is counted in steps; else None
    weights = jax.nn.softmax(normalize_returns(group.returns, where=valid) / settings.temperature, where=valid)
    steps = jnp.maximum(group.lengths, 1)

    def loss(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        imitation = -jnp.sum(weights * log_likelihoods / steps)
        moved = jnp.zeros(()) if reference is None else (log_likelihoods - reference) / steps
        distance = jnp.mean(moved**2, where=None if reference is None else valid)
        return imitation + settings.kl_coef * distance, {"imitation": imitation, "distance": distance}

    return loss


METHOD = Method(
    objective, Sees.SUMS, RegressionConfig(), metrics=("imitation", "distance"), check=check_reference_acts
)


def get_config() -> ml_collections.ConfigDict:
    """The settings; flags and sweeps change them."""
    config = default_config()
    config.algorithm = "custom_algorithm:METHOD"
    config.algorithm_kwargs = {"num_epochs": 4}
    config.algorithm_params = {"temperature": 0.5, "kl_coef": 0.1}
    config.env = "CartPole-v1"
    config.num_seeds = 4
    config.num_updates = 40
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "constant"
    return config


def main(num_updates: int = 40) -> float:
    """Trains in this process, without a folder; returns the mean return of the last update over the seeds."""
    config = get_config()
    config.num_updates = num_updates
    seeds = list(range(config.num_seeds))
    metrics = make_population(from_config_dict(config)).run([{}], seeds)
    returns = metrics["episode_return"][0].mean(axis=0)
    print(f"mean return: {returns[0]:.1f} at first, {returns[-1]:.1f} after {num_updates} updates")
    return float(returns[-1])


if __name__ == "__main__":
    main()
