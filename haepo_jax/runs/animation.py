"""An episode of a trained policy as a GIF, where its environment can be drawn."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from haepo_jax.components import failures_named
from haepo_jax.config import with_settings
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.networks.recurrent import Carry
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import write_file
from haepo_jax.runs.policies import LoadedPolicy, load_policy
from haepo_jax.runs.states import Checkpoint, load_states

_MILLISECONDS = 50  # that a picture is shown
_WIDEST = 65535  # pixels of a side, which the format counts in two bytes
_MOST = 500  # pictures; of a longer episode every second state is drawn, or every fourth, and so on


def check_gif(path: StrPath, workdir: StrPath, checkpoint: Checkpoint) -> None:
    """Finds out whether an episode of a run can be drawn, before anything is played.

    Args:
      path: of the file to write.
      workdir: a run folder.
      checkpoint: see `load_policy`.

    Raises:
      ConfigError: the file's name does not end in .gif; the environment cannot be drawn, or draws no picture.
    """
    if Path(path).suffix.lower() != ".gif":
        raise ConfigError(f"--gif={path} must end in .gif.")
    # Of the first wave that has a checkpoint: any one member may have none, or no best policy.
    population, *_ = next(load_states(workdir, checkpoint))
    settings = with_settings(population.config, population.members[0].settings)
    check_drawing(population.functions.environment, settings.env_params)


def check_drawing(environment: Environment, env_params: Mapping[str, float]) -> None:
    """Draws the first state of an episode, to see whether it can be done.

    Args:
      environment: it is drawn.
      env_params: its numbers that are not its defaults.

    Raises:
      ConfigError: the environment cannot be drawn, or what it draws is no picture.
    """
    state, _ = environment.reset(env_params, jax.random.key(0))
    next(_draw(environment, env_params, [jax.device_get(state)]))


def draw_best(path: StrPath, workdir: StrPath, evaluation: Mapping[str, Any]) -> tuple[int, int]:
    """Writes an episode of the member with the largest greedy return as a GIF.

    Args:
      path: of the file.
      workdir: a run folder.
      evaluation: of the run, as `evaluation.measure` returns it.

    Returns:
      The steps of the episode, and the member's index.

    Raises:
      ConfigError: see `check_drawing`.
      StorageError: the file cannot be written.
    """
    members = [member for member in evaluation["members"] if member["update"] is not None]
    best = max(members, key=lambda member: (member["greedy_return"] is not None, member["greedy_return"] or 0.0))
    policy = load_policy(workdir, best["member"], evaluation["checkpoint"])
    return save_gif(path, policy, seed=evaluation["seed"]), best["member"]


def save_gif(path: StrPath, policy: LoadedPolicy, *, seed: int = 0) -> int:
    """Plays a greedy episode and writes it as a GIF, whole or not at all.

    Args:
      path: of the file.
      policy: who plays.
      seed: chooses the episode.

    Returns:
      The steps of the episode.

    Raises:
      ConfigError: see `check_drawing`.
      StorageError: the file cannot be written.
    """
    from PIL import Image

    states, steps = _play(policy, jax.random.key(seed))
    first, *others = (Image.fromarray(picture) for picture in _draw(policy.environment, policy.env_params, states))
    options = {"save_all": True, "append_images": others, "duration": _MILLISECONDS, "loop": 0}
    try:
        write_file(Path(path), lambda temporary: first.save(temporary, "GIF", **options))
    except OSError as error:
        raise StorageError(f"{path} is not written: {error.strerror or error}.") from error
    return steps


def _play(policy: LoadedPolicy, key: jax.Array) -> tuple[list[Any], int]:
    """The states of an episode, evenly thinned where there are many, and its steps."""
    environment, params = policy.environment, policy.env_params
    reset_key, step_key = jax.random.split(key)

    @jax.jit
    def step(state: Any, observation: jax.Array, carry: Carry, t: jax.Array) -> tuple[Any, Carry]:
        carry, action = policy.step(carry, observation, greedy=True)
        return environment.step(params, jax.random.fold_in(step_key, t), state, action), carry

    state, observation = environment.reset(params, reset_key)
    carry = policy.start(*observation.shape[: observation.ndim - len(environment.observation_shape)])
    states, every = [jax.device_get(state)], 1
    steps, done = 0, False
    while not done:
        after, carry = step(state, observation, carry, np.int32(steps))
        state, observation, steps = after.state, after.observation, steps + 1
        done = bool(np.all(after.done)) or steps >= policy.horizon
        if done or steps % every == 0:
            states.append(jax.device_get(state))
        if len(states) > _MOST and not done:
            states, every = states[::2], 2 * every
    return states, steps


def _draw(environment: Environment, env_params: Mapping[str, float], states: Sequence[Any]) -> Iterator[np.ndarray]:
    """Pictures `[height, width, 3]`, uint8, all of one size."""
    name, render = environment.name, environment.render
    if render is None:
        raise ConfigError(
            f"env {name} cannot be drawn: gymnax does not draw it, and it has no render(state, params) of its own."
        )
    shape = None
    with failures_named(f"env {name}: its render"):
        for drawn in render(env_params, states):
            picture = _as_picture(name, drawn)
            shape = shape or picture.shape
            if picture.shape != shape:
                raise ConfigError(
                    f"env {name} draws {list(picture.shape)} after {list(shape)}; all pictures of an episode must "
                    "have one size."
                )
            yield picture


def _as_picture(name: str, drawn: Any) -> np.ndarray:
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if isinstance(drawn, tuple) and drawn:  # as `plt.subplots` gives them
        drawn = drawn[0]
    if isinstance(drawn, Figure):
        canvas = FigureCanvasAgg(drawn)
        canvas.draw()
        plt.close(drawn)  # which pyplot would keep
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
    array = np.asarray(drawn)
    if array.ndim == 3 and array.shape[-1] == 3 and array.size and max(array.shape) <= _WIDEST:
        if array.dtype == np.uint8:
            return array
        if np.issubdtype(array.dtype, np.floating):
            return np.round(255 * np.clip(array, 0, 1)).astype(np.uint8)
    raise ConfigError(
        f"env {name} draws {array.dtype}{list(array.shape)}; it must be a matplotlib figure, or an array [height, "
        f"width, 3] of uint8 or of real numbers from 0 to 1, of at most {_WIDEST} pixels a side."
    )
