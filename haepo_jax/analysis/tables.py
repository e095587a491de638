"""Tables for the terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from haepo_jax.analysis.metrics import by_setting
from haepo_jax.terminal import cell


def final_returns(summary: Mapping[str, Any], title: str) -> Table:
    """One line for each swept setting: seeds, mean, spread and worst of the final returns, and who diverged."""
    members = summary["members"]
    last = f"last {summary['final_updates']} updates"
    table = _table(title, f"mean return, {last}", "std", "worst seed", "best seed", "diverged")
    for label, indices in by_setting(members).items():
        finals = np.array([members[i]["final_return"] for i in indices if members[i]["status"] == "ok"])
        table.add_row(cell(label or "all"), str(len(indices)), *_spread(finals), str(len(indices) - finals.size))
    return table


def evaluation(result: Mapping[str, Any]) -> Table:
    """Two lines for each swept setting, greedy and sampled: mean, spread and worst over seeds."""
    members = result["members"]
    title = f"{result['env']} after update {result['update']}, {result['episodes']} fresh episodes a policy"
    table = _table(title, "actions", "mean return", "std", "worst seed", "best seed")
    for label, indices in by_setting(members).items():
        for kind in ("greedy", "sampled"):
            values = np.array([members[i][f"{kind}_return"] for i in indices])
            table.add_row(cell(label or "all"), str(len(indices)), kind, *_spread(values))
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table("setting", title=cell(title), title_justify="left")
    for heading in ("seeds", *headings):
        table.add_column(heading, justify="right")
    return table


def _spread(values: np.ndarray) -> list[str]:
    """Mean, standard deviation, least and largest."""
    row = [values.mean(), values.std(), values.min(), values.max()] if values.size else [np.nan] * 4
    return [f"{value:.4g}" for value in row]
