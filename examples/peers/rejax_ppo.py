"""Rejax's PPO on CartPole-v1 as a peer of `experiments.benchmark` and `experiments.race`.

Rejax wants an older gymnax than haepo_jax, so this runs in an environment of its own:

    python3.12 -m venv .venv/rejax
    .venv/rejax/bin/pip install rejax==0.1.3 gymnax==0.0.9 jax==0.11.2 flax==0.12.12 distrax==0.1.9 optax==0.2.8
    python -m experiments.race --workdir=runs/race \
        --peer="Rejax=.venv/rejax/bin/python examples/peers/rejax_ppo.py"

The last line it prints is a JSON object: its time and steps, how many seeds reached a mean return of 475, and when.
"""

import argparse
import json
import time

import jax
import numpy as np

SOLVED = 475.0
EPISODES = 16  # as many as an update of configs/cartpole.py has

# Those of configs/gymnax/cartpole.yaml in github.com/keraJLi/rejax.
PUBLISHED = {
    "env": "CartPole-v1",
    "agent_kwargs": {"activation": "tanh"},
    "num_envs": 5,
    "num_steps": 100,
    "num_epochs": 5,
    "num_minibatches": 5,
    "learning_rate": 0.00075,
    "max_grad_norm": 0.5,
    "total_timesteps": 100_000,
    "eval_freq": 1000,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
}


class EpisodeCounter:
    """Wraps an environment so that its state also counts finished episodes and adds up their returns."""

    def __init__(self, env):
        """Takes a gymnax environment."""
        self._env = env
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def reset(self, key, params):
        """Resets the environment, with nothing counted."""
        observation, state = self._env.reset(key, params)
        return observation, (state, 0.0, 0.0, 0)

    def step(self, key, state, action, params):
        """Steps the environment, and counts one more episode where it ends."""
        inner, so_far, total, ended = state
        observation, inner, reward, done, info = self._env.step(key, inner, action, params)
        so_far += reward
        state = inner, so_far * (1 - done), total + so_far * done, ended + done
        return observation, state, reward, done, info


def first_update_at(totals: np.ndarray, ended: np.ndarray) -> int | None:
    """Finds the first update at which a seed has reached 475; None where it never does.

    It has once the mean return of its newest episodes is that much: those of the fewest updates, up to this one, in
    which at least 16 ended.

    Args:
      totals: `[1 + updates]` sum of the returns of all episodes that have ended, before the first update and after
        each.
      ended: `[1 + updates]` how many these are.
    """
    before = np.searchsorted(ended, ended - EPISODES, side="right") - 1
    updates = np.flatnonzero(before >= 0)
    before = before[updates]
    means = (totals[updates] - totals[before]) / (ended[updates] - ended[before])
    solved = updates[means >= SOLVED]
    return int(solved[0]) if solved.size else None


def main() -> None:
    """Trains, and prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=32, help="seeds that are trained at once")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="with Rejax's evaluation of 128 episodes every 1,000 steps, which takes longer than its training",
    )
    arguments = parser.parse_args()

    from rejax import PPO  # only now: it is not there where this file is tested

    algorithm = PPO.create(**PUBLISHED)
    evaluate = algorithm.eval_callback

    def count_episodes(algorithm, state, key):
        _, _, totals, ended = state.env_state
        return totals.sum(), ended.sum(), evaluate(algorithm, state, key) if arguments.evaluate else ()

    algorithm = algorithm.replace(env=EpisodeCounter(algorithm.env), eval_callback=count_episodes)
    if not arguments.evaluate:
        algorithm = algorithm.replace(eval_freq=algorithm.num_envs * algorithm.num_steps)  # after each update

    keys = jax.random.split(jax.random.PRNGKey(0), arguments.seeds)
    clock = time.perf_counter()
    train = jax.jit(jax.vmap(algorithm.train)).lower(keys).compile()
    compile_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    state, (totals, ended, _) = jax.block_until_ready(train(keys))
    seconds = time.perf_counter() - clock

    firsts = [first_update_at(*seed) for seed in zip(np.asarray(totals), np.asarray(ended), strict=True)]
    reached = [first for first in firsts if first is not None]
    updates = totals.shape[1] - 1
    measured = {
        "env_steps": int(np.asarray(state.global_step).sum()),
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "seeds": arguments.seeds,
        "seeds_at_475": len(reached),
        "share_until_all_at_475": max(reached) / updates if len(reached) == arguments.seeds else None,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
