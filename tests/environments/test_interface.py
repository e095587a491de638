"""The shape of the interface itself: what callers may rely on by position and by name."""

import jax.numpy as jnp
import pytest

from haepo_jax.environments import Box, Discrete, Environment, MultiDiscrete, Step, make
from haepo_jax.errors import ConfigError


def environment(name="toy", **changes):
    def reset(params, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(params, key, state, action):
        return Step(state, jnp.zeros(1), jnp.float32(0), jnp.bool_(True), jnp.bool_(True), {})

    return Environment(name, (1,), Discrete(2), 1, {"slip": 0.0}, (), reset, step)._replace(**changes)


def test_step_and_environment_have_these_fields():
    assert Step._fields == ("state", "observation", "reward", "done", "terminated", "info_metrics")
    assert Environment._fields == (
        "name",
        "observation_shape",
        "action_space",
        "max_steps",
        "params",
        "info_metrics",
        "reset",
        "step",
        "param_limits",
        "observes_choices",
        "render",
        "mask_size",
        "masked_shape",
        "num_agents",
        "ends_early",
        "parts",
        "kinds",
        "game",
    )


def test_an_environment_is_the_key_of_a_cache_though_it_holds_a_dict():
    one, other = environment(), environment()
    assert {one: "one", other: "other"}[one] == "one"
    assert one != other
    same = one._replace(params=dict(one.params))
    assert same == one and hash(same) == hash(one)


@pytest.mark.parametrize("shape", [4, [4], (0,), ("4",)], ids=str)
def test_an_observation_shape_that_is_none_is_refused(shape):
    with pytest.raises(ConfigError, match=r"env toy has observation_shape .*; it must be a tuple of whole numbers"):
        make(environment(observation_shape=shape))


def test_action_spaces_of_one_size_differ_in_kind():
    assert Discrete(2) == Discrete(2) != Discrete(3)
    assert environment(action_space=Box(2)) != environment(action_space=Discrete(2))


@pytest.mark.parametrize(
    "space", [MultiDiscrete(()), MultiDiscrete((2, 0)), MultiDiscrete([2, 3]), Discrete(True), "two"]
)
def test_an_action_space_that_is_none_is_refused(space):
    with pytest.raises(ConfigError, match=r"env toy has the action_space .*; it must be a .* of a tuple of such"):
        make(environment(action_space=space))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mask_size": 3, "masked_shape": (1,)}, r"mask_size 3 and the action_space Discrete\(n=2\); it must be 2"),
        ({"masked_shape": (1,)}, "mask_size 0 .*; it must be 2, one for each choice, or 0"),
        ({"mask_size": 2, "action_space": Box(2), "masked_shape": (1,)}, "real actions have no mask"),
        ({"mask_size": 2}, "an action mask and the masked_shape None; it must be the shape of the features"),
        ({"mask_size": 2, "masked_shape": (0,)}, "a tuple of whole numbers from 1 on"),
        (
            {"mask_size": 2, "masked_shape": (2, 3)},
            r"features of shape \(2, 3\) and a mask of 2 entries it must be \(8,\)",
        ),
    ],
)
def test_a_mask_that_fits_neither_actions_nor_observations_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(environment(**changes))
