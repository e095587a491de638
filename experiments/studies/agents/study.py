"""The whole study, part by part: their runs, then the page and the files that it is quoted from."""

import dataclasses
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from experiments.studies.agents import benchmarks, ranking, self_play
from experiments.studies.agents.methods import SETTINGS_PER_METHOD
from experiments.studies.agents.scale import Scale
from experiments.studies.agents.tasks import SIMPLE_SPREAD, SWITCH_RIDDLE, can_run
from experiments.studies.report_parts import describe_provenance, list_configs, make_tuning_table
from experiments.studies.runs import Runs, is_finished
from experiments.studies.suite.selection import TUNING_SEED, Tried
from experiments.studies.suite.tasks import Task
from experiments.studies.targets import CHAPTER, count_targets
from haepo_jax.errors import ConfigError
from haepo_jax.reports.formatting import name_bands
from haepo_jax.reports.page import Fairness, Report, Section, Table
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath

COMMAND = "python -m experiments.agents"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the study, with a section of its own."""

    title: str
    list_runs: Callable[[Scale], tuple[str, ...]]
    measure: Callable[[Runs[Scale]], Any]
    make_section: Callable[[Any, Scale], Section]
    task: Task | None = None
    """Whose library it needs; None where it needs none."""


PARTS: dict[str, Part] = {
    "ranking": Part("Joint ranking", ranking.list_runs, ranking.measure, ranking.make_section),
    "self_play": Part("Self-play", self_play.list_runs, self_play.measure, self_play.make_section),
    "switch_riddle": Part(
        "The switch riddle",
        benchmarks.list_riddle_runs,
        benchmarks.measure_riddle,
        benchmarks.make_riddle_section,
        SWITCH_RIDDLE,
    ),
    "simple_spread": Part(
        "Simple spread",
        benchmarks.list_spread_runs,
        benchmarks.measure_spread,
        benchmarks.make_spread_section,
        SIMPLE_SPREAD,
    ),
}


def run_study(directory: StrPath, scale: Scale, parts: Collection[str] = tuple(PARTS)) -> PublishedReport:
    """Does what is missing of the study, and writes `report.html`, `verdicts.json`, `tables.json` and `figures/`.

    Args:
      directory: where everything goes. What an earlier call left there whole is kept, and is on the page.
      scale: how large the study is.
      parts: whose runs are done, of `PARTS`; one that needs a library which is not installed is left out.

    Returns:
      The page and its first paragraph.

    Raises:
      ConfigError: none of the parts can be done, and none was done here before.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT; called again, it resumes.
    """
    shown = {name: part for name, part in PARTS.items() if _is_shown(Path(directory), name, part, scale, parts)}
    left_out = [part for name, part in PARTS.items() if name not in shown]
    if not shown:
        raise ConfigError(_refuse(left_out))
    total = sum(len(part.list_runs(scale)) for part in shown.values())
    runs: Runs[Scale] = Runs(directory, dataclasses.replace(scale, runs=total))
    found = {name: part.measure(runs) for name, part in shown.items()}
    sections = tuple(part.make_section(found[name], scale) for name, part in shown.items())
    targets = count_targets(claim for section in sections for claim in section.claims)
    missing = "".join(f" {part.title} is left out: {_explain(part)}." for part in left_out)
    report = Report(
        title="Many agents",
        first_paragraph=targets + missing,
        sections=sections,
        configs=list_configs(runs, COMMAND),
        provenance=describe_provenance(runs),
        fairness=_describe_fairness(found, scale),
        quick=scale.quick,
        claims=CHAPTER,
    )
    return PublishedReport(publish(directory, report), report.first_paragraph)


def _is_shown(directory: Path, name: str, part: Part, scale: Scale, parts: Collection[str]) -> bool:
    names = part.list_runs(scale)
    if name in parts:
        return part.task is None or can_run(directory, part.task, names)
    return all(is_finished(directory, one) for one in names)


def _refuse(left_out: Iterable[Part]) -> str:
    return " ".join(f"{part.title} cannot be done: {_explain(part)}." for part in left_out)


def _explain(part: Part) -> str:
    if part.task is None:
        return "it was not asked for"
    return f"{part.task.settings['env'].partition(':')[0]} is not installed, or it was not asked for"


def _describe_fairness(found: dict[str, Any], scale: Scale) -> Fairness:
    seeds = f"{scale.tuning_seeds} seed{'s' if scale.tuning_seeds > 1 else ''} from {TUNING_SEED} up"
    return Fairness(
        paragraphs=(
            "Methods for teams share one network among agents, who see their number: a policy, and where there is one "
            "a value function, of two hidden layers of 64 tanh units each. They have the same environment steps, the "
            "same steps of an update, and a learning rate that falls to 0.",
            f"Each has {SETTINGS_PER_METHOD} settings to choose from, tried on {seeds}, which are never reported: on "
            "Signals-haepo for each number of agents anew, and on simple spread. So few seeds choose noisily.",
            f"Reported are {scale.seeds} seeds from 0 up, {name_bands(scale.seeds, '95% bootstrap intervals')}; of "
            f"what is to hold on most seeds, {scale.many_seeds}.",
            "In self-play nothing is chosen here: the settings were found by hand on seeds from 1000 up, HAEPO's with "
            "more attention than PPO's, and with and without a pool they are the same. So were those of the switch "
            "riddle.",
        ),
        tables=tuple(_make_tables(found)),
    )


def _make_tables(found: dict[str, Any]) -> Iterable[Table]:
    if "ranking" in found:
        for number, tried in found["ranking"].tried.items():
            yield _make_table(tried.values(), f"Signals-haepo, {number} agents")
    if "simple_spread" in found:
        yield _make_table(found["simple_spread"].tried.values(), SIMPLE_SPREAD.label)


def _make_table(tried: Iterable[Tried], where: str) -> Table:
    return make_tuning_table(
        tried,
        caption=f"Every setting tried, by the mean normalised score on {where}",
        score_label="score on tuning seeds",
        format_score="{:.3f}".format,
    )
