"""Sweeps that nobody trained: folders as the command that sweeps leaves them, with the numbers that a test wants."""

import itertools
import zlib

import numpy as np
from helpers.settings import fixed_config

from haepo_jax.config import to_json
from haepo_jax.config.members import Member, text_settings
from haepo_jax.reports.sweep.folder import read_sweep
from haepo_jax.reports.sweep.ranking import rank_points, score_members
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.summary import summarize

UPDATES = 20
_PART = 8
"""Updates in a file."""
RATE, ENTROPY, SCORE = "optimizer.learning_rate", "haepo.entropy_coef", "haepo.score"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ENTROPIES = (0.0, 1e-3, 5e-3, 1e-2, 3e-2, 1e-1)
DISTRIBUTIONS = {RATE: {"log_uniform": [1e-4, 0.1]}, "haepo.num_epochs": {"integer": [1, 3]}, SCORE: ["sum", "mean"]}
ATTEMPT = {
    "command": ["/usr/bin/python", "/code/experiments/sweep.py", "--config=configs/grid.py", "--workdir=runs/grid"],
    "git": {"commit": "0123abcd", "dirty": False},
    "packages": {"jax": "0.11.2"},
    "python": "3.12.1",
    "devices": ["cpu:0"],
    "device_kind": "cpu",
    "process": 0,
    "processes": 1,
    "host": "alpha",
    "started": "2025-01-01T00:00:00+00:00",
    "last_written": "2025-01-01T00:10:00+00:00",
    "outcome": "complete",
    "compile_seconds": 30.0,
    "run_seconds": 570.0,
}


def grid(**choices):
    """Every combination; keys of `choices` have __ for the dot."""
    names = [name.replace("__", ".") for name in choices]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())]


BOTH = grid(optimizer__learning_rate=RATES, haepo__entropy_coef=ENTROPIES)
SCORES = grid(haepo__score=("sum", "mean", "log_ratio"), optimizer__learning_rate=RATES[:2])


def write_sweep(
    folder,
    points,
    learn,
    *,
    seeds=4,
    sweep=None,
    num_samples=None,
    fixed=(),
    rows=lambda member: UPDATES,
    complete=True,
    **config,
):
    """Writes the folder of a sweep.

    Args:
      folder: which.
      points: the settings of each point.
      learn: maps settings and seed to the returns of all updates; of one that diverges to fewer, which end there.
      seeds: how many each point has.
      sweep: what the config says of swept settings; by default every value of each.
      num_samples: of a random search.
      fixed: the settings that set groups apart.
      rows: maps a member to how many updates it has written so far.
      complete: whether it ends with a summary.
      **config: other settings of the base config.
    """
    base = to_json(fixed_config({"num_seeds": seeds, "num_updates": UPDATES} | config))
    if sweep is None:
        sweep = {name: list(dict.fromkeys(_hashable(p[name]) for p in points)) for name in points[0]} if points else {}
    search = {"num_samples": num_samples, "seed": 0, "points": []}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", base | {"sweep": sweep, "search": search})
    ordered = sorted(points, key=lambda point: [str(point[name]) for name in fixed])  # groups lie together
    members = [
        Member(number, number % seeds, point, ",".join(f"{name}={point[name]}" for name in fixed) or "all")
        for number, (point, _) in enumerate(itertools.product(ordered, range(seeds)))
    ]
    write_json(folder / "members.json", [member.to_json() for member in members])
    write_json(folder / "provenance.json", [ATTEMPT])
    write_metrics(folder / "metrics", members, learn, rows)
    if complete:
        write_json(folder / "summary.json", summarize(folder))
    return folder


def write_metrics(directory, members, learn, rows):
    """The rows of members; all but those of the first have nothing to say of an effective sample size."""
    directory.mkdir(exist_ok=True)
    metrics = {"episode_return": np.float32, "effective_sample_size": np.float32}
    for _, group in itertools.groupby(members, key=lambda member: member.group):
        wave = list(group)
        writer = MetricsWriter(directory, wave, metrics=metrics, text=text_settings(members))
        returns, ends, counts = np.zeros((UPDATES, len(wave)), np.float32), [], []
        for place, member in enumerate(wave):
            series = np.asarray(learn(member.settings, member.seed), np.float32)
            returns[: len(series), place] = series
            ends.append(len(series))
            counts.append(min(len(series), rows(member)))
        update = np.arange(UPDATES)[:, None]
        columns = {"episode_return": returns}
        if wave[0].index == 0:
            columns["effective_sample_size"] = np.ones_like(returns)
        env_steps = 100 * (update + 1) * [1 + member.seed for member in wave]
        there, diverged = update < counts, (update == np.array(ends) - 1) & (np.array(ends) < UPDATES)
        for first in range(0, UPDATES, _PART):
            part = slice(first, first + _PART)
            writer.write(
                first,
                {name: column[part] for name, column in columns.items()},
                env_steps[part],
                where=there[part],
                diverged=diverged[part],
            )


def hump(settings, seed):
    """Returns that rise to a level that a learning rate of 3e-3 has the highest; much entropy takes a little."""
    rng = np.random.default_rng([seed, zlib.crc32(str(sorted(settings.items())).encode())])
    level = 500 - 120 * abs(np.log10(settings[RATE] / 3e-3)) - 300 * settings.get(ENTROPY, 0.0)
    return level * (1 - 0.8 ** np.arange(1, UPDATES + 1)) + rng.normal(0, 15) + rng.normal(0, 5, UPDATES)


def hump_that_diverges(settings, seed):
    """The same, but half of the seeds of the largest learning rate diverge after 7 updates."""
    series = hump(settings, seed)
    return series[:7] if settings[RATE] == RATES[-1] and seed % 2 else series


def drawn(count, seed=0):
    """Points of a random search by `DISTRIBUTIONS`."""
    rng = np.random.default_rng(seed)
    return [
        {RATE: float(10 ** rng.uniform(-4, -1)), "haepo.num_epochs": int(rng.integers(1, 4)), SCORE: "sum"}
        for _ in range(count)
    ]


def level(value):
    """A member that learns nothing, at a level of its own."""
    return np.full(UPDATES, float(value), np.float32)


def by_rate(settings, seed):
    """100, 200, ... by learning rate, one more for each seed."""
    return level(100 * (1 + RATES.index(settings[RATE])) + seed)


def read(folder, *arguments, **options):
    """A sweep, written and read; arguments as of `write_sweep`."""
    return read_sweep(write_sweep(folder, *arguments, **options))


def analysed(sweep):
    """Its scores and ranking."""
    scores = score_members(sweep)
    return scores, rank_points(sweep, scores)


def waves(done):
    """Who has written what where the first rate is done, the second has come so far, and the others have not begun."""
    return lambda member: {RATES[0]: UPDATES, RATES[1]: done}.get(member.settings[RATE], 0)


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value
