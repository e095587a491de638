"""What a run was and what it took: its settings, its members that diverged, and its time."""

from collections.abc import Sequence

import numpy as np

from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reports.configs import find_changed, look_up, write_value
from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import format_count
from haepo_jax.reports.sweep.chapter import Chapter
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.provenance import Attempt


def make_settings_chapter(sweep: Sweep) -> Chapter:
    """Makes the chapter of the settings that differ from the defaults."""
    defaults = to_json(ExperimentConfig())
    changed = find_changed(sweep.config, defaults)
    rows = [(name, write_value(value), write_value(look_up(defaults, name))) for name, value in changed.items()]
    table = Table("Settings that differ from the defaults", ("setting", "value", "default"), rows)
    found = f"{format_count(len(rows), 'setting')} {'differs' if len(rows) == 1 else 'differ'} from the defaults."
    return Chapter(
        Section(
            "settings",
            "Settings",
            "What was run?",
            [found if rows else "All settings are the defaults."],
            (),
            (table,) if rows else (),
        )
    )


def make_time_chapter(sweep: Sweep, attempts: Sequence[Attempt]) -> Chapter:
    """Makes the chapter of how far the run is, who diverged, and how long it took."""
    members, done, gone = len(sweep.point), int((sweep.begun & sweep.done).sum()), np.flatnonzero(sweep.diverged)
    findings = [
        f"All {format_count(members, 'member')} are done."
        if done == members
        else f"Of {format_count(members, 'member')} {int(sweep.begun.sum()):,} have begun and {done:,} are done."
    ]
    tables = []
    if gone.size:
        findings.append(f"{format_count(gone.size, 'member')} diverged.")
        rows = [
            (
                str(member),
                str(sweep.seed[member]),
                f"{int(sweep.rows[member]):,}",
                f"{int(sweep.env_steps[member].max()):,}",
                format_number(float(sweep.returns[member, sweep.rows[member] - 1])),
            )
            for member in gone.tolist()
        ]
        columns = ("member", "seed", "diverged in update", "environment steps", "return of that update")
        tables.append(Table("Members that diverged", columns, rows, "Each is kept as it last was finite."))
    else:
        findings.append("No member has diverged.")
    if attempts:
        seconds = sum(attempt["run_seconds"] for attempt in attempts)
        steps = int(sweep.env_steps.max(axis=1, initial=0).sum())
        if seconds > 0:
            findings.append(
                f"{steps:,} environment steps of all members took {format_number(seconds)} s without compilation, "
                f"{format_number(steps / seconds)} a second."
            )
        tables.append(_make_attempts_table(attempts))
    return Chapter(Section("time", "Members and time", "Who is done, and how long did it take?", findings, (), tables))


def _make_attempts_table(attempts: Sequence[Attempt]) -> Table:
    return Table(
        caption="Attempts, the oldest first",
        columns=("started", "outcome", "compiling (s)", "running (s)", "device"),
        rows=[
            (
                attempt["started"],
                attempt["outcome"],
                format_number(attempt["compile_seconds"]),
                format_number(attempt["run_seconds"]),
                f"{len(attempt['devices'])} x {attempt['device_kind']}",
            )
            for attempt in attempts
        ],
    )
