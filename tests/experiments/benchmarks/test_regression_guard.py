"""What the speed rests on, counted and never timed: compilations, loops, bytes, steps that are played."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from jax import monitoring

from experiments.benchmarks.programs import SHORT, _end_after
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member

ENDLESS = {"theta_threshold_radians": 1e9, "x_threshold": 1e9}
BACKEND_COMPILE = "/jax/core/compile/backend_compile_duration"


def config_of(**changes):
    return fixed_config(
        {
            "env": "CartPole-v1",
            "env_params": ENDLESS,
            "num_seeds": 2,
            "num_updates": 3,
            "num_trajectories": 64,
            "horizon": 50,
            "haepo": {"num_epochs": 1},
        }
        | changes
    )


def compiled(population):
    return population.advance.lower(population.abstract_state(), jnp.int32(1)).compile()


@pytest.fixture
def compilations():
    """The names of the functions that are compiled meanwhile."""
    names = []

    def listen(event, seconds, **details):
        if event == BACKEND_COMPILE:
            names.append(details.get("fun_name", "?"))

    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_grid_of_100_settings_and_8_seeds_is_one_program(compilations):
    grid = {
        "haepo": {"entropy_coef": (0.0, 1e-3, 1e-2, 0.1, 1.0), "kl_coef": (1e-4, 1e-3, 1e-2, 0.1, 1.0)},
        "optimizer": {"learning_rate": (3e-4, 1e-3, 3e-3, 1e-2)},
    }
    config = config_of(
        num_seeds=8,
        num_trajectories=4,
        horizon=30,
        num_updates=2,
        env_params={},
        policy={"hidden_sizes": (4,)},
        sweep=grid,
    )
    population = make_population(config)
    assert len(population.members) == 5 * 5 * 4 * 8
    state = population.init()
    for _ in range(2):
        state, metrics = population.advance(state, np.int32(1))
    programs = [name for name in compilations if "advance" in name]
    assert len(programs) == 1, compilations
    assert np.isfinite(metrics["loss"][0]).all()
    # A batch of equal returns moves a member by its regularisers alone; most members have learned each its own way.
    assert len(np.unique(population.here(state.learner.params["MLP_0"]["Dense_0"]["bias"]), axis=0)) > 400


def population_of(tiles):
    return make_population(config_of(num_seeds=4 * tiles), devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def program():
    """The compiled update of one tile of members, on one device."""
    return compiled(population_of(1))


@pytest.mark.slow
@pytest.mark.hlo
def test_a_block_that_is_larger_is_the_same_program_with_more_turns(program):
    """Compiling takes no longer, and what is computed with is still what fits a cache."""
    of_four = compiled(population_of(4))
    few, many = program.as_text(), of_four.as_text()
    assert abs(loops(few) - loops(many)) <= 2
    assert len(many.splitlines()) <= 1.25 * len(few.splitlines())
    bytes_of_few, bytes_of_many = (each.memory_analysis().temp_size_in_bytes for each in (program, of_four))
    assert bytes_of_many <= 1.5 * bytes_of_few


@pytest.mark.hlo
def test_an_update_is_few_loops(program):
    """Over updates, tiles, chunks, steps, members, pieces; the rest are the compiler's own, of random numbers."""
    assert loops(program.as_text()) <= 24


def test_the_state_is_updated_in_place(program):
    memory = program.memory_analysis()
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(population_of(1).template()))
    assert memory.alias_size_in_bytes >= state


@pytest.mark.hlo
def test_nothing_goes_to_the_host_within_a_chunk(program):
    assert not re.search(r"outfeed|infeed|host_callback|xla_python|xla_ffi_python|send\(|recv\(", program.as_text())


def loops(text):
    return len(re.findall(r"= .* while\(", text))


@pytest.mark.parametrize("memory", ["remat", pytest.param("recompute", marks=pytest.mark.slow)])
def test_no_work_is_done_on_episodes_that_have_ended(memory):
    """Of a population as it is trained, with all that lies around the update of a member."""
    steps = []

    def counted(environment):
        def step(params, key, state, action):
            jax.debug.callback(lambda: steps.append(1))
            return environment.step(params, key, state, action)

        return environment._replace(step=step)

    config = config_of(num_trajectories=5, horizon=500, memory=memory)
    short = _end_after(make_member(config).environment, SHORT)
    functions = make_member(config, environment=counted(short))
    population = make_population(config, functions=functions, devices=jax.devices()[:1])
    state, metrics = population.advance(population.init(), np.int32(1))
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert metrics["episode_length"][0].max() == SHORT
    # Both members play together; those that recompute play once more, each for itself.
    assert len(steps) == {"remat": SHORT, "recompute": 3 * SHORT}[memory]
