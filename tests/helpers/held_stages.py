"""Commands that stand still once they come to a stage, so that something can be done to them there."""

import functools
import importlib
import time

from helpers.command_runner import Command

from haepo_jax.runtime import compilation_cache

TINY = (
    "--config=configs/cartpole.py",
    "--config.num_seeds=2",
    "--config.num_trajectories=4",
    "--config.policy.hidden_sizes=(8,)",
    "--config.num_updates=3",
)
STAGES = {
    "tracing": "haepo_jax.runs.placement:place_group",
    "compiling": "haepo_jax.runs.attempt:_compile",
    "first chunk": "haepo_jax.runs.wave_run:jax.block_until_ready",
    "saving": "haepo_jax.runs.recorder:Checkpointer.save",
    "summary": "haepo_jax.runs.experiment:summarize",
    "drawing": "haepo_jax.reports.learning_curve:draw_learning_curve",
}


def started(module, *arguments, stage, seconds, marker):
    """A command that stands still for so many seconds in a stage, where it is now.

    Args:
      marker: a path of a file that is not there.
    """
    command = Command(module, *arguments, prepare=functools.partial(_prepare, STAGES[stage], seconds, marker))
    while not marker.exists():
        if not command.running:
            raise RuntimeError(f"it never came to {stage}: {command.wait()}")
        time.sleep(0.01)
    return command


def _prepare(where, seconds, marker):
    """Holds the command once its flags are read, as the modules of stages start JAX."""
    use = compilation_cache.use

    def use_and_hold(directory):
        use(directory)
        _hold(where, seconds, marker)

    compilation_cache.use = use_and_hold


def find(where):
    """The function of a stage, as `(owner, name)`."""
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name


def _hold(where, seconds, marker):
    owner, name = find(where)
    function = getattr(owner, name)

    @functools.wraps(function)
    def held(*arguments, **options):
        if not marker.exists():
            marker.touch()
            time.sleep(seconds)
        return function(*arguments, **options)

    setattr(owner, name, held)
