"""JaxMARL behind our interface is JaxMARL itself, step by step: agents alike and unlike, masks, ends of one or all."""

import pytest

pytest.importorskip("jaxmarl", reason="needs the extra jaxmarl")

import jax
import jax.numpy as jnp
import jaxmarl
import numpy as np

from haepo_jax.environments import Box, Discrete, Seen, make, make_agents
from haepo_jax.environments.libraries.jaxmarl import adapt
from haepo_jax.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:OvercookedV2 is now released:DeprecationWarning")

# By id: arguments, agents, shape of an observation, space, entries of the mask, limit.
FORMS = {
    "switch_riddle": ({}, 3, (2,), Discrete(3), 3, 6),
    "MPE_simple_spread_v3": ({}, 3, (18,), Discrete(5), 0, 26),
    "coin_game": ({"num_inner_steps": 4, "num_outer_steps": 3}, 2, (36,), Discrete(5), 0, 12),
    "overcooked": ({"layout": "cramped_room", "max_steps": 30}, 2, (4, 5, 26), Discrete(6), 0, 30),
    "MPE_simple_tag_v3": ({}, 4, (16,), Discrete(5), 0, 26),
    "MPE_simple_speaker_listener_v4": ({}, 2, (11,), Discrete(5), 5, 26),
    "MPE_simple_spread_v3 with real actions": ({"action_type": "Continuous"}, 3, (18,), Box(5), 0, 26),
    "SMAX": ({"scenario": "3m"}, 6, (75,), Discrete(8), 8, 100),
    "HeuristicEnemySMAX": ({"scenario": "3m"}, 3, (75,), Discrete(8), 8, 100),
    "hanabi": ({}, 2, (658,), Discrete(21), 21, None),
}
QUICK = ("switch_riddle", "MPE_simple_spread_v3", "MPE_simple_speaker_listener_v4")
OUR_MASKS = ("switch_riddle", "MPE_simple_speaker_listener_v4")
"""Those whose masks are not the library's."""
STEPS = 40


def make_both(name, seen=None):
    arguments, own = FORMS[name][0], name.partition(" ")[0]
    environment = make_agents(f"jaxmarl:{own}", tuple(sorted(arguments.items())))
    if own == "overcooked":
        arguments = {**arguments, "layout": jaxmarl.environments.overcooked_layouts["cramped_room"]}
    if own.endswith("SMAX"):
        arguments = {"scenario": jaxmarl.environments.smax.map_name_to_scenario("3m")}
    return environment, jaxmarl.make(own, **arguments)


def draw(environment, key, view):
    if isinstance(environment.action_space, Box):
        return jax.random.uniform(key, (environment.num_agents, environment.action_space.size), minval=-1.0)
    allowed = jnp.ones((environment.num_agents, environment.action_space.n), bool)
    allowed = allowed if view.action_masks is None else view.action_masks
    return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))


def pad(values, like):
    flat = [np.ravel(np.asarray(value, np.float32)) for value in values]
    return np.stack([np.pad(row, (0, like[0].size - row.size)) for row in flat]).reshape(like.shape)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FORMS])
def test_steps_are_those_of_the_library(name):
    environment, env = make_both(name)
    _, number, shape, space, mask_size, limit = FORMS[name]
    found = (environment.num_agents, environment.action_space, environment.mask_size, environment.max_steps)
    assert found == (number, space, mask_size, limit)
    assert environment.observation_shape == shape
    ours, theirs, draw_actions = (
        jax.jit(environment.step),
        jax.jit(env.step_env),
        jax.jit(lambda key, view: draw(environment, key, view)),
    )
    first, *keys = jax.random.split(jax.random.key(0), STEPS + 1)
    (state, view), (observations, own_state) = environment.reset({}, first), env.reset(first)
    for key in keys:
        np.testing.assert_array_equal(view.observations, pad([observations[a] for a in env.agents], view.observations))
        if view.world is not None:
            np.testing.assert_array_equal(view.world, observations["world_state"])
        if mask_size and name not in OUR_MASKS:
            allowed = (env.get_legal_moves if name == "hanabi" else env.get_avail_actions)(own_state)
            np.testing.assert_array_equal(view.action_masks, pad([allowed[a] for a in env.agents], view.action_masks))
        actions = draw_actions(jax.random.fold_in(key, 1), view)
        taken = (actions + 1) / 2 if isinstance(space, Box) else actions
        after = ours({}, key, state, actions)
        given = {agent: taken[k] for k, agent in enumerate(env.agents)}
        observations, own_state, rewards, done, _ = theirs(key, own_state, given)
        np.testing.assert_allclose(after.rewards, [float(rewards[a]) for a in env.agents], rtol=1e-6)
        assert bool(after.done) == bool(done["__all__"])
        if environment.ends_early:
            assert after.agents_done.tolist() == [bool(done[a]) for a in env.agents]
        state, view = after.state, after.view
        if after.done:
            break


