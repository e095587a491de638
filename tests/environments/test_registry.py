"""gymnax environments behind the package's interface: shapes, dtypes, numbers, action bounds, ends of episodes."""

import sys

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.play import always, play, refusal
from jax.tree_util import tree_structure

from haepo_jax.environments import Box, Discrete, check_param, check_params, environment_names, make
from haepo_jax.environments.random_walk import RandomWalk
from haepo_jax.environments.registry import register_ours
from haepo_jax.errors import ConfigError

DOWNLOADS = {"MNISTBandit-bsuite"}
SLOW_TO_COMPILE = {
    *(f"{game}-MinAtar" for game in ("Asterix", "Freeway", "Seaquest", "SpaceInvaders")),
    *("FourRooms-misc", "Pong-misc"),
}
NUM_ENVS = 2


def environments(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW_TO_COMPILE else ()) for name in names]


ALL = environments(name for name in environment_names() if name not in DOWNLOADS)
REAL_ACTIONS = environments(["MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc"])


def lanes(environment):
    """The axis of agents, where there are several."""
    return () if environment.num_agents == 1 else (environment.num_agents,)


def actions_for(environment):
    """The last action, or the middle of the range."""
    shape = (NUM_ENVS, *lanes(environment))
    if isinstance(environment.action_space, Discrete):
        return jnp.full(shape, environment.action_space.n - 1, jnp.int32)
    return jnp.zeros((*shape, environment.action_space.size))


