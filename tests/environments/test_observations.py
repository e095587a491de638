"""Observations of any structure become one float32 array, in a fixed order, with the action mask at its end."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from haepo_jax.environments.observations import make_observer


class View(NamedTuple):
    z: jax.Array
    a: dict


NESTED = View(jnp.array([[1, 2], [3, 4]]), {"y": jnp.bool_(True), "b": jnp.array([7.5])})


def test_one_array_keeps_its_shape():
    observer = make_observer({"image": jnp.ones((4, 5, 3), jnp.uint8)})
    seen = observer({"image": jnp.ones((4, 5, 3), jnp.uint8)})
    assert seen.shape == observer.observation_shape == (4, 5, 3) and seen.dtype == jnp.float32
    assert observer.mask_size == 0 and observer.masked_shape is None


def test_several_lie_in_the_order_of_their_fields_and_mappings_in_that_of_the_alphabet():
    observer = make_observer(NESTED)
    assert observer(NESTED).tolist() == [1.0, 2.0, 3.0, 4.0, 7.5, 1.0] and observer.observation_shape == (6,)


@pytest.mark.parametrize(("given", "masked_shape"), [(NESTED, (6,)), (NESTED.z, (2, 2))], ids=["several", "one"])
def test_the_mask_comes_last_and_the_shape_before_it_is_kept(given, masked_shape):
    mask = jnp.array([[True, False], [False, True]])
    observer = make_observer(given, mask)
    seen = observer(given, mask)
    assert (observer.mask_size, observer.masked_shape) == (4, masked_shape)
    assert seen.shape == observer.observation_shape and seen[-4:].tolist() == [1.0, 0.0, 0.0, 1.0]
    assert seen[:-4].tolist() == make_observer(given)(given).ravel().tolist()


@pytest.mark.parametrize(
    ("given", "mask", "words"),
    [
        (
            {"zeit": 1.0, "place": jnp.zeros(2)},
            jnp.ones(3, bool),
            "The observation has the fields place, zeit; that of make_observer has the fields place, time.",
        ),
        (
            {"place": jnp.zeros(2)},
            jnp.ones(3, bool),
            "The observation has the fields place; that of make_observer has",
        ),
        (jnp.zeros(3), jnp.ones(3, bool), "The observation has one array; that of make_observer has the fields"),
        ({"place": jnp.zeros(2), "time": 1}, None, "The action mask has no array; that of make_observer has one"),
        (
            {"place": jnp.zeros(2), "time": 1},
            (jnp.ones(3, bool),),
            "The action mask has the fields 0; that of make_observer",
        ),
    ],
)
def test_other_fields_than_it_was_made_for_are_refused_as_their_order_would_be_another(given, mask, words):
    observer = make_observer({"time": jnp.int32(0), "place": jnp.zeros(2)}, jnp.ones(3, bool))
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        observer(given, mask)


def test_a_mask_that_it_was_not_made_for_is_refused():
    with pytest.raises(ValueError, match=r"^The action mask has one array; that of make_observer has no array\.$"):
        make_observer(NESTED)(NESTED, jnp.ones(3, bool))
