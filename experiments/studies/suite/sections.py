"""The sections of the suite's page."""

from collections.abc import Mapping

import numpy as np

from experiments.studies.drawing import draw
from experiments.studies.methods import Method
from experiments.studies.suite.methods import HAEPO, METHODS, RIVALS
from experiments.studies.suite.results import Results
from experiments.studies.suite.targets import (
    OF_PPO,
    SOLVED,
    find_below_ppo,
    judge_tasks,
    judge_together,
    measure_steps_to_solve,
)
from experiments.studies.suite.tasks import CARTPOLE
from haepo_jax.analysis.few_seeds import drop_unsupported, estimate_interquartile_mean
from haepo_jax.analysis.statistics import (
    Estimate,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, format_number, name_bands
from haepo_jax.reports.page import Figure, Section, Table
from haepo_jax.text import format_settings, shorten_keys

_FORM_LABELS: Mapping[str, str] = {"one": "one setting for all tasks", "tuned": "tuned for each task"}
_THRESHOLDS = np.linspace(-0.2, 1.1, 131)


def make_sections(results: Results, *, quick: bool) -> tuple[Section, ...]:
    """Makes all sections.

    Args:
      results: what was measured.
      quick: whether the runs are quick ones, which decide nothing.
    """
    return (
        _compare_with_one_setting(results, quick=quick),
        _compare_tuned(results),
        _list_tasks(results, quick=quick),
        *_time_cartpole(results),
    )


def estimate_together(scores: np.ndarray) -> Estimate:
    """Computes the interquartile mean of `[tasks, seeds]` with its interval, seeds drawn again within their task."""
    estimate = Estimate(interquartile_mean(scores), *stratified_bootstrap(scores, interquartile_mean))
    return drop_unsupported(estimate, scores.shape[1])


def _compare_with_one_setting(results: Results, *, quick: bool) -> Section:
    seeds = _count_seeds(results)
    return Section(
        slug="one-setting",
        title="One setting for all tasks",
        question="Which method does best on tasks that nobody tuned it for?",
        findings=(_describe_together(results, "one"), *_describe_below_ppo(results)),
        figures=(
            _draw_together(results),
            _draw_profiles(results, "one"),
            draw(
                figures.intervals,
                [(rival.label, *map(float, _improves(results, rival, "one"))) for rival in RIVALS],
                x_label="probability of improvement",
                reference=0.5,
                alt="Probability that a run of HAEPO adaptive scores above one of each rival",
                caption=f"Probability that a run of {HAEPO.label} scores above a run of each rival on the same task, "
                f"one setting each, mean over tasks, {name_bands(seeds, '95% stratified bootstrap intervals')}. A tie "
                "is one half.",
            ),
        ),
        tables=(_tabulate_together(results), _tabulate_tasks(results, "one")),
        claims=judge_together(results, quick=quick),
    )


def _compare_tuned(results: Results) -> Section:
    return Section(
        slug="tuned",
        title="Tuned for each task",
        question="What does each method lose by its one setting?",
        findings=(_describe_together(results, "tuned"),),
        figures=(_draw_profiles(results, "tuned"),),
        tables=(_tabulate_tasks(results, "tuned"), _tabulate_chosen(results)),
    )


def _list_tasks(results: Results, *, quick: bool) -> Section:
    return Section(
        slug="tasks",
        title="Tasks, and targets of single ones",
        question="Which tasks are these, and what do 0 and 1 stand for on each?",
        findings=(
            "A score is the mean return (of bandits: minus the mean regret) over the last tenth of the environment "
            "steps of a run, under the policy that learns. Normalised, random play is 0 and the best known is 1. "
            "Nothing is clipped: a run may score below 0 or above 1. A run that diverged counts as random play from "
            "there on.",
        ),
        tables=(
            Table(
                caption="Tasks that are reported",
                columns=("task", "env steps", "random play", "best known", "which is"),
                rows=[
                    (
                        task.label,
                        f"{_steps_of(results, task.name):,}",
                        format_number(results.random[task.name]),
                        format_number(task.best),
                        task.source,
                    )
                    for task in results.tasks
                ],
                note="Random play is measured by this study.",
            ),
        ),
        claims=judge_tasks(results, quick=quick),
    )


def _time_cartpole(results: Results) -> tuple[Section, ...]:
    task = results.find(CARTPOLE.name)
    if task is None:
        return ()
    steps = {method.label: measure_steps_to_solve(results.reported[task.name][method.name]) for method in METHODS}
    seeds = _count_seeds(results)
    estimates = {label: estimate_interquartile_mean(values) for label, values in steps.items()}
    section = Section(
        slug="cartpole",
        title=f"{task.label}: env steps to {SOLVED:g}",
        question=f"After how many environment steps is a return of {SOLVED:g} reached, with the one setting?",
        findings=tuple(
            f"{label}: {format_interval_cell(estimate, infinite='never')}; "
            f"{int(np.isfinite(steps[label]).sum())} of {seeds} seeds get there."
            for label, estimate in estimates.items()
        ),
        figures=(
            draw(
                figures.intervals,
                [(label, *map(float, estimate)) for label, estimate in estimates.items()],
                x_label=f"environment steps to a return of {SOLVED:g}",
                alt=f"Environment steps to {SOLVED:g} for each method",
                caption=f"Environment steps until the smoothed return is {SOLVED:g}: interquartile mean over seeds, "
                f"{name_bands(seeds, 'its 95% interval')}. A seed that never gets there counts as never.",
            ),
        ),
    )
    return (section,)


def _describe_together(results: Results, form: str) -> str:
    seeds = _count_seeds(results)
    ranked = sorted(METHODS, key=lambda method: -float(interquartile_mean(results.scores(method, form))))
    numbers = "; ".join(
        f"{method.label} {format_interval_cell(estimate_together(results.scores(method, form)))}" for method in ranked
    )
    return (
        f"Interquartile mean of normalised scores over {len(results.tasks)} tasks x {seeds} seeds, "
        f"{_FORM_LABELS[form]} ({name_bands(seeds, '95% stratified bootstrap intervals')}): {numbers}."
    )


def _describe_below_ppo(results: Results) -> tuple[str, ...]:
    below = find_below_ppo(results)
    if not below:
        return (f"On no task is {HAEPO.label} below {OF_PPO} of PPO's normalised score, one setting each.",)
    names = ", ".join(task.label for task in below)
    return (f"{HAEPO.label} is below {OF_PPO} of PPO's normalised score, one setting each, on {names}.",)


def _improves(results: Results, rival: Method, form: str) -> Estimate:
    ours, theirs = (results.scores(method, form) for method in (HAEPO, rival))
    return drop_unsupported(probability_of_improvement(ours, theirs), ours.shape[1])


def _draw_together(results: Results) -> Figure:
    """The main figure: both forms of each method."""
    seeds = _count_seeds(results)
    forms = tuple(_FORM_LABELS)
    estimates = [[estimate_together(results.scores(method, form)) for form in forms] for method in METHODS]
    values, lows, highs = np.moveaxis(np.array(estimates, np.float64), -1, 0)
    return draw(
        figures.grouped_intervals,
        [method.label for method in METHODS],
        [_FORM_LABELS[form] for form in forms],
        values,
        lows,
        highs,
        x_label="interquartile mean of normalised scores",
        alt="Interquartile means of all methods, with one setting for all tasks and tuned for each",
        caption=f"Interquartile mean of normalised scores over {len(results.tasks)} tasks x {seeds} seeds, "
        f"{name_bands(seeds, '95% stratified bootstrap intervals')}: 0 is random play, 1 the best known on each task.",
    )


def _draw_profiles(results: Results, form: str) -> Figure:
    seeds = _count_seeds(results)
    series = []
    for method in METHODS:
        shares = performance_profile(results.scores(method, form), _THRESHOLDS)
        series.append(figures.Series(method.label, _THRESHOLDS, *drop_unsupported(shares, seeds)))
    return draw(
        figures.profiles,
        series,
        x_label="normalised score",
        alt=f"Performance profiles, {_FORM_LABELS[form]}",
        caption=f"Performance profiles, {_FORM_LABELS[form]}: the share of the runs of all tasks that score above a "
        f"normalised score, {name_bands(seeds)}.",
    )


def _tabulate_together(results: Results) -> Table:
    rows = []
    for method in METHODS:
        forms = [estimate_together(results.scores(method, form)) for form in _FORM_LABELS]
        area = estimate_together(results.scores(method, "one", "area"))
        better = "" if method is HAEPO else format_interval_cell(_improves(results, method, "one"))
        rows.append((method.label, *map(format_interval_cell, (*forms, area)), better))
    return Table(
        caption=f"All methods over {len(results.tasks)} tasks x {_count_seeds(results)} seeds",
        columns=(
            "method",
            *_FORM_LABELS.values(),
            "one setting, over the whole of learning",
            f"probability that {HAEPO.label} scores above it",
        ),
        rows=rows,
        note="Interquartile means of normalised scores at the end of the budget; the third over the whole of "
        "learning, the area under the curve. The last column is with one setting each. "
        f"{explain_brackets(_count_seeds(results))}",
    )


def _tabulate_tasks(results: Results, form: str) -> Table:
    """The score of each method on each task, in the task's own unit."""
    rows = [
        (
            task.label,
            format_number(results.random[task.name]),
            *(_format_middle(results.of_task(task, method, form, "final")) for method in METHODS),
            format_number(task.best),
        )
        for task in results.tasks
    ]
    return Table(
        caption=f"Score on each task, {_FORM_LABELS[form]}",
        columns=("task", "random play", *(method.label for method in METHODS), "best known"),
        rows=rows,
        note="Interquartile mean over seeds, in the task's own unit.",
    )


def _tabulate_chosen(results: Results) -> Table:
    rows = [
        (task.label, method.label, format_settings(shorten_keys(results.tuned[task.name][method.name].chosen)))
        for task in results.tasks
        for method in METHODS
    ]
    return Table("Settings chosen for each task", ("task", "method", "settings"), rows, folded=True)


def _format_middle(scores: np.ndarray) -> str:
    return format_number(float(interquartile_mean(scores[None])))


def _count_seeds(results: Results) -> int:
    return int(results.scores(HAEPO, "one").shape[1])


def _steps_of(results: Results, name: str) -> int:
    return int(results.reported[name][HAEPO.name].run.config["max_env_steps"])
