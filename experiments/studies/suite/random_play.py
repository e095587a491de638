"""Random play: what every task is worth to a policy that draws its actions evenly."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.computed import load_or_compute
from experiments.studies.methods import nest_settings
from experiments.studies.suite.tasks import Task
from haepo_jax.config import from_config_dict
from haepo_jax.environments import Environment
from haepo_jax.environments.actions import draw_action
from haepo_jax.population.member import make_environment
from haepo_jax.runs.files import StrPath

_SEED = 0


def load_or_measure(directory: StrPath, task: Task, episodes: int) -> float:
    """Loads the score of random play on a task, which is measured once; see `load_or_compute` and `measure`."""
    return load_or_compute(directory, f"random_play/{task.name}", lambda: measure(task, episodes))


def measure(task: Task, episodes: int) -> float:
    """Plays a task evenly at random, real-valued actions over their whole range.

    Args:
      task: what is played.
      episodes: how many episodes, each from its own reset.

    Returns:
      Their mean score; of several agents also the mean over these.
    """
    config = from_config_dict(nest_settings(task.settings))
    environment = make_environment(config)
    limits = [limit for limit in (environment.max_steps, config.horizon) if limit is not None]
    play = jax.jit(jax.vmap(functools.partial(_play, task, environment, dict(config.env_params), min(limits))))
    scores = play(jax.random.split(jax.random.key(_SEED), episodes))
    return float(np.asarray(scores, np.float64).mean())


def _play(task: Task, environment: Environment, params: dict[str, Any], horizon: int, key: jax.Array) -> jax.Array:
    """The score of one episode; of several agents, one for each."""
    first, key = jax.random.split(key)
    agents = () if environment.num_agents == 1 else (environment.num_agents,)

    def draw(key: jax.Array, observation: jax.Array) -> jax.Array:
        if not agents:
            return draw_action(environment, key, observation)
        each = functools.partial(draw_action, environment)
        return jax.vmap(each)(jax.random.split(key, agents), observation)

    def step(carry: tuple[Any, jax.Array, jax.Array, jax.Array], keys: jax.Array) -> tuple[Any, None]:
        state, observation, ended, score = carry
        after = environment.step(params, keys[0], state, draw(keys[1], observation))
        measured = after.reward if task.metric == "episode_return" else after.info_metrics[task.metric]
        score = score + jnp.where(ended, 0, task.sign * measured)
        return (after.state, after.observation, ended | after.done, score), None

    state, observation = environment.reset(params, first)
    keys = jax.random.split(key, (horizon, 2))
    start = (state, observation, jnp.zeros(agents, bool), jnp.zeros(agents, jnp.float32))
    (*_, score), _ = jax.lax.scan(step, start, keys)
    return score
