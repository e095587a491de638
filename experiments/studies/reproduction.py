"""The whole reproduction: every study in turn, then the page and the files that it is quoted from."""

from collections.abc import Mapping
from typing import Any

from experiments.studies.claims import count_verdicts
from experiments.studies.methods import SETTINGS_PER_METHOD
from experiments.studies.paper import ablations, bandits, cartpole, deep_sea, gradients, references, walk
from experiments.studies.runs import Runs
from experiments.studies.scale import Scale
from experiments.studies.tasks import CARTPOLE, WALK
from experiments.studies.tuning import TUNING_SEED, Tuned
from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import ConfigListing, Fairness, Report, Table
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath, read_attempts, read_summary
from haepo_jax.runtime import startup
from haepo_jax.text import format_settings, shorten_keys

COMMAND = "python -m experiments.paper"


def reproduce(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the studies, and writes `report.html`, `verdicts.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the studies are.

    Returns:
      The page and its first paragraph.

    Raises:
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs = Runs(directory, scale)
    poles = cartpole.run_study(runs)
    walks, walk_tuned = walk.run_study(runs, poles.recommended)
    games, bandit_tuned = bandits.run_study(runs, poles.recommended)
    seas, sea_tuned = deep_sea.run_study(runs, poles.recommended)
    parts = ablations.run_study(runs, poles.recommended, {CARTPOLE.name: poles.tuned, WALK.name: walk_tuned})
    rules = references.run_study(runs, poles.recommended, poles.tuned)
    noise = gradients.run_study(runs, poles.tuned)
    sections = (games, walks, poles.section, seas, parts, rules, noise)
    report = Report(
        title="HAEPO and its baselines on bandits, a random walk, CartPole and DeepSea",
        first_paragraph=f"{count_verdicts(sections)} {poles.headline}",
        sections=sections,
        configs=_listings(runs),
        provenance=_provenance(runs),
        fairness=_fairness(scale, (poles.tuned, walk_tuned, bandit_tuned, sea_tuned)),
        quick=scale.quick,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _listings(runs: Runs) -> tuple[ConfigListing, ...]:
    flag = " --quick" if runs.scale.quick else ""
    command, defaults = f"{COMMAND} --workdir=DIR{flag}", to_json(ExperimentConfig())
    return tuple(
        ConfigListing(name, f"{config.algorithm} on {config.env}", to_json(config), command, defaults)
        for name, config in sorted(runs.done.items())
    )


def _provenance(runs: Runs) -> Mapping[str, Any]:
    """Collects the versions and devices of the runs, and how long they took."""
    attempts, seconds = [], 0.0
    for name in runs.done:
        folder = runs.directory / "runs" / name
        attempts += read_attempts(folder)
        clock = read_summary(folder)["wall_clock"]
        seconds += clock["compile_seconds"] + clock["run_seconds"]
    newest = max(attempts, key=lambda attempt: attempt["last_written"])
    return {
        "runs": len(runs.done),
        "first run": min(attempt["started"] for attempt in attempts),
        "last run": newest["last_written"],
        "minutes of all runs, compilation included": round(seconds / 60, 1),
        "CPU cores": startup.usable_cores(),
        "device": f"{len(newest['devices'])} x {newest['device_kind']}",
        "commit": sorted({str(attempt["git"]) for attempt in attempts}),
        "python": newest["python"],
        "packages": newest["packages"],
    }


def _tuning_in_words(scale: Scale) -> str:
    if not scale.tuning_seeds:
        return "Nothing is tuned in this quick version: each method has the first of its settings."
    return (
        f"Each has the same number of settings to choose from: {SETTINGS_PER_METHOD}, each tried on "
        f"{scale.tuning_seeds} seeds counted from {TUNING_SEED}, which are never reported. The setting whose curve is "
        "best in the mean over learning is taken; on bandits, in the mean over the last tenth of the pulls. Bandits "
        f"are tuned with {scale.arms[-1]} arms and DeepSea at size {scale.deep_seas[0]}, and played elsewhere with "
        "the same settings."
    )


def _fairness(scale: Scale, choices: tuple[Mapping[str, Tuned], ...]) -> Fairness:
    tables = []
    for tuned in choices if scale.tuning_seeds else ():
        task = next(iter(tuned.values())).task
        rows: list[tuple[str, ...]] = []
        marked: list[int] = []
        for choice in tuned.values():
            for settings, score in sorted(choice.tried, key=lambda pair: -task.better * pair[1]):
                if settings == choice.chosen:
                    marked.append(len(rows))
                rows.append((choice.method.label, format_settings(shorten_keys(settings)), f"{score:.4g}"))
        tables.append(
            Table(
                caption=f"{task.label}: every setting tried, by {task.metric.replace('_', ' ')}, mean over "
                + ("learning" if task.judged_share == 1 else f"its last {task.judged_share:.0%}"),
                columns=("method", "settings", "score on tuning seeds"),
                rows=rows,
                marked=marked,
                folded=True,
            )
        )
    return Fairness(
        paragraphs=(
            "Every method has the same network (two hidden layers of 64 tanh units; PPO's critic is another of "
            "the same shape), the same optimiser, and the same budget of environment steps on each task. "
            + _tuning_in_words(scale),
            "Methods that learn from whole episodes take M = 16 of them an update (64 on bandits, as many pulls as "
            "PPO takes) and four gradient steps on each batch (REINFORCE one). PPO takes segments of the sizes that "
            "PPO codes ship, four epochs of four minibatches, and on CartPole also ten epochs, which makes it faster "
            "there.",
            f"Reported are {scale.seeds} seeds from 0 up, all seeds of a method in one compiled program; on bandits "
            f"{scale.instance_seeds} seeds on each of {scale.instances} bandits. Curves and tables give interquartile "
            f"means {name_bands(scale.seeds, '95% stratified bootstrap intervals')} unless they say otherwise.",
            "HAEPO got more attention than the others: its four epochs and the grid of its score log_ratio were set "
            "after several dozen settings had been tried on CartPole, on tuning seeds "
            "(docs/experiments/cartpole_race_settings.md). The grids of "
            "the others are from their literature, and the same care could well make those better too.",
            "The paper's own form of the method has the score sum, on bandits with returns normalised by their sum. "
            "The recommended form has the score that did best on tuning seeds of CartPole, and z-scored returns.",
        ),
        tables=tables,
    )
