"""The update of a member, traced once for all that is made of it."""

import jax
import jax.numpy as jnp
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config

from haepo_jax.population import make_population
from haepo_jax.population.member import make_member
from haepo_jax.population.traced_update import one_member

CONFIG = fixed_config({"env": "CartPole-v1", "num_trajectories": 2, "horizon": 4, "policy": {"hidden_sizes": (4,)}})


@pytest.fixture(scope="module")
def counted():
    """A population, and the number of times that the code of a member's play has run."""
    functions, calls = make_member(CONFIG), []

    def collect(state):
        calls.append(state)
        return functions.collect(state)

    return make_population(CONFIG, functions=functions._replace(collect=collect), devices=some_devices(2)), calls


def test_one_trace_is_the_fingerprint_the_shapes_and_the_program(counted):
    population, calls = counted
    assert len(population.metrics_shapes()) > 5 and len(population.fingerprint()) == 64
    assert "while" in population.advance.lower(population.abstract_state(), jnp.int32(1)).as_text()
    assert population.traced_update() is population.traced_update()
    assert len(calls) == 1


def test_the_shapes_are_those_of_the_member_s_functions(counted):
    functions, traced = counted[0].functions, counted[0].traced_update()
    member = one_member(counted[0].abstract_state())
    batch = jax.eval_shape(functions.collect, member)
    result = jax.eval_shape(functions.learn, member, batch)
    assert list_types(traced.batch) == list_types(batch)
    assert list_types(traced.result) == list_types(result) == list_types(jax.eval_shape(traced.update, member))


def list_types(tree):
    return [(path, leaf.shape, leaf.dtype) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
