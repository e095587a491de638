"""Teams of ever more agents: one score for all of them, or one for each, beside IPPO and MAPPO."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from experiments.studies.agents.methods import IPPO, JOINT, MAPPO, ON_SIGNALS, OWN, RANKINGS, SETTINGS_PER_METHOD
from experiments.studies.agents.scale import Scale
from experiments.studies.agents.tasks import NUM_EPISODES, SIGNAL_STEPS, make_signals_task
from experiments.studies.drawing import draw
from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from experiments.studies.suite.learning import Learned, learn, measure_random
from experiments.studies.suite.selection import Tried, tune
from experiments.studies.targets import judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, format_number, name_bands
from haepo_jax.reports.page import Claim, Figure, Section, Table

SOURCE = "target of this study"
_SIZE, _LARGEST, _SHARPNESS = "effective_sample_size", "max_weight", "target_temperature"


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What the methods came to on teams of each size."""

    tried: Mapping[int, Mapping[str, Tried]]
    """By the number of agents and the name of the method: every setting on tuning seeds."""
    learned: Mapping[int, Mapping[str, Learned]]
    """Likewise: the chosen setting on reported seeds."""

    def finals(self, number: int, method: Method) -> np.ndarray:
        """Returns the return over the last tenth of learning, `[seeds]`."""
        return self.learned[number][method.name].scores.final

    def weights(self, number: int, method: Method, metric: str) -> np.ndarray:
        """Returns a metric of the weights, its mean over all updates, `[seeds]`."""
        return np.nanmean(self.learned[number][method.name].run.metric(metric), axis=1)

    def shares(self, number: int, method: Method) -> np.ndarray:
        """Returns the effective sample size as a share of the trajectories that compete, `[seeds]`."""
        return self.weights(number, method, _SIZE) / NUM_EPISODES


def list_runs(scale: Scale) -> tuple[str, ...]:
    """Lists the names of the runs."""
    tasks = (make_signals_task(number).name for number in scale.numbers)
    return tuple(f"{task}/{kind}{m.name}" for task in tasks for kind in ("tuning/", "") for m in ON_SIGNALS)


def measure(runs: Runs[Scale]) -> Ranking:
    """Does what is missing of the runs: settings are chosen for each number of agents, on tuning seeds."""
    tried, learned = {}, {}
    for number in runs.scale.numbers:
        task = make_signals_task(number)
        random = measure_random(runs, task)
        tried[number] = {method.name: tune(runs, task, method, random) for method in ON_SIGNALS}
        learned[number] = {
            method.name: learn(runs, task, method, tried[number][method.name].chosen, runs.scale.seeds)
            for method in ON_SIGNALS
        }
    return Ranking(tried, learned)


def describe(ranking: Ranking) -> str:
    """Writes what each method comes to with most agents."""
    number = max(ranking.learned)
    returns = ", ".join(
        f"{method.label} {format_interval_cell(estimate_interquartile_mean(ranking.finals(number, method)))}"
        for method in ON_SIGNALS
    )
    return f"Return with {number} agents, of at most {SIGNAL_STEPS}: {returns}"


def make_section(ranking: Ranking, scale: Scale) -> Section:
    """Makes the section, with its targets."""
    least, most = min(scale.numbers), max(scale.numbers)
    return Section(
        slug="ranking",
        title="One score for the team, or one for each agent",
        question="Does joint ranking hold up as the number of agents grows?",
        findings=(f"{describe(ranking)}.", _describe_weights(ranking, least, most)),
        figures=(_draw_returns(ranking, scale), _draw_shares(ranking, scale)),
        tables=(_make_returns_table(ranking, scale), _make_weights_table(ranking, scale)),
        claims=(
            *(
                _judge(ranking, scale, rival, words)
                for rival, words in (
                    (OWN, "each agent's own ranking"),
                    (IPPO, "IPPO"),
                    (MAPPO, "MAPPO"),
                )
            ),
            judge_target(
                f"With {most} agents the effective sample size of joint ranking is at that with {least} or above.",
                SOURCE,
                "Share of the trajectories that compete, difference of interquartile means",
                {JOINT.label: _compare(ranking.shares(most, JOINT), ranking.shares(least, JOINT))},
                quick=scale.quick,
            ),
        ),
    )


