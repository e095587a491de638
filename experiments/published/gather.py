"""Reads from the folders of runs and studies the numbers that documents quote of them.

Every function gives an entry of `docs/results.json`: numbers rounded to the digits that the documents show, with the
date and the devices that they are from.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import race
from experiments.cli import config_file
from haepo_jax.config import differing_fields, from_config_dict, to_json
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import read_attempts, read_record, read_summary
from haepo_jax.runs.json_files import read_json

Entry = dict[str, Any]

_REPORT = {"quick": bool, "provenance": {"last run": str, "device": str}}
_VERDICTS = {"headline": str, "judged": str, "claims": [{"text": str, "verdict": str, "recommended": str}]}
_MAY_BE_MISSING = ("switch-riddle", "simple-spread")
"""Sections of studies that need a library which may not be installed."""
_TABLE = {"caption": str, "columns": [str], "rows": [[str]], "note": str}
_MACHINE = {"devices": int, "device_kind": str}
_RATE = "env_steps_per_second"


def shipped(folder: Path, config: Path) -> Entry:
    """Gathers what a run of a shipped config ended with.

    Args:
      folder: of the run.
      config: the config file.

    Returns:
      The environment, the mean over seeds and the worst seed of the final returns (None where a seed diverged),
      environment steps, and seconds.

    Raises:
      ConfigError: the run is not complete, or not of this config.
    """
    wanted = to_json(from_config_dict(config_file.load(str(config), (), {})))
    if differences := differing_fields(read_record(folder), wanted):
        raise ConfigError(f"{folder} is not a run of {config.name} as it is shipped: {', '.join(differences)}.")
    summary = read_summary(folder)
    returns = [member["final_return"] for member in summary["members"]]
    sound = [value for value in returns if value is not None]
    if not sound or summary[_RATE] is None:
        raise ConfigError(f"{folder} has no member with a final return: there is nothing to quote.")
    newest = read_attempts(folder)[-1]
    return {
        "env": wanted["env"],
        "seeds": len(returns),
        "updates": summary["num_updates"],
        "episodes_an_update": wanted["num_trajectories"],
        "mean_return": _return(float(np.mean(sound))),
        "worst_seed": _return(min(sound)) if len(sound) == len(returns) else None,
        "million_env_steps": _significant(summary["env_steps"] / 1e6),
        "training_seconds": round(summary["wall_clock"]["run_seconds"], 1),
        "compile_seconds": round(summary["wall_clock"]["compile_seconds"], 1),
        "thousand_env_steps_per_second": round(summary[_RATE] / 1e3),
        "date": newest["last_written"][:10],
        "devices": f"{len(newest['devices'])} x {newest['device_kind']}",
    }


def study(folder: Path, quoted: Mapping[str, tuple[str, int, tuple[str, ...]]]) -> Entry:
    """Gathers the headline, the verdicts and some tables of a study.

    Args:
      folder: with `report.json`, `verdicts.json` and `tables.json`.
      quoted: for each table to quote its section, its number there from 0, and its columns; all if none is named. Of
        a section that may be missing, and is, there is none.

    Raises:
      ConfigError: a file is missing or damaged, a table or a column is not there, or the run was a quick one, which
        decides nothing.
    """
    made = read_json(folder / "report.json", _REPORT)
    if made["quick"]:
        raise ConfigError(f"{folder} is a quick run, which decides nothing: documents quote full ones.")
    verdicts = read_json(folder / "verdicts.json", _VERDICTS)
    there = read_json(folder / "tables.json", dict)
    quoted = {name: one for name, one in quoted.items() if one[0] in there or one[0] not in _MAY_BE_MISSING}
    tables = read_json(folder / "tables.json", {section: [_TABLE] for section, _, _ in quoted.values()})
    return {
        "headline": verdicts["headline"],
        "judged": verdicts["judged"],
        "claims": [
            {name: claim[name] for name in ("text", "verdict", "recommended") if claim[name]}
            for claim in verdicts["claims"]
        ],
        "tables": {
            name: _columns(tables[section], number, columns, folder)
            for name, (section, number, columns) in quoted.items()
        },
        "date": made["provenance"]["last run"][:10],
        "devices": made["provenance"]["device"],
    }


def speed(folder: Path) -> Entry:
    """Gathers the rates of our own programs from `benchmark.json`.

    Raises:
      ConfigError: the file is missing or damaged.
    """
    result = _benchmark(folder)
    rows = []
    own = [row for row in result["rows"] if row["measure"] != "peer" and "beside" not in row]
    for seeds in dict.fromkeys(row["seeds"] for row in own):
        by_measure = {row["measure"]: row for row in own if row["seeds"] == seeds}
        training = by_measure["training"]
        rows.append(
            {
                "seeds": seeds,
                "random_play": _millions(by_measure["random_rollout"]),
                "play": _millions(by_measure["policy_rollout"]),
                "training": _millions(training),
                "percent_of_random_play": round(100 * training["share_of_random_rollout"], 1),
                "percent_of_play": round(100 * training["share_of_policy_rollout"], 1),
                "short_update_percent": round(
                    100 * by_measure["training_on_short_episodes"]["share_of_a_full_update"], 1
                ),
                "temporaries_mib": round(training["temporary_bytes_a_device"] / 2**20, 1),
            }
        )
    ceilings = {
        "gflops_per_second": round(result["ceilings"]["flops_per_second"] / 1e9),
        "billion_tanh_per_second": round(result["ceilings"]["tanh_per_second"] / 1e9, 1),
    }
    return ceilings | {"rows": rows} | _when_and_where(folder, result)


def peers(folder: Path) -> Entry | None:
    """Gathers the rates of other codes beside ours from `benchmark.json`; None where none were measured.

    Raises:
      ConfigError: the file is missing or damaged.
    """
    result = _benchmark(folder)
    rows = []
    for row in result["rows"]:
        if row["measure"] == "peer" or "beside" in row:
            times = row.get("training_is_times_this")
            rows.append(
                {
                    "code": row.get("name", "haepo_jax"),
                    "million_env_steps_per_second": _millions(row),
                    "compile_seconds": round(row["compile_seconds"], 1) if "compile_seconds" in row else None,
                    "training_is_times_this": None if times is None else round(times, 1),
                }
            )
    return {"rows": rows} | _when_and_where(folder, result) if rows else None


def cold_start(folder: Path) -> Entry:
    """Gathers who was at 475 when, from `race.json`.

    Raises:
      ConfigError: the file is missing or damaged.
    """
    result = read_json(folder / "race.json", {"machine": _MACHINE, "rows": [{"name": str, "seeds_at_475": int}]})
    rows = []
    for row, cells in zip(result["rows"], race.format_rows(result["rows"]), strict=True):
        seconds = row["seconds"]
        rows.append(
            {
                "code": row["name"],
                "seeds_at_475": row["seeds_at_475"],
                "seeds": row["seeds"],
                "seconds": None if seconds is None else round(seconds, 1),
                "whole_seconds": round(row["whole_seconds"], 1),
                "ours_takes": cells[race.COLUMNS.index("ours takes")],
            }
        )
    return {"rows": rows} | _when_and_where(folder, result)


def accelerator(folder: Path) -> tuple[str, Entry] | None:
    """Gathers a benchmark of devices that are no CPUs.

    Returns:
      Number and kind of the devices, and for them what `speed` and `peers` give, with the command that measured them;
      None of a benchmark on CPUs.

    Raises:
      ConfigError: a file is missing or damaged.
    """
    machine = _benchmark(folder)["machine"]
    if machine.get("platform", "cpu") == "cpu":
        return None
    speeds = {"command": _read_command(folder), "jax": machine.get("jax", "")} | speed(folder)
    return speeds["devices"], {"speed": speeds, "peers": peers(folder)}


def language(folder: Path) -> tuple[str, Entry]:
    """Gathers the rates of language models from `language.json`, by number and kind of the devices.

    Raises:
      ConfigError: a file is missing or damaged.
    """
    row = {"shape": str, "measure": str, "responses": int, "response_length": int, "dtype": str}
    shape = {"machine": _MACHINE, "matrix_flops_per_second": int | float, "rows": [row]}
    result = read_json(folder / "language.json", shape)
    rows = [
        {name: row[name] for name in ("shape", "measure", "responses", "response_length", "dtype")}
        | {
            "tokens_per_second": _significant(row["tokens_per_second"]) if "tokens_per_second" in row else None,
            "percent_of_matrix_rate": round(100 * row["flop_utilisation"], 1) if "flop_utilisation" in row else None,
        }
        for row in result["rows"]
    ]
    rate = {"gflops_per_second": round(result["matrix_flops_per_second"] / 1e9)}
    entry = {"command": _read_command(folder)} | rate | {"rows": rows} | _when_and_where(folder, result)
    return entry["devices"], entry


def _read_command(folder: Path) -> str:
    """Reads the command that has filled a folder; where the folder lay is left out."""
    given = read_attempts(folder)[-1]["command"][2:]
    flags = [shlex.quote(word) for word in given if not word.startswith(("--workdir", "-workdir"))]
    return " ".join(["python -m experiments.benchmark", "--workdir=runs/benchmark", *flags])


def _benchmark(folder: Path) -> Entry:
    shape = {"machine": _MACHINE, "ceilings": dict, "rows": [{"measure": str, _RATE: int | float}]}
    return read_json(folder / "benchmark.json", shape)


def _when_and_where(folder: Path, result: Entry) -> Entry:
    machine = result["machine"]
    return {
        "date": read_attempts(folder)[-1]["last_written"][:10],
        "devices": f"{machine['devices']} x {machine['device_kind']}",
    }


def _columns(tables: list[Entry], number: int, columns: tuple[str, ...], folder: Path) -> Entry:
    """The table of this number with these columns alone."""
    there = tables[number]["columns"] if number < len(tables) else []
    if not there or (missing := [name for name in columns if name not in there]):
        what = ", ".join(missing) if there else f"table {number}"
        raise ConfigError(f"{folder / 'tables.json'} lacks {what}, which the documents quote.")
    at = [there.index(name) for name in columns or there]
    return {
        "caption": tables[number]["caption"],
        "columns": [there[k] for k in at],
        "rows": [[row[k] for k in at] for row in tables[number]["rows"]],
        "note": tables[number]["note"],
    }


def _return(value: float) -> float:
    return round(value, 1 if abs(value) >= 10 else 3)


def _millions(row: Entry) -> float:
    return _significant(row[_RATE] / 1e6)


def _significant(value: float) -> float:
    """The value with three digits that count."""
    return float(f"{value:.3g}")
