"""The comparison of population-based training with random search: every run, then the page."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw, make_curve
from experiments.studies.pbt.scale import Scale
from experiments.studies.pbt.tasks import BOUNDS, TASKS, Task
from experiments.studies.report_parts import describe_provenance, list_configs
from experiments.studies.run_data import RunData, make_budget_grid
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import drop_unsupported, estimate_interquartile_mean
from haepo_jax.analysis.statistics import probability_of_improvement
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, Comparison, compare, decide
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_comparison, format_interval_cell, name_bands
from haepo_jax.reports.page import ClaimsChapter, Fairness, Report, Section, Table
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.lineage import read_lineage
from haepo_jax.text import format_value

COMMAND = "python -m experiments.pbt_study"
PBT, RANDOM = "PBT", "random search"
_FRACTIONS = {PBT: 0.2, RANDOM: 0.0}
_SCORES = ("best member", "mean member")


class Outcome(NamedTuple):
    """What one method came to on one task, each `[populations]`."""

    run: RunData
    best: np.ndarray
    """Greedy return on held-out episodes of the member with the largest return in its last updates of training."""
    mean: np.ndarray
    """Mean of that of all members."""
    curve: np.ndarray
    """`[populations, points]` the largest smoothed training return of a member, against its environment steps."""


def run_study(directory: StrPath, scale: Scale) -> PublishedReport:
    """Does what is missing of the runs, and writes `report.html`, `verdicts.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept.
      scale: how large the study is.

    Returns:
      The page and its first paragraph.

    Raises:
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    runs = Runs(directory, scale)
    found = {
        task: {label: measure(runs, task, label, fraction) for label, fraction in _FRACTIONS.items()} for task in TASKS
    }
    sections = tuple(_make_section(task, by_method, scale) for task, by_method in found.items())
    report = Report(
        title="Population-based training and random search",
        first_paragraph=describe_result(found, quick=scale.quick),
        sections=sections,
        configs=list_configs(runs, COMMAND),
        provenance=describe_provenance(runs),
        fairness=_describe_fairness(scale),
        quick=scale.quick,
        claims=ClaimsChapter(forms=None),
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def measure(runs: Runs[Scale], task: Task, label: str, fraction: float) -> Outcome:
    """Runs a method on a task, and measures each of its populations."""
    scale = runs.scale
    settings = {
        **task.settings(scale.budget),
        "num_seeds": scale.populations * scale.members,
        "pbt.populations": scale.populations,
        "pbt.fraction": fraction,
    }
    run = runs.get(f"{task.name}/{label.replace(' ', '_')}", settings)
    shape = (scale.populations, scale.members)
    chosen_by = find_last_means(follow_lineages(run, "episode_return"), task.exchanges_every).reshape(shape)
    evaluated = find_last_evaluations(follow_lineages(run, "eval_return")).reshape(shape)
    grid = make_budget_grid(run.config["max_env_steps"])
    curves = run.curve("episode_return", grid, failure=0.0, window=task.window * scale.budget)
    return Outcome(
        run,
        np.take_along_axis(evaluated, chosen_by.argmax(axis=1)[:, None], axis=1)[:, 0],
        evaluated.mean(axis=1),
        curves.reshape(*shape, -1).max(axis=1),
    )


def follow_lineages(run: RunData, name: str) -> np.ndarray:
    """Returns a metric of each member's policy, `[members, updates]`: at each update of the member that held it."""
    lineage, values = read_lineage(run.path), run.metric(name)
    assert lineage is not None
    followed = np.full_like(values, np.nan)
    for member in range(len(values)):
        path = lineage.trace(member)
        followed[member, : len(path)] = values[path, np.arange(len(path))]
    return followed


def find_last_evaluations(evaluated: np.ndarray) -> np.ndarray:
    """Finds the newest evaluation of each member.

    Args:
      evaluated: `[members, updates]`, NaN where there was none.

    Returns:
      `[members]`; of one that was never evaluated, the worst that any member has.

    Example:
      >>> find_last_evaluations(np.array([[np.nan, 2.0, 3.0, np.nan], [np.nan, np.nan, np.nan, np.nan]]))
      array([3., 2.])
    """
    there = np.isfinite(evaluated)
    last = evaluated.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    values = np.take_along_axis(evaluated, last[:, None], axis=1)[:, 0].astype(np.float64)
    return np.where(there.any(axis=1), values, np.nanmin(evaluated) if there.any() else np.nan)


def find_last_means(values: np.ndarray, window: int) -> np.ndarray:
    """Computes the mean of each member's newest values.

    Args:
      values: `[members, updates]`, NaN where there is none.
      window: how many.

    Returns:
      `[members]`; -inf of one without any.

    Example:
      >>> find_last_means(np.array([[1.0, 2.0, 4.0, np.nan], [np.nan, np.nan, np.nan, np.nan]]), window=2)
      array([  3., -inf])
    """
    newest = [row[np.isfinite(row)][-window:] for row in values.astype(np.float64)]
    return np.array([row.mean() if row.size else -np.inf for row in newest])


def describe_result(found: Mapping[Task, Mapping[str, Outcome]], *, quick: bool) -> str:
    """Says in words where population-based training is ahead, behind, or not shown to be either."""
    words = []
    for task, by_method in found.items():
        for kind, made in compare_methods(by_method).items():
            word = {REPRODUCED: "ahead of", CONTRADICTED: "behind"}.get(decide(made), "not shown to differ from")
            word = "not to be compared, in a quick run, with" if quick else word
            words.append(
                f"the {kind} of PBT on {task.label} is {word} that of random search ({format_comparison(made)})"
            )
    return f"At equal environment steps, by greedy return: {'; '.join(words)}."


def compare_methods(by_method: Mapping[str, Outcome]) -> dict[str, Comparison]:
    """Compares the best and the mean member of populations, PBT minus random search."""
    of_pbt, of_random = by_method[PBT], by_method[RANDOM]
    pairs = ((of_pbt.best, of_random.best), (of_pbt.mean, of_random.mean))
    return {kind: compare(x[None], y[None]) for kind, (x, y) in zip(_SCORES, pairs, strict=True)}


def _make_section(task: Task, by_method: Mapping[str, Outcome], scale: Scale) -> Section:
    grid = make_budget_grid(by_method[PBT].run.config["max_env_steps"])
    claims = judge(
        f"PBT is ahead of random search on {task.label} at equal environment steps.",
        "Jaderberg et al. 2017",
        "Greedy return, difference of interquartile means over populations",
        {PBT: compare_methods(by_method)},
        paper=PBT,
        recommended=PBT,
        quick=scale.quick,
    )
    copies = sum(population["copies"] for population in by_method[PBT].run.summary["populations"])
    return Section(
        slug=task.name.replace("_", "-"),
        title=task.label,
        question="How good is the best member of a population, and how good are all?",
        findings=(
            f"In {scale.populations} populations with PBT members copied another one {copies:,} times.",
            f"A member took {_steps_each(by_method[PBT]):,.0f} environment steps with PBT, and "
            f"{_steps_each(by_method[RANDOM]):,.0f} in random search, of a budget of "
            f"{by_method[PBT].run.config['max_env_steps']:,}: it ends with the update that reaches it.",
        ),
        figures=(
            draw(
                figures.curves,
                [make_curve(label, grid, outcome.curve) for label, outcome in by_method.items()],
                x_label="environment steps of a member",
                y_label="largest return in the population",
                alt="Largest training return of a population against environment steps",
                caption="The largest smoothed training return of a population's members, interquartile mean over "
                f"{scale.populations} populations, {name_bands(scale.populations)}.",
            ),
        ),
        tables=(_make_table(by_method, scale), _make_settings_table(by_method[PBT].run)),
        claims=claims,
    )


def _steps_each(outcome: Outcome) -> float:
    summary = outcome.run.summary
    return summary["env_steps"] / len(summary["members"])


def _make_table(by_method: Mapping[str, Outcome], scale: Scale) -> Table:
    rows = []
    for kind, values in zip(_SCORES, zip(*((o.best, o.mean) for o in by_method.values()), strict=True), strict=True):
        of_pbt, of_random = values
        better = drop_unsupported(probability_of_improvement(of_pbt[None], of_random[None]), scale.populations)
        rows.append(
            (
                kind,
                *(format_interval_cell(estimate_interquartile_mean(own)) for own in values),
                format_comparison(compare(of_pbt[None], of_random[None])),
                format_interval_cell(better),
            )
        )
    return Table(
        caption=f"Greedy return on held-out episodes, interquartile mean over {scale.populations} populations",
        columns=("of", PBT, RANDOM, "difference", "probability of improvement"),
        rows=rows,
        note="The best member is that with the largest return in the last updates of training; its greedy return is "
        "of episodes that did not choose it. Both follow the policy's lineage: of a copy not evaluated since, "
        "they are its parent's. The probability of improvement is that of a population with PBT having more than one "
        f"of random search. {explain_brackets(scale.populations)}",
    )


def _make_settings_table(run: RunData) -> Table:
    return Table(
        caption="The best member of each population with PBT, with the settings that it ended with",
        columns=("population", "member", "final return in training", *(name.rpartition(".")[2] for name in BOUNDS)),
        rows=[
            (
                str(number),
                str(population["best_member"]),
                format_value(population["final_return"], 4),
                *(format_value(population["settings"][name], 3) for name in BOUNDS),
            )
            for number, population in enumerate(run.summary["populations"])
            if population["best_member"] is not None
        ],
        folded=True,
    )


def _describe_fairness(scale: Scale) -> Fairness:
    searched = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in BOUNDS.items())
    return Fairness(
        paragraphs=(
            f"Both have the same {scale.populations} populations of {scale.members} members with the same seeds and "
            f"the same first settings, drawn log-uniformly ({searched}), and each member the same environment steps. "
            "Random search keeps the settings of each member to the end; with PBT the worst fifth of a population "
            "copies the best fifth every few updates and changes the settings by a factor of 0.8 or 1.25. The "
            "populations are independent of one another: intervals are over them.",
            "Held-out episodes are played in training and counted for neither. No setting of PBT was tuned: fraction "
            "and factors are those of its paper, and exchanges are set so that a member sees about 10 to 40 of them.",
        )
    )