def _judge(ranking: Ranking, scale: Scale, rival: Method, words: str) -> Claim:
    return judge_target(
        f"Whatever the number of agents, joint ranking is at {words} or above.",
        SOURCE,
        "Return at the end, difference of interquartile means",
        {
            f"{number} agents": _compare(ranking.finals(number, JOINT), ranking.finals(number, rival))
            for number in scale.numbers
        },
        quick=scale.quick,
    )


def _compare(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    return compare(ours[None], theirs[None])


def _describe_weights(ranking: Ranking, least: int, most: int) -> str:
    shares = "; ".join(
        f"{method.label} {_cell(ranking.shares(least, method))} and {_cell(ranking.shares(most, method))}"
        for method in RANKINGS
    )
    return (
        f"Effective sample size as a share of the {NUM_EPISODES} trajectories that compete, with {least} agents and "
        f"with {most}: {shares}."
    )


def _draw_returns(ranking: Ranking, scale: Scale) -> Figure:
    return draw(
        figures.curves,
        [_make_series(method, scale, functools.partial(ranking.finals, method=method)) for method in ON_SIGNALS],
        x_label="agents",
        y_label="return at the end",
        x_log=True,
        alt="Returns of all methods on Signals-haepo against the number of agents",
        caption="Signals-haepo: mean return over agents in the last tenth of learning, interquartile mean over "
        f"{scale.seeds} seeds, {name_bands(scale.seeds)}; at most {SIGNAL_STEPS}.",
    )


def _draw_shares(ranking: Ranking, scale: Scale) -> Figure:
    return draw(
        figures.curves,
        [_make_series(method, scale, functools.partial(ranking.shares, method=method)) for method in RANKINGS],
        x_label="agents",
        y_label="effective sample size, share",
        x_log=True,
        y_limits=(0.0, 1.0),
        alt="Effective sample size of the rankings against the number of agents",
        caption=f"Effective sample size after the last step on a batch, as a share of its {NUM_EPISODES} episodes: "
        f"mean over all updates, interquartile mean over {scale.seeds} seeds, {name_bands(scale.seeds)}.",
    )


def _make_series(method: Method, scale: Scale, values: Callable[[int], np.ndarray]) -> figures.Series:
    estimates = [estimate_interquartile_mean(values(number)) for number in scale.numbers]
    value, low, high = np.array(estimates, np.float64).T
    return figures.Series(method.label, np.array(scale.numbers, np.float64), value, low, high)


def _make_returns_table(ranking: Ranking, scale: Scale) -> Table:
    rows = [
        (
            str(number),
            format_number(by[JOINT.name].random),
            *(_cell(by[method.name].scores.final) for method in ON_SIGNALS),
        )
        for number, by in ranking.learned.items()
    ]
    steps = ranking.learned[scale.numbers[0]][JOINT.name].run.config["max_env_steps"]
    return Table(
        caption=f"Return over the last tenth of {steps:,} environment steps, interquartile mean over {scale.seeds} "
        f"seeds; at most {SIGNAL_STEPS}",
        columns=("agents", "random play", *(method.label for method in ON_SIGNALS)),
        rows=rows,
        note=f"Means over agents. Each number of agents has its own setting, one of {SETTINGS_PER_METHOD} of each "
        f"method. {explain_brackets(scale.seeds)}",
    )


def _make_weights_table(ranking: Ranking, scale: Scale) -> Table:
    rows = [
        (
            f"{method.label}, {number} agents",
            _cell(ranking.shares(number, method)),
            *(_cell(ranking.weights(number, method, metric)) for metric in (_LARGEST, _SHARPNESS)),
        )
        for method in RANKINGS
        for number in scale.numbers
    ]
    return Table(
        caption=f"Weights of the trajectories that compete, mean over all updates, interquartile mean over "
        f"{scale.seeds} seeds",
        columns=("ranking", "effective sample size, share", "largest weight", "sharpness b"),
        rows=rows,
        note=f"After the last step on a batch of {NUM_EPISODES} episodes; of each agent's own, the mean over agents. "
        f"b is the temperature of the target, in units of the normalised returns. {explain_brackets(scale.seeds)}",
    )


def _cell(values: np.ndarray) -> str:
    return format_interval_cell(estimate_interquartile_mean(values))
