"""The files of a benchmark: its rows with the machine they are from, a table, a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.ceilings import Ceilings, estimate_floor
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.programs import HORIZON, NUM_TRAJECTORIES, SHORT
from experiments.benchmarks.speed import Row
from haepo_jax.reports import figures
from haepo_jax.runs.folder import storage_errors, write_file, write_json

COLUMNS = ("measure", "seeds", "env steps/s", "least to most", "of random", "of policy", "compile", "temporaries")
LABELS = {
    "random_rollout": "random rollout",
    "policy_rollout": "policy rollout",
    "training": "training",
    "training_on_short_episodes": f"training, {SHORT} steps",
}
_POLICY = (4, 64, 64, 2)  # widths on CartPole


def write_benchmark(workdir: Path, rows: Sequence[Row], ceilings: Ceilings) -> dict[str, Any]:
    """Writes `benchmark.json` and `benchmark.svg`, and returns what is in the first."""
    machine = describe_machine()
    result = {
        "title": f"CartPole-v1, {NUM_TRAJECTORIES} episodes of {HORIZON} steps a seed and update, "
        f"{machine['devices']} x {machine['device_kind']}",
        "machine": machine,
        "ceilings": ceilings._asdict(),
        "floor_seconds": estimate_floor(ceilings, _POLICY)._asdict(),
        "rows": list(rows),
    }
    with storage_errors(workdir):
        write_json(workdir / "benchmark.json", result)
        drawing = _draw_figure(rows)
        write_file(workdir / "benchmark.svg", lambda temporary: temporary.write_bytes(drawing))
    return result


def format_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Formats the cells of each row, under `COLUMNS`."""
    return [
        (
            row["name"] if "name" in row else LABELS[row["measure"]] + (", beside peers" if "beside" in row else ""),
            str(row.get("seeds", "")),
            f"{row['env_steps_per_second']:,.0f}",
            f"{row['env_steps_per_second_least']:,.0f} to {row['env_steps_per_second_most']:,.0f}",
            _format_share(row.get("share_of_random_rollout")),
            _format_share(row.get("share_of_policy_rollout")) or _format_times(row.get("training_is_times_this")),
            f"{row['compile_seconds']:.1f} s" if "compile_seconds" in row else "",
            f"{row['temporary_bytes_a_device'] / 2**20:,.1f} MiB" if "temporary_bytes_a_device" in row else "",
        )
        for row in rows
    ]


def describe_floor(result: dict[str, Any]) -> str:
    """Describes how far the rates are from what the machine's products and tanh allow."""
    ceilings, seconds = result["ceilings"], result["floor_seconds"]
    lines = [
        f"This machine does {ceilings['flops_per_second'] / 1e9:,.0f} GFLOP/s in products of a policy's size and "
        f"{ceilings['tanh_per_second'] / 1e9:,.1f} billion tanh a second: a policy could act "
        f"{1 / seconds['forward'] / 1e6:,.1f} million times a second."
    ]
    for row in result["rows"]:
        if row["measure"] == "policy_rollout":
            share = row["env_steps_per_second"] * seconds["forward"]
            lines.append(f"Play by the policy with {row['seeds']} seeds is at {share:.0%} of that.")
        if "share_of_a_full_update" in row:
            lines.append(
                f"With {row['seeds']} seeds an update whose episodes end after {SHORT} of {HORIZON} steps takes "
                f"{row['share_of_a_full_update']:.1%} of the time of a full one."
            )
    return "\n".join(lines)


def _format_share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _format_times(value: float | None) -> str:
    return "" if value is None else f"training is {value:.1f} x"


def _draw_figure(rows: Sequence[Row]) -> bytes:
    series = []
    for measure, label in LABELS.items():
        own = [row for row in rows if row["measure"] == measure and "beside" not in row]
        centre, low, high = (
            np.array([row[f"env_steps_per_second{end}"] for row in own]) for end in ("", "_least", "_most")
        )
        series.append(figures.Series(label, np.array([row["seeds"] for row in own]), centre, low, high))
    return figures.curves(
        series, x_label="seeds", y_label="environment steps a second", x_log=True, y_log=True, title="CartPole-v1"
    )
