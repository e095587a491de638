"""Environments of many agents: what they must keep to, and how they become lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toy_agents import make_relay

from haepo_jax.environments import Box, Discrete, Seen, View, make, make_agents
from haepo_jax.environments.agents import as_lanes, list_kinds
from haepo_jax.environments.agents_contract import check_agents
from haepo_jax.environments.contract import check_environment
from haepo_jax.errors import ConfigError


def test_lanes_show_what_is_asked_for_in_their_order():
    relay = make_relay()
    lanes = as_lanes(relay, Seen(number=True, world=True))
    assert lanes.observation_shape == (2 + 2 + 3 + 4,) and lanes.mask_size == 4 and lanes.num_flags == 7
    state, shown = lanes.reset({}, jax.random.key(0))
    drawn = float(state[1])
    np.testing.assert_allclose(shown[1], [0, drawn, 0, 7, 0, 1, 0, 1, 1, 1, 0])
    parts = lanes.parts
    assert parts.take_own(shown).shape == (3, 2) and parts.take_world(shown)[2].tolist() == [0, 7]
    assert parts.take_number(shown).tolist() == np.eye(3).tolist()
    assert parts.take_mask(shown)[0].tolist() == [1, 1, 0, 0]
    assert parts.kinds == (0, 0, 1) and list(list_kinds(relay)) == ["last", "first"]


def test_what_all_agents_see_is_the_world_where_the_environment_shows_none():
    game = make_agents("Signals-haepo", (("num_agents", 2), ("num_choices", 3)))
    lanes = as_lanes(game, Seen(number=False, world=True))
    _, shown = lanes.reset({}, jax.random.key(0))
    assert lanes.observation_shape == (9,)
    np.testing.assert_array_equal(shown[:, 3:], np.tile(np.asarray(shown[:, :3]).reshape(-1), (2, 1)))


def test_an_agents_own_observation_alone_keeps_its_shape():
    relay = make_relay(masked=False)._replace(
        observation_shape=(1, 2), reset=lambda params, key: (jnp.int32(0), View(jnp.ones((3, 1, 2))))
    )
    lanes = as_lanes(relay, Seen(number=False))
    assert lanes.observation_shape == (1, 2) == lanes.feature_shape
    assert lanes.reset({}, jax.random.key(0))[1].shape == (3, 1, 2)


def test_an_agent_is_done_by_itself_or_with_all():
    lanes = as_lanes(make_relay())
    state, _ = lanes.reset({}, jax.random.key(0))
    for ended in ([True, False, False], [True, True, False], [True, True, True]):
        after = lanes.step({}, jax.random.key(1), state, jnp.zeros(3, jnp.int32))
        assert after.done.tolist() == ended == after.terminated.tolist()
        assert after.info_metrics["ticks"].tolist() == [1, 1, 1]
        state = after.state


@pytest.mark.parametrize("seen", [Seen(), Seen(number=False, world=True)])
def test_one_agent_alone_is_any_environment_of_one(seen):
    game = make_agents("Signals-haepo", (("num_agents", 1), ("num_choices", 3), ("num_steps", 2)))
    lanes = as_lanes(game, seen)
    check_environment(lanes)
    state, shown = lanes.reset({}, jax.random.key(0))
    after = lanes.step({}, jax.random.key(1), state, jnp.argmax(shown[:3]))
    assert shown.shape == lanes.observation_shape and after.reward == 1 and not after.done
    assert lanes.step({}, jax.random.key(1), after.state, jnp.int32(0)).done
    assert after.info_metrics["all_right"].shape == ()


def test_signals_pay_an_agent_for_its_own_answer_or_the_teams():
    game = make_agents("Signals-haepo", (("num_agents", 4), ("num_choices", 3), ("num_steps", 2)))
    state, view = game.reset({}, jax.random.key(3))
    signal = int(jnp.argmax(view.observations[0]))
    right = (signal + np.arange(4)) % 3
    actions = jnp.array([right[0], right[1], (right[2] + 1) % 3, (right[3] + 1) % 3])
    for share, wanted in ((1.0, [0.5] * 4), (0.0, [1, 1, 0, 0]), (0.5, [0.75, 0.75, 0.25, 0.25])):
        step = game.step({"share": share}, jax.random.key(4), state, actions)
        assert step.rewards.tolist() == wanted and step.info_metrics["all_right"] == 0 and not step.done
    last = game.step({}, jax.random.key(5), step.state, jnp.zeros(4, jnp.int32))
    assert last.done and last.terminated


def test_a_name_gives_lanes_and_one_agent_is_no_environment_of_many():
    assert make("Signals-haepo", (("num_agents", 5),)).num_agents == 5 and make("CartPole-v1").num_agents == 1
    assert make("Signals-haepo") is make("Signals-haepo")
    with pytest.raises(ConfigError, match="env CartPole-v1 has one agent"):
        make_agents("CartPole-v1")
    with pytest.raises(ConfigError, match=r"config\.env_kwargs\.agents is not an argument of"):
        make("Signals-haepo", (("agents", 5),))
    with pytest.raises(ConfigError, match=r"config.env_kwargs \(num_agents=0\) cannot be used by Signals-haepo"):
        make("Signals-haepo", (("num_agents", 0),))


def changed_step(**fields):
    relay = make_relay()
    return relay._replace(step=lambda *arguments: relay.step(*arguments)._replace(**fields))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (make_relay()._replace(num_agents=0), "has num_agents 0; it must be a whole number from 1 on"),
        (make_relay()._replace(mask_size=3), "has the mask_size 3 .* it must be 4, or 0"),
        (make_relay()._replace(action_space=Box(2)), "it must be that of choices, as real actions have no mask"),
        (make_relay()._replace(action_space=Discrete(0)), "has the action_space"),
        (make_relay()._replace(kinds={"one": (0, 1)}), "must hold each number of its 3 agents once"),
        (make_relay()._replace(kinds={"one": (0, 1), "other": 2}), "as tuples of numbers by the name of their kind"),
        (
            make_relay()._replace(info_metrics=("return_last",)),
            "has a measure return_last, which is what a run reports",
        ),
        (make_relay()._replace(observation_shape=(3,)), r"observations of its reset as float32\[3, 2\]; it must be "),
        (make_relay()._replace(world_size=0), "world of its reset as .* it must be None, as world_size says"),
        (make_relay(ends_early=False)._replace(ends_early=True), r"agents_done as None; it must be bool\[3\]"),
        (make_relay()._replace(ends_early=False), "agents_done as .* must be None, as ends_early says"),
        (make_relay()._replace(info_metrics=()), "info_metrics of its step are not those that its attribute names"),
        (changed_step(rewards=jnp.zeros(2)), r"rewards as float32\[2\]; it must be float32\[3\]"),
        (changed_step(done=jnp.zeros(3, bool)), "gives done as .* it must be one boolean"),
        (make_relay()._replace(step=lambda *_: None), "its step gives None"),
        (make_relay()._replace(params={"steps": "many"}), "has params {'steps': 'many'}; it must map names"),
        (
            make_relay()._replace(params={"steps": 4}, step=lambda params, *_: params["steps"]),
            r"reads params\['steps'\], and params hold only what config.env_params sets; .* params.get\('steps', 4\)",
        ),
        (make_relay()._replace(reset=lambda *_: (0, 0)), "fails at its first step|gives"),
    ],
)
def test_what_does_not_keep_to_the_interface_is_refused_in_a_sentence(environment, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_agents(environment)
    check_agents(make_relay())
