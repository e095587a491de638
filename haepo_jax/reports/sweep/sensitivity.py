"""How much each setting matters: the share of the variance of scores that it explains alone."""

from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, interquartile_mean, stratified_bootstrap
from haepo_jax.reports.sweep.bins import Setting
from haepo_jax.reports.sweep.folder import Sweep, is_grid
from haepo_jax.reports.sweep.ranking import Ranking, Scores, aggregate_by_cell


class Sensitivity(NamedTuple):
    """How much a setting matters.

    Attributes:
      setting: which.
      share: the share in [0, 1] of the variance of the points' scores that its levels explain alone (the correlation
        ratio, eta squared), with its 95% interval, whose ends are NaN where too few are drawn again; NaN where fewer
        than two of its levels are compared, or all scores are equal.
      by_chance: the share that a setting without any effect explains on average where its levels are drawn, and not
        balanced against those of the others as in a grid.
      highest: the level whose points have the highest mean score.
    """

    setting: Setting
    share: Estimate
    by_chance: float
    highest: str


def measure_sensitivities(sweep: Sweep, scores: Scores, ranking: Ranking) -> tuple[Sensitivity, ...]:
    """Measures how much each setting that varies matters, the most sensitive first.

    The intervals are bootstrap intervals: see `draws_seeds` for what is drawn again. A resample is noisier than the
    scores are, so that most may explain less; an interval is then widened to hold the share itself.
    """
    known = ranking.order
    score = ranking.score[known]
    if not sweep.varied:
        return ()
    found = []
    levels = np.stack([setting.level[known] for setting in sweep.varied], axis=-1)
    low, high = _share_intervals(sweep, scores, ranking, levels)
    drawn = int(ranking.seeds[known[0]]) if draws_seeds(sweep, ranking) else len(known)
    for number, setting in enumerate(sweep.varied):
        level, kinds = levels[:, number], len(np.unique(levels[:, number]))
        means = aggregate_by_cell(lambda runs: runs.mean(axis=(0, 1)), score, level, len(setting.labels))
        explains = kinds > 1 and bool(np.ptp(score) > 0)
        share = _explain_variance(score, level) if explains else np.array(np.nan)
        widened = Estimate(share, np.minimum(low[number], share), np.maximum(high[number], share))
        estimate = drop_unsupported(widened, drawn)
        by_chance = (kinds - 1) / max(len(known) - 1, 1)
        found.append(Sensitivity(setting, estimate, by_chance, setting.labels[int(np.nanargmax(means))]))
    return tuple(sorted(found, key=lambda one: -np.nan_to_num(one.share.value, nan=-1.0)))


def draws_seeds(sweep: Sweep, ranking: Ranking) -> bool:
    """Returns whether the intervals of sensitivities draw the seeds of each point again, and not the points.

    The points of a grid are given, and chance is in their seeds; those of a random search are chance themselves. They
    are drawn too where points have one seed, or not all as many.
    """
    seeds = ranking.seeds[ranking.order]
    return is_grid(sweep) and bool(seeds.min() == seeds.max() > 1)


def _share_intervals(
    sweep: Sweep, scores: Scores, ranking: Ranking, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of the shares that settings explain, each `[settings]`.

    Args:
      sweep: the sweep.
      scores: of its members.
      ranking: of its points.
      levels: `[points that are compared, settings]`.
    """
    known, count = ranking.order, levels.shape[-1]
    if draws_seeds(sweep, ranking):
        place = np.full(len(sweep.points), -1)
        place[known] = np.arange(len(known))
        members = np.flatnonzero(scores.compared)
        members = members[np.argsort(place[sweep.point[members]], kind="stable")]
        runs = scores.finals[members].reshape(len(known), -1)

        def shares(runs: np.ndarray) -> np.ndarray:
            score = interquartile_mean(np.moveaxis(runs, 1, 0)[None])
            fixed = levels.reshape(len(known), *[1] * (score.ndim - 1), count)
            return np.stack([_explain_variance(score, fixed[..., k]) for k in range(count)], axis=-1)

    else:
        runs = np.concatenate([ranking.score[known, None], levels], axis=-1)[None]

        def shares(runs: np.ndarray) -> np.ndarray:
            return np.stack([_explain_variance(runs[0, ..., 0], runs[0, ..., k + 1]) for k in range(count)], axis=-1)

    # Of a great many points fewer resamples do.
    resamples = int(np.clip(10**8 // runs.size, 200, 1000))
    return stratified_bootstrap(runs, shares, resamples=resamples)


def _explain_variance(score: np.ndarray, level: np.ndarray) -> np.ndarray:
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
