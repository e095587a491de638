"""JaxMARL's switch riddle and simple spread, beside IPPO of ours and of JaxMARL."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.studies.agents import peers
from experiments.studies.agents.methods import IPPO, JOINT, ON_RIDDLE, ON_SPREAD, SEGMENTS, SEGMENTS_ON_RIDDLE
from experiments.studies.agents.peers import Baseline
from experiments.studies.agents.ranking import SOURCE
from experiments.studies.agents.scale import Scale
from experiments.studies.agents.tasks import SIMPLE_SPREAD, SWITCH_RIDDLE
from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from experiments.studies.suite.learning import Learned, learn, measure_random
from experiments.studies.suite.selection import Tried, tune
from experiments.studies.suite.tasks import Task
from experiments.studies.targets import judge_count, judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, format_number, name_bands
from haepo_jax.reports.page import Figure, Section, Table

_SHARE = 0.9
"""Of the most there is in the switch riddle."""
_CONVENTION = "Returns are means over agents; those that JaxMARL logs for simple spread are that times the agents."


@dataclasses.dataclass(frozen=True)
class Riddle:
    """What was reached on the switch riddle."""

    learned: Mapping[str, Learned]
    """By the name of the method."""
    baseline: Baseline | None


@dataclasses.dataclass(frozen=True)
class Spread:
    """What was reached on simple spread."""

    tried: Mapping[str, Tried]
    """By the name of the method: every setting on tuning seeds."""
    learned: Mapping[str, Learned]
    """By the name of the method."""
    baseline: Baseline | None


def list_riddle_runs(scale: Scale) -> tuple[str, ...]:
    """Lists the names of the runs on the switch riddle."""
    return tuple(f"{SWITCH_RIDDLE.name}/{method.name}" for method in ON_RIDDLE)


def list_spread_runs(scale: Scale) -> tuple[str, ...]:
    """Lists the names of the runs on simple spread."""
    return tuple(f"{SIMPLE_SPREAD.name}/{kind}{method.name}" for kind in ("tuning/", "") for method in ON_SPREAD)


def measure_riddle(runs: Runs[Scale]) -> Riddle:
    """Does what is missing of the runs on the switch riddle."""
    learned = {method.name: learn(runs, SWITCH_RIDDLE, method, {}, runs.scale.many_seeds) for method in ON_RIDDLE}
    return Riddle(learned, _load_baseline(runs, SWITCH_RIDDLE))


def measure_spread(runs: Runs[Scale]) -> Spread:
    """Does what is missing of the runs on simple spread: settings are chosen on tuning seeds."""
    random = measure_random(runs, SIMPLE_SPREAD)
    tried = {method.name: tune(runs, SIMPLE_SPREAD, method, random) for method in ON_SPREAD}
    learned = {
        method.name: learn(runs, SIMPLE_SPREAD, method, tried[method.name].chosen, runs.scale.seeds)
        for method in ON_SPREAD
    }
    return Spread(tried, learned, _load_baseline(runs, SIMPLE_SPREAD))


def _load_baseline(runs: Runs[Scale], task: Task) -> Baseline | None:
    return peers.load(runs.directory, task.settings["env"].partition(":")[2])


def make_riddle_section(riddle: Riddle, scale: Scale) -> Section:
    """Makes the section of the switch riddle, with its target."""
    ours, least = riddle.learned[SEGMENTS_ON_RIDDLE.name], _SHARE * SWITCH_RIDDLE.best
    finals = ours.scores.final
    return Section(
        slug="switch-riddle",
        title="Switch riddle",
        question="Does HAEPO with a policy that remembers solve the riddle?",
        findings=(
            f"{SEGMENTS_ON_RIDDLE.label}: of {len(finals)} seeds {int((finals >= least).sum())} come to {_SHARE:g} of "
            f"the most there is, {format_number(SWITCH_RIDDLE.best)}; random play has {format_number(ours.random)}.",
            *_mention_missing(riddle.baseline),
        ),
        figures=(_draw_curves(_label(riddle.learned, ON_RIDDLE), SWITCH_RIDDLE),),
        tables=(
            Table(
                caption=f"{SWITCH_RIDDLE.label}: return over the last tenth of learning, interquartile mean",
                columns=("method", "env steps", "return", "worst seed"),
                rows=[*_make_rows(riddle.learned, ON_RIDDLE), *_make_baseline_rows(riddle.baseline)],
                note=f"At most {format_number(SWITCH_RIDDLE.best)}: the chance that all three have been in the room. "
                + explain_brackets(len(finals)),
            ),
        ),
        claims=(
            judge_count(
                f"The switch riddle is solved to {_SHARE:g} of the most there is within a million environment steps.",
                SOURCE,
                f"Return at the end, where {format_number(least)} is asked for",
                finals,
                finals >= least,
                least=scale.enough_seeds,
                quick=scale.quick,
            ),
        ),
    )


def make_spread_section(spread: Spread, scale: Scale) -> Section:
    """Makes the section of simple spread, with its targets."""
    rows = _make_rows(spread.learned, ON_SPREAD)
    numbers = ", ".join(f"{row[0]} {row[2]}" for row in rows)
    return Section(
        slug="simple-spread",
        title="Simple spread",
        question="Is HAEPO at IPPO's return or above, of ours and of JaxMARL's own?",
        findings=(
            f"Return at the end: {numbers}; random play {format_number(spread.learned[JOINT.name].random)}. "
            + _CONVENTION,
            *_mention_missing(spread.baseline),
        ),
        figures=(_draw_curves(_label(spread.learned, ON_SPREAD), SIMPLE_SPREAD),),
        tables=(
            Table(
                caption=f"{SIMPLE_SPREAD.label}: return over the last tenth of learning, interquartile mean",
                columns=("method", "env steps", "return", "worst seed"),
                rows=[*rows, *_make_baseline_rows(spread.baseline)],
                note=f"{_CONVENTION} {explain_brackets(scale.seeds)}",
            ),
        ),
        claims=tuple(
            judge_target(
                f"On simple spread {method.label} is at IPPO's return or above.",
                SOURCE,
                "Return at the end, difference of interquartile means",
                _compare_with_ippo(spread, spread.learned[method.name]),
                quick=scale.quick,
            )
            for method in (JOINT, SEGMENTS)
        ),
    )


def _compare_with_ippo(spread: Spread, ours: Learned) -> dict[str, Comparison]:
    rivals = {f"{IPPO.label} of ours": spread.learned[IPPO.name].scores.final}
    if spread.baseline is not None:
        rivals[spread.baseline.code] = spread.baseline.returns
    return {name: compare(ours.scores.final[None], theirs[None]) for name, theirs in rivals.items()}


def _mention_missing(baseline: Baseline | None) -> tuple[str, ...]:
    words = "JaxMARL's own baseline was not run: docs/agents.md says how, and --baseline brings its numbers here."
    return () if baseline is not None else (words,)


def _make_rows(learned: Mapping[str, Learned], methods: Sequence[Method]) -> list[tuple[str, ...]]:
    return [
        _make_row(label, int(one.run.config["max_env_steps"]), one.scores.final)
        for label, one in _label(learned, methods).items()
    ]


def _label(learned: Mapping[str, Learned], methods: Sequence[Method]) -> dict[str, Learned]:
    return {method.label: learned[method.name] for method in methods}


def _make_baseline_rows(baseline: Baseline | None) -> list[tuple[str, ...]]:
    if baseline is None:
        return []
    return [_make_row(baseline.code, baseline.env_steps, baseline.returns)]


def _make_row(label: str, env_steps: int, returns: np.ndarray) -> tuple[str, ...]:
    cell = format_interval_cell(estimate_interquartile_mean(returns))
    return label, f"{env_steps:,}", cell, format_number(float(returns.min()))


def _draw_curves(learned: Mapping[str, Learned], task: Task) -> Figure:
    seeds = len(next(iter(learned.values())).scores.final)
    return draw(
        figures.curves,
        [make_curve(label, one.grid, one.curve()) for label, one in learned.items()],
        x_label="environment steps of a member",
        y_label="return, mean over agents",
        alt=f"Returns on {task.label} against environment steps",
        caption=f"{task.label}: smoothed return while learning, interquartile mean over {seeds} seeds, "
        f"{name_bands(seeds)}.",
    )
