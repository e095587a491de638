"""Who copied whom in a run with population-based training, from its metrics: the ancestors of each policy."""

from typing import Any, NamedTuple

import numpy as np

from haepo_jax.config.members import Member, text_settings
from haepo_jax.runs.files import StrPath, read_members, read_record
from haepo_jax.runs.metrics.reader import read_rows

PARENT = "pbt_parent"


class Lineage(NamedTuple):
    """The exchanges of a run."""

    members: list[dict[str, Any]]
    """As of `read_members`."""
    population: np.ndarray
    """`[members]` which population each is of, counted over all groups."""
    parent: np.ndarray
    """`[members, updates]` the member that was copied after an update; -1 where none was."""
    settings: dict[str, np.ndarray]
    """`[members, updates]` by dotted name, those that change, as each update had them; NaN where there is no row."""
    returns: np.ndarray
    """`[members, updates]` mean return of an update's episodes; NaN where there is none."""
    rows: np.ndarray
    """`[members]` updates recorded."""

    @property
    def copies(self) -> np.ndarray:
        """`[members]` how often each copied another."""
        return (self.parent >= 0).sum(axis=1)

    def trace(self, member: int) -> np.ndarray:
        """Traces the policy that a member ends with: `[updates recorded]` the member that held it at each update."""
        held = member
        path: list[int] = []
        for update in reversed(range(int(self.rows[member]))):
            if path and self.parent[held, update] >= 0:
                held = int(self.parent[held, update])
            path.append(held)
        return np.array(path[::-1], int)

    def follow(self, name: str, path: np.ndarray) -> np.ndarray:
        """Follows a setting along a path of `trace`: `[updates]` its value at each update."""
        return self.settings[name][path, np.arange(len(path))]

    def last_settings(self, member: int) -> dict[str, float]:
        """Returns the settings that a member ends with, by dotted name, of those that change."""
        last = max(int(self.rows[member]) - 1, 0)
        return {name: float(values[member, last]) for name, values in self.settings.items()}


def read_lineage(workdir: StrPath) -> Lineage | None:
    """Reads who copied whom; None where the run has no population-based training.

    Raises:
      ConfigError: the folder holds no run, or a file of it is damaged.
    """
    pbt = read_record(workdir).get("pbt")
    if not isinstance(pbt, dict) or pbt.get("every") is None:
        return None
    members = read_members(workdir)
    text = text_settings([Member(m["index"], m["seed"], m["settings"]) for m in members])
    names = [name for name in members[0]["settings"] if name not in text]
    rows = read_rows(workdir, (PARENT, "episode_return", *names))
    keys: dict[tuple[str, int], int] = {}
    population = [keys.setdefault((m["group"], m.get("population", 0)), len(keys)) for m in members]
    return Lineage(
        members,
        np.array(population),
        rows.by_update(PARENT, -1),
        {name: rows.by_update(name, np.nan) for name in names},
        rows.by_update("episode_return", np.nan),
        rows.count,
    )


def describe_populations(lineage: Lineage, members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Describes what became of each population, as `summary.json` holds it.

    Args:
      lineage: of the run.
      members: of the summary, with their final returns.

    Returns:
      Of each population its group, its members, its copies, and its best member: that with the largest final return,
      with that return and the settings it ends with; None where no member has a final return.
    """
    found = []
    for number in range(int(lineage.population.max()) + 1):
        own = np.flatnonzero(lineage.population == number).tolist()
        scored = [(members[k]["final_return"], -k) for k in own if members[k]["final_return"] is not None]
        best = -max(scored)[1] if scored else None
        found.append(
            {
                "population": lineage.members[own[0]].get("population", 0),
                "group": members[own[0]]["group"],
                "members": own,
                "copies": int(lineage.copies[own].sum()),
                "best_member": best,
                "final_return": None if best is None else members[best]["final_return"],
                "settings": None if best is None else members[best]["settings"] | lineage.last_settings(best),
            }
        )
    return found
