"""The page of a sweep: which settings are best, which matter, and how far it is."""

import functools
import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from haepo_jax.analysis import sweeps
from haepo_jax.analysis.statistics import Estimate, interquartile_mean_band
from haepo_jax.analysis.summary import FINAL_UPDATES
from haepo_jax.analysis.sweeps import Scores, Sensitivity, Setting, Standings, Sweep, label_of
from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reporting import figures
from haepo_jax.reporting.heat_map import FAILED, heat_map
from haepo_jax.reporting.page import ConfigListing, Figure, Report, Section, Table
from haepo_jax.reporting.publishing import publish
from haepo_jax.reporting.words import interval, number
from haepo_jax.run_folder import read_json, storage_errors, write_file

TOP = 10
_MOST_PAIRED = 4
"""So many settings make at most 6 heat maps."""
_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""
_ONE_STYLE = figures.Style("#44546A", (0, ()), "o")
"""For rows of one kind, none of which is an algorithm."""


class Drawing(NamedTuple):
    """A figure yet to be drawn: for the page in two widths, and as a file."""

    draw: Callable[..., bytes]
    alt: str
    caption: str

    def for_page(self) -> Figure:
        """The figure of the page."""
        return figures.responsive(self.draw, alt=self.alt, caption=self.caption)

    def png(self) -> bytes:
        """The figure as a file of its own."""
        return self.draw(width=figures.WIDE, image_format="png")


class Chapter(NamedTuple):
    """A section of the page and its figures, which it does not hold yet."""

    section: Section
    drawings: tuple[Drawing, ...] = ()


class Numbers(NamedTuple):
    """All that the page tells of."""

    sweep: Sweep
    scores: Scores
    standings: Standings
    sensitivities: tuple[Sensitivity, ...]
    names: Mapping[str, str]
    """The swept settings as the page calls them, by their dotted names."""


def write_report(workdir: Path) -> Path:
    """Writes `report.html` into the folder of a sweep, and its figures as SVG and PNG into `figures/`.

    Args:
      workdir: the folder, also while the sweep runs.

    Returns:
      The path of the page.

    Raises:
      ConfigError: there is no sweep in the folder, or it has written nothing yet.
      StorageError: the folder cannot be written to.
    """
    numbers = analyse(sweeps.read_sweep(workdir))
    path = workdir / "provenance.json"
    attempts = read_json(path) if path.exists() else []
    chapters = make_chapters(numbers)
    report = Report(
        title=_title(numbers),
        first_paragraph=_headline(numbers),
        sections=tuple(_with_figures(chapter) for chapter in chapters),
        configs=(_listing(workdir, numbers.sweep, attempts),),
        provenance=_provenance(attempts),
    )
    page = publish(workdir, report)
    with storage_errors(workdir):
        for chapter in chapters:
            for count, drawing in enumerate(chapter.drawings, start=1):
                file = workdir / "figures" / f"{chapter.section.slug}-{count}.png"
                write_file(file, functools.partial(Path.write_bytes, data=drawing.png()))
    return page


