"""The cost of all that is around the training: the divergence guard, metrics, checkpoints, compiling, devices.

Each function measures one of them and returns a row for each of the things that it compares.
"""

import dataclasses
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.stages import Compiled

from experiments.benchmarks.clock import Times, measure_in_turn
from haepo_jax.config import ExperimentConfig
from haepo_jax.config.sweep import Sweep, of_experiment
from haepo_jax.population import Population, make_population
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runtime import compilation_cache

Row = dict[str, Any]


def measure_guard(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures all updates in one call, with and without a look at whether every number is finite."""
    guarded = make_population(config)
    bare = guarded.functions._replace(learn=guarded.functions.learn_unguarded)
    times = measure_in_turn(
        {
            "without the divergence guard": _make_one_call(make_population(guarded.config, functions=bare)),
            "with it": _make_one_call(guarded),
        },
        repeats,
    )
    return _compare_times(times)


def measure_evaluation(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures all updates in one call, with an evaluation after every tenth, after each, and without.

    In CPU seconds: the difference is smaller than what other work on the machine adds to the time.
    """
    names = {"without evaluation": None, "every 10 updates": 10, "every update": 1}
    measures = {
        name: _make_one_call(
            make_population(dataclasses.replace(config, evaluate_every=every)), clock=time.process_time
        )
        for name, every in names.items()
    }
    return _compare_times(measure_in_turn(measures, repeats))


def measure_adapting(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures all updates of HAEPO in one call for each way in which its sharpness is set, in CPU seconds."""

    def adapting(way: str) -> ExperimentConfig:
        return dataclasses.replace(config, haepo=dataclasses.replace(config.haepo, adapt=way))

    measures = {
        way: _make_one_call(make_population(adapting(way)), clock=time.process_time)
        for way in ("fixed", "ess", "dual", "meta")
    }
    return _compare_times(measure_in_turn(measures, repeats))


def measure_networks(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures all updates in one call with each built-in network of the same sizes, in CPU seconds.

    The cell of those that remember is in the place of the last layer.
    """

    def with_network(network: str) -> ExperimentConfig:
        return dataclasses.replace(config, policy=dataclasses.replace(config.policy, network=network))

    measures = {
        network: _make_one_call(make_population(with_network(network)), clock=time.process_time)
        for network in ("mlp", "gru", "lstm")
    }
    return _compare_times(measure_in_turn(measures, repeats))


def measure_run(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures all updates in one call against a run with its metrics, progress and checkpoints.

    The share of the latter in which it waits for its two checkpoints is in its row.
    """
    sweep, saving = of_experiment(config), []

    def measure() -> float:
        attempt = _attempt(sweep, checkpoint_seconds=math.inf)
        saving.append(attempt["saving_seconds"] / attempt["run_seconds"])
        return attempt["run_seconds"]

    name = "a run with metrics, progress and a checkpoint at either end"
    one_call, run = _compare_times(
        measure_in_turn({"one call": _make_one_call(make_population(config)), name: measure}, repeats)
    )
    return [one_call, run | {"share_of_checkpoints": float(np.median(saving))}]


def measure_checkpoints(sweep: Sweep, *, repeats: int) -> list[Row]:
    """Measures a run that saves after every chunk against one that saves at its ends alone; the sweep has one group.

    From the difference: what a checkpoint costs, and the share of the run time when there is one a minute.
    """
    more: list[int] = []

    def measure(checkpoint_seconds: float) -> float:
        attempt = _attempt(sweep, checkpoint_seconds=checkpoint_seconds)
        if checkpoint_seconds == 0:
            more.append(len(attempt["timeline"]) - 2)
        return attempt["run_seconds"]

    measures = {
        "checkpoints at either end": lambda: measure(math.inf),
        "a checkpoint after every chunk": lambda: measure(0.0),
    }
    few, many = _compare_times(measure_in_turn(measures, repeats))
    seconds = (many["seconds"] - few["seconds"]) / float(np.median(more))
    return [
        few,
        many | {"more_checkpoints": max(more), "seconds_each": seconds, "share_at_one_a_minute": seconds / 60},
    ]


def _attempt(sweep: Sweep, *, checkpoint_seconds: float) -> dict[str, Any]:
    """Reads from provenance how long a run took from its first update to its last."""
    folder = Path(tempfile.mkdtemp())
    run_sweep(sweep, folder / "run", checkpoint_seconds=checkpoint_seconds)
    (attempt,) = json.loads((folder / "run" / "provenance.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return attempt


def measure_compiling(config: ExperimentConfig, *, repeats: int) -> list[Row]:
    """Measures how long the program of a population is traced, compiled, and read again from the cache."""
    population, folder = make_population(config), Path(tempfile.mkdtemp())
    state = population.abstract_state()

    def seconds(action: Callable[[], Any]) -> float:
        clock = time.monotonic()
        action()
        return time.monotonic() - clock

    def trace() -> float:
        jax.clear_caches()
        fresh = make_population(config)  # as one keeps what it has traced
        return seconds(lambda: fresh.advance.lower(state, jnp.int32(1)))

    def compile_it(cached: bool) -> float:
        jax.clear_caches()
        jax.config.update("jax_enable_compilation_cache", cached)
        reset_cache()  # or the switch is not looked at again
        lowered = population.advance.lower(state, jnp.int32(1))
        return seconds(lowered.compile)

    before = jax.config.jax_compilation_cache_dir
    compilation_cache.use(folder)
    compile_it(cached=True)
    measures = {
        "compile": lambda: compile_it(cached=False),
        "read from the cache": lambda: compile_it(cached=True),
        "trace, in both cases": trace,
    }
    rows = _compare_times(measure_in_turn(measures, repeats))
    jax.config.update("jax_compilation_cache_dir", before)
    reset_cache()
    shutil.rmtree(folder)
    return rows


def measure_scale_out(config: ExperimentConfig, *, members_per_device: int, repeats: int) -> list[Row]:
    """Measures the same work for each device, on 1, 2, 4, ... of the devices that there are."""
    counts = [2**k for k in range(jax.device_count().bit_length()) if 2**k <= jax.device_count()]

    def population(count: int) -> Population:
        wide = dataclasses.replace(config, num_seeds=members_per_device * count)
        return make_population(wide, devices=jax.devices()[:count], members_per_device=members_per_device)

    measures = {f"{count} device{'s' if count > 1 else ''}": _make_one_call(population(count)) for count in counts}
    members = [members_per_device * count for count in counts]
    rows = zip(_compare_times(measure_in_turn(measures, repeats)), members, strict=True)
    return [row | {"members": number, "milliseconds_a_member": row["seconds"] / number * 1e3} for row, number in rows]


def _make_one_call(population: Population, *, clock: Callable[[], float] = time.monotonic) -> Callable[[], float]:
    """Seconds of all updates of a population in one call, compiled before."""
    compiled: list[Compiled] = []

    def measure() -> float:
        state = population.init()
        if not compiled:
            compiled.append(population.advance.lower(state, jnp.int32(1)).compile())
        jax.block_until_ready(state)
        began = clock()
        jax.block_until_ready(compiled[0](state, np.int32(population.config.num_updates)))
        return clock() - began

    return measure


def _compare_times(times: dict[str, Times]) -> list[Row]:
    """A row for each: the fastest of its repeats, and its ratio to the first thing's."""
    first = next(iter(times.values())).least
    return [
        {"what": name, "seconds": each.least, "spread": each.spread, "ratio": each.least / first}
        for name, each in times.items()
    ]
