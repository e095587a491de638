"""Runs that nobody trained: folders as `haepo_jax.runs.experiment.run_sweep` leaves them, with numbers of the test."""

import functools

import jax
import numpy as np

from experiments.studies.paper.scale import Scale
from haepo_jax.runs.files import is_complete
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.identity import open_run, read_run_id
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.provenance import Provenance
from haepo_jax.runs.summary import summarize

SMALL = Scale(
    quick=False,
    seeds=6,
    tuning_seeds=1,
    arms=(3, 4),
    bernoulli=True,
    instances=2,
    instance_seeds=5,
    tuning_instances=2,
    tuning_instance_seeds=1,
    deep_seas=(4, 5),
    batches=8,
    budget=1.0,
    runs=141,
)
UPDATES = 12


@functools.cache
def attempt(folder):
    """What provenance says of one attempt, asked for once."""
    Provenance(folder, jax.devices()[:1])
    return read_json(folder / "provenance.json")[0]


class Trainer:
    """Stands in for `haepo_jax.runs.experiment.run_sweep`, of one group.

    `learn(config, member)` gives the member's metric after each update, of any length up to `UPDATES`; a member with
    fewer has diverged.
    """

    def __init__(self, learn, folder):
        self._learn = learn
        self._attempt = attempt(folder)
        self.configs = []
        """Of the runs that were done, in order."""

    def __call__(self, sweep, workdir, *, checkpoint_seconds, keep_checkpoints_every=None):
        (group,) = sweep.groups
        config, members = group.config, group.members
        with open_run(workdir, sweep.record, [member.to_json() for member in members]):
            if is_complete(workdir):
                return False
            self.configs.append(config)
            series = [np.asarray(self._learn(config, member), np.float32) for member in members]
            budget, dropped = config.max_env_steps or 1200, dropped_of(config)
            write_metrics(workdir, members, series, metric=metric_of(config), budget=budget, dropped=dropped)
            timeline = [[update, 0.5 * update] for update in range(1, UPDATES + 1)]
            seconds = {"compile_seconds": 2.0, "run_seconds": 0.5 * UPDATES}
            write_json(workdir / "provenance.json", [self._attempt | seconds | {"timeline": timeline}])
            write_json(workdir / "summary.json", summarize(workdir))
            (workdir / "checkpoints").mkdir()
        return True


def metric_of(config):
    if "Bandit" in config.env:
        return "regret"
    return "success" if "Walk" in config.env else "episode_return"


def dropped_of(config):
    """Updates, from the first, whose returns `sum` normalisation drops: on Gaussian bandits alone."""
    return 3 if config.haepo.normalization == "sum" and config.env.startswith("Gaussian") else 0


def write_metrics(workdir, members, series, *, metric, budget, dropped=0):
    """`metrics/` with the same environment steps in each update; a member with too few values has diverged."""
    values = np.full((UPDATES, len(members)), np.nan, np.float32)
    for index, own in enumerate(series):
        values[: len(own), index] = own
    steps = np.arange(1, UPDATES + 1)[:, None] * budget // UPDATES
    ended = np.array([len(own) for own in series])
    steps = np.minimum(steps, ended * budget // UPDATES)
    flags = np.where(np.isnan(values), np.nan, np.arange(UPDATES)[:, None] < dropped).astype(np.float32)
    metrics = {"episode_return": values, "returns_sum_not_positive": flags} | {metric: values}
    diverged = (np.arange(UPDATES)[:, None] == ended - 1) & (ended < UPDATES)
    writer = MetricsWriter(
        workdir / "metrics", members, metrics=dict.fromkeys(metrics, np.float32), run=read_run_id(workdir)
    )
    writer.write(0, metrics, steps.astype(np.int64), where=~np.isnan(values), diverged=diverged)


def contents(folder):
    """Every file with its bytes and the time at which it was written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def damage(path):
    """Flips a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()
