"""Tables for the terminal, and the sentence that sums one up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, are_enough
from haepo_jax.runs.metrics.reader import group_by_setting
from haepo_jax.text import add_row, format_settings, make_table, shorten_keys

_NO_NUMBER = "-"


def make_returns_table(summary: Mapping[str, Any], title: str) -> Table:
    """Makes the table of the final returns of a run, a line for each swept setting, the best first."""
    table = make_table(
        f"{title}: mean return of the last {summary['final_updates']} updates, over seeds",
        ("setting", "seeds", "mean", "std", "worst", "best", "diverged"),
    )
    for label, members in _rank_settings(summary["members"], "final_return"):
        diverged = sum(member["status"] == "diverged" for member in members)
        finals = _collect_finite(members, "final_return")
        add_row(table, (label or "all", str(len(members)), *_format_spread(finals), str(diverged)))
    return table


def make_populations_table(summary: Mapping[str, Any], title: str) -> Table:
    """Makes the table of a run whose members copied one another: the best member of each population."""
    table = make_table(
        f"{title}: the best member of each population, by its mean return of the last {summary['final_updates']} "
        "updates",
        ("population", "members", "best", "its return", "copies", "its settings"),
    )
    for population in summary["populations"]:
        best = population["best_member"]
        several = f"{population['group']}, " if population["group"] != "all" else ""
        cells = [f"{several}{population['population']}", str(len(population["members"]))]
        if best is None:
            cells += [_NO_NUMBER, _NO_NUMBER, str(population["copies"]), _NO_NUMBER]
        else:
            settings = format_settings(shorten_keys(population["settings"]))
            cells += [str(best), f"{population['final_return']:.4g}", str(population["copies"]), settings]
        add_row(table, cells)
    return table


def describe_populations(summary: Mapping[str, Any]) -> str:
    """Says how high the best members of populations came, and which settings the best of all ended with."""
    best = [population for population in summary["populations"] if population["best_member"] is not None]
    if not best:
        return "No member has a final return: no episode has ended, or returns were not finite."
    values = _collect_finite(best, "final_return")
    first = max(best, key=lambda population: population["final_return"])
    text = f"Member {first['best_member']} has the highest final return, {first['final_return']:.4g}, and ended with "
    text += format_settings(shorten_keys(first["settings"]))
    if len(values) == 1:
        return f"{text}."
    return f"{text}; the best members of {len(values)} populations have {values.mean():.4g} in the mean."


def make_evaluation_table(result: Mapping[str, Any]) -> Table:
    """Makes the table of an evaluation, two lines for each swept setting, the best greedy return first."""
    title = f"{result['env']} {_describe_policies(result)}, {result['episodes']} fresh episodes a policy, over seeds"
    table = make_table(title, ("setting", "seeds", "actions", "mean", "std", "worst", "best"))
    for label, members in _rank_settings(result["members"], "greedy_return"):
        for kind in ("greedy", "sampled"):
            values = _collect_finite(members, f"{kind}_return")
            add_row(table, (label or "all", str(len(members)), kind, *_format_spread(values)))
    return table


def _describe_policies(result: Mapping[str, Any]) -> str:
    """Says whose policies were evaluated; members whose wave ended early have done fewer updates than others."""
    if result["checkpoint"] == "best":
        return "at its best evaluation"
    done = {member["update"] for member in result["members"]}
    return f"after update {min(done)}" if len(done) == 1 else f"after updates {min(done)} to {max(done)}"


def describe_returns(members: Sequence[Mapping[str, Any]], name: str, words: str) -> str:
    """Says which setting has the highest return, or how high that of the only one is.

    Args:
      members: of a summary or of an evaluation.
      name: what they are compared by, such as `final_return`.
      words: what that is called, such as `final return`.
    """
    ranked = _rank_settings(members, name)
    label, best = ranked[0]
    values = _collect_finite(best, name)
    if not values.size:
        return f"No member has a {words}: no episode has ended, or returns were not finite."
    seeds = f"{values.size} seed{'s' if values.size > 1 else ''}"
    worst = f", worst {values.min():.4g}" if values.size > 1 else ""
    mean = f"{values.mean():.4g}, the mean over {seeds}{worst}"
    if len(ranked) == 1:
        return f"The {words} is {mean}."
    few = "" if are_enough(values.size) else f" Fewer than {FEWEST_SEEDS} seeds decide nothing."
    return f"Of {len(ranked)} settings {label} has the highest {words}: {mean}.{few}"


def describe_speed(summary: Mapping[str, Any]) -> str:
    """Says in a sentence how much a run did in which time."""
    clock, rate = summary["wall_clock"], summary["env_steps_per_second"]
    a_second = "" if rate is None else f", {rate:,.0f} a second"
    return (
        f"{summary['env_steps']:,} env steps in {clock['run_seconds']:.1f} s{a_second}; compiled in "
        f"{clock['compile_seconds']:.1f} s."
    )


def _rank_settings(members: Sequence[Mapping[str, Any]], name: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The members of each setting under its label with short names, the largest mean first, those without last."""
    renamed = [{"settings": shorten_keys(member["settings"])} for member in members]
    groups = [(label, [members[index] for index in indices]) for label, indices in group_by_setting(renamed).items()]

    def rank(group: tuple[str, list[Mapping[str, Any]]]) -> float:
        values = _collect_finite(group[1], name)
        return -float(values.mean()) if values.size else np.inf

    return sorted(groups, key=rank)


def _collect_finite(members: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([member[name] for member in members if member[name] is not None], np.float64)


def _format_spread(values: np.ndarray) -> list[str]:
    """Mean, standard deviation, least and largest."""
    if not values.size:
        return [_NO_NUMBER] * 4
    return [f"{value:.4g}" for value in (values.mean(), values.std(), values.min(), values.max())]
