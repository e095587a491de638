"""The whole study: its runs, then the page and the files that it is quoted from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.studies.language_runs import TUNING_SEED, list_configs
from experiments.studies.puzzles import sections
from experiments.studies.puzzles.comparison import Found, measure
from experiments.studies.puzzles.methods import METHODS, SETTINGS_PER_METHOD
from experiments.studies.puzzles.runs import Runs
from experiments.studies.puzzles.scale import Scale
from experiments.studies.report_parts import describe_runs, make_tuning_table
from experiments.studies.targets import CHAPTER, count_targets
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import ConfigListing, Fairness, Report
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.puzzles"


def run_study(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the study, and writes `report.html`, `verdicts.json`, `tables.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the study is.

    Returns:
      The page and its first paragraph.

    Raises:
      ConfigError: the folder holds runs of other settings.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs = Runs(directory, scale)
    found = measure(runs)
    made = (sections.make_comparison(runs, found), sections.make_harder(found))
    targets = count_targets(claim for section in made for claim in section.claims)
    report = Report(
        title="Puzzles with a reward that a program computes",
        first_paragraph=f"{targets} {sections.describe_ends(found)}.",
        sections=made,
        configs=_list_configs(runs),
        provenance=_describe_provenance(runs),
        fairness=_describe_fairness(runs, found),
        quick=scale.quick,
        claims=CHAPTER,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _list_configs(runs: Runs) -> tuple[ConfigListing, ...]:
    scale = runs.scale
    every = len(scale.methods) == len(METHODS)
    command = f"{COMMAND} --workdir=DIR{' --quick' * scale.quick}{' --every_method' * every}"
    return list_configs(runs.done, command)


def _describe_provenance(runs: Runs) -> Mapping[str, Any]:
    """Collects the versions and devices of the runs, and how long they took."""
    attempts = [attempt for name in runs.done for attempt in runs.provenance(name)]
    seeds = [*runs.tuning_seeds, *range(runs.scale.seeds)]
    measured = {
        "minutes of fine-tuning": round(sum(map(runs.fine_tuning_seconds, seeds)) / 60, 1),
        "minutes of all runs, compilation included": round(sum(map(runs.seconds, runs.done)) / 60, 1),
    }
    return describe_runs(len(runs.done), attempts, measured)


def _describe_fairness(runs: Runs, found: Found) -> Fairness:
    config, seeds = runs.config({}), runs.scale.seeds
    rl = config.rl
    tuning = (
        f"Each has {SETTINGS_PER_METHOD} settings to choose from, tried on {len(runs.tuning_seeds)} seeds from "
        f"{TUNING_SEED} up, which are never reported and have fine-tuned policies of their own. The setting with the "
        "most right answers over the last third of the looks at held-out puzzles is taken. So few choose noisily."
        if runs.tuning_seeds
        else "Nothing is tuned in this quick version: each method has the first of its settings."
    )
    table = make_tuning_table(
        found.tuned.values(),
        caption="Every setting tried, by the share of right answers to held-out puzzles",
        score_label="right answers",
        format_score=lambda score: "diverged" if np.isinf(score) else f"{score:.3f}",
    )
    return Fairness(
        paragraphs=(
            f"All {len(found.methods)} methods begin with the same fine-tuned policy of each seed, a decoder of "
            f"{config.model.num_layers} layers of {config.model.hidden_size} units that learnt {config.sft.num_steps} "
            "batches of examples from random parameters. Each then samples "
            f"{rl.num_samples} answers to each of {rl.num_prompts} puzzles an update, for {rl.num_updates} updates of "
            f"{rl.num_epochs} epochs, with the same optimiser. The reward is 1 for a right answer and 0 for any "
            "other; nothing is taken off it.",
            "What a method does not choose is as its paper or its section of the config has it.",
            tuning,
            f"Reported are seeds 0 to {seeds - 1}, {name_bands(seeds, '95% bootstrap intervals over seeds')}. No "
            "puzzle that is judged was an example or was learnt from.",
        ),
        tables=(table,) if table.rows else (),
    )
