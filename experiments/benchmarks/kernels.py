"""Kernels that a device starts for an update and for each of its steps, counted in a trace of JAX's profiler.

On a GPU these are the kernels, copies and fills on its streams. On a CPU they are the instructions that the runtime
executes one by one: fusions, products and copies, but not the loops, calls and branches around them.
"""

import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from experiments.benchmarks import programs
from experiments.benchmarks.clock import measure_in_turn
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.speed import Row, compute_rates, time_program
from haepo_jax.runs.folder import storage_errors, write_json

COLUMNS = ("measure", "seeds", "steps a turn", "kernels an update", "a step", "steps/s", "least to most", "compile")
_LABELS = {"policy_rollout": "play by the policy", "training": "training"}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?\s([a-z][\w-]*)\(.*$", re.MULTILINE)
_SMALL_CALL = 'xla_cpu_small_call="true"'  # compiled as one function, whose instructions are not executed one by one
_AROUND = ("while", "conditional", "call")  # they start other instructions
_STREAM = "Stream #"


def count_kernels(compiled: jax.stages.Compiled, run: Callable[[int], Any]) -> int:
    """Counts the kernels of one round on the device that has the most.

    Args:
      compiled: the program that `run` calls.
      run: plays or trains so many rounds, and waits for the end.

    Returns:
      What two rounds start, less what one does: all that a call does but once is left out.
    """
    run(1)  # what is compiled or read for the first time is no part of it
    names = _find_kernels(compiled.as_text() or "")
    one, two = (_count_events(_trace(run, rounds), names) for rounds in (1, 2))
    return max((two - one).values(), default=0)


def measure_rows(num_seeds: int, unrolled_steps: Sequence[int], *, repeats: int) -> list[Row]:
    """Measures a row for play by the policy and for training, with each number of steps as one turn of the loop.

    Args:
      num_seeds: of the population.
      unrolled_steps: the numbers, as of `config.unrolled_steps`.
      repeats: measurements of the rates of each, in turn.
    """
    compiled: dict[str, programs.Program] = {}
    rows: list[Row] = []
    for measure in _LABELS:
        for steps in unrolled_steps:
            jax.clear_caches()
            clock = time.perf_counter()
            program = programs.make_program(measure, num_seeds, unrolled_steps=steps)
            compile_seconds = time.perf_counter() - clock
            kernels = count_kernels(program.compiled, program.run)
            compiled[f"{measure} {steps}"] = program
            rows.append(
                {
                    "measure": measure,
                    "seeds": num_seeds,
                    "unrolled_steps": steps,
                    "kernels": kernels,
                    "kernels_a_step": kernels / programs.HORIZON,
                    "compile_seconds": compile_seconds,
                }
            )
    times = measure_in_turn({name: time_program(program) for name, program in compiled.items()}, repeats)
    for row, each in zip(rows, times.values(), strict=True):
        row.update(compute_rates(each))
    return rows


def format_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Formats the cells of each row, under `COLUMNS`."""
    return [
        (
            _LABELS[row["measure"]],
            str(row["seeds"]),
            str(row["unrolled_steps"]),
            f"{row['kernels']:,}",
            f"{row['kernels_a_step']:.1f}",
            f"{row['env_steps_per_second']:,.0f}",
            f"{row['env_steps_per_second_least']:,.0f} to {row['env_steps_per_second_most']:,.0f}",
            f"{row['compile_seconds']:.1f} s",
        )
        for row in rows
    ]


def write_rows(workdir: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Writes `kernels.json`, and returns what is in it."""
    machine = describe_machine()
    result = {
        "title": f"CartPole-v1, {programs.NUM_TRAJECTORIES} episodes of {programs.HORIZON} steps a seed and update, "
        f"{machine['devices']} x {machine['device_kind']}",
        "machine": machine,
        "rows": list(rows),
    }
    with storage_errors(workdir):
        write_json(workdir / "kernels.json", result)
    return result


def _find_kernels(program: str) -> frozenset[str]:
    """Finds the names of the instructions of a compiled program that are kernels where they are executed."""
    return frozenset(
        found[1]
        for found in _INSTRUCTION.finditer(program)
        if found[2] not in _AROUND or (found[2] == "call" and _SMALL_CALL in found[0])
    )


def _trace(run: Callable[[int], Any], rounds: int) -> ProfileData:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 1
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run(rounds)
        (path,) = Path(folder).rglob("*.xplane.pb")
        return ProfileData.from_file(str(path))


def _count_events(trace: ProfileData, names: frozenset[str]) -> Counter[int | str]:
    """Counts by device what the streams of GPUs did; where there are none, the instructions of these names."""
    gpus = [plane for plane in trace.planes if plane.name.startswith("/device:GPU:")]
    if gpus:
        streams = [(plane.name, line) for plane in gpus for line in plane.lines if line.name.startswith(_STREAM)]
        return Counter(name for name, line in streams for _ in line.events)
    host = trace.find_plane_with_name("/host:CPU")
    with warnings.catch_warnings():
        # The type of statistics is made when the first is read, with a warning; as an error that ends the process.
        warnings.simplefilter("ignore", DeprecationWarning)
        return Counter(
            dict(event.stats)["device_ordinal"]
            for line in (host.lines if host is not None else ())
            for event in line.events
            if event.name in names
        )