def analyse(sweep: Sweep) -> Numbers:
    """Everything that is computed of a sweep.

    Raises:
      ConfigError: no member has a finite return.
    """
    scores = sweeps.score_members(sweep)
    standings = sweeps.rank_points(sweep, scores)
    found = sweeps.sensitivities(sweep, scores, standings)
    return Numbers(sweep, scores, standings, found, short_names([setting.name for setting in sweep.settings]))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted name, where that tells them apart.

    Example:
      >>> short_names(["haepo.kl_coef", "haepo.num_epochs", "ppo.num_epochs"])
      {'haepo.kl_coef': 'kl_coef', 'haepo.num_epochs': 'haepo.num_epochs', 'ppo.num_epochs': 'ppo.num_epochs'}
    """
    counts = Counter(name.rpartition(".")[2] for name in names)
    return {name: last if counts[last := name.rpartition(".")[2]] == 1 else name for name in names}


def make_chapters(numbers: Numbers) -> tuple[Chapter, ...]:
    """The sections of the page in order."""
    chapters = [_progress(numbers), _best(numbers), _sensitivity(numbers), _levels(numbers)]
    return tuple(chapter for chapter in chapters if chapter is not None)


def _with_figures(chapter: Chapter) -> Section:
    section = chapter.section
    drawn = tuple(drawing.for_page() for drawing in chapter.drawings)
    return Section(section.slug, section.title, section.question, section.findings, drawn, section.tables)


def _title(numbers: Numbers) -> str:
    config, swept = numbers.sweep.config, numbers.names
    env = "several environments" if "env" in swept else config["env"]
    algorithm = "several algorithms" if "algorithm" in swept else config["algorithm"].upper()
    return f"Sweep: {algorithm} on {env}"


def _headline(numbers: Numbers) -> str:
    sweep, standings = numbers.sweep, numbers.standings
    ranked, total = len(standings.ranking), len(sweep.points)
    best, default = int(standings.ranking[0]), sweeps.default_point(sweep)
    text = f"Of {_count(ranked, 'combination')} of settings, {_words(numbers, best)} is best: its final return is "
    text += f"{_score(numbers, best)}, the interquartile mean over {_count(int(standings.seeds[best]), 'seed')}"
    if default == best:
        text += "; it is the default"
    elif default is not None and standings.seeds[default]:
        text += f". The default has {_score(numbers, default)}"
    text += ". "
    if not sweep.done.all():
        if ranked < total:
            text += f"{_count(total - ranked, 'more combination')} have not come so far. "
        text += f"The sweep is not complete: all are compared after {_count(numbers.scores.updates, 'update')}."
    return text.strip()


def _progress(numbers: Numbers) -> Chapter:
    sweep = numbers.sweep
    members, begun, done = len(sweep.point), int(sweep.begun.sum()), int((sweep.begun & sweep.done).sum())
    seeds = np.bincount(sweep.point)
    each = f", {_count(int(seeds[0]), 'seed')} each" if (seeds == seeds[0]).all() else ""
    state = f"{begun:,} have begun and {done:,} are done" if done < members else "all are done"
    findings = [
        f"Of {_count(members, 'member')} {state}. They are {_count(len(sweep.points), 'combination')} of "
        f"{_count(len(sweep.settings), 'setting')}{each}."
    ]
    if done < members:
        findings.append(_about_comparison(numbers))
    findings.append(_about_diverged(numbers))
    rows = [
        (
            group.group,
            *(f"{count:,}" for count in (group.members, group.begun, group.done, group.diverged)),
            f"{group.most:,}" if group.fewest == group.most else f"{group.fewest:,} to {group.most:,}",
        )
        for group in sweeps.progress(sweep)
    ]
    table = Table(
        caption="Members of each group",
        columns=("group", "members", "begun", "done", "diverged", "updates done"),
        rows=rows,
        note="A group is one compiled program: its members differ in numbers alone. Done are members that have made "
        "all their updates, have used up their environment steps, or have diverged.",
        folded=len(rows) > _FOLDED_FROM,
    )
    return Chapter(
        Section("progress", "How far the sweep is", "Who has begun, and who is done?", findings, (), (table,))
    )


def _about_comparison(numbers: Numbers) -> str:
    sweep, scores = numbers.sweep, numbers.scores
    text = f"The sweep is not complete. Members are compared after the same number of updates, {scores.updates:,}"
    if late := int((sweep.begun & ~scores.compared).sum()):
        text += (
            f"; combinations that have not come so far, with {_count(late, 'member')} that have begun, are left out"
        )
    return f"{text}. What members did after these does not count here."


def _about_diverged(numbers: Numbers) -> str:
    gone, worst = int(numbers.sweep.diverged.sum()), number(numbers.scores.worst)
    if not gone:
        return "No member has diverged."
    text = f"{_count(gone, 'member')} diverged. "
    if counted := int(numbers.scores.diverged.sum()):
        later = f" Of them {counted:,} had by the update of the comparison." if counted < gone else ""
        return (
            f"{text}In every number of this page a member that diverged has the worst final return that any member "
            f"has, {worst}, so that a setting where few survive does not look good.{later}"
        )
    return f"{text}None had by the update of the comparison."


def _best(numbers: Numbers) -> Chapter:
    sweep, standings = numbers.sweep, numbers.standings
    best, default = int(standings.ranking[0]), sweeps.default_point(sweep)
    findings = [f"Best is {_words(numbers, best)}, with a final return of {_score(numbers, best)}."]
    if default is None:
        findings.append("The sweep does not hold the default, which is the setting of the base configuration itself.")
    elif default == best:
        findings.append("That is the default.")
    elif not standings.seeds[default]:
        findings.append("The default has not come so far yet.")
    else:
        place = int(np.flatnonzero(standings.ranking == default)[0]) + 1
        findings.append(
            f"The default, {_words(numbers, default)}, is number {place:,} of {len(standings.ranking):,} with "
            f"{_score(numbers, default)}."
        )
    findings.append(
        "The best of many settings looks better than it is on the seeds that it was chosen by: run it again with "
        "other seeds before you rely on its score."
    )
    exactly = Table(
        caption="The best setting, exactly",
        columns=("setting", "value"),
        rows=[(name, str(value)) for name, value in sweep.points[best].items()],
        folded=True,
    )
    tables = (_top_table(numbers, default), exactly)
    section = Section("best", "The best settings", "Which settings are best?", findings, (), tables)
    return Chapter(section, (_curves(numbers, best, default),))


def _top_table(numbers: Numbers, default: int | None) -> Table:
    sweep, standings = numbers.sweep, numbers.standings
    ranking = standings.ranking.tolist()
    shown = list(enumerate(ranking[:TOP], start=1))
    if default is not None and default in ranking[TOP:]:
        shown.append((ranking.index(default) + 1, default))
    rows = [
        (
            str(place),
            *(_value(sweep, setting, point) for setting in sweep.settings),
            str(standings.seeds[point]),
            _score(numbers, point),
            number(standings.median[point]),
            number(standings.worst[point]),
            f"{standings.diverged[point] / standings.seeds[point]:.0%}",
        )
        for place, point in shown
    ]
    heading = ("seeds", "final return", "median seed", "worst seed", "diverged")
    return Table(
        caption=f"The best {min(TOP, len(ranking))} of {_count(len(ranking), 'combination')}, by final return",
        columns=("rank", *(numbers.names[setting.name] for setting in sweep.settings), *heading),
        rows=rows,
        note=f"Final return: {_final(numbers)}; interquartile mean over seeds with its 95% bootstrap interval."
        + (" ✓ marks the default." if default in (point for _, point in shown) else ""),
        marked=[row for row, (_, point) in enumerate(shown) if point == default],
    )


def _curves(numbers: Numbers, best: int, default: int | None) -> Drawing:
    sweep = numbers.sweep
    wanted = {"best": best}
    if default == best:
        wanted = {"best, the default": best}
        about = f"The best setting is the default: {_words(numbers, best)}."
    elif default is not None and numbers.standings.seeds[default]:
        wanted["default"] = default
        about = f"The best setting, {_words(numbers, best)}, and the default, {_words(numbers, default)}."
    else:
        why = "The sweep does not hold the default." if default is None else "The default has not come so far yet."
        about = f"The best setting, {_words(numbers, best)}. {why}"
    series = []
    for label, point in wanted.items():
        x, values = sweeps.learning_curve(sweep, numbers.scores, point)
        series.append(figures.Series(label, x, *interquartile_mean_band(values)))
    by_steps = sweeps.counts_steps(sweep)
    return Drawing(
        functools.partial(
            figures.curves,
            series,
            x_label="environment steps" if by_steps else "updates",
            y_label="mean return of an update's episodes",
        ),
        alt="Return of "
        + " and of ".join(wanted)
        + f" against {'environment steps' if by_steps else 'updates'}: "
        + "; ".join(f"{curve.label} ends at {number(float(curve.centre[-1]))}" for curve in series)
        + ".",
        caption=f"{about} Interquartile mean over seeds with its 95% bootstrap band, at each point on its own; a "
        "member that has diverged counts as the worst final return from there on.",
    )


def _sensitivity(numbers: Numbers) -> Chapter | None:
    found = numbers.sensitivities
    # Where each value was tried in one combination only, it explains all there is.
    if not any(one.by_chance < 1 for one in found):
        return None
    first = found[0]
    if np.isnan(first.share.value):
        findings = ["The scores do not differ yet, so that there is nothing to explain."]
    else:
        findings = [
            f"{numbers.names[first.setting.name]} matters most: alone it explains {_share(first)} of the variance of "
            "the combinations' scores."
        ]
    grid = sweeps.is_grid(numbers.sweep)
    weak = [numbers.names[one.setting.name] for one in found if one.share.value <= one.by_chance]
    if weak and not grid:
        findings.append(f"No more than a setting without any effect would explain: {', '.join(weak)}.")
    table = Table(
        caption="What each swept setting explains alone of the variance of the combinations' scores",
        columns=("setting", "values", "explained share", *(() if grid else ("by chance",)), "best on average"),
        rows=[
            (
                numbers.names[one.setting.name],
                f"{len(one.setting.labels)}{' bins' if one.setting.binned else ''}",
                "–" if np.isnan(one.share.value) else _share(one),
                *(() if grid else (f"{one.by_chance:.0%}",)),
                one.best,
            )
            for one in found
        ],
        note="The correlation ratio (eta squared) of the scores over the values of the setting, or over bins with as "
        "many combinations each. What settings do together is in no one's share."
        + ("" if grid else " By chance: what a setting without any effect explains on average."),
    )
    resamples = (
        "95% bootstrap intervals over the seeds of each combination"
        if sweeps.draws_seeds(numbers.sweep, numbers.standings)
        else "95% bootstrap intervals over combinations, which lie rather high where these are few"
    )
    rows = [_row(numbers.names[one.setting.name], one.share) for one in found]
    drawing = Drawing(
        functools.partial(
            figures.intervals,
            rows,
            x_label="share of the variance of scores explained",
            given={row[0]: _ONE_STYLE for row in rows},
        ),
        alt="Explained share of each setting, from the most to the least: "
        + ", ".join(f"{name} {value:.2f}" for name, value, *_ in rows)
        + ".",
        caption=f"How much each swept setting explains alone, with {resamples}.",
    )
    section = Section("sensitivity", "What matters", "Which settings decide the score?", findings, (), (table,))
    return Chapter(section, (drawing,))


def _levels(numbers: Numbers) -> Chapter | None:
    """Heat maps of pairs of settings, or the intervals of the one that varies."""
    settings = [one.setting for one in numbers.sensitivities][:_MOST_PAIRED]
    if not settings:
        return None
    if len(settings) == 1:
        section = Section("values", "Every value", "How does the score depend on the setting?")
        return Chapter(section, (_one_setting(numbers, settings[0]),))
    varied = len(numbers.sweep.varied)
    pairs = [_paired(numbers, *two) for two in itertools.combinations(settings, 2)]
    findings = []
    if varied > len(settings):
        findings.append(f"Shown are the {len(settings)} settings that explain most, of {varied}.")
    if len(pairs) > 1:
        findings.append("A colour means the same in all of these figures.")
    section = Section("pairs", "Pairs of settings", "How do settings act together?", findings)
    scores = np.concatenate([pair.score.ravel() for pair in pairs])
    limits = float(np.nanmin(scores)), float(np.nanmax(scores))
    return Chapter(section, tuple(_heat_map(numbers, pair, limits) for pair in pairs))


def _one_setting(numbers: Numbers, setting: Setting) -> Drawing:
    sweep, scores = numbers.sweep, numbers.scores
    _, failed = sweeps.pooled(sweep, scores, setting)
    cell, rows = sweeps.members_cell(sweep, setting), []
    for level, label in enumerate(setting.labels):
        inside = scores.finals[(cell == level) & scores.compared]
        band = interquartile_mean_band(inside) if inside.size else Estimate(*[np.array(np.nan)] * 3)
        rows.append(_row(f"{label} ({failed[level]:.0%} diverged)" if failed[level] > 0 else label, band))
    name = numbers.names[setting.name]
    return Drawing(
        functools.partial(
            figures.intervals, rows, x_label=_final(numbers), given={row[0]: _ONE_STYLE for row in rows}
        ),
        alt=f"Final return for each {name}: " + ", ".join(f"{row[0]}: {number(row[1])}" for row in rows) + ".",
        caption=f"{name}: interquartile mean of the final returns of all members with such a value, and its 95% "
        f"bootstrap interval.{_about_bins(numbers, setting)}",
    )


def _row(label: str, estimate: Estimate) -> tuple[str, float, float, float]:
    """A row of a figure."""
    return label, float(estimate.value), float(estimate.low), float(estimate.high)


class _Pair(NamedTuple):
    """Two settings, and what `sweeps.pooled` says of them."""

    y: Setting
    x: Setting
    score: np.ndarray
    failed: np.ndarray


def _paired(numbers: Numbers, one: Setting, other: Setting) -> _Pair:
    # The longer side goes down, as a page has more room there.
    y, x = (one, other) if len(one.labels) >= len(other.labels) else (other, one)
    return _Pair(y, x, *sweeps.pooled(numbers.sweep, numbers.scores, y, x))


def _heat_map(numbers: Numbers, pair: _Pair, limits: tuple[float, float]) -> Drawing:
    y, x, score, failed = pair
    y_name, x_name = (numbers.names[setting.name] for setting in (y, x))
    row, column = np.unravel_index(int(np.nanargmax(score)), score.shape)
    notes = [_about_bins(numbers, y, x)]
    if (failed > 0).any():
        notes.append(f" {FAILED}: members diverged, and the share of those that did.")
    if np.isnan(score).any():
        notes.append(f" Grey: {_why_empty(numbers.sweep)}.")
    return Drawing(
        functools.partial(
            heat_map,
            score,
            failed,
            x_names=x.labels,
            y_names=y.labels,
            x_label=x_name,
            y_label=y_name,
            value_label=_final(numbers),
            failed_label="members that diverged",
            limits=limits,
        ),
        alt=f"Final return by {y_name} and {x_name}; the highest, {number(score[row, column])}, is at {y_name} "
        f"{y.labels[row]} and {x_name} {x.labels[column]}.",
        caption=f"{y_name} and {x_name}: the interquartile mean of the final returns of all members with both values"
        + (", whatever their other settings are." if len(numbers.sweep.varied) > 2 else ".")
        + "".join(notes),
    )


def _why_empty(sweep: Sweep) -> str:
    reasons = {
        "no member has come so far": not sweep.done.all(),
        "no combination is there": not sweeps.is_grid(sweep),
    }
    return ", or ".join(reason for reason, holds in reasons.items() if holds)


def _about_bins(numbers: Numbers, *settings: Setting) -> str:
    binned = [numbers.names[setting.name] for setting in settings if setting.binned]
    return f" Ranges of {' and of '.join(binned)} hold about as many combinations each." if binned else ""


def _words(numbers: Numbers, point: int) -> str:
    """The settings of a point."""
    sweep = numbers.sweep
    return ", ".join(f"{numbers.names[setting.name]} {_value(sweep, setting, point)}" for setting in sweep.settings)


def _value(sweep: Sweep, setting: Setting, point: int) -> str:
    if setting.binned:
        return label_of(sweep.points[point][setting.name])
    return setting.labels[setting.level[point]]


def _score(numbers: Numbers, point: int) -> str:
    """The score of a point with its interval."""
    members = (numbers.sweep.point == point) & numbers.scores.compared
    return interval(interquartile_mean_band(numbers.scores.finals[members]))


def _share(one: Sensitivity) -> str:
    return f"{one.share.value:.0%} [{one.share.low:.0%}, {one.share.high:.0%}]"


def _final(numbers: Numbers) -> str:
    """What a final return is."""
    return f"mean return of the last {_count(min(FINAL_UPDATES, numbers.scores.updates), 'update')}"


def _count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"


def _listing(workdir: Path, sweep: Sweep, attempts: Sequence[Mapping[str, Any]]) -> ConfigListing:
    # A list of points may be long; what they are is in members.json.
    config = {**sweep.config, "search": {k: v for k, v in sweep.config.get("search", {}).items() if k != "points"}}
    program, *flags = attempts[0]["command"][1:] if attempts else ("sweep", "--config=FILE", f"--workdir={workdir}")
    command = shlex.join(["python", "-m", f"experiments.{Path(program).stem}", *flags])
    defaults = to_json(ExperimentConfig())
    return ConfigListing(workdir.resolve().name, "The base configuration and what is swept", config, command, defaults)


def _provenance(attempts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the sweep is run with, and for how long."""
    if not attempts:
        return {}
    newest = attempts[-1]
    seconds = sum(attempt.get("compile_seconds", 0) + attempt.get("run_seconds", 0) for attempt in attempts)
    return {
        "attempts": len(attempts),
        "started": attempts[0]["started"],
        "last written": newest["last_written"],
        "outcome": newest["outcome"],
        "minutes, compilation included": round(seconds / 60, 1),
        "device of the first process": f"{len(newest['devices'])} x {newest['device_kind']}",
        "processes": newest["processes"],
        "commit": ", ".join(sorted({_commit(attempt["git"]) for attempt in attempts})),
        "python": newest["python"],
        "packages": newest["packages"],
    }


def _commit(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "not in a checkout"
    return f"{git['commit']}{', with changes' if git['dirty'] else ''}"
