"""The numbers of a sweep, from its folder, whether it is complete or still running.

A *point* is a combination of the swept settings; its members differ in their seeds alone. The score of a member is its
final return, that of a point the interquartile mean over its members.

While a sweep runs, its members have come to different updates. They are compared after the same number of them, the
one at which the most updates of all members count. A point of which a member goes on and has not come so far is left
out, so that a wave of members that has only begun does not hold back those that are done. Members that have stopped
(they diverged, or used up their environment steps) have no more rows and hold back no one.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset

from haepo_jax.analysis.metrics import read_members
from haepo_jax.analysis.statistics import Estimate, interquartile_mean, seed_mean, stratified_bootstrap
from haepo_jax.analysis.summary import FINAL_UPDATES
from haepo_jax.config_checks import flatten
from haepo_jax.errors import ConfigError
from haepo_jax.run_folder import is_complete, read_json

CURVE_POINTS = 100
_MOST_VALUES = 12
"""A setting with more values than this is shown in bins."""
_MOST_BINS = 6
_COLUMNS = {
    "member": pa.int32(),
    "update": pa.int32(),
    "env_steps": pa.int64(),
    "diverged": pa.bool_(),
    "episode_return": pa.float32(),
}


class Setting(NamedTuple):
    """A swept setting.

    Attributes:
      name: dotted.
      labels: its levels in order: its values, or ranges of them.
      level: `[points]` index of each point's level.
      binned: whether a level is a range of values.
    """

    name: str
    labels: tuple[str, ...]
    level: np.ndarray
    binned: bool


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep has recorded so far.

    Attributes:
      config: its `config.json`.
      points: the settings of each point, by dotted name.
      settings: the swept settings.
      point: `[members]` index of each member's point.
      groups: the names of the compiled programs.
      group: `[members]` index of each member's group.
      returns: `[members, updates]` mean return of an update's episodes, NaN where there is no row.
      env_steps: `[members, updates]` environment steps so far, 0 where there is no row.
      rows: `[members]` updates recorded.
      diverged: `[members]` whether the member has diverged.
      done: `[members]` whether nothing more will come of it.
    """

    config: Mapping[str, Any]
    points: tuple[Mapping[str, Any], ...]
    settings: tuple[Setting, ...]
    point: np.ndarray
    groups: tuple[str, ...]
    group: np.ndarray
    returns: np.ndarray
    env_steps: np.ndarray
    rows: np.ndarray
    diverged: np.ndarray
    done: np.ndarray

    @property
    def begun(self) -> np.ndarray:
        """`[members]` whether it has a row."""
        return self.rows > 0

    @property
    def varied(self) -> tuple[Setting, ...]:
        """The settings of more than one level."""
        return tuple(setting for setting in self.settings if len(setting.labels) > 1)


class Scores(NamedTuple):
    """What members are compared by.

    Attributes:
      updates: the number of updates after which they are compared.
      compared: `[members]` whether it and all members of its point that have begun have come so far, or have stopped.
      finals: `[members]` final returns, mean over the last 10 of these updates; that of one that had diverged is
        `worst`, that of one that is not compared NaN.
      diverged: `[members]` whether it had diverged by then.
      worst: the worst final return of any member that is compared, those that diverged included.
    """

    updates: int
    compared: np.ndarray
    finals: np.ndarray
    diverged: np.ndarray
    worst: float


class Standings(NamedTuple):
    """Of each point, `[points]`, NaN where no member is compared.

    Attributes:
      seeds: members that are compared.
      score: interquartile mean of their final returns.
      median: their median.
      worst: the worst of them.
      diverged: how many of them diverged.
      ranking: the points that are compared, the best first.
    """

    seeds: np.ndarray
    score: np.ndarray
    median: np.ndarray
    worst: np.ndarray
    diverged: np.ndarray
    ranking: np.ndarray


class Sensitivity(NamedTuple):
    """How much a setting matters.

    Attributes:
      setting: which.
      share: the share in [0, 1] of the variance of the points' scores that its levels explain alone (the correlation
        ratio, eta squared), with its 95% interval; NaN where fewer than two of its levels are compared, or all
        scores are equal.
      by_chance: the share that a setting without any effect explains on average where its levels are drawn, and not
        balanced against those of the others as in a grid.
      best: the level whose points have the highest mean score.
    """

    setting: Setting
    share: Estimate
    by_chance: float
    best: str


class Progress(NamedTuple):
    """How far a group is: members of each kind, and the fewest and the most updates of those that have begun."""

    group: str
    members: int
    begun: int
    done: int
    diverged: int
    fewest: int
    most: int


