import enum
import json
from collections import OrderedDict

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from haepo_jax.config import default_config, from_config_dict
from haepo_jax.config.plain_values import plain
from haepo_jax.errors import ConfigError


class Number(enum.IntEnum):
    THREE = 3


class Word(enum.StrEnum):
    SUM = "sum"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (jnp.int32(3), 3),
        (np.float64(0.1), 0.1),
        (jnp.float32(0.5), 0.5),
        (jnp.bfloat16(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("sum"), "sum"),
        (np.array(7), 7),
        (jnp.array([8, 4]), (8, 4)),
        (Number.THREE, 3),
        (Word.SUM, "sum"),
        (OrderedDict(a=np.array([1.5])), {"a": (1.5,)}),
        (ml_collections.FrozenConfigDict({"a": {"b": np.int8(1)}}), {"a": {"b": 1}}),
        ([np.int64(1), (np.int64(2),)], [1, (2,)]),
        (None, None),
    ],
    ids=str,
)
def test_what_others_hold_is_taken_over_where_nothing_is_lost(value, expected):
    made = plain(value)
    assert made == expected and type(made) is type(expected)
    json.dumps(made)


@pytest.mark.parametrize("value", [{1, 2}, len, 1j, np.complex64(1), jax.random.key(0), np.datetime64("2026-01-01")])
def test_what_has_no_plain_form_is_left_to_the_checks(value):
    assert plain(value) is value
    with pytest.raises(ConfigError, match=r"config\.haepo\.kl_coef must be a number, got "):
        from_config_dict({"haepo": {"kl_coef": value}})


def test_references_give_their_value():
    config = default_config()
    config.num_updates = config.get_ref("num_seeds") * 2
    config.num_seeds = 8
    assert from_config_dict(config).num_updates == 16


def test_a_config_may_be_computed_with_numpy_and_jax():
    values = {"seed": np.uint32(7), "policy": {"hidden_sizes": np.array([8, 4])}, "discount": jnp.sqrt(0.25)}
    config = from_config_dict(values)
    assert (config.seed, config.policy.hidden_sizes, config.discount) == (7, (8, 4), 0.5)
    assert {type(config.seed), type(config.discount)} == {int, float}


def endless():
    values = {}
    values["haepo"] = values
    return values


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({1: 2}, "config has the name 1, and names are text."),
        ({"haepo": {("a",): 2}}, r"config\.haepo has the name \('a',\), and names are text\."),
        (endless(), r"nested too deeply"),
        (
            ml_collections.ConfigDict({"seed": ml_collections.config_dict.required_placeholder(int)}),
            "required and not set",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_config_dict(value)
