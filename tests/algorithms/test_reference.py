"""Rules of the reference policy, against the table in `make_reference`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.algorithms.reference import make_reference
from haepo_jax.config import REFERENCES, HaepoConfig

# theta_u: parameters that no other update shares, as a tree.
THETA = [{"w": jnp.array([2.0**u, -(3.0**u)]), "b": jnp.float32(u)} for u in range(8)]
NUM_UPDATES = len(THETA) - 1

# The reference during update u as a function of u, written in terms of the parameters that it is made of.
TABLE = {
    "frozen": lambda u, period, decay: THETA[0],
    "periodic": lambda u, period, decay: THETA[u - u % period],
    "ema": lambda u, period, decay: jax.tree.map(
        lambda *leaves: (
            decay**u * leaves[0] + sum((1 - decay) * decay ** (u - v) * leaves[v] for v in range(1, u + 1))
        ),
        *THETA,
    ),
    "previous": lambda u, period, decay: THETA[max(u - 1, 0)],
}


def make_update(name):
    def update(period, decay, reference, before, after, done):
        config = dataclasses.replace(HaepoConfig(), reference_period=period, reference_decay=decay)
        return make_reference(name).update(config, reference, before, after, done)

    return update


def references_during_updates(name, update, period, decay):
    """The reference during each update, when update u turns theta_u into theta_{u+1}."""
    reference = make_reference(name).init(THETA[0])
    during = []
    for u in range(NUM_UPDATES):
        during.append(reference)
        reference = update(period, decay, reference, THETA[u], THETA[u + 1], jnp.int32(u + 1))
    return during


def assert_follows_the_table(name, period, decay, during):
    assert len(during) == NUM_UPDATES
    for u, reference in enumerate(during):
        expected = TABLE[name](u, period, decay)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), reference, expected)


@pytest.mark.parametrize(("period", "decay"), [(1, 0.0), (2, 0.5), (3, 0.9), (5, 1.0), (100, 0.99)])
@pytest.mark.parametrize("name", TABLE)
def test_follows_the_table(name, period, decay):
    assert_follows_the_table(name, period, decay, references_during_updates(name, make_update(name), period, decay))


@pytest.mark.parametrize("name", TABLE)
def test_follows_the_table_with_traced_numbers_in_one_program(name):
    traces = []

    @jax.jit
    def update(*arguments):
        traces.append(name)
        return make_update(name)(*arguments)

    for period, decay in [(2, 0.5), (3, 0.9)]:
        during = references_during_updates(name, update, jnp.int32(period), jnp.float32(decay))
        assert_follows_the_table(name, period, decay, during)
    assert len(traces) == 1


@pytest.mark.parametrize("name", TABLE)
def test_the_first_reference_is_a_copy_of_the_first_parameters(name):
    params = {"w": jnp.ones(3)}
    reference = make_reference(name).init(params)
    np.testing.assert_array_equal(reference["w"], params["w"])
    assert reference["w"] is not params["w"]  # both may be donated
    assert reference["w"].unsafe_buffer_pointer() != params["w"].unsafe_buffer_pointer()


def test_none_gives_none():
    rule = make_reference("none")
    assert rule.init(THETA[0]) is None
    assert rule.update(HaepoConfig(), None, THETA[0], THETA[1], jnp.int32(1)) is None


def test_every_rule_of_the_config_is_tested_here():
    assert {"none", *TABLE} == set(REFERENCES)