def read_sweep(workdir: Path) -> Sweep:
    """What a sweep has recorded so far.

    Args:
      workdir: its folder, also while it runs.

    Raises:
      ConfigError: there is no sweep in the folder, it has written nothing yet, or a file of it is damaged.
    """
    for name in ("config.json", "members.json"):
        if not (workdir / name).is_file():
            raise ConfigError(f"--workdir {workdir} holds no run: there is no {name} in it.")
    config, members = read_json(workdir / "config.json"), read_members(workdir)
    if not members or not members[0]["settings"]:
        raise ConfigError(
            f"--workdir {workdir} holds a run without swept settings; a report is made of the folder of a sweep."
        )
    columns = _read_columns(workdir)
    if not len(columns["member"]):
        raise ConfigError(
            f"--workdir {workdir} holds a sweep that has written no metrics yet; ask again after its first updates."
        )
    point, points = _distinct([member["settings"] for member in members])
    group, groups = _distinct([member.get("group", "all") for member in members])
    member, update = columns["member"], columns["update"]
    if member.max() >= len(members):
        raise ConfigError(
            f"{workdir / 'metrics'} has rows of member {member.max()}, but members.json has {len(members)} members: "
            "one of them is of another sweep."
        )
    shape = (len(members), int(update.max()) + 1)
    returns, env_steps = np.full(shape, np.nan, np.float32), np.zeros(shape, np.int64)
    returns[member, update] = columns["episode_return"]
    env_steps[member, update] = columns["env_steps"]
    rows = np.bincount(member, minlength=len(members))
    diverged = np.zeros(len(members), bool)
    diverged[member[columns["diverged"]]] = True
    most_updates, most_steps = (
        np.array([_limit(config, settings, name) for settings in points])[point]
        for name in ("num_updates", "max_env_steps")
    )
    spent = env_steps.max(axis=1) >= most_steps
    done = diverged | (rows >= most_updates) | spent | is_complete(workdir)
    choices = config.get("sweep", {})
    return Sweep(
        config=config,
        points=tuple(points),
        settings=tuple(_setting(name, [p[name] for p in points], choices.get(name)) for name in points[0]),
        point=point,
        groups=tuple(groups),
        group=group,
        returns=returns,
        env_steps=env_steps,
        rows=rows,
        diverged=diverged,
        done=done,
    )


def label_of(value: Any) -> str:
    """A value of a setting in words; long numbers in three digits.

    Example:
      >>> [label_of(value) for value in (0.003, 0.00123456, 0.999999, 4096, "sum", [64, 64])]
      ['0.003', '0.00123', '0.999999', '4096', 'sum', '64x64']
    """
    if isinstance(value, float):
        long, short = f"{value:g}", f"{value:.3g}"
        return short if len(long) > 6 and "." in short else long  # nearly 1 is not 1
    return "x".join(map(label_of, value)) if isinstance(value, list) else str(value)


def score_members(sweep: Sweep) -> Scores:
    """The final returns of all members, after the same number of updates.

    Raises:
      ConfigError: no member has a finite return.
    """
    updates = _common_updates(sweep)
    compared = _compared(sweep, updates)
    at = np.minimum(sweep.rows, updates)[:, None] - 1 - np.arange(FINAL_UPDATES)
    window = np.take_along_axis(sweep.returns, np.maximum(at, 0), axis=1).astype(np.float64)
    usable = (at >= 0) & np.isfinite(window) & compared[:, None]
    means = seed_mean(np.where(usable, window, np.nan), axis=1)
    if np.isnan(means).all():
        raise ConfigError("No member of the sweep has a finite return yet, so there is nothing to compare.")
    worst = float(np.nanmin(means))
    diverged = compared & sweep.diverged & (sweep.rows <= updates)
    finals = np.where(diverged | np.isnan(means), worst, means)
    return Scores(updates, compared, np.where(compared, finals, np.nan), diverged, worst)


