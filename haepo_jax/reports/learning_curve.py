"""The learning curve of a run, as `train` draws it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image

from haepo_jax.analysis.few_seeds import are_enough
from haepo_jax.analysis.statistics import bootstrap_band, seed_mean
from haepo_jax.config import ExperimentConfig, carries_on, count_segment_steps
from haepo_jax.reports import figures
from haepo_jax.runs.files import StrPath, read_members
from haepo_jax.runs.folder import load_config, storage_errors, write_file
from haepo_jax.runs.metrics.reader import group_by_setting, read_metric

_MAX_POINTS = 200
_MOST_CURVES = 7
"""Of more settings the figure would be a hairball: those that end highest have a curve each, the others one."""
_LAST_POINTS = 10
"""Over which the end of a setting is averaged."""


def draw_learning_curve(workdir: StrPath) -> Path:
    """Draws the return over the updates: mean over seeds, each seed faintly, and the 95% bootstrap band of the mean.

    Where there are too few seeds for a band there is none.

    Args:
      workdir: a run folder with metrics.

    Returns:
      The path of the figure, `learning_curve.png` in the folder.
    """
    workdir = Path(workdir)
    config = load_config(workdir)
    returns = read_metric(workdir, "episode_return").astype(np.float64)
    returns[~np.isfinite(returns)] = np.nan
    members = read_members(workdir)
    if config.pbt.every is None:
        groups = group_by_setting(members)
    else:  # whose settings change
        groups = group_by_setting([{"settings": {"population": member.get("population", 0)}} for member in members])
    updates = np.unique(np.linspace(0, returns.shape[1] - 1, _MAX_POINTS).astype(int))
    drawing = _draw(config, {label: returns[np.ix_(rows, updates)] for label, rows in groups.items()}, updates + 1)
    path = workdir / "learning_curve.png"
    with storage_errors(workdir):
        write_file(path, lambda temporary: temporary.write_bytes(drawing))
    return path


def _draw(config: ExperimentConfig, groups: Mapping[str, np.ndarray], updates: np.ndarray) -> bytes:
    """Draws the returns `[seeds, updates]` of each setting."""
    if carries_on(config):
        batch = f"{config.num_trajectories} x {count_segment_steps(config)} environment steps"
        episodes = "the newest ended episodes"
    elif config.min_batch_steps is not None:
        batch = f"{config.num_trajectories} episodes or more, {config.min_batch_steps} steps at least"
        episodes = "an update's episodes"
    else:
        batch, episodes = f"{config.num_trajectories} episodes", "an update's episodes"
    band = " and 95% bootstrap band" if any(are_enough(len(values)) for values in groups.values()) else ""
    shown, others = _choose_settings(groups)
    series = [_make_series(label, groups[label], updates, alone=len(groups) == 1) for label in shown]
    if others:
        means = np.stack([seed_mean(groups[label]) for label in others])
        series.append(figures.Series(f"the middle one of {len(others)} others", updates, _find_medians(means)))
    return figures.curves(
        series,
        x_label=f"updates, of {batch} each",
        y_label=f"mean return of {episodes}",
        title=f"{config.env}: {config.algorithm}, mean over {_name_runs(config, groups)}{band}",
        image_format="png",
    )


def _choose_settings(groups: Mapping[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Chooses the settings with a curve of their own, those that end highest where they are many; and the others."""
    if len(groups) <= _MOST_CURVES:
        return list(groups), []
    ends = {label: seed_mean(seed_mean(values[:, -_LAST_POINTS:], axis=1)) for label, values in groups.items()}
    ordered = sorted(groups, key=lambda label: -np.nan_to_num(ends[label], nan=-np.inf))
    return ordered[: _MOST_CURVES - 1], ordered[_MOST_CURVES - 1 :]


def _find_medians(values: np.ndarray) -> np.ndarray:
    """Finds the median at each point over the rows that have a value there; NaN where none has."""
    known = ~np.isnan(values).all(axis=0)
    return np.array([np.nanmedian(column) if has else np.nan for column, has in zip(values.T, known, strict=True)])


def _name_runs(config: ExperimentConfig, groups: Mapping[str, np.ndarray]) -> str:
    if config.pbt.every is None:
        return f"{config.num_seeds} seeds"
    return f"{len(next(iter(groups.values())))} members of a population"


def _make_series(label: str, values: np.ndarray, updates: np.ndarray, *, alone: bool) -> figures.Series:
    low, high = bootstrap_band(values) if are_enough(len(values)) else (None, None)
    return figures.Series(label, updates, seed_mean(values), low, high, values if alone else None)


def has_learning_curve(workdir: StrPath) -> bool:
    """Returns whether the folder holds a whole `learning_curve.png`."""
    try:
        with PIL.Image.open(Path(workdir) / "learning_curve.png") as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True
