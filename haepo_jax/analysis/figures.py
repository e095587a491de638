"""Figures from run folders."""

from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from haepo_jax.analysis.metrics import by_setting, read_metric
from haepo_jax.analysis.statistics import bootstrap_band, seed_mean
from haepo_jax.folder_files import StrPath, read_members
from haepo_jax.run_folder import load_config, storage_errors, write_file

_MAX_POINTS = 200
_MAX_SEED_LINES = 64
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def learning_curve(workdir: StrPath) -> Path:
    """Draws the return over the updates: mean over seeds, its 95% bootstrap band, and each seed faintly.

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
    # Not by pyplot, whose backend is what the user's environment says, and may not be there.
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (label, members) in enumerate(groups.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        values = returns[np.ix_(members, updates)]
        low, high = bootstrap_band(values)
        if len(groups) == 1:
            axes.plot(updates + 1, values[:_MAX_SEED_LINES].T, color=colour, alpha=0.15, linewidth=0.6)
        axes.fill_between(updates + 1, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(updates + 1, seed_mean(values), color=colour, label=label or "mean over seeds, 95% bootstrap band")
    axes.set_title(f"{config.env}: {config.algorithm}, {config.num_seeds} seeds", loc="left")
    if config.algorithm == "ppo":
        axes.set_xlabel(f"updates, of {config.num_trajectories} x {config.ppo.num_steps} environment steps each")
        axes.set_ylabel("mean return of the newest ended episodes")
    else:
        axes.set_xlabel(f"updates, of {config.num_trajectories} episodes each")
        axes.set_ylabel("mean return of an update's episodes")
    axes.grid(alpha=0.3)
    if len(groups) <= 2 * len(_COLOURS):
        axes.legend(frameon=False, loc="best")
    path = workdir / "learning_curve.png"
    with storage_errors(workdir):
        write_file(path, lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
    return path


def has_learning_curve(workdir: StrPath) -> bool:
    """Returns whether the folder holds a whole `learning_curve.png`."""
    try:
        with PIL.Image.open(Path(workdir) / "learning_curve.png") as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True
