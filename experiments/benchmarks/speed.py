"""Environment steps a second: random play, play by a policy, whole updates; and those of other codes beside them."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments.benchmarks import peers
from experiments.benchmarks.clock import Times, measure_in_turn
from experiments.benchmarks.programs import HORIZON, MEASURES, SHORT, Program, make_program

Row = dict[str, Any]

_SECONDS = 1.0  # of a measurement, at least


def measure_rows(num_seeds: int, *, repeats: int) -> list[Row]:
    """Measures a row for each of `MEASURES`, with its ratio to the rows before it."""
    programs: dict[str, Callable[[], float]] = {}
    rows: list[Row] = []
    for measure in MEASURES:
        jax.clear_caches()
        clock = time.perf_counter()
        program = make_program(measure, num_seeds)
        programs[measure] = time_program(program)
        memory: Any = program.compiled.memory_analysis()
        rows.append(
            {
                "measure": measure,
                "seeds": num_seeds,
                "compile_seconds": time.perf_counter() - clock,
                "temporary_bytes_a_device": memory.temp_size_in_bytes,
                "argument_bytes_a_device": memory.argument_size_in_bytes,
            }
        )
    times = measure_in_turn(programs, repeats)
    for row in rows:
        row.update(compute_rates(times[row["measure"]]))
    random, policy, training, short = (row["env_steps_per_second"] for row in rows)
    rows[1]["share_of_random_rollout"] = policy / random
    rows[2] |= {"share_of_random_rollout": training / random, "share_of_policy_rollout": training / policy}
    rows[3]["share_of_a_full_update"] = SHORT / HORIZON * training / short
    return rows


def compare_peers(given: Sequence[peers.Peer], *, num_seeds: int, repeats: int) -> list[Row]:
    """Measures our training and each peer in turn; rows as of `measure_rows`, with our rate over each peer's."""
    compiled: dict[str, list[float]] = {peer.name: [] for peer in given}
    ours = time_program(make_program("training", num_seeds))

    def measure(peer: peers.Peer) -> Callable[[], float]:
        def seconds_a_step() -> float:
            figures = peers.measure_peer(peer)
            compiled[peer.name].append(figures["compile_seconds"])
            return figures["seconds"] / figures["env_steps"]

        return seconds_a_step

    measures = {"training": ours} | {peer.name: measure(peer) for peer in given}
    times = measure_in_turn(measures, repeats)
    first: Row = {"measure": "training", "seeds": num_seeds, "beside": "peers"} | compute_rates(times["training"])
    rows = [first]
    for peer in given:
        row: Row = {"measure": "peer", "name": peer.name, "command": peer.command} | compute_rates(times[peer.name])
        row["compile_seconds"] = min(compiled[peer.name])
        row["training_is_times_this"] = first["env_steps_per_second"] / row["env_steps_per_second"]
        rows.append(row)
    return rows


def time_program(program: Program) -> Callable[[], float]:
    """Makes a function that measures seconds a step, in so many rounds that the clock's own unrest does not count."""
    program.run(1)
    rounds = max(1, math.ceil(_SECONDS / program.run(1)[0]))

    def seconds_a_step() -> float:
        seconds, steps = program.run(rounds)
        return seconds / steps

    return seconds_a_step


def compute_rates(times: Times) -> Row:
    """Computes the fields of a row that say how fast a program is, from seconds a step."""
    rates = [1 / seconds for seconds in times.seconds]
    return {
        "env_steps_per_second": 1 / times.median,
        "env_steps_per_second_least": min(rates),
        "env_steps_per_second_most": max(rates),
        "repeats": len(rates),
    }