def rank_points(sweep: Sweep, scores: Scores) -> Standings:
    """The points by their scores; those that tie by the mean of their final returns."""
    finals, point = scores.finals[scores.compared], sweep.point[scores.compared]

    def each(statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return by_cell(statistic, finals, point, len(sweep.points))

    score, mean = each(interquartile_mean), each(lambda runs: runs.mean(axis=(0, 1)))
    order = np.lexsort((-mean, -score))  # NaN is sorted last
    return Standings(
        seeds=np.bincount(point, minlength=len(sweep.points)),
        score=score,
        median=each(lambda runs: np.median(runs, axis=(0, 1))),
        worst=each(lambda runs: runs.min(axis=(0, 1))),
        diverged=np.bincount(sweep.point[scores.diverged], minlength=len(sweep.points)),
        ranking=order[~np.isnan(score[order])],
    )


def default_point(sweep: Sweep) -> int | None:
    """The point whose settings are the config's own; None where the sweep does not hold it."""
    own = flatten(sweep.config)
    return next((k for k, point in enumerate(sweep.points) if all(own.get(n) == v for n, v in point.items())), None)


def by_cell(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, cell: np.ndarray, count: int
) -> np.ndarray:
    """A statistic of the values in each cell.

    Args:
      statistic: maps `[1, runs, cells]` to `[cells]`, such as `interquartile_mean`.
      values: `[runs]`.
      cell: `[runs]` the cell of each.
      count: how many cells there are.

    Returns:
      `[count]`, NaN of an empty cell.

    Example:
      >>> by_cell(interquartile_mean, np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
      array([ 2., nan,  5.])
    """
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=count)
    starts = np.cumsum(sizes) - sizes
    result = np.full(count, np.nan)
    for size in np.unique(sizes[sizes > 0]):  # all cells of one size at once
        chosen = np.flatnonzero(sizes == size)
        result[chosen] = statistic(values[order[starts[chosen] + np.arange(size)[:, None]]][None])
    return result


def pooled(sweep: Sweep, scores: Scores, *settings: Setting) -> tuple[np.ndarray, np.ndarray]:
    """All members that share their levels of some settings, taken together.

    Args:
      sweep: the sweep.
      scores: of its members.
      *settings: which.

    Returns:
      The interquartile mean of their final returns and the share of them that diverged, each
      `[levels of the first, of the second, ...]`; NaN where none is compared.
    """
    shape = tuple(len(setting.labels) for setting in settings)
    cell = members_cell(sweep, *settings)[scores.compared]
    values = (scores.finals[scores.compared], scores.diverged[scores.compared].astype(np.float64))
    statistics = (interquartile_mean, lambda runs: runs.mean(axis=(0, 1)))
    score, share = (
        by_cell(statistic, value, cell, math.prod(shape)).reshape(shape)
        for statistic, value in zip(statistics, values, strict=True)
    )
    return score, share


def members_cell(sweep: Sweep, *settings: Setting) -> np.ndarray:
    """`[members]` which combination of the levels of some settings it is in, the last setting counting fastest."""
    cell = np.zeros(len(sweep.point), int)
    for setting in settings:
        cell = cell * len(setting.labels) + setting.level[sweep.point]
    return cell


def sensitivities(sweep: Sweep, scores: Scores, standings: Standings) -> tuple[Sensitivity, ...]:
    """How much each setting that varies matters, the most sensitive first.

    The intervals are bootstrap intervals: see `draws_seeds` for what is drawn again. A resample is noisier than the
    scores are, so that most may explain less; an interval is then widened to hold the share itself.
    """
    known = standings.ranking
    score = standings.score[known]
    if not sweep.varied:
        return ()
    found = []
    levels = np.stack([setting.level[known] for setting in sweep.varied], axis=-1)
    low, high = _share_intervals(sweep, scores, standings, levels)
    for number, setting in enumerate(sweep.varied):
        level, kinds = levels[:, number], len(np.unique(levels[:, number]))
        means = by_cell(lambda runs: runs.mean(axis=(0, 1)), score, level, len(setting.labels))
        told = kinds > 1 and bool(np.ptp(score) > 0)
        share = _explained(score, level) if told else np.array(np.nan)
        estimate = Estimate(share, np.minimum(low[number], share), np.maximum(high[number], share))
        by_chance = (kinds - 1) / max(len(known) - 1, 1)
        found.append(Sensitivity(setting, estimate, by_chance, setting.labels[int(np.nanargmax(means))]))
    return tuple(sorted(found, key=lambda one: -np.nan_to_num(one.share.value, nan=-1.0)))


def is_grid(sweep: Sweep) -> bool:
    """Whether the points are all combinations of given values, and neither drawn nor listed one by one."""
    search = sweep.config.get("search", {})
    return search.get("num_samples") is None and not search.get("points")


def draws_seeds(sweep: Sweep, standings: Standings) -> bool:
    """Whether the intervals of sensitivities draw the seeds of each point again, and not the points.

    The points of a grid are given, and chance is in their seeds; those of a random search are chance themselves. They
    are drawn too where points have one seed, or not all as many.
    """
    seeds = standings.seeds[standings.ranking]
    return is_grid(sweep) and bool(seeds.min() == seeds.max() > 1)


