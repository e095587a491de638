"""The whole experiment: stages, comparison and memory, then the page and the files that it is quoted from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.language_runs import TUNING_SEED, Tuned, list_configs
from experiments.studies.report_parts import describe_runs, make_tuning_table
from experiments.studies.tldr import comparison, memory
from experiments.studies.tldr.methods import SETTINGS_PER_METHOD
from experiments.studies.tldr.runs import Runs
from experiments.studies.tldr.scale import Scale
from haepo_jax.language.training.memory import BASE
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import ConfigListing, Fairness, Report, Section
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.tldr_report"
MEMORY_COMMAND = "python -m experiments.tldr --stage=memory"


def reproduce(directory: StrPath, scale: Scale, topology: str = "") -> PublishedReport:
    """Does what is missing of the experiment, and writes `report.html` and the files beside it.

    Args:
      directory: where everything goes. What an earlier call left there complete is kept.
      scale: how large it is.
      topology: a TPU topology to measure memory for as well.

    Returns:
      The page and its first paragraph.

    Raises:
      ConfigError: the folder holds runs of other settings.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs = Runs(directory, scale)
    compared = comparison.study(runs)
    sections = [compared.section]
    if scale.shapes:
        sections.append(memory.section(memory.measured(directory, scale.shapes, topology)))
    report = Report(
        title="TL;DR summaries with HAEPO, GRPO, RLOO and DPO",
        first_paragraph=compared.headline,
        sections=(*sections, _describe_limits(with_memory=bool(scale.shapes))),
        configs=_list_configs(runs),
        provenance=_describe_provenance(runs),
        fairness=_describe_fairness(runs, compared.tuned),
        quick=scale.quick,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def report_memory(directory: StrPath, topology: str = "") -> Path:
    """Measures memory alone, and writes the page of that study.

    Arguments, result and errors as of `reproduce`.
    """
    rows = memory.measured(directory, BASE, topology)
    section = memory.section(rows)
    report = Report(
        title="Memory of an update with HAEPO, GRPO, RLOO and DPO",
        first_paragraph=section.findings[2],
        sections=(section, _describe_limits(with_memory=True)),
        provenance={
            "command": MEMORY_COMMAND,
            "jax": rows[0]["jax"],
            "compiled for": ", ".join(dict.fromkeys(row["device"] for row in rows)),
        },
    )
    return publish(directory, report)


def _describe_limits(*, with_memory: bool) -> Section:
    """Lists what the page does not claim."""
    not_claimed = (
        "The paper's TL;DR result: no weights and no data of Reddit were used, and no model of its size was trained.",
        "Preference of people, or of a model that stands for them: gold is a program, and the reward model is a small "
        "decoder that learned from choices drawn by that program.",
        "That the generated task is summarising: its posts are lists of words, and a good summary names those in "
        "capitals.",
    )
    of_memory = (
        "GPU memory: figures of the CPU and of the TPU compiler are theirs. Another compiler fuses and orders "
        "otherwise; the shapes that must exist at once are the same.",
    )
    return Section(
        slug="limits",
        title="What this page does not claim",
        question="How far do these figures reach?",
        findings=(*not_claimed, *((*of_memory, *memory.sources()) if with_memory else ())),
    )


def _list_configs(runs: Runs) -> tuple[ConfigListing, ...]:
    command = f"{COMMAND} --workdir=DIR{' --quick' if runs.scale.quick else ''}"
    return list_configs(runs.done, command)


def _describe_provenance(runs: Runs) -> Mapping[str, Any]:
    """Collects the versions and devices of the runs, and how long they took."""
    attempts = [attempt for name in runs.done for attempt in runs.provenance(name)]
    seconds = {stage: runs.stage_seconds(stage) for stage in ("sft", "reward")}
    measured = {
        "minutes of fine-tuning": round(seconds["sft"] / 60, 1),
        "minutes of the reward model": round(seconds["reward"] / 60, 1),
        "minutes of all runs, compilation included": round(sum(map(runs.seconds, runs.done)) / 60, 1),
        "held-out accuracy of the reward model": round(runs.reward_accuracy(), 3),
    }
    return describe_runs(len(runs.done), attempts, measured)


def _describe_fairness(runs: Runs, tuned: tuple[Tuned, ...]) -> Fairness:
    rl = runs.config({}).rl
    tuning = (
        f"Each has the same number of settings to choose from: {SETTINGS_PER_METHOD}, each tried on seed "
        f"{TUNING_SEED}, which is never reported. The setting that ends at the most gold reward on the held-out posts "
        "is taken; what is reported is judged on test posts, which no choice has seen."
        if runs.scale.tuned
        else "Nothing is tuned in this quick version: each method has the first of its settings."
    )
    table = make_tuning_table(
        tuned,
        caption="Every setting tried, by gold reward on the held-out posts at the end",
        score_label="gold reward",
        format_score=lambda score: "diverged" if np.isinf(score) else f"{score:.3f}",
    )
    return Fairness(
        paragraphs=(
            "Every method starts from the same fine-tuned policy and has the same optimiser, number of updates "
            f"({rl.num_updates}) and epochs ({rl.num_epochs}). HAEPO, GRPO and RLOO sample {rl.num_samples} responses "
            f"to each of {rl.num_prompts} posts an update at temperature {rl.temperature:g}, are rewarded by the same "
            f"reward model, with the same penalties ({rl.kl_penalty:g} for a nat of KL, {rl.missing_eos_penalty:g} "
            "for a response that does not end). DPO is offline: it samples nothing and asks no reward model, and "
            "reads as many given responses an update.",
            tuning,
            "HAEPO got more attention than the others: its grids were set after ten runs of 80 to 100 updates, GRPO's "
            "after three, those of RLOO and DPO after one each "
            "(docs/experiments/tldr_settings.md). The same care could well make those "
            "better too.",
            f"Reported are seeds 0 to {runs.scale.seeds - 1}, "
            f"{name_bands(runs.scale.seeds, '95% bootstrap intervals over seeds')}. What so few show is how far "
            "seeds are apart, and little of what a new task would bring.",
        ),
        tables=(table,) if table.rows else (),
    )
