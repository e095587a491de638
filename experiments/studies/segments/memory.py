"""Tasks that ask for memory, with a policy that remembers and with one that does not."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from experiments.studies.runs import Runs
from experiments.studies.segments.games import SOURCE
from experiments.studies.segments.scale import Scale
from experiments.studies.segments.tasks import MemoryTask
from experiments.studies.suite.learning import Learned, learn
from experiments.studies.targets import judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import compare
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, format_number
from haepo_jax.reports.page import Claim, Section, Table


@dataclasses.dataclass(frozen=True)
class Remembered:
    """What both policies came to on a task."""

    task: MemoryTask
    with_memory: Learned
    without: Learned


def measure(runs: Runs[Scale]) -> tuple[Remembered, ...]:
    """Does what is missing of the runs."""
    return tuple(
        Remembered(task, *(learn(runs, one, task.method, {}, runs.scale.seeds) for one in task.both))
        for task in runs.scale.memory
    )


def make_section(found: tuple[Remembered, ...], scale: Scale, left_out: Iterable[MemoryTask]) -> Section:
    """Makes the section, with its targets.

    Args:
      found: what was measured.
      scale: how large the study is.
      left_out: tasks whose library is not installed.
    """
    return Section(
        slug="memory",
        title="Policies that remember",
        question="Does a GRU learn what no policy without memory can?",
        findings=tuple(f"{task.label} was left out: its library is not installed." for task in left_out),
        tables=(
            Table(
                caption=f"Return over the last tenth of learning, interquartile mean over {scale.seeds} seeds",
                columns=("task", "env steps", "random play", "GRU", "no memory", "most"),
                rows=[
                    (
                        one.task.label,
                        f"{one.with_memory.run.config['max_env_steps']:,}",
                        format_number(one.with_memory.random),
                        *(
                            format_interval_cell(estimate_interquartile_mean(learned.scores.final))
                            for learned in (one.with_memory, one.without)
                        ),
                        format_number(one.task.remembering.best),
                    )
                    for one in found
                ],
                note=f"Under the policy that learns, which draws its actions. {explain_brackets(scale.seeds)}",
            ),
        ),
        claims=tuple(_judge(one, scale) for one in found),
    )


def _judge(one: Remembered, scale: Scale) -> Claim:
    ours, theirs = one.with_memory.scores.final[None], one.without.scores.final[None]
    if one.task.least is None:
        return judge_target(
            f"On {one.task.label} a GRU is above a policy without memory.",
            SOURCE,
            "Return at the end, difference of interquartile means",
            {"GRU less no memory": compare(ours, theirs)},
            quick=scale.quick,
        )
    return judge_target(
        f"On {one.task.label} a GRU is at {one.task.least:g} or above.",
        SOURCE,
        f"Return at the end, interquartile mean less {one.task.least:g}",
        {"GRU": compare(ours, np.full_like(ours, one.task.least))},
        quick=scale.quick,
    )