def types_of(tree):
    """Everything that a compiled program depends on."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("name", ALL)
def test_resets_and_steps_under_jit_and_vmap_with_one_compilation(name):
    environment = make(name)
    traced = []

    @jax.jit
    def step(keys, states, actions):
        traced.append(name)
        return jax.vmap(environment.step, in_axes=(None, 0, 0, 0))({}, keys, states, actions)

    keys = jax.random.split(jax.random.key(0), NUM_ENVS)
    states, observations = jax.vmap(environment.reset, in_axes=(None, 0))({}, keys)
    after = step(keys, states, actions_for(environment))
    again = step(keys, after.state, actions_for(environment))

    assert environment.name == name and environment.max_steps >= 1
    shape = (NUM_ENVS, *lanes(environment))
    assert observations.shape == (*shape, *environment.observation_shape)
    assert types_of(states) == types_of(after.state) == types_of(again.state)
    assert tree_structure(states) == tree_structure(after.state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((states, after)))
    assert len(traced) == 1
    for values in (observations, after.observation, again.observation):
        assert values.shape == observations.shape and values.dtype == jnp.float32
        assert np.isfinite(values).all()
    for result in (after, again):
        assert result.reward.shape == shape and result.reward.dtype == jnp.float32
        assert result.done.shape == result.terminated.shape == shape
        assert result.done.dtype == result.terminated.dtype == bool
        assert (result.done | ~result.terminated).all()
        assert np.isfinite(result.reward).all()
        assert set(result.info_metrics) == set(environment.info_metrics)
        for measure in result.info_metrics.values():
            assert measure.shape == shape and measure.dtype == jnp.float32
            assert np.isfinite(measure).all()


@pytest.mark.parametrize("name", [name for name in environment_names() if name not in DOWNLOADS])
def test_takes_each_number_traced_and_its_own_for_each_member(name):
    environment = make(name)
    members = 3

    def one(params, key):
        state, _ = environment.reset(params, key)
        action = jax.tree.map(lambda actions: actions[0], actions_for(environment))
        return state, environment.step(params, key, state, action)

    # Floats, as a sweep holds its settings, whatever the number's own type.
    params = {key: jnp.full((members,), value, jnp.float32) for key, value in environment.params.items()}
    keys = jax.random.split(jax.random.key(0), members)
    state, after = jax.eval_shape(jax.vmap(one, in_axes=(0 if params else None, 0)), params, keys)
    assert types_of(state) == types_of(after.state)
    shape = (members, *lanes(environment))
    assert after.observation.shape == (*shape, *environment.observation_shape)
    assert after.reward.shape == after.done.shape == after.terminated.shape == shape
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(after))


def test_one_environment_has_the_shapes_of_the_interface():
    environment = make("CartPole-v1")
    state, observation = environment.reset({}, jax.random.key(0))
    after = environment.step({}, jax.random.key(0), state, jnp.int32(1))
    assert observation.shape == after.observation.shape == (4,)
    assert after.reward.shape == after.done.shape == after.terminated.shape == ()
    assert after.info_metrics == {}


def test_can_be_the_key_of_a_cache():
    cartpole, acrobot = make("CartPole-v1"), make("Acrobot-v1")
    assert {cartpole: 1, acrobot: 2}[make("CartPole-v1")] == 1


class TestMake:
    def test_make_returns_the_same_object_at_every_call(self):
        assert make("CartPole-v1") is make("CartPole-v1")
        assert make("CartPole-v1") is not make("Acrobot-v1")

    def test_an_unknown_id_is_refused_with_the_near_ones(self):
        with pytest.raises(ConfigError, match="env 'CartPole-v2' is not known; did you mean CartPole-v1"):
            make("CartPole-v2")

    def test_an_id_unlike_any_is_refused_with_all_there_are(self):
        with pytest.raises(ConfigError, match=f"allowed: .*{', .*'.join(environment_names()[:3])}"):
            make("###")

    @pytest.mark.parametrize(
        ("name", "observation_shape", "action_space", "max_steps"),
        [
            ("CartPole-v1", (4,), Discrete(2), 500),
            ("Pendulum-v1", (3,), Box(1), 200),
            ("Catch-bsuite", (10, 5), Discrete(3), 1000),
            ("Breakout-MinAtar", (10, 10, 4), Discrete(3), 1000),
            ("FrozenLake-misc", (16,), Discrete(4), 100),
            ("Reacher-misc", (8,), Box(2), 100),
        ],
    )
    def test_an_environment_knows_its_shapes(self, name, observation_shape, action_space, max_steps):
        environment = make(name)
        assert environment.observation_shape == observation_shape
        assert environment.action_space == action_space
        assert environment.max_steps == max_steps


class TestRegistration:
    def test_registration_gives_our_environments_to_gymnax(self):
        for name in ("GaussianBandit-haepo", "BernoulliBandit-haepo", "RandomWalk-haepo", "LongChain-haepo"):
            assert name in environment_names()
            assert gymnax.make(name)[0].name == name

    def test_registration_may_happen_again(self):
        before = environment_names()
        register_ours()
        assert environment_names() == before


class TestArguments:
    def test_arguments_reach_the_constructor(self):
        assert make("DeepSea-bsuite", (("size", 12),)).observation_shape == (12, 12)
        assert make("DeepSea-bsuite", (("size", 12),)).max_steps == 12
        assert make("FourRooms-misc", (("use_visual_obs", True),)).observation_shape == (13, 13, 2)
        assert make("FrozenLake-misc", (("map_name", "8x8"),)).observation_shape == (64,)

    def test_equal_arguments_in_any_order_give_the_same_object(self):
        rows, columns = ("rows", 4), ("columns", 3)
        assert make("Catch-bsuite", (rows, columns)) is make("Catch-bsuite", (columns, rows))
        assert make("Catch-bsuite", (rows,)) is not make("Catch-bsuite", (columns,))
        assert make("Catch-bsuite", ()) is make("Catch-bsuite")
        assert make("FrozenLake-misc", (("success_rate", 1),)) is make("FrozenLake-misc", (("success_rate", 1.0),))

    @pytest.mark.parametrize(
        ("name", "key", "value", "sentence"),
        [
            (
                "DeepSea-bsuite",
                "sise",
                12,
                "config.env_kwargs.sise is not an argument of DeepSea-bsuite; did you mean size?",
            ),
            (
                "Catch-bsuite",
                "speed",
                12,
                "config.env_kwargs.speed is not an argument of Catch-bsuite; allowed: rows, columns.",
            ),
            # An argument of the constructor, but not one that a config can hold.
            (
                "DeepSea-bsuite",
                "action_mapping_key",
                0,
                "config.env_kwargs.action_mapping_key is not an argument of DeepSea-bsuite; allowed: size.",
            ),
            (
                "CartPole-v1",
                "length",
                1.0,
                "config.env_kwargs.length is not an argument of CartPole-v1, which has none.",
            ),
            (
                "DeepSea-bsuite",
                "size",
                "12",
                "config.env_kwargs.size of DeepSea-bsuite must be of type int, got '12'.",
            ),
            (
                "DeepSea-bsuite",
                "size",
                12.0,
                "config.env_kwargs.size of DeepSea-bsuite must be of type int, got 12.0.",
            ),
            (
                "DeepSea-bsuite",
                "size",
                True,
                "config.env_kwargs.size of DeepSea-bsuite must be of type int, got True.",
            ),
            (
                "FourRooms-misc",
                "use_visual_obs",
                1,
                "config.env_kwargs.use_visual_obs of FourRooms-misc must be of type bool, got 1.",
            ),
            (
                "FrozenLake-misc",
                "success_rate",
                2,
                "config.env_kwargs (success_rate=2.0) cannot be used by FrozenLake-misc: "
                "success_rate must be between 0 and 1.",
            ),
            # Accepted by the constructor, of no use to its reset.
            (
                "DeepSea-bsuite",
                "size",
                0,
                "config.env_kwargs (size=0) cannot be used by DeepSea-bsuite: division by zero.",
            ),
        ],
    )
    def test_unusable_arguments_are_refused_in_one_sentence(self, name, key, value, sentence):
        make("DeepSea-bsuite", (("size", 12),))  # 12.0 must not be taken for it
        assert refusal(make, name, ((key, value),)) == sentence

    def test_arguments_are_looked_at_only_once_the_id_is_known(self):
        assert refusal(make, "DeepSee-bsuite", (("size", 12),)) == (
            "env 'DeepSee-bsuite' is not known; did you mean DeepSea-bsuite?"
        )


class TestParams:
    def test_params_are_the_numbers_but_neither_switches_nor_arrays_nor_the_time_limit(self):
        assert make("DeepSea-bsuite").params == {"unscaled_move_cost": 0.01}
        assert make("DiscountingChain-bsuite").params == {"optimal_return": 1.1}
        assert make("SpaceInvaders-MinAtar").params == {
            "shot_cool_down": 5,
            "enemy_move_interval": 12,
            "enemy_shot_interval": 10,
        }
        assert make("Catch-bsuite").params == {}

    @pytest.mark.parametrize(
        "name",
        [
            "CartPole-v1",
            "Pendulum-v1",
            *(pytest.param(name, marks=pytest.mark.slow) for name in ("Acrobot-v1", "DeepSea-bsuite")),
        ],
    )
    def test_params_at_their_defaults_change_nothing(self, name):
        environment = make(name)
        with_defaults, without = (
            play(environment, lambda *_: actions_for(environment)[0], params=params, episodes=2, steps=8)
            for params in (environment.params, {})
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), with_defaults, without)

    def test_params_of_many_values_compile_once(self):
        environment = make("Pendulum-v1")
        state, _ = environment.reset({}, jax.random.key(0))
        traced = []

        @jax.jit
        def speed(params):
            traced.append(params)
            return environment.step(params, jax.random.key(0), state, jnp.zeros(1)).state.theta_dot - state.theta_dot

        speeds = np.array([speed({"g": jnp.float32(g)}) for g in (0.0, 1.0, 5.0)])
        assert len(traced) == 1 and abs(speeds[0]) < 1e-6
        np.testing.assert_allclose(speeds[2], 5 * speeds[1], rtol=1e-5)

    def test_each_member_has_its_own_params(self):
        environment = make("DeepSea-bsuite")

        def cost(params):
            state, _ = environment.reset(params, jax.random.key(0))
            right = state.action_mapping[0, 0]
            return environment.step(params, jax.random.key(0), state, right).reward

        costs = jnp.array([0.0, 0.01, 0.8])
        rewards = jax.vmap(cost)({"unscaled_move_cost": costs})
        np.testing.assert_allclose(rewards, -costs / 8, rtol=1e-6)
        np.testing.assert_allclose(cost({}), -0.01 / 8, rtol=1e-6)

    def test_params_of_whole_numbers_may_come_as_floats(self):
        environment = make("UmbrellaChain-bsuite")
        chain_length = jnp.float32(3.0)
        after = play(environment, always(0), params={"chain_length": chain_length}, steps=5)
        assert after[0].terminated[0].tolist() == [False, False, True, False, False]

    @pytest.mark.parametrize("torque", [2.0, 3.0])
    def test_params_that_bound_the_actions_scale_them(self, torque):
        environment = make("Pendulum-v1")
        state, _ = environment.reset({}, jax.random.key(0))
        after = environment.step({"max_torque": torque}, jax.random.key(0), state, jnp.array([0.5]))
        np.testing.assert_allclose(after.state.last_u, torque / 2, rtol=1e-6)

    @pytest.mark.parametrize(
        "given", [{}, {"masspole": 0.4}, {"masscart": 3.0}, {"length": 1.5}, {"masspole": 0.3, "length": 0.8}]
    )
    def test_params_of_cartpole_reach_the_numbers_that_follow_from_them(self, given):
        environment = make("CartPole-v1")
        assert not {"total_mass", "polemass_length"} & set(environment.params)
        state, _ = environment.reset({}, jax.random.key(0))
        state = state.replace(theta=jnp.float32(0.1), theta_dot=jnp.float32(0.7), x_dot=jnp.float32(-0.2))
        after = jax.jit(environment.step)(given, jax.random.key(0), state, jnp.int32(1)).state

        # The equations of motion of Barto, Sutton and Anderson (1983), without friction.
        values = {"masscart": 1.0, "masspole": 0.1, "length": 0.5} | given
        cart, pole, half = values["masscart"], values["masspole"], values["length"]
        sin, cos, mass = np.sin(0.1), np.cos(0.1), cart + pole
        push = 10.0 + pole * half * 0.7**2 * sin
        theta_acc = (9.8 * sin - cos * push / mass) / (half * (4 / 3 - pole * cos**2 / mass))
        x_acc = (push - pole * half * theta_acc * cos) / mass
        np.testing.assert_allclose(after.theta_dot, 0.7 + 0.02 * theta_acc, rtol=1e-5)
        np.testing.assert_allclose(after.x_dot, -0.2 + 0.02 * x_acc, rtol=1e-5)

    @pytest.mark.parametrize(
        ("name", "given", "sentence"),
        [
            (
                "RandomWalk-haepo",
                ["length", "slipp"],
                "config.env_params.slipp is not a parameter of RandomWalk-haepo; did you mean slip?",
            ),
            (
                "RandomWalk-haepo",
                ["noise"],
                "config.env_params.noise is not a parameter of RandomWalk-haepo; allowed: length, slip.",
            ),
            (
                "Catch-bsuite",
                ["rows"],
                "config.env_params.rows is not a parameter of Catch-bsuite, which has none.",
            ),
            (
                "DeepSea-bsuite",
                ["deterministic"],
                "config.env_params.deterministic is not a parameter of DeepSea-bsuite; allowed: unscaled_move_cost.",
            ),
            (
                "CartPole-v1",
                ["max_steps_in_episode"],
                "config.env_params.max_steps_in_episode cannot be set; config.horizon cuts episodes short.",
            ),
        ],
    )
    def test_unknown_params_are_refused_in_one_sentence(self, name, given, sentence):
        environment = make(name)
        assert refusal(check_params, environment, given) == sentence
        assert refusal(environment.reset, dict.fromkeys(given, 1), jax.random.key(0)) == sentence

    @pytest.mark.parametrize("name", ["CartPole-v1", "Catch-bsuite", "LongChain-haepo"])
    def test_known_params_pass(self, name):
        check_params(make(name), list(make(name).params))


class TestActions:
    @staticmethod
    def torque(action):
        environment = make("Pendulum-v1")
        state, _ = environment.reset({}, jax.random.key(0))
        return environment.step({}, jax.random.key(0), state, jnp.array([action])).state.last_u

    @pytest.mark.parametrize(("action", "torque"), [(-1.0, -2.0), (0.0, 0.0), (0.25, 0.5), (1.0, 2.0)])
    def test_actions_in_the_unit_range_span_the_bounds_of_the_environment(self, action, torque):
        np.testing.assert_allclose(self.torque(action), torque, rtol=1e-6)

    @pytest.mark.parametrize(("action", "torque"), [(-7.0, -2.0), (1.5, 2.0), (jnp.inf, 2.0)])
    def test_actions_beyond_the_unit_range_are_clipped(self, action, torque):
        np.testing.assert_allclose(self.torque(action), torque, rtol=1e-6)

    @pytest.mark.parametrize("name", REAL_ACTIONS)
    def test_actions_beyond_the_unit_range_do_as_its_edge_does(self, name):
        environment = make(name)
        state, _ = environment.reset({}, jax.random.key(0))
        step = jax.jit(lambda action: environment.step({}, jax.random.key(1), state, action))
        high, beyond, low = (step(jnp.full(environment.action_space.size, a)) for a in (1.0, 5.0, -1.0))
        jax.tree.map(np.testing.assert_array_equal, high, beyond)
        assert not np.array_equal(high.observation, low.observation)


class TestObservations:
    def test_discrete_observations_are_one_hot(self):
        environment = make("FrozenLake-misc")
        state, first = environment.reset({}, jax.random.key(0))
        seen = {tuple(first.tolist())}
        for action in (1, 1, 2):
            step = environment.step({}, jax.random.key(0), state, jnp.int32(action))
            state = step.state
            seen.add(tuple(step.observation.tolist()))
        assert len(first) == 16 and len(seen) > 1
        assert all(sorted(observation) == [0.0] * 15 + [1.0] for observation in seen)

    def test_observations_of_several_axes_are_flattened_in_order(self):
        environment = make("Catch-bsuite")
        state, observation = environment.reset({}, jax.random.key(0))
        board = observation.reshape(10, 5)
        assert board[state.ball_y, state.ball_x] == 1 and board[state.paddle_y, state.paddle_x] == 1
        assert observation.sum() == 2


class TestEndOfEpisode:
    def test_an_environment_does_not_reset_by_itself(self):
        environment = make("CartPole-v1")
        start, _ = environment.reset({}, jax.random.key(0))

        def step(state, _):
            after = environment.step({}, jax.random.key(0), state, jnp.int32(1))
            return after.state, (after.done, after.state.time, after.observation)

        _, (done, time, observations) = jax.jit(lambda state: jax.lax.scan(step, state, length=30))(start)
        end = int(np.argmax(done))
        assert 0 < end < 20 and done[end]
        np.testing.assert_array_equal(time, np.arange(1, 31))
        assert np.abs(observations[end + 1]).max() > 0.2  # a fresh start is within 0.05

    def test_an_episode_ends_with_the_time_limit_of_the_environment(self):
        environment = make("Pendulum-v1")
        start, _ = environment.reset({}, jax.random.key(0))

        def step(state, _):
            after = environment.step({}, jax.random.key(0), state, jnp.zeros(1))
            return after.state, (after.done, after.terminated)

        _, (done, terminated) = jax.jit(lambda state: jax.lax.scan(step, state, length=environment.max_steps))(start)
        assert np.flatnonzero(done).tolist() == [environment.max_steps - 1]
        assert not terminated.any()


class TestTermination:
    def test_termination_differs_from_the_time_limit(self):
        environment = make("CartPole-v1")
        after, _ = play(environment, always(1), steps=20)
        end = int(np.argmax(after.done[0]))
        assert 0 < end < 19 and after.terminated[0, end]

        # Nothing is out of bounds, so that only time ends the episode.
        params = {"x_threshold": 1e9, "theta_threshold_radians": 1e9}
        after, _ = play(environment, always(1), params=params)
        assert np.flatnonzero(after.done[0]).tolist() == [environment.max_steps - 1]
        assert not after.terminated.any()

    def test_termination_wins_where_both_fall_on_one_step(self):
        environment = make("DeepSea-bsuite", (("size", 5),))
        after, _ = play(environment, always(0))
        assert after.done[0].tolist() == after.terminated[0].tolist() == [False] * 4 + [True]


def test_keys_decide_the_start():
    reset = jax.jit(make("CartPole-v1").reset)
    first, same, other = (reset({}, jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("name", "param", "value", "allowed"),
    [
        ("LongChain-haepo", "length", -1, "at least 1"),
        ("RandomWalk-haepo", "length", 0, "at least 1"),
        ("RandomWalk-haepo", "slip", -0.1, "from 0 to 1"),
        ("LongChain-haepo", "slip", 2, "from 0 to 1"),
        ("GaussianBandit-haepo", "noise", -1.0, "at least 0"),
    ],
)
def test_values_that_make_no_sense_for_one_of_our_own_are_refused(name, param, value, allowed):
    assert refusal(check_param, make(name), f"env_params.{param}", (1, value)) == (
        f"config.env_params.{param} of {name} must be {allowed}, got {value}."
    )


class Corridor(RandomWalk):
    """From outside: a factory with an argument, beside the parameters of its kind."""

    def __init__(self, width: int = 3, *, broken: bool = False) -> None:
        super().__init__()
        self.width = width
        if broken:
            raise ValueError("no such corridor")


def ready_made(size: int = 2):
    del size
    return make("CartPole-v1")


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_project", sys.modules[__name__])
    return "my_project:"


def test_an_environment_from_outside_is_made_once_for_the_same_arguments(outside):
    corridor = make(f"{outside}Corridor", (("width", 4),))
    assert corridor.name == "my_project:Corridor" and "length" in corridor.params
    assert make(f"{outside}Corridor", (("width", 4),)) is corridor
    assert make(f"{outside}Corridor", (("width", 4.0),)) is not corridor
    _, observation = corridor.reset({"length": 5}, jax.random.key(0))
    assert observation.shape == make("RandomWalk-haepo").reset({}, jax.random.key(0))[1].shape


def test_a_factory_may_give_an_environment_of_the_package_s_own_interface(outside):
    made, built_in = make(f"{outside}ready_made", (("size", 2),)), make("CartPole-v1")
    assert made._replace(reset=built_in.reset, step=built_in.step) == built_in._replace(name="my_project:ready_made")
    assert make(f"{outside}ready_made", (("size", 2),)) is made


CARTPOLE = make("CartPole-v1")


def changed_step(**changes):
    def step(params, key, state, action):
        if params.get("gravity", 0) > 100:
            return None
        return CARTPOLE.step(params, key, state, action)._replace(**changes)

    return step


def fail(params, key):
    return 1 // 0


LINE_THAT_FAILS = fail.__code__.co_firstlineno + 1
CHANGES = {
    "as_it_is": {},
    "as_a_tuple": {"step": lambda *arguments: tuple(CARTPOLE.step(*arguments))},
    "larger": {"observation_shape": (5,)},
    "whole_rewards": {"step": changed_step(reward=jnp.int32(1))},
    "whole_done": {"step": changed_step(done=jnp.int32(1))},
    "less_state": {"step": changed_step(state=jnp.float32(1))},
    "more_metrics": {"step": changed_step(info_metrics={"speed": jnp.float32(1)})},
    "failing": {"reset": fail},
    "three": {"action_space": 3},
    "still": {"max_steps": 0},
    "listed": {"params": ["gravity"]},
    "worded": {"params": {"gravity": "low"}},
    "unset": {"step": lambda params, *_: params["gravity"]},
    "deciding": {"step": changed_step()},
}


def own_interface(change: str = "as_it_is"):
    return CARTPOLE._replace(**CHANGES[change])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("as_a_tuple", ": its step gives a tuple; it must be a haepo_jax.environments.Step."),
        ("larger", ": the observation of its reset is float32[4]; it must be float32[5]."),
        ("whole_rewards", " gives its reward as int32[]; it must be float32[]."),
        ("whole_done", " gives done as int32[]; it must be one boolean."),
        ("less_state", ": the state after a step has other fields than after a reset"),
        (
            "more_metrics",
            ": its step gives the info_metrics ['speed'], and its attribute names []; make them the same.",
        ),
        ("failing", f" fails at its first step, at line {LINE_THAT_FAILS} of {__file__}: ZeroDivisionError: "),
        ("three", " has the action_space 3; it must be a haepo_jax.environments Discrete or Box of a whole number"),
        ("still", " has max_steps 0; it must be a whole number from 1 to 2147483647, or None."),
        ("listed", " has params ['gravity']; it must map names to numbers."),
        ("worded", " has params {'gravity': 'low'}; it must map names to numbers."),
        (
            "unset",
            " reads params['gravity'], and params hold only what config.env_params sets; where it is left out take "
            "the default, as params.get('gravity', 9.8) does.",
        ),
    ],
)
def test_an_environment_that_does_not_keep_to_the_interface_is_refused(outside, change, sentence):
    found = refusal(make, f"{outside}own_interface", (("change", change),))
    assert found.startswith(f"env my_project:own_interface{sentence}")


def test_a_parameter_that_a_step_decides_by_in_python_is_refused_where_it_is_traced(outside):
    environment = make(f"{outside}own_interface", (("change", "deciding"),))
    state, _ = environment.reset({}, jax.random.key(0))

    def step(gravity):
        return environment.step({"gravity": gravity}, jax.random.key(0), state, jnp.int32(0))

    assert step(9.8).reward == 1
    sentence = refusal(jax.eval_shape, step, 9.8)
    assert sentence.startswith("env my_project:own_interface with config.env_params.gravity fails at line ")
    assert "asks for the value of a traced array" in sentence


@pytest.mark.parametrize(
    ("name", "kwargs", "sentence"),
    [
        ("Corridor", {"widht": 3}, "config.env_kwargs.widht is not an argument of Corridor; did you mean width?"),
        (
            "Corridor",
            {"broken": True},
            "config.env_kwargs (broken=True) cannot be used by my_project:Corridor: ",
        ),
        ("types_of", {}, "types_of needs the argument tree: give config.env_kwargs.tree."),
        ("dict", {}, "config.env my_project:dict: my_project"),
        ("NUM_ENVS", {}, "config.env my_project:NUM_ENVS is 2; it must be a function or a class that makes"),
        (
            "environment_names",
            {},
            "environment or a haepo_jax.environments Environment, MultiAgentEnvironment or Game.",
        ),
    ],
)
def test_what_makes_no_environment_is_refused(outside, name, kwargs, sentence):
    assert sentence in refusal(lambda: make(f"{outside}{name}", tuple(kwargs.items())))
