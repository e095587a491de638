"""Sweeps that nobody trained: folders as the command that sweeps leaves them, with the numbers that a test wants."""

import itertools
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haepo_jax.config import from_config_dict, to_json
from haepo_jax.run_folder import write_json

UPDATES = 20
RATE, ENTROPY, SCORE = "optimizer.learning_rate", "haepo.entropy_coef", "haepo.score"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ENTROPIES = (0.0, 1e-3, 5e-3, 1e-2, 3e-2, 1e-1)
ATTEMPT = {
    "command": ["/usr/bin/python", "/code/experiments/sweep.py", "--config=configs/grid.py", "--workdir=runs/grid"],
    "git": {"commit": "0123abcd", "dirty": False},
    "packages": {"jax": "0.11.2"},
    "python": "3.12.1",
    "devices": ["cpu:0"],
    "device_kind": "cpu",
    "processes": 1,
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
    part_updates=8,
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
      part_updates: updates in a file.
      **config: other settings of the base config.
    """
    base = to_json(from_config_dict({"num_seeds": seeds, "num_updates": UPDATES} | config))
    if sweep is None:
        sweep = {name: list(dict.fromkeys(_hashable(p[name]) for p in points)) for name in points[0]} if points else {}
    search = {"num_samples": num_samples, "seed": 0, "points": []}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", base | {"sweep": sweep, "search": search})
    ordered = sorted(points, key=lambda point: [str(point[name]) for name in fixed])  # groups lie together
    members = [
        {
            "index": number,
            "seed": number % seeds,
            "settings": point,
            "group": ",".join(f"{name}={point[name]}" for name in fixed) or "all",
        }
        for number, (point, _) in enumerate(itertools.product(ordered, range(seeds)))
    ]
    write_json(folder / "members.json", members)
    write_json(folder / "provenance.json", [ATTEMPT])
    (folder / "metrics").mkdir(exist_ok=True)
    for number, (_, group) in enumerate(itertools.groupby(members, key=lambda member: member["group"])):
        write_metrics(folder / "metrics", number, list(group), learn, rows, part_updates)
    if complete:
        write_json(folder / "summary.json", {"members": []})
    return folder


def write_metrics(directory, number, members, learn, rows, part_updates=8, steps_per_update=100):
    """The files of a group."""
    directory.mkdir(exist_ok=True)
    columns = {name: [] for name in ("member", "seed", "update", "env_steps", "diverged", "episode_return")}
    for member in members:
        series = np.asarray(learn(member["settings"], member["seed"]), np.float32)
        count = min(len(series), rows(member))
        columns["member"].append(np.full(count, member["index"], np.int32))
        columns["seed"].append(np.full(count, member["seed"], np.int64))
        columns["update"].append(np.arange(count, dtype=np.int32))
        columns["env_steps"].append(np.arange(1, count + 1, dtype=np.int64) * steps_per_update * (1 + member["seed"]))
        ends = np.arange(1, count + 1) == len(series)
        columns["diverged"].append(ends & (len(series) < UPDATES))
        columns["episode_return"].append(series[:count])
    table = {name: np.concatenate(values) for name, values in columns.items()}
    # As the recorder has them: the settings beside each row, and what this algorithm measures.
    by_index = {member["index"]: member["settings"] for member in members}
    for name in members[0]["settings"]:
        table[name] = pa.array([by_index[index][name] for index in table["member"].tolist()])
    if number == 0:
        table["effective_sample_size"] = np.ones(len(table["member"]), np.float32)
    whole = pa.table(table)
    for first in range(0, UPDATES, part_updates):
        inside = (table["update"] >= first) & (table["update"] < first + part_updates)
        if inside.any():
            pq.write_table(whole.filter(pa.array(inside)), directory / f"part-{number:05d}-{first:08d}.parquet")


def hump(settings, seed):
    """Returns that rise to a level that a learning rate of 3e-3 has the highest; much entropy takes a little."""
    rng = np.random.default_rng([seed, zlib.crc32(str(sorted(settings.items())).encode())])
    level = 500 - 120 * abs(np.log10(settings[RATE] / 3e-3)) - 300 * settings.get(ENTROPY, 0.0)
    return level * (1 - 0.8 ** np.arange(1, UPDATES + 1)) + rng.normal(0, 15) + rng.normal(0, 5, UPDATES)


def hump_that_diverges(settings, seed):
    """The same, but half of the seeds of the largest learning rate diverge after 7 updates."""
    series = hump(settings, seed)
    return series[:7] if settings[RATE] == RATES[-1] and seed % 2 else series


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value
