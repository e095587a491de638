"""The idiom of PureJaxRL, `jax.jit(jax.vmap(make_train(config)))(keys)`, with this package's members.

python examples/jit_vmap_scan.py

A member's `init`, `collect` and `learn` are pure functions, so that a whole training run is a scan in six lines, which
may be vmapped over seeds, and over settings. `haepo_jax.population.make_population` does the same with devices, tiles
and members that stop by themselves. Takes half a minute on 2 CPU cores, most of it to compile.
"""

from collections.abc import Callable

import jax

from haepo_jax.config import ExperimentConfig, default_config, from_config_dict, traced_settings
from haepo_jax.population.member import MemberState, make_member
from haepo_jax.types import Metrics


def make_train(config: ExperimentConfig) -> Callable[[jax.Array], tuple[MemberState, Metrics]]:
    """Makes the function that trains one seed: `key -> (its last state, metrics [num_updates])`."""
    member, settings = make_member(config), traced_settings(config)

    def train(key: jax.Array) -> tuple[MemberState, Metrics]:
        def update(state: MemberState, _: None) -> tuple[MemberState, Metrics]:
            return member.learn(state, member.collect(state))

        return jax.lax.scan(update, member.init(key, settings), length=config.num_updates)

    return train


def main(num_updates: int = 20, num_seeds: int = 4) -> jax.Array:
    """Trains seeds on Catch; returns their mean returns `[num_seeds, num_updates]`."""
    values = default_config()
    values.env, values.num_updates = "Catch-bsuite", num_updates
    config = from_config_dict(values)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    _, metrics = jax.jit(jax.vmap(make_train(config)))(keys)
    print(f"mean return, first update {metrics['episode_return'][:, 0].mean():.2f}, last update", end=" ")
    print(f"{metrics['episode_return'][:, -1].mean():.2f} of 1")
    return metrics["episode_return"]


if __name__ == "__main__":
    main()
