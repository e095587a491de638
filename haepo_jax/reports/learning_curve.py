"""Figures from run folders."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from haepo_jax.analysis.few_seeds import enough
from haepo_jax.analysis.statistics import bootstrap_band, seed_mean
from haepo_jax.config import ExperimentConfig, method_of, method_settings
from haepo_jax.methods import Sees
from haepo_jax.runs.files import StrPath, read_members
from haepo_jax.runs.folder import load_config, storage_errors, write_file
from haepo_jax.runs.metrics.reader import by_setting, read_metric
from haepo_jax.text import visible

_MAX_POINTS = 200
_MAX_SEED_LINES = 64
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def learning_curve(workdir: StrPath) -> Path:
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
    groups = by_setting(read_members(workdir))
    updates = np.unique(np.linspace(0, returns.shape[1] - 1, _MAX_POINTS).astype(int))
    path = workdir / "learning_curve.png"
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = _draw(config, {label: returns[np.ix_(rows, updates)] for label, rows in groups.items()}, updates + 1)
        with storage_errors(workdir):
            write_file(path, lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
    return path


def _draw(config: ExperimentConfig, groups: Mapping[str, np.ndarray], updates: np.ndarray) -> Figure:
    """Draws the returns `[seeds, updates]` of each setting."""
    # Not by pyplot, whose backend is what the user's environment says, and may not be there.
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (label, values) in enumerate(groups.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        name = label or "mean over seeds"
        if len(groups) == 1:
            axes.plot(updates, values[:_MAX_SEED_LINES].T, color=colour, alpha=0.15, linewidth=0.6)
        if enough(len(values)):
            axes.fill_between(updates, *bootstrap_band(values), color=colour, alpha=0.25, linewidth=0)
            name = label or f"{name}, 95% bootstrap band"
        axes.plot(updates, seed_mean(values), color=colour, label=visible(name))
    axes.set_title(visible(f"{config.env}: {config.algorithm}, {config.num_seeds} seeds"), loc="left")
    if method_of(config).sees is Sees.SEGMENTS:
        num_steps = method_settings(config).num_steps
        axes.set_xlabel(f"updates, of {config.num_trajectories} x {num_steps} environment steps each")
        axes.set_ylabel("mean return of the newest ended episodes")
    else:
        axes.set_xlabel(f"updates, of {config.num_trajectories} episodes each")
        axes.set_ylabel("mean return of an update's episodes")
    axes.grid(alpha=0.3)
    if len(groups) <= 2 * len(_COLOURS):
        axes.legend(frameon=False, loc="best")
    return figure


def has_learning_curve(workdir: StrPath) -> bool:
    """Returns whether the folder holds a whole `learning_curve.png`."""
    try:
        with PIL.Image.open(Path(workdir) / "learning_curve.png") as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True
