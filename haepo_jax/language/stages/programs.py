"""Compiled programs of a stage: of several that compute the same, the one that needs the least memory."""

import time
from typing import Any

import jax
from jax.stages import Compiled

from haepo_jax.language.model.sharding import shard_rows
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.run import Evaluation, Stage
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.runs.progress import report_waiting


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
    evaluation: Evaluation | None = None,
) -> tuple[Stage, str]:
    """Compiles the updates, and makes the stage with the one that needs the least memory; returns its name too.

    Raises:
      ConfigError: the devices cannot hold what it needs.
    """
    clock = time.monotonic()
    rows = shard_rows(context.mesh)
    batch = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), array.dtype, sharding=rows), examples
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, learner)
    with report_waiting("Compiling", "Compiled"):
        programs = {
            name: jax.jit(update, donate_argnums=0, out_shardings=(shardings, None))
            .lower(learner, frozen, batch)
            .compile()
            for name, update in updates.items()
        }
    name = min(programs, key=lambda name: _count_temporary_bytes(programs[name]))
    check_room(
        _count_bytes(programs[name]) * context.mesh.size, "An update", "take fewer rows at a time or a smaller model"
    )
    stage = Stage(
        total=total,
        learner=learner,
        frozen=frozen,
        update=programs[name],
        examples=examples,
        source=source,
        batch_size=batch_size,
        place=context.place,
        seed=context.config.seed,
        compile_seconds=time.monotonic() - clock,
        watched=watched,
        evaluation=evaluation,
    )
    return stage, name


def _count_temporary_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs beside its arguments and results; 0 where the backend does not say."""
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes


def _count_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs on a device; 0 where the backend does not say."""
    sizes = program.memory_analysis()
    if sizes is None:
        return 0
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return held + sizes.temp_size_in_bytes