def learning_curve(sweep: Sweep, scores: Scores, point: int) -> tuple[np.ndarray, np.ndarray]:
    """The returns of a point's members, against environment steps where these are limited, else updates.

    A member that has diverged has the worst final return from there on, one that has stopped its last return.

    Args:
      sweep: the sweep.
      scores: of its members.
      point: index of a point that is compared.

    Returns:
      `[places]` updates, or environment steps up to what all members that did not diverge have taken; and the returns
      `[members, places]`.
    """
    members = np.flatnonzero((sweep.point == point) & scores.compared)
    ended = np.minimum(sweep.rows[members], scores.updates)
    dead = scores.diverged[members]
    if counts_steps(sweep):
        last = sweep.env_steps[members, ended - 1]
        end = int(last.max() if dead.all() else last[~dead].min())
        places = np.linspace(0, end, CURVE_POINTS + 1)[1:]
        steps = (sweep.env_steps[member, :count] for member, count in zip(members, ended, strict=True))
        at = np.stack([np.searchsorted(own, places, side="right") - 1 for own in steps])
        gone = dead[:, None] & (places > last[:, None])
    else:
        longest = scores.updates if dead.all() else int(ended[~dead].max())
        places = np.unique(np.linspace(1, longest, CURVE_POINTS).astype(int))
        at = np.minimum(places - 1, ended[:, None] - 1)
        gone = dead[:, None] & (places > ended[:, None])
    values = np.take_along_axis(sweep.returns[members], np.maximum(at, 0), axis=1).astype(np.float64)
    return places, np.where(gone | ~np.isfinite(values), scores.worst, values)


def counts_steps(sweep: Sweep) -> bool:
    """Whether members stop at a number of environment steps, which curves are then drawn against."""
    return sweep.config.get("max_env_steps") is not None


def progress(sweep: Sweep) -> tuple[Progress, ...]:
    """How far each group is."""
    fewest, most = np.full(len(sweep.groups), sweep.returns.shape[1]), np.zeros(len(sweep.groups), int)
    # What has stopped tells nothing of how far its group is, as long as another member goes on or went further.
    np.maximum.at(most, sweep.group, sweep.rows)
    going = sweep.begun & ~sweep.done
    np.minimum.at(fewest, sweep.group[going], sweep.rows[going])
    kinds = (np.ones(len(sweep.point), bool), sweep.begun, sweep.begun & sweep.done, sweep.diverged)
    of_kind = [np.bincount(sweep.group[members], minlength=len(sweep.groups)) for members in kinds]
    return tuple(
        Progress(name, *map(int, (*numbers, min(low, high), high)))
        for name, *numbers, low, high in zip(sweep.groups, *of_kind, fewest, most, strict=True)
    )


def _common_updates(sweep: Sweep) -> int:
    """The number of updates at which the most rows are compared; of two alike the smaller, for more members."""
    candidates = np.unique(sweep.rows[sweep.begun & ~sweep.done])
    if (sweep.begun & sweep.done).any():
        candidates = np.append(candidates, sweep.returns.shape[1])
    counts = [np.minimum(sweep.rows, updates)[_compared(sweep, updates)].sum() for updates in candidates]
    return int(candidates[int(np.argmax(counts))])


def _compared(sweep: Sweep, updates: int) -> np.ndarray:
    """`[members]` whether it is compared after so many updates.

    A member that has stopped waits for the others of its point: of those that diverge early nothing would be seen but
    that they diverged.
    """
    late = np.zeros(len(sweep.points), bool)
    late[sweep.point[sweep.begun & ~sweep.done & (sweep.rows < updates)]] = True
    return sweep.begun & ~late[sweep.point]


def _read_columns(workdir: Path) -> dict[str, np.ndarray]:
    """The rows of all parts, each column `[rows]`."""
    schema = pa.schema(_COLUMNS)  # as the parts of groups may differ in the columns that are not read here
    if not (workdir / "metrics").is_dir():
        return {name: np.empty(0, int) for name in _COLUMNS}
    try:
        table = pyarrow.dataset.dataset(workdir / "metrics", format="parquet", schema=schema).to_table()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{workdir / 'metrics'} cannot be read: {str(error).splitlines()[0]} (while the sweep runs, ask again)."
        ) from error
    missing = [name for name in ("member", "update", "env_steps") if table[name].null_count]
    if missing:
        raise ConfigError(f"{workdir / 'metrics'} is not that of a sweep: it has rows without {', '.join(missing)}.")
    table = table.set_column(3, "diverged", pa.compute.fill_null(table["diverged"], False))
    return {name: table[name].to_numpy() for name in _COLUMNS}


