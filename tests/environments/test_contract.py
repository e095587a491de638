"""Environments from outside: what changes a state on its way, or is no reward, is refused before it is played."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from helpers.play import refusal
from helpers.settings import fixed_config

from haepo_jax.algorithms.base import horizon_of, horizon_without_effect
from haepo_jax.environments import Box, make, registry
from haepo_jax.environments.adapter import _actor, adapt
from haepo_jax.environments.contract import REPORTED, checked_info_metrics
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member
from haepo_jax.runs import experiment


@struct.dataclass
class State(environment.EnvState):
    pos: Any


@struct.dataclass
class Params(environment.EnvParams):
    speed: float = 0.5
    max_steps_in_episode: int = 5


class Drift(environment.Environment):
    """Moves by `speed` a step; `changes` says what it does otherwise than an environment should."""

    def __init__(self, **changes):
        self.changes = {"pos": 0.0, "box": spaces.Box(-99, 99, (1,), jnp.float32)} | changes

    def seen(self, state):
        return jnp.ravel(jnp.asarray(jax.tree.leaves(state.pos)[0], jnp.float32))[:1]

    def reset_env(self, key, params):
        state = State(time=0, pos=self.changes["pos"])
        return self.changes.get("first", self.seen)(state), state

    def step_env(self, key, state, action, params):
        move = self.changes.get("move", lambda pos, params: pos + params.speed)
        state = self.changes.get("after", lambda state: state)(State(state.time + 1, move(state.pos, params)))
        observation = self.changes.get("seen", self.seen)(state)
        reward = self.changes.get("reward", lambda state: self.seen(state)[0])(state)
        terminated = self.changes.get("terminated", lambda state: state.time >= 99)(state)
        return observation, state, reward, terminated, self.changes.get("info", {})

    def action_space(self, params=None):
        return self.changes.get("actions", spaces.Discrete(2))

    def observation_space(self, params):
        return self.changes["box"]


def lose(state):
    return state.nothing


LINE_THAT_FAILS = lose.__code__.co_firstlineno + 1


def adapted(params=None, **changes):
    drift = Drift(**changes)
    drift.info_metrics = changes.get("info_metrics", ())
    return adapt("Drift-v0", drift, Params() if params is None else params)


def changed(before, after):
    return (
        f"env Drift-v0: state.pos is {before} after a reset and {after} after a step; both must have one dtype and "
        "one shape."
    )


def other_fields(which):
    return (
        f"env Drift-v0: the state after a step has other fields than after a reset ({which}); both must have the same."
    )


def rewards_of(environment, steps=3, params=None):
    params = params or {}
    state, _ = environment.reset(params, jax.random.key(0))
    rewards = []
    for _ in range(steps):
        after = environment.step(params, jax.random.key(0), state, jnp.int32(0))
        state = after.state
        rewards.append(float(after.reward))
    return rewards


@pytest.mark.parametrize(
    "pos", [0.0, jnp.float32(0), jnp.zeros(2), np.zeros((2, 3), np.float32)], ids=["number", "scalar", "row", "table"]
)
def test_a_state_that_keeps_its_types_moves(pos):
    assert rewards_of(adapted(pos=pos)) == [0.5, 1.0, 1.5]


def test_a_number_without_a_dtype_takes_that_of_the_step():
    environment = adapted(pos=0.0, move=lambda pos, params: pos + jnp.bfloat16(0.5))
    assert environment.reset({}, jax.random.key(0))[0].pos.dtype == jnp.bfloat16
    assert rewards_of(environment) == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("pos", "kind"), [(127, jnp.int8), (0, jnp.uint32), (-128, jnp.int8), (-jnp.inf, jnp.float16)]
)
def test_a_number_that_the_steps_dtype_holds_begins_an_episode_as_it_is(pos, kind):
    state, _ = adapted(pos=pos, move=lambda pos, params: kind(1)).reset({}, jax.random.key(0))
    assert state.pos == pos and state.pos.dtype == kind


def test_a_number_that_is_computed_is_not_cut_to_a_smaller_dtype():
    class Computed(Drift):
        def reset_env(self, key, params):
            return jnp.zeros(1), State(time=0, pos=jnp.where(True, 300, 0))

    refused = refusal(adapt, "Drift-v0", Computed(move=lambda pos, params: jnp.int8(1)), Params())
    assert refused == "env Drift-v0: state.pos is int32 after a reset and int8 after a step, which does not hold it."


def test_a_state_may_hold_a_key():
    nothing = dict.fromkeys(("seen", "first"), lambda state: jnp.ones(1))
    environment = adapted(
        pos=jax.random.key(3),
        move=lambda pos, params: jax.random.fold_in(pos, 1),
        reward=lambda state: jax.random.key_data(state.pos).size / 2,
        **nothing,
    )
    assert rewards_of(environment) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pos": 0},
            changed("int32[]", "float32[]"),
        ),
        (
            {"pos": jnp.int32(0)},
            changed("int32[]", "float32[]"),
        ),
        (
            {"pos": False, "move": lambda pos, params: pos + 1},
            changed("bool[]", "int32[]"),
        ),
        (
            {"pos": jnp.float16(0), "move": lambda pos, params: pos + jnp.float32(0.5)},
            changed("float16[]", "float32[]"),
        ),
        (
            {"pos": jnp.zeros(3), "move": lambda pos, params: pos.astype(jnp.int8)},
            changed("float32[3]", "int8[3]"),
        ),
        (
            {"pos": jnp.int8(0), "move": lambda pos, params: jnp.int32(pos) + 1},
            changed("int8[]", "int32[]"),
        ),
        (
            {"pos": jnp.zeros(1), "move": lambda pos, params: pos[0] + 0.5},
            changed("float32[1]", "float32[]"),
        ),
        (
            {"pos": {"x": 0.0}, "move": lambda pos, params: pos | {"y": 1.0}},
            other_fields("state.pos['y']"),
        ),
        (
            {"pos": (0.0,), "move": lambda pos, params: list(pos)},
            other_fields("containers"),
        ),
        (
            {"reward": lambda state: jnp.ones(2)},
            "env Drift-v0 gives its reward as float32[2]; it must be one real number.",
        ),
        (
            {"reward": lambda state: 1j * state.pos},
            "env Drift-v0 gives its reward as complex64[]; it must be one real number.",
        ),
        (
            {"terminated": lambda state: jnp.zeros(2, bool)},
            "env Drift-v0 gives terminated as bool[2]; it must be one boolean.",
        ),
        (
            {"terminated": lambda state: 0.3 * state.pos},
            "env Drift-v0 gives terminated as float32[]; it must be one boolean.",
        ),
        (
            {"info_metrics": ("speed",), "info": {"speed": jnp.ones(3)}},
            "env Drift-v0 gives its measure speed as float32[3]; it must be one real number.",
        ),
        ({"reward": lambda state: None}, "env Drift-v0 gives its reward as None; it must be one real number."),
        (
            {"reward": lambda state: (1.0, 2.0)},
            "env Drift-v0 gives its reward as a tuple; it must be one real number.",
        ),
        ({"terminated": lambda state: None}, "env Drift-v0 gives terminated as None; it must be one boolean."),
        ({"terminated": lambda state: (True,)}, "env Drift-v0 gives terminated as a tuple; it must be one boolean."),
        (
            {"info_metrics": ("speed",), "info": {"speed": None}},
            "env Drift-v0 gives its measure speed as None; it must be one real number.",
        ),
        ({"seen": lambda state: None}, "env Drift-v0: the observation of its step is None; it must be one array."),
        (
            {"pos": 300, "move": lambda pos, params: jnp.int8(1)},
            "env Drift-v0: state.pos is 300 after a reset and int8 after a step, which does not hold it.",
        ),
        (
            {"pos": (0, -1), "move": lambda pos, params: (pos[0], jnp.uint32(1))},
            "env Drift-v0: state.pos[1] is -1 after a reset and uint32 after a step, which does not hold it.",
        ),
        (
            {"pos": 70000.0, "move": lambda pos, params: jnp.float16(1)},
            "env Drift-v0: state.pos is 70000.0 after a reset and float16 after a step, which does not hold it.",
        ),
        ({"info_metrics": ("speed",)}, "env Drift-v0 fails at its first step: KeyError: 'speed'."),
        (
            {"after": lose},
            f"env Drift-v0 fails at its first step, at line {LINE_THAT_FAILS} of {__file__}: AttributeError: 'State' "
            "object has no attribute 'nothing'.",
        ),
        (
            {"box": spaces.Box(0, 1, (2,), jnp.float32)},
            "env Drift-v0: the observation of its reset has shape (1,), and its observation_space (2,); both must be "
            "the same.",
        ),
        (
            {"seen": lambda state: jnp.zeros(2)},
            "env Drift-v0: the observation of its step has shape (2,), and its observation_space (1,); both must be "
            "the same.",
        ),
        (
            {"seen": lambda state: jnp.zeros(1, jnp.complex64)},
            "env Drift-v0: the observation of its step is complex64[1]; it must hold real numbers.",
        ),
        (
            {"first": lambda state: {"image": jnp.zeros(1)}},
            "env Drift-v0: the observation of its reset is a dict; it must be one array.",
        ),
        (
            {"pos": (0.0, jnp.zeros((3, 0))), "move": lambda pos, params: pos},
            "env Drift-v0: state.pos[1] is float32[3, 0], an array without elements; leave it out.",
        ),
        (
            {"box": spaces.Box(0, 1, (2, 0), jnp.float32)},
            "env Drift-v0 has observations without a number in them; there must be one at least.",
        ),
        (
            {"box": spaces.Discrete(4), "first": lambda state: state.pos, "seen": lambda state: state.pos},
            "env Drift-v0: the observation of its reset is float32[]; it must hold whole numbers.",
        ),
    ],
)
def test_what_would_be_changed_on_its_way_is_refused_in_one_sentence(changes, sentence):
    assert refusal(lambda: adapted(**changes)) == sentence


@pytest.mark.parametrize(
    "measure", sorted({*REPORTED, "discount", "num_trajectories", "haepo.kl_coef", "env_params.x"})
)
def test_a_measure_may_not_take_the_place_of_what_a_run_reports(measure):
    assert refusal(checked_info_metrics, "Drift-v0", ("speed", measure)) == (
        f"env Drift-v0 has a measure '{measure}', which is what a run itself reports under that name; give it another "
        "one."
    )


def test_a_measure_whose_name_no_file_can_hold_is_refused():
    assert refusal(checked_info_metrics, "Drift-v0", ("speed\ud800",)) == (
        r"env Drift-v0 has a measure 'speed\ud800', which cannot be written as UTF-8; give it another name."
    )


def test_a_measure_of_such_a_name_is_refused_when_the_environment_is_made_and_when_it_is_given():
    sentence = "has a measure 'loss', which is what a run itself reports"
    assert sentence in refusal(lambda: adapted(info_metrics=("loss",), info={"loss": 1.0}))
    given = adapted()._replace(info_metrics=("loss",))
    assert sentence in refusal(lambda: make_member(fixed_config({"horizon": 3}), environment=given))


@pytest.mark.parametrize("info_metrics", [5, "foo", None, (1,), {"speed": 1}], ids=repr)
def test_info_metrics_that_are_no_names_are_refused(info_metrics):
    assert refusal(lambda: adapted(info_metrics=info_metrics)) == (
        f"env Drift-v0 has info_metrics = {info_metrics!r}; it must be a tuple of names."
    )


INFINITE = float("inf")


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (spaces.Box(0, 9, (1,), jnp.int32), "its dtype must be a real one"),
        (spaces.Box(0, 1, (1,), bool), "its dtype must be a real one"),
        (spaces.Box(jnp.nan, 1, (1,)), "each low at most its high"),
        (spaces.Box(-1, np.array([1, np.nan]), (2,)), "each low at most its high"),
        (spaces.Box(np.array([0, 2]), 1, (2,)), "each low at most its high"),
        (spaces.Box(INFINITE, INFINITE, (1,)), "each low at most its high"),
        (spaces.Box(np.zeros(3), 1, (2,)), "its bounds must be numbers that fit its shape"),
        (spaces.Discrete(2.7), "has actions in Discrete(2.7); it must be a whole number from 1 on."),
        (spaces.Discrete(0), "has actions in Discrete(0); it must be a whole number from 1 on."),
        (spaces.Discrete(INFINITE), "has actions in Discrete(inf); it must be a whole number from 1 on."),
    ],
    ids=repr,
)
def test_a_space_that_no_policy_can_act_in_is_refused(space, sentence):
    refused = refusal(lambda: adapted(actions=space))
    assert refused.startswith("env Drift-v0 has actions in ") and sentence in refused


@pytest.mark.parametrize("n", [2.5, 0])
def test_observations_of_no_whole_number_of_choices_are_refused(n):
    assert refusal(lambda: adapted(box=spaces.Discrete(n))) == (
        f"env Drift-v0 has observations in Discrete({n}); it must be a whole number from 1 on."
    )


@pytest.mark.parametrize(
    ("low", "high", "taken"), [(0, 1, 0.75), (-3e38, 3e38, 1.5e38), (0, INFINITE, 0.5), (2, 2, 2)]
)
def test_actions_are_scaled_to_bounds_that_are_finite_and_clipped_to_others(low, high, taken):
    act, space = _actor("Drift-v0", Drift(actions=spaces.Box(low, high, (1,))), Params())
    assert space == Box(1) and act(jnp.array([0.5]), Params()) == jnp.float32(taken)


def test_a_parameter_that_gives_the_state_another_dtype_is_refused():
    environment = adapted(pos=jnp.bfloat16(0))
    assert rewards_of(environment, steps=1) == [0.5]
    assert refusal(rewards_of, environment, 1, {"speed": 0.5}) == (changed("bfloat16[]", "float32[]"))


@struct.dataclass
class Endless(environment.EnvParams):
    speed: float = 0.5


@struct.dataclass
class Bare:
    speed: float = 0.5


@struct.dataclass
class OneStep(environment.EnvParams):
    speed: float = 0.5
    max_steps_in_episode: int = 1


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (lambda: Drift(pos=0), "env Odd-v0: state.pos is int32[] after a reset and float32[] after a step"),
        (lambda: Drift(params=Endless()), "env Odd-v0 sets no max_steps_in_episode of its own: give config.horizon"),
    ],
)
def test_a_run_is_refused_before_its_folder_is_made(kind, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr("haepo_jax.environments.registry.environment_names", lambda: ("Odd-v0",))
    monkeypatch.setattr(
        "haepo_jax.environments.registry.gymnax.make", lambda name: (kind(), kind().changes.get("params", Params()))
    )
    registry._make.cache_clear()
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}"):
        experiment.run(fixed_config({"env": "Odd-v0"}), tmp_path / "run")
    registry._make.cache_clear()
    assert not (tmp_path / "run").exists()


class TestLimit:
    @staticmethod
    def config(horizon):
        return fixed_config({"env": "CartPole-v1", "horizon": horizon})

    def test_the_limit_of_gymnax_is_no_limit_of_the_environment(self):
        environment = adapted(Endless())
        assert environment.max_steps is None
        assert refusal(horizon_of, self.config(None), environment) == (
            "env Drift-v0 sets no max_steps_in_episode of its own: give config.horizon, the steps at which its "
            "episodes are cut."
        )

    def test_the_horizon_is_the_limit_where_the_environment_has_none(self):
        environment = adapted(Endless())
        assert horizon_of(self.config(30), environment) == 30
        state, _ = environment.reset({}, jax.random.key(0))
        for _ in range(3):
            after = environment.step({}, jax.random.key(0), state, jnp.int32(0))
            state = after.state
            assert not after.done

    def test_the_limit_may_be_one_step_where_the_environment_says_so(self):
        environment = adapted(OneStep())
        assert environment.max_steps == horizon_of(self.config(None), environment) == 1
        state, _ = environment.reset({}, jax.random.key(0))
        assert environment.step({}, jax.random.key(0), state, jnp.int32(0)).done

    def test_the_limit_may_be_given_with_the_parameters(self):
        assert adapted(Endless(max_steps_in_episode=7)).max_steps == 7

    @pytest.mark.parametrize("limit", [0, -3, 2.5, 2**31])
    def test_a_limit_that_is_no_number_of_steps_is_refused(self, limit):
        assert refusal(adapted, Params(max_steps_in_episode=limit)) == (
            f"env Drift-v0 sets max_steps_in_episode to {limit}; it must be a whole number from 1 to 2147483647."
        )

    def test_an_infinite_limit_is_none(self):
        assert adapted(Params(max_steps_in_episode=float("inf"))).max_steps is None

    @pytest.mark.parametrize(("horizon", "used"), [(None, 500), (1, 1), (500, 500), (1000, 500)])
    def test_the_shorter_of_horizon_and_limit_ends_an_episode(self, horizon, used):
        assert horizon_of(self.config(horizon), make("CartPole-v1")) == used

    def test_a_limit_before_the_horizon_is_reported(self):
        assert horizon_without_effect(self.config(1000), make("CartPole-v1")) == (
            "CartPole-v1 ends its episodes after 500 steps; config.horizon 1000 has no effect."
        )

    @pytest.mark.parametrize("horizon", [None, 20, 500])
    def test_a_limit_beyond_the_horizon_is_not_reported(self, horizon):
        assert horizon_without_effect(self.config(horizon), make("CartPole-v1")) is None
        assert horizon_without_effect(self.config(horizon or 30), adapted(Endless())) is None
