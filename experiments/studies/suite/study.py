"""The whole suite: its runs, then the page and the files that it is quoted from."""

from collections.abc import Iterable

from experiments.studies.methods import Method
from experiments.studies.report_parts import describe_provenance, list_configs, make_tuning_table
from experiments.studies.runs import Runs
from experiments.studies.suite.methods import HAEPO, METHODS, SETTINGS_PER_METHOD
from experiments.studies.suite.results import Results, measure
from experiments.studies.suite.scale import Scale
from experiments.studies.suite.sections import estimate_together, make_sections
from experiments.studies.suite.selection import TUNING_SEED
from experiments.studies.suite.targets import find_best_rival
from experiments.studies.targets import CHAPTER, count_targets
from haepo_jax.reports.formatting import format_interval, name_bands
from haepo_jax.reports.page import Claim, Fairness, Report
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.suite"


def run_suite(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the suite, and writes `report.html`, `verdicts.json`, `tables.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the suite is.

    Returns:
      The page and its first paragraph.

    Raises:
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs: Runs[Scale] = Runs(directory, scale)
    results = measure(runs)
    sections = make_sections(results, quick=scale.quick)
    report = Report(
        title=f"HAEPO and its baselines on {len(scale.reported)} tasks: one setting for all, and tuned for each",
        first_paragraph=_write_headline(results, [claim for section in sections for claim in section.claims]),
        sections=sections,
        configs=list_configs(runs, COMMAND),
        provenance=describe_provenance(runs),
        fairness=_describe_fairness(results, scale),
        quick=scale.quick,
        claims=CHAPTER,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _write_headline(results: Results, claims: Iterable[Claim]) -> str:
    """Counts the targets, names those that are not reached, and gives the numbers that decide the first."""
    rival = find_best_rival(results)
    numbers = (
        f"{HAEPO.label} {_format_together(results, HAEPO, 'one')} with one setting and "
        f"{_format_together(results, HAEPO, 'tuned')} tuned for each task, {rival.label}, the best rival with one "
        f"setting, {_format_together(results, rival, 'one')}"
    )
    return (
        f"{count_targets(claims)} Interquartile mean of normalised scores over {len(results.tasks)} tasks: {numbers}."
    )


def _format_together(results: Results, method: Method, form: str) -> str:
    return format_interval(estimate_together(results.scores(method, form)))


def _describe_fairness(results: Results, scale: Scale) -> Fairness:
    tuning = ", ".join(task.label for task in scale.tuning)
    seeds = f"{scale.tuning_seeds} seed{'s' if scale.tuning_seeds > 1 else ''} from {TUNING_SEED} up"
    return Fairness(
        paragraphs=(
            "Every method has the same network (two hidden layers of 64 tanh units; PPO's critic is another of the "
            "same shape), the same optimiser, and the same budget of environment steps on each task. None has a "
            "setting of its own for a task, but where it is tuned for each.",
            f"Each has {SETTINGS_PER_METHOD} settings to choose from, all numbers of one compiled program, each tried "
            f"on {seeds}, which are never reported. The one setting for all tasks is the best by the mean normalised "
            f"score over the tuning tasks, which are not reported ({tuning}). Tuned for each task, a method takes the "
            "best of the same settings on that task's own tuning seeds. So few seeds choose noisily: a tuned method "
            "may do worse than with its one setting.",
            "Methods that learn from whole episodes take as many as make 1,024 steps, 16 at least; PPO takes 8 "
            "environments of 128 steps. HAEPO as it was takes 16 episodes, and chooses among the settings of "
            "configs/cartpole.py and those around them.",
            f"Reported are {scale.seeds} seeds from 0 up, "
            f"{name_bands(scale.seeds, '95% intervals of a bootstrap that draws seeds again within each task')}.",
            "HAEPO got more attention than the others: its default was found on some of these tasks, on other seeds.",
        ),
        tables=(
            make_tuning_table(
                (results.one[method.name] for method in METHODS),
                caption="Every setting tried, by the mean normalised score over the tuning tasks",
                score_label="score on tuning seeds",
                format_score="{:.3f}".format,
            ),
        ),
    )
