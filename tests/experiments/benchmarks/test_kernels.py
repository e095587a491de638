"""Kernels, counted in traces of programs whose kernels are known, and of play."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from jax.profiler import ProfileData
from jax.sharding import Mesh, PartitionSpec

from experiments.benchmarks import kernels, programs, speed
from haepo_jax.population import memory

SHAPE = (64, 64)


@pytest.fixture
def _optimized():
    """What is fused, and so what is a kernel, is known of programs as users have them."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def count(function, *arguments):
    """Of a program that does so many rounds as its last argument says."""
    compiled = jax.jit(function).lower(*arguments, np.int32(1)).compile()

    def run(rounds):
        jax.block_until_ready(compiled(*arguments, np.int32(rounds)))

    return kernels.count_kernels(compiled, run)


def in_rounds(one):
    def rounds(x, number):
        return jax.lax.fori_loop(0, number, lambda _, x: one(x), x)

    return rounds


def play(x, steps, **options):
    """Three kernels a step: a product, the sine of all its entries, and the loop's own counter."""
    return jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, length=steps, **options)[0]


def added_by_a_step(**options):
    def count_with(steps):
        return count(in_rounds(lambda x: play(x, steps, **options)), jnp.ones(SHAPE))

    return (count_with(50) - count_with(20)) / 30


@pytest.mark.hlo
@pytest.mark.usefixtures("_optimized")
def test_each_step_of_a_scan_starts_the_kernels_of_its_body():
    assert added_by_a_step() == 3


@pytest.mark.hlo
@pytest.mark.usefixtures("_optimized")
def test_more_steps_a_turn_save_the_kernels_of_the_loop():
    assert added_by_a_step(unroll=5) == 2 + 1 / 5


@pytest.mark.hlo
@pytest.mark.usefixtures("_optimized")
def test_loops_within_loops_are_counted_as_often_as_they_turn():
    """Each of 4 outer turns: 7 x 3, and the outer counter; what begins the inner loop is counted with 0 turns."""

    def nested(turns):
        def outer(x, _):
            return play(x, turns), None

        return count(in_rounds(lambda x: jax.lax.scan(outer, x, length=4)[0]), jnp.ones(SHAPE))

    assert nested(20) - nested(13) == 4 * 7 * 3


@pytest.mark.hlo
@pytest.mark.usefixtures("_optimized")
def test_a_loop_that_is_compiled_as_one_function_is_one_kernel():
    def small(steps):
        def one(x):
            return jax.lax.scan(lambda x, _: (1.5 * x + jnp.sin(x), None), x, length=steps)[0]

        return count(in_rounds(lambda x: play(one(x[0, 0]) * x, 20)), jnp.ones(SHAPE))

    assert small(7) == small(70)


@pytest.mark.hlo
@pytest.mark.usefixtures("_optimized")
def test_the_busiest_device_counts_however_many_there_are():
    def one(x):
        return play(x, 20)

    (first, second), there = some_devices(2), []
    for devices in ([first], [first, second]):
        mesh = Mesh(np.array(devices), ("x",))
        specs = {"in_specs": (PartitionSpec(), PartitionSpec()), "out_specs": PartitionSpec("x")}
        spread = jax.shard_map(in_rounds(one), mesh=mesh, check_vma=False, **specs)
        there.append(count(spread, jnp.ones(SHAPE)))
    assert there[0] == there[1] > 60


