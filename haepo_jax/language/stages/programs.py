"""Compiled programs of a stage: of several that compute the same, the one that needs the least memory."""

import time
from typing import Any

import jax
from jax.stages import Compiled

from haepo_jax.language.data.buckets import find_width, trim
from haepo_jax.language.model.sharding import shard_rows
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.run import Stage
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.runs.progress import report_waiting
from haepo_jax.types import Metrics


class ShapedUpdate:
    """An update that is compiled for each shape of a batch, when the first one of it comes."""

    def __init__(self, update: Update, out_shardings: Any, programs: dict[Any, Compiled]) -> None:
        """Holds an update, and what is compiled of it already, by the shapes of the batch."""
        self._jitted = jax.jit(update, donate_argnums=0, out_shardings=out_shardings)
        self._programs = programs

    def prepare(self, learner: LearnerState, frozen: Any, batch: Any) -> float:
        """Compiles for the shape of a batch, where that is new; returns the seconds it took."""
        key = list_shapes(batch)
        if key in self._programs:
            return 0.0
        clock = time.monotonic()
        with report_waiting("Compiling", "Compiled"):
            self._programs[key] = self._jitted.lower(learner, frozen, batch).compile()
        return time.monotonic() - clock

    def __call__(self, learner: LearnerState, frozen: Any, batch: Any) -> tuple[LearnerState, Metrics]:
        """Updates; the shape of the batch must be prepared."""
        result: tuple[LearnerState, Metrics] = self._programs[list_shapes(batch)](learner, frozen, batch)
        return result


def list_shapes(batch: Any) -> tuple[tuple[int, ...], ...]:
    """Lists the shapes of the arrays of a batch."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(batch))


def compile_stage(
    context: StageContext,
    learner: LearnerState,
    frozen: Any,
    updates: dict[str, Update],
    examples: Any,
    source: str,
    *,
    batch_size: int,
    total: int,
    watched: str,
    prompt_length: int | None = None,
) -> tuple[Stage, str]:
    """Compiles the updates, and makes the stage with the one that needs the least memory; returns its name too.

    With `prompt_length`, P, batches are as wide as the bucket of their longest prompt: of arrays `[..., P + R]` the
    padding on the left is taken away that all rows have. They have all of their width otherwise.

    Raises:
      ConfigError: the devices cannot hold what it needs.
    """
    clock = time.monotonic()
    rows = shard_rows(context.mesh)
    batch = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), array.dtype, sharding=rows),
        _narrow(examples, prompt_length),
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, learner)
    with report_waiting("Compiling", "Compiled"):
        programs = {
            name: jax.jit(update, donate_argnums=0, out_shardings=(shardings, None))
            .lower(learner, frozen, batch)
            .compile()
            for name, update in updates.items()
        }
    name = min(programs, key=lambda name: count_temporary_bytes(programs[name]))
    check_update_room(count_bytes(programs[name]) * context.mesh.size)
    update = ShapedUpdate(updates[name], (shardings, None), {list_shapes(batch): programs[name]})
    stage = Stage(
        total=total,
        learner=learner,
        frozen=frozen,
        update=update,
        examples=examples,
        source=source,
        batch_size=batch_size,
        place=lambda examples: context.place(_narrow(examples, prompt_length)),
        seed=context.config.seed,
        compile_seconds=time.monotonic() - clock,
        watched=watched,
        prepare=update.prepare,
    )
    return stage, name


def check_update_room(needed: int) -> None:
    """Refuses an update that all devices together cannot hold; `needed` in bytes."""
    check_room(needed, "An update", "take fewer rows at a time or a smaller model")


def _narrow(examples: Any, prompt_length: int | None) -> Any:
    """Takes padding away that all rows have before their prompts; None leaves them as they are."""
    if prompt_length is None:
        return examples
    width = find_width(examples.valid, prompt_length)
    return jax.tree.map(lambda array: trim(array, prompt_length, width), examples)


def count_temporary_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs beside its arguments and results; 0 where the backend does not say."""
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes


def count_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs on a device; 0 where the backend does not say."""
    sizes = program.memory_analysis()
    if sizes is None:
        return 0
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return held + sizes.temp_size_in_bytes
