"""Torsos and activations from outside: what serves, and what is refused by one sentence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from helpers.policies import Rows

from haepo_jax.config import PolicyConfig
from haepo_jax.environments import Discrete
from haepo_jax.errors import ConfigError
from haepo_jax.networks import loading, make_policy, make_torso
from haepo_jax.networks.torsos import MLP


class Counts(Rows):
    @nn.compact
    def __call__(self, observations):
        self.variable("counts", "calls", lambda: 0)
        return super().__call__(observations)


class Drops(Rows):
    @nn.compact
    def __call__(self, observations):
        return nn.Dropout(0.5, deterministic=False)(super().__call__(observations))


class CalledHead(nn.Module):
    @nn.compact
    def __call__(self, observations):
        return nn.Dense(2, name="head")(observations)


class Bits(nn.Module):
    @nn.compact
    def __call__(self, observations):
        return nn.Dense(2, param_dtype=jnp.bfloat16)(observations)


READY = Bits()


def leaves(*observations):
    del observations
    raise SystemExit(3)


def first_alone(array):
    return array[..., :1]


def positive(array):
    return array > 0


def flat_only(size):
    return lambda observations: observations


def refusal(shape=(3, 4), **settings):
    with pytest.raises(ConfigError) as raised:
        make_torso(PolicyConfig(**settings), shape)
    return str(raised.value)


def test_a_torso_from_outside_keeps_its_parameters_beside_the_head():
    torso = make_torso(PolicyConfig(network="helpers.policies:Rows", network_kwargs={"size": 5}), (3, 4))
    params = make_policy((3, 4), Discrete(2), make_torso=torso, initial_log_std=0.0).init(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, params)
    dense = {"kernel": (4, 5), "bias": (5,)}
    assert shapes == {"Rows_0": {"Dense_0": dense, "head": {"kernel": (5, 2), "bias": (2,)}}}


def test_a_torso_of_ours_is_tried_once_and_one_from_outside_each_time(monkeypatch):
    tried = []
    monkeypatch.setattr(loading, "check_torso", lambda where, factory, make, shape: tried.append((factory, shape)))
    ours, outside = PolicyConfig(hidden_sizes=(3, 5)), PolicyConfig(network=Rows, network_kwargs={"size": 5})
    for config, shape in ((ours, (3, 7)), (ours, (3, 7)), (ours, (7, 3)), (outside, (3, 7)), (outside, (3, 7))):
        make_torso(config, shape)
    assert tried == [(MLP, (3, 7)), (MLP, (7, 3)), (Rows, (3, 7)), (Rows, (3, 7))]


def test_in_a_program_torso_and_activation_may_be_given_themselves():
    config = PolicyConfig(network=Rows, network_kwargs={"size": 5}, activation=jnp.abs)
    module = make_torso(config, (3, 4))()
    assert isinstance(module, Rows) and module.activation is jnp.abs


def test_an_activation_from_outside_is_used():
    torso = make_torso(PolicyConfig(activation="jax.numpy:abs", hidden_sizes=(4,)), (3,))
    assert torso().activation is jnp.abs


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Counts", "has mutable state (counts), which no update would carry on; a torso has parameters alone."),
        ("Drops", "draws random numbers, as dropout does, which a torso may not: its features must follow from"),
        ("flat_only", "must make a flax.linen.Module, got <function flat_only"),
    ],
)
def test_a_module_that_is_no_torso_is_refused(name, sentence):
    found = refusal(network=f"{__name__}:{name}", network_kwargs={"size": 5})
    assert found.startswith(f"config.policy.network {__name__}:{name} {sentence}")


def test_features_of_a_wrong_shape_are_refused_with_both_shapes():
    name = "helpers.policies:Rows"
    sentence = refusal((2, 3, 4), network=name, network_kwargs={"size": 5})
    assert sentence == (
        f"config.policy.network {name} maps observations of shape (2, 3, 4) to float32[2, 5]; it must be real "
        "features of shape (F), of any size F, whatever axes lead."
    )


def test_a_torso_that_fails_is_refused_with_its_own_words():
    sentence = refusal((), network="helpers.policies:Rows", network_kwargs={"size": 5})
    assert "Rows at observations of shape () fails at line " in sentence and "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CalledHead", "has a layer or a parameter called head, as the layer after it is called; give it another"),
        ("Bits", "has the parameter Dense_0.bias in bfloat16; all must be float32, whatever it computes in."),
        ("READY", "is Bits(); it must be the class of a flax.linen.Module, or a function that makes one."),
        ("leaves", "at observations of shape (4,) fails at line"),
    ],
)
def test_what_no_gradient_step_could_move_is_refused(name, sentence):
    found = refusal((4,), network=f"{__name__}:{name}")
    assert found.startswith(f"config.policy.network {__name__}:{name} {sentence}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("first_alone", "gives float32[2, 1]; it must give real numbers of the shape of its argument, (2, 3)."),
        ("positive", "gives bool[2, 3]; it must give real numbers of the shape of its argument, (2, 3)."),
        ("leaves", "fails at line"),
    ],
)
def test_an_activation_that_is_none_is_refused_by_its_name(name, sentence):
    found = refusal((4,), activation=f"{__name__}:{name}")
    assert found.startswith(f"config.policy.activation {__name__}:{name} {sentence}")


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"sizes": 5}, "config.policy.network_kwargs.sizes is not an argument of Rows; did you mean size?"),
        ({}, "Rows needs the argument size: give config.policy.network_kwargs.size."),
    ],
    ids=["unknown", "missing"],
)
def test_arguments_that_a_torso_does_not_have_or_lacks_are_refused(kwargs, sentence):
    assert refusal(network="helpers.policies:Rows", network_kwargs=kwargs) == sentence


def test_a_cnn_refuses_what_is_no_image_and_sizes_that_are_none():
    assert refusal((4,), network="cnn").endswith("and these have shape (4,); take mlp.")
    sentence = refusal(network="cnn", network_kwargs={"channels": 0})
    assert sentence == ("config.policy.network_kwargs.channels of cnn must be a whole number of at least 1, got 0.")
