"""The whole study: its runs, then the page and the files that it is quoted from."""

import dataclasses
from pathlib import Path

from experiments.studies.report_parts import describe_provenance, list_configs, make_tuning_table
from experiments.studies.runs import Runs
from experiments.studies.segments import games, lengths, memory, sharpness
from experiments.studies.segments.methods import METHODS, SETTINGS_PER_METHOD
from experiments.studies.segments.scale import Scale
from experiments.studies.segments.tasks import can_run
from experiments.studies.suite.selection import TUNING_SEED
from experiments.studies.targets import CHAPTER, count_targets
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import Fairness, Report
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.segments"


def run_study(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the study, and writes `report.html`, `verdicts.json`, `tables.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the study is. A memory task whose library is not installed, and that was not run here before, is
        left out.

    Returns:
      The page and its first paragraph.

    Raises:
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    left_out = tuple(task for task in scale.memory if not can_run(Path(directory), task))
    scale = dataclasses.replace(scale, memory=tuple(task for task in scale.memory if task not in left_out))
    runs: Runs[Scale] = Runs(directory, scale)
    remembered = memory.measure(runs)
    of_games = games.measure(runs)
    swept = lengths.measure(runs, of_games)
    sections = (
        games.make_section(of_games, scale),
        lengths.make_section(swept, of_games, scale),
        sharpness.make_section(sharpness.measure(runs, of_games), scale),
        memory.make_section(remembered, scale, left_out),
    )
    targets = count_targets(claim for section in sections for claim in section.claims)
    report = Report(
        title="Segments that compete, and policies that remember",
        first_paragraph=f"{targets} {games.describe_together(of_games)}.",
        sections=sections,
        configs=list_configs(runs, COMMAND),
        provenance=describe_provenance(runs),
        fairness=_describe_fairness(of_games, scale),
        quick=scale.quick,
        claims=CHAPTER,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _describe_fairness(of_games: games.Games, scale: Scale) -> Fairness:
    seeds = f"{scale.tuning_seeds} seed{'s' if scale.tuning_seeds > 1 else ''} from {TUNING_SEED} up"
    return Fairness(
        paragraphs=(
            "Both methods have the same networks (a policy and a value function of two hidden layers of 64 ReLU units "
            "each, or MinAtar's convolutional network), the same optimiser, whose learning rate falls to 0, the same "
            "bonus of entropy, and the same environment steps: 64 environments, as gymnax's PPO has on MinAtar, "
            "of 128 steps an update, in 4 epochs; of 4 minibatches for HAEPO and 8 for PPO, as serves each better.",
            f"Each has {SETTINGS_PER_METHOD} settings to choose from, tried on {seeds} of each game, which are never "
            "reported. The best by the mean normalised score at the end is the setting for all games and both "
            "networks. So few seeds choose noisily, and on a single game it may not be the best of either.",
            f"Reported are {scale.seeds} seeds from 0 up, {name_bands(scale.seeds, '95% bootstrap intervals')}"
            + (f"; with the convolutional network {scale.cnn_seeds}." if scale.cnn_seeds else "."),
            "HAEPO got more attention than PPO: its share of the effective sample size, 0.7, was the best of 0.5, 0.7 "
            "and 0.9 on the tuning seeds, and what else is not chosen here was found on Breakout, on other seeds. "
            "Lengths and sharpness are compared with the setting that was chosen for segments of one step.",
            "Policies that remember have the default config on MemoryChain, and segments of one step on POPGym; "
            "nothing was tuned for them.",
        ),
        tables=(
            make_tuning_table(
                (of_games.tried[method.name] for method in METHODS),
                caption="Every setting tried, by the mean normalised score over the games",
                score_label="score on tuning seeds",
                format_score="{:.3f}".format,
            ),
        ),
    )