def test_on_gpus_all_that_is_on_a_stream_counts():
    """Planes and lines as CUPTI's collector names them: overhead, counters and host threads are no kernels."""
    text = """
        planes {{ name: "/host:CPU" lines {{ name: "main" events {{ metadata_id: 1 }} }}
                  event_metadata {{ key: 1 value {{ id: 1 name: "wrapped_sine" }} }} }}
        planes {{ name: "/host:CUPTI" lines {{ name: "Host Threads/7" events {{ metadata_id: 1 }} }}
                  event_metadata {{ key: 1 value {{ id: 1 name: "cuLaunchKernel" }} }} }}
        planes {{ name: "/device:GPU:0"
                  lines {{ id: 13 name: "Stream #13(Compute,MemcpyD2D)" {events} }}
                  lines {{ id: 14 name: "Stream #14(MemcpyD2D)" events {{ metadata_id: 2 }} }}
                  lines {{ id: 15 name: "CUPTI overhead" events {{ metadata_id: 2 }} }}
                  event_metadata {{ key: 1 value {{ id: 1 name: "loop_add_fusion" }} }}
                  event_metadata {{ key: 2 value {{ id: 2 name: "MemcpyD2D" }} }} }}
        planes {{ name: "/device:GPU:1" lines {{ id: 13 name: "Stream #13(Compute)" events {{ metadata_id: 1 }} }}
                  event_metadata {{ key: 1 value {{ id: 1 name: "loop_add_fusion" }} }} }}
    """.format(events="events { metadata_id: 1 } events { metadata_id: 2 } events { metadata_id: 1 }")
    trace = ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(text))
    counted = kernels._count_events(trace, frozenset({"wrapped_sine"}))
    assert counted == {"/device:GPU:0": 4, "/device:GPU:1": 1}


def test_a_trace_without_a_device_has_no_kernels():
    empty = ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(""))
    assert kernels._count_events(empty, frozenset({"wrapped_sine"})) == {}


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(programs, "HORIZON", 40)
    monkeypatch.setattr(programs, "NUM_TRAJECTORIES", 2)
    monkeypatch.setattr(speed, "_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("measure", "maker"),
    [
        ("policy_rollout", "_make_policy_rollout"),
        ("training", "_make_training"),
        ("training_on_short_episodes", "_make_training"),
    ],
)
def test_programs_are_cut_as_the_device_has_it_unless_told_otherwise(monkeypatch, measure, maker):
    monkeypatch.setattr(memory, "_UNROLLED_STEPS", {jax.default_backend(): 5})
    monkeypatch.setattr(programs, maker, lambda population: population)  # which is not compiled
    chosen, given = (programs.make_program(measure, 1, unrolled_steps=steps).config for steps in (None, 3))
    assert (chosen.unrolled_steps, given.unrolled_steps) == (5, 3)
    assert chosen.memory == given.memory != "auto" and chosen.piece_rows is not None


@pytest.mark.slow
@pytest.mark.usefixtures("_short")
def test_more_steps_of_play_a_turn_are_fewer_kernels():
    def count_play(steps):
        program = programs.make_program("policy_rollout", 1, unrolled_steps=steps)
        return kernels.count_kernels(program.compiled, program.run)

    assert 40 < count_play(5) < count_play(1)


@pytest.mark.slow
@pytest.mark.usefixtures("_short")
def test_rows_of_play_and_of_updates_are_measured_and_written(tmp_path):
    rows = kernels.measure_rows(1, [4], repeats=1)
    assert [(row["measure"], row["seeds"], row["unrolled_steps"]) for row in rows] == [
        ("policy_rollout", 1, 4),
        ("training", 1, 4),
    ]
    assert 40 < rows[0]["kernels"] < rows[1]["kernels"]  # an update plays, and learns too
    for row in rows:
        assert row["kernels_a_step"] == row["kernels"] / 40 and row["compile_seconds"] > 0
        assert row["env_steps_per_second_least"] <= row["env_steps_per_second"]
    kernels.write_rows(tmp_path, rows)
    written = json.loads((tmp_path / "kernels.json").read_text())
    assert written["rows"] == rows and written["machine"]["platform"] == jax.default_backend()


def test_the_table_has_a_cell_under_each_heading():
    row = {"measure": "policy_rollout", "seeds": 1, "unrolled_steps": 5, "kernels": 20500, "kernels_a_step": 41.0}
    rates = {"env_steps_per_second": 2e5, "env_steps_per_second_least": 1e5, "env_steps_per_second_most": 3e5}
    (cells,) = kernels.format_rows([row | rates | {"compile_seconds": 1.25}])
    assert len(cells) == len(kernels.COLUMNS)
    assert cells == (
        *("play by the policy", "1", "5", "20,500", "41.0"),
        *("200,000", "100,000 to 300,000", "1.2 s"),
    )