def _distinct[Item](items: Sequence[Item]) -> tuple[np.ndarray, list[Item]]:
    """Which of the distinct items each one is, and these in the order in which they are met."""
    numbers: dict[str, int] = {}
    distinct: list[Item] = []
    indices = np.empty(len(items), int)
    for place, item in enumerate(items):
        key = json.dumps(item, sort_keys=True)
        if key not in numbers:
            numbers[key] = len(distinct)
            distinct.append(item)
        indices[place] = numbers[key]
    return indices, distinct


def _limit(config: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> float:
    limit = settings.get(name, config.get(name))
    return math.inf if limit is None else limit


def _setting(name: str, values: Sequence[Any], choice: Any) -> Setting:
    """The levels of a setting, given its value at each point and what it was chosen from."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        level, distinct = _distinct(values)
        return Setting(name, tuple(map(label_of, distinct)), level, False)
    numbers = np.array(values, np.float64)
    uniques, level = np.unique(numbers, return_inverse=True)
    # So many that a cell of two settings holds two points on average.
    bins = min(max(math.isqrt(len(values) // 2), 2), _MOST_BINS)
    if len(uniques) <= (bins if isinstance(choice, Mapping) else _MOST_VALUES):
        # As they were given: of two that are equal as numbers, the first.
        given = [values[int(np.argmax(level == k))] for k in range(len(uniques))]
        labels = tuple(map(label_of, given))
        return Setting(name, labels if len(set(labels)) == len(labels) else tuple(map(str, given)), level, False)
    edges = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])
    _, level = np.unique(np.searchsorted(edges, numbers, side="right"), return_inverse=True)
    ranges = [numbers[level == k] for k in range(level.max() + 1)]
    return Setting(name, tuple(_range(inside.min(), inside.max()) for inside in ranges), level, True)


def _range(low: float, high: float) -> str:
    return _rounded(low) if low == high else f"{_rounded(low)} to {_rounded(high)}"


def _rounded(value: float) -> str:
    """A number in two digits, and few letters."""
    if value and abs(value) < 1e-3:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def _share_intervals(
    sweep: Sweep, scores: Scores, standings: Standings, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of the shares that settings explain, each `[settings]`.

    Args:
      sweep: the sweep.
      scores: of its members.
      standings: of its points.
      levels: `[points that are compared, settings]`.
    """
    known, count = standings.ranking, levels.shape[-1]
    if draws_seeds(sweep, standings):
        place = np.full(len(sweep.points), -1)
        place[known] = np.arange(len(known))
        members = np.flatnonzero(scores.compared)
        members = members[np.argsort(place[sweep.point[members]], kind="stable")]
        runs = scores.finals[members].reshape(len(known), -1)

        def shares(runs: np.ndarray) -> np.ndarray:
            score = interquartile_mean(np.moveaxis(runs, 1, 0)[None])
            fixed = levels.reshape(len(known), *[1] * (score.ndim - 1), count)
            return np.stack([_explained(score, fixed[..., k]) for k in range(count)], axis=-1)

    else:
        runs = np.concatenate([standings.score[known, None], levels], axis=-1)[None]

        def shares(runs: np.ndarray) -> np.ndarray:
            return np.stack([_explained(runs[0, ..., 0], runs[0, ..., k + 1]) for k in range(count)], axis=-1)

    # Of a great many points fewer resamples do.
    resamples = int(np.clip(10**8 // runs.size, 200, 1000))
    return stratified_bootstrap(runs, shares, resamples=resamples)


def _explained(score: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The correlation ratio: the variance between levels over all variance, 0 where there is none.

    Args:
      score: `[points, ...]`.
      level: `[points, ...]`, broadcast against it.

    Returns:
      `[...]`, in [0, 1].
    """
    centred = score - score.mean(axis=0)
    total, between = (centred**2).sum(axis=0), np.zeros(centred.shape[1:])
    for k in range(int(level.max()) + 1):
        inside = level == k
        size = np.broadcast_to(inside, centred.shape).sum(axis=0)
        between += np.where(inside, centred, 0).sum(axis=0) ** 2 / np.maximum(size, 1)
    return np.clip(np.divide(between, total, out=np.zeros(between.shape), where=total > 0), 0, 1)
