"""From a cold start to every seed at a mean return of 475 on CartPole-v1: our training and other codes, in turn.

A seed is at 475 from the first update at which the mean return of its newest episodes is at least that: those of the
fewest updates, up to this one, in which at least 16 ended, sampled for learning. The seconds until the last seed is
there are those of the whole command, with nothing compiled before it, less those of training after that update; of
ours, the command up to its summary, as the figure is drawn after it and peers draw none.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import peers
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.peers import Arrival, Peer
from haepo_jax.analysis.verdicts import NO_DIFFERENCE
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import read_attempts
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.metrics.reader import read_metric
from haepo_jax.runs.provenance import Provenance

SOLVED = 475.0
CONFIG = "cartpole"
"""Of our training: an update has 16 episodes, and so stands for itself."""
COLUMNS = ("code", "seeds at 475", "seconds until all are", "least to most", "whole command", "ours takes")

Row = dict[str, Any]


def run_race(given: Sequence[Peer], *, num_seeds: int, repeats: int, workdir: Path) -> list[Row]:
    """Runs our training and each peer from a cold start, in turn.

    Args:
      given: what to race against.
      num_seeds: how many seeds each of them trains.
      repeats: how many rounds.
      workdir: a folder to make runs in, which are removed again.

    Returns:
      A row for each, ours first. `seconds` until all seeds are at 475 is the median of the rounds; None where not
      all get there, and then `whole_seconds` of the command is a lower bound. `ours_takes_of_this` is the share of
      either in which ours are there.

    Raises:
      ConfigError: a command failed, or a peer prints something else than it should.
    """
    rounds = [
        [_train(num_seeds, workdir), *(_run_peer(peer, num_seeds, workdir) for peer in given)] for _ in range(repeats)
    ]
    ours, *others = (_summarize_rounds(arrivals) for arrivals in zip(*rounds, strict=True))
    rows = [{"name": "haepo_jax"} | ours]
    for peer, row in zip(given, others, strict=True):
        if ours["seconds"] is not None:
            row["ours_takes_of_this"] = ours["seconds"] / (row["seconds"] or row["whole_seconds"])
        rows.append({"name": peer.name, "command": peer.command} | row)
    return rows


def read_arrival(run: Path, whole_seconds: float) -> Arrival:
    """Reads from the folder of a run when its seeds were at 475.

    Args:
      run: the folder of a run that is complete and was never stopped.
      whole_seconds: of its command, up to its summary.
    """
    there = read_metric(run, "episode_return") >= SOLVED
    reached = there.any(axis=1)
    (attempt,) = read_attempts(run)
    share = None
    if reached.all():
        updates, seconds = zip((0, 0.0), *attempt["timeline"], strict=True)
        share = float(np.interp(there.argmax(axis=1).max() + 1, updates, seconds)) / attempt["run_seconds"]
    return Arrival(whole_seconds, attempt["run_seconds"], len(there), int(reached.sum()), share)


def write_race(workdir: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Writes `race.json` and the provenance, and returns what is in the first."""
    machine = describe_machine()
    result = {
        "title": f"CartPole-v1, from a cold start to all seeds at {SOLVED:g}, "
        f"{machine['devices']} x {machine['device_kind']}",
        "machine": machine,
        "rows": list(rows),
    }
    Provenance(workdir, jax.devices()).update(outcome="complete")
    with storage_errors(workdir):
        write_json(workdir / "race.json", result)
    return result


def format_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Formats the cells of each row, ours first, under `COLUMNS`."""
    return [
        (
            row["name"],
            f"{row['seeds_at_475']} of {row['seeds']}",
            "not all get there" if row["seconds"] is None else f"{row['seconds']:.1f}",
            "" if row["seconds"] is None else f"{row['seconds_least']:.1f} to {row['seconds_most']:.1f}",
            f"{row['whole_seconds']:.1f} s",
            _format_share(row, rows[0]),
        )
        for row in rows
    ]


def _train(num_seeds: int, workdir: Path) -> Arrival:
    """Our training, as its user starts it."""
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        run = Path(folder) / "run"
        flags = [f"--config={CONFIG}", f"--config.num_seeds={num_seeds}", f"--workdir={run}"]
        command = [sys.executable, "-m", "experiments.train", *flags]
        begun = time.time()
        peers.run_command("experiments.train", command, _make_environment(folder))
        # The figure that it draws then is left out: peers draw none.
        return read_arrival(run, (run / "summary.json").stat().st_mtime - begun)


def _run_peer(peer: Peer, num_seeds: int, workdir: Path) -> Arrival:
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        arrival = peers.race_peer(peer, _make_environment(folder))
    if arrival.seeds != num_seeds:
        raise ConfigError(f"--peer {peer.name} trains {arrival.seeds} seeds and ours {num_seeds}: --seeds must agree.")
    return arrival


def _make_environment(folder: str) -> dict[str, str]:
    """The environment of a process that finds nothing compiled before."""
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "compiled")}


def _summarize_rounds(arrivals: Sequence[Arrival]) -> Row:
    """One code's rounds."""
    row: Row = {
        "seeds": arrivals[0].seeds,
        "seeds_at_475": min(arrival.seeds_there for arrival in arrivals),
        "repeats": len(arrivals),
        "whole_seconds": float(np.median([arrival.whole_seconds for arrival in arrivals])),
        "training_seconds": float(np.median([arrival.training_seconds for arrival in arrivals])),
        "seconds": None,
    }
    seconds = [arrival.seconds for arrival in arrivals if arrival.seconds is not None]
    if len(seconds) == len(arrivals):
        row["seconds"] = float(np.median(seconds))
        row |= {"seconds_least": min(seconds), "seconds_most": max(seconds)}
    return row


def _format_share(row: Row, ours: Row) -> str:
    if "ours_takes_of_this" not in row:
        return ""
    alike = row["seconds"] is not None and row["seconds_least"] <= ours["seconds_most"]
    if alike and ours["seconds_least"] <= row["seconds_most"]:
        return NO_DIFFERENCE  # each was the faster one in some pair of rounds
    return f"{'less than ' if row['seconds'] is None else ''}{row['ours_takes_of_this']:.1%} of it"
