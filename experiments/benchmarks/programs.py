"""The programs that `experiments.benchmark` times: CartPole whose pole never falls, so that every step counts.

Each is a function of a number of rounds, which plays or trains that often and returns seconds and valid steps.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax.config import ExperimentConfig, from_config_dict, with_settings
from haepo_jax.environments import Environment
from haepo_jax.environments.interface import Step
from haepo_jax.population import Population, make_population
from haepo_jax.population.layout import EVERYWHERE, OVER_MEMBERS
from haepo_jax.population.member import MemberState, make_member, total_steps
from haepo_jax.rollouts.episode_stats import play
from haepo_jax.rollouts.episodes import EpisodeUnroll

MEASURES = ("random_rollout", "policy_rollout", "training", "training_on_short_episodes")
NUM_TRAJECTORIES, HORIZON = 16, 500
SHORT = 25  # steps of a short episode, of HORIZON that it might have taken
_NEVER = 1e9
_MOST_ROUNDS = 1_000


class Program(NamedTuple):
    """A compiled program."""

    run: Callable[[int], tuple[float, int]]
    """`rounds -> (seconds, valid environment steps)`, what comes before the first round left out."""
    compiled: jax.stages.Compiled


def make_config(num_seeds: int) -> ExperimentConfig:
    """Makes the config of HAEPO with one epoch and the recommended score on an endless CartPole."""
    return from_config_dict(
        {
            "env": "CartPole-v1",
            "env_params": {"theta_threshold_radians": _NEVER, "x_threshold": _NEVER},
            "num_seeds": num_seeds,
            "num_updates": _MOST_ROUNDS,
            "num_trajectories": NUM_TRAJECTORIES,
            "horizon": HORIZON,
            "min_batch_steps": None,
            "exploration": {"persistences": ()},
            "optimizer": {"learning_rate": 3e-3, "schedule": "constant"},
            "haepo": {
                "score": "log_ratio",
                "temperature": 1.0,
                "projection": "reverse",
                "adapt": "fixed",
                "kl_coef": 5e-3,
                "num_epochs": 1,
                "reference": "previous",
                "history": 0,
            },
        }
    )


def make_program(measure: str, num_seeds: int, *, unrolled_steps: int | None = None) -> Program:
    """Compiles one of `MEASURES`, with what is chosen by the device as `experiments.train` has it.

    Args:
      measure: the program.
      num_seeds: of its population.
      unrolled_steps: steps of play as one turn of a loop; by the device when left out.
    """
    config = dataclasses.replace(make_config(num_seeds), unrolled_steps=unrolled_steps)
    population = make_population(config)
    if measure == "training_on_short_episodes":
        chosen = population.config
        functions = make_member(chosen, environment=_end_after(population.functions.environment, SHORT))
        population = make_population(chosen, functions=functions)
    make = {"random_rollout": _make_random_rollout, "policy_rollout": _make_policy_rollout}.get(
        measure, _make_training
    )
    return make(population)


def _end_after(environment: Environment, steps: int) -> Environment:
    """The same, but every episode ends by itself after so many steps."""

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        state, observation = environment.reset(params, key)
        return (state, jnp.int32(0)), observation

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        after = environment.step(params, key, state[0], action)
        taken = state[1] + 1
        return after._replace(state=(after.state, taken), done=after.done | (taken >= steps))

    return environment._replace(reset=reset, step=step)


def _make_training(population: Population) -> Program:
    """Whole updates, as `experiments.train` does them."""
    compiled = population.compiled()

    def run(rounds: int) -> tuple[float, int]:
        state = jax.block_until_ready(population.init())
        clock = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, np.int32(rounds)))
        seconds = time.perf_counter() - clock
        return seconds, int(total_steps(population.here(state.env_steps)).sum())

    return Program(run, compiled)


def _make_policy_rollout(population: Population) -> Program:
    """The episodes of an update, played by the first policy, and nothing of them kept."""
    config, functions = population.config, population.functions

    def play_once(state: MemberState, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        stats = play(
            EpisodeUnroll(
                functions.environment,
                functions.algorithm.policy,
                functions.algorithm.policy_params(state.learner),
                key,
                config.num_trajectories,
                functions.horizon,
                with_settings(config, state.settings).env_params,
                unrolled_steps=config.unrolled_steps or 1,
            )
        )
        # All of it is used, or the compiler would leave it out.
        return stats.lengths.sum(), stats.returns.sum() + stats.log_likelihoods.sum()

    def play_rounds(state: MemberState, rounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            keys = jax.vmap(jax.random.fold_in, (0, None))(state.key, i)
            return jax.tree.map(jnp.add, sums, jax.vmap(play_once)(state, keys))

        members = state.diverged.shape
        return jax.lax.fori_loop(0, rounds, one, (jnp.zeros(members, jnp.int32), jnp.zeros(members, jnp.float32)))

    return _make_program_over_devices(population, play_rounds)


def _make_random_rollout(population: Population) -> Program:
    """The cheapest there is: uniform actions, with one key a step for all episodes of a device."""
    functions, config = population.functions, population.config
    params = dict(config.env_params)
    episodes = (population.members_per_device, config.num_trajectories)
    reset = jax.vmap(jax.vmap(functions.environment.reset, (None, 0)), (None, 0))
    step = jax.vmap(jax.vmap(functions.environment.step, (None, 0, 0, 0)), (None, 0, 0, 0))

    def play_rounds(state: MemberState, rounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = state.key[0]
        no_keys = jax.random.split(key, episodes)  # this environment draws nothing after its reset

        def play_step(carry: Any, t: jax.Array) -> Any:
            environments, alive, lengths, returns, key = carry
            actions = jax.random.bits(jax.random.fold_in(key, t), episodes, jnp.uint8).astype(jnp.int32) & 1
            after = step(params, no_keys, environments, actions)
            returns = returns + jnp.where(alive, after.reward, 0)
            return (after.state, alive & ~after.done, lengths + alive, returns, key), None

        def one(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            reset_key, step_key = jax.random.split(jax.random.fold_in(key, i))
            environments, _ = reset(params, jax.random.split(reset_key, episodes))
            carry = (environments, jnp.ones(episodes, bool), *sums, step_key)
            return jax.lax.scan(play_step, carry, jnp.arange(functions.horizon))[0][2:4]

        return jax.lax.fori_loop(0, rounds, one, (jnp.zeros(episodes, jnp.int32), jnp.zeros(episodes, jnp.float32)))

    return _make_program_over_devices(population, play_rounds)


def _make_program_over_devices(population: Population, play_rounds: Callable) -> Program:
    """Compiles a function `(state of a device's members, rounds) -> (steps, returns)` for all devices."""
    state = population.init()
    spread = population.layout.over_devices(play_rounds, (OVER_MEMBERS, EVERYWHERE), OVER_MEMBERS)
    compiled = spread.lower(state, jnp.int32(1)).compile()

    def run(rounds: int) -> tuple[float, int]:
        clock = time.perf_counter()
        steps, _ = jax.block_until_ready(compiled(state, np.int32(rounds)))
        seconds = time.perf_counter() - clock
        return seconds, int(np.asarray(steps, np.int64)[: len(population.members)].sum())

    return Program(run, compiled)