def play_to_the_end(environment, actions):
    state, _ = environment.reset({}, jax.random.key(0))
    step = jax.jit(environment.step)
    for t in range(1000):
        after = step({}, jax.random.key(t), state, actions)
        state = after.state
        if after.done:
            return t + 1, after
    raise AssertionError("the episode has no end")


def test_a_limit_of_time_is_no_end_of_the_task_and_comes_when_the_library_says():
    environment, _ = make_both("MPE_simple_spread_v3")
    steps, last = play_to_the_end(environment, jnp.zeros(3, jnp.int32))
    assert steps == environment.max_steps == 26 and not last.terminated  # MPE's max_steps of 25 allows one more


def test_the_riddle_ends_with_its_last_day_as_to_wait_beyond_it_is_worth_nothing():
    steps, last = play_to_the_end(make_agents("jaxmarl:switch_riddle"), jnp.zeros(3, jnp.int32))
    assert steps == 6 and last.terminated


def test_an_agent_that_speaks_ends_the_riddle_for_all():
    environment = make_agents("jaxmarl:switch_riddle", (("num_agents", 4),))
    steps, last = play_to_the_end(environment, jnp.full(4, 2))
    assert steps == 1 and last.terminated and last.rewards.tolist() == [-1.0] * 4


def test_only_who_is_in_the_room_of_the_riddle_has_a_choice_and_what_others_do_changes_nothing():
    environment, env = make_both("switch_riddle")
    state, view = environment.reset({}, jax.random.key(0))
    _, own_state = env.reset(jax.random.key(0))
    for t, does in enumerate([1, 1, 0]):
        inside = int(own_state.agent_in_room)
        assert view.action_masks.tolist() == [[True, k == inside, k == inside] for k in range(3)]
        waiting = jnp.zeros(3, jnp.int32).at[inside].set(does)
        noisy = dict(zip(env.agents, jnp.full(3, 2).at[inside].set(does), strict=True))
        after = environment.step({}, jax.random.key(t), state, waiting)
        seen, own_state, rewards, done, _ = env.step_env(jax.random.key(t), own_state, noisy)
        np.testing.assert_array_equal(after.view.observations, [seen[a] for a in env.agents])
        assert after.rewards.tolist() == [rewards[a] for a in env.agents] and not done["__all__"]
        state, view = after.state, after.view


def test_the_librarys_own_step_begins_anew_where_ours_stands_at_the_end():
    environment, env = make_both("switch_riddle")
    first, key = jax.random.split(jax.random.key(0))
    (state, _), (_, own_state) = environment.reset({}, first), env.reset(first)
    after = environment.step({}, key, state, jnp.full(3, 2))
    _, begun, rewards, done, _ = env.step(key, own_state, dict.fromkeys(env.agents, 2))
    assert done["__all__"] and after.done and rewards["agent_0"] == after.rewards[0]
    assert int(begun.step) == 0 and 1 in [int(leaf) for leaf in after.state if leaf.shape == ()]


def test_unlike_agents_are_filled_up_and_told_apart():
    environment = make_agents("jaxmarl:MPE_simple_speaker_listener_v4")
    _, view = environment.reset({}, jax.random.key(0))
    assert view.action_masks.sum(axis=1).tolist() == [3, 5] and not view.observations[0, 3:].any()
    tag = make_agents("jaxmarl:MPE_simple_tag_v3")
    assert tag.kinds == {"adversaries": (0, 1, 2), "agents": (3,)}
    lanes = make("jaxmarl:MPE_simple_tag_v3", (), Seen(number=True, world=True))
    assert lanes.observation_shape == (16 + 4 * 16 + 4,) and lanes.parts.kinds == (0, 0, 0, 1)


class ShapedRiddle(jaxmarl.environments.SwitchRiddle):
    """A riddle with shaped rewards of 1, 2 and 3 at each step, in the form of Overcooked's."""

    def step_env(self, key, state, actions):
        *others, _ = super().step_env(key, state, actions)
        return (*others, {"shaped_reward": {agent: k + 1.0 for k, agent in enumerate(self.agents)}})


def test_shaped_rewards_are_added_as_much_as_asked_for():
    environment = adapt("jaxmarl:shaped_riddle", ShapedRiddle())
    assert environment.params == {"shaping": 0.0}
    state, _ = environment.reset({}, jax.random.key(0))
    for params, wanted in (({}, [0, 0, 0]), ({"shaping": 0.5}, [0.5, 1, 1.5])):
        step = environment.step(params, jax.random.key(1), state, jnp.zeros(3, jnp.int32))
        assert step.rewards.tolist() == wanted


def test_names_that_the_library_does_not_know_are_refused():
    with pytest.raises(ConfigError, match="'switch_ridle' is not known; did you mean switch_riddle"):
        make("jaxmarl:switch_ridle")
    with pytest.raises(ConfigError, match=r"config.env_kwargs \(size=3\) cannot be used by jaxmarl:switch_riddle"):
        make("jaxmarl:switch_riddle", (("size", 3),))
    with pytest.raises(ConfigError, match=r"config.env_kwargs.layout 'cramped' is not known"):
        make("jaxmarl:overcooked", (("layout", "cramped"),))
