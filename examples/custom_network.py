r"""A network of one's own in a single file, with the config that trains it: residual blocks on Catch.

A torso is a Flax module that maps observations `[..., *observation_shape]` to features `[..., F]`, whatever axes lead.
Where its fields are called `observation_shape`, `hidden_sizes` or `activation`, it is given those of the environment
and of the config; its other fields are `config.policy.network_kwargs`. The head that makes actions of the features,
the critic of a method that has one, checkpoints and sweeps are the package's.

Nothing of the package is edited: `config.policy.network` names the class below by the module that it is in.

    python -m experiments.train --config=examples/custom_network.py --workdir=runs/residual
    python -m experiments.sweep --config=examples/custom_network.py --workdir=runs/depths \
        --config.sweep.policy.network_kwargs.depth='(1,2,4)'

or, as a program that writes nothing:

    python examples/custom_network.py

Takes about 10 s on 2 CPU cores. Expect a mean return of 0.99 over the last 10 of its 60 updates; 1 is the most.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import ml_collections

from haepo_jax.config import default_config, from_config_dict
from haepo_jax.population import make_population


class Residual(nn.Module):
    """Blocks that each add to what comes in."""

    observation_shape: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    width: int = 64
    depth: int = 2

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., *observation_shape]` to `[..., width]`."""
        leading = observations.shape[: observations.ndim - len(self.observation_shape)]
        x = nn.Dense(self.width)(observations.reshape(*leading, -1))
        for _ in range(self.depth):
            x = x + nn.Dense(self.width)(self.activation(nn.LayerNorm()(x)))
        return nn.LayerNorm()(x)


def get_config() -> ml_collections.ConfigDict:
    """The settings; flags and sweeps change them."""
    config = default_config()
    config.env = "Catch-bsuite"
    config.horizon = 9  # the ball lands then
    config.num_seeds = 4
    config.num_updates = 60
    # The settings that its score was measured with; those left out are made for any task.
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "constant"
    config.haepo.temperature = 1.0
    config.haepo.projection = "reverse"
    config.haepo.adapt = "fixed"
    config.haepo.entropy_coef = 0.3
    config.haepo.kl_coef = 5e-3
    config.haepo.reference = "previous"
    config.haepo.history = 0
    config.policy.network = "custom_network:Residual"
    config.policy.network_kwargs = {"width": 32}
    config.policy.activation = "silu"
    return config


def main(num_updates: int = 60) -> float:
    """Trains, and returns the mean return over the last 10 updates."""
    config = get_config()
    config.num_updates = num_updates
    # In a program the class itself will do; a run folder holds the name.
    population = make_population(from_config_dict(config), network=Residual)
    returns = population.run([{}], seeds=range(4))["episode_return"]
    for update in range(9, returns.shape[-1], 10):
        print(f"updates {update - 8} to {update + 1}: mean return {returns[..., update - 9 : update + 1].mean():.2f}")
    return float(returns[..., -10:].mean())


if __name__ == "__main__":
    main()
