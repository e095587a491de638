"""Training of one member: init, collect, learn; what is reported, and how a member dies."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose

from haepo_jax.config import ALGORITHMS, count_steps_of_update, traced_settings
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member, total_steps

M, T = 4, 24


def config_with(**changes):
    small = {
        "env": "CartPole-v1",
        "num_updates": 5,
        "num_trajectories": M,
        "horizon": T,
        "policy": {"hidden_sizes": (8,)},
        "haepo": {"num_epochs": 2},
        "ppo": {"num_steps": 6, "num_epochs": 2, "num_minibatches": 2},
        "grpo": {"num_epochs": 2},
        "dpo": {"num_epochs": 2},
    }
    return fixed_config(small | changes)


class Member:
    """The functions of one member, compiled, and its settings."""

    def __init__(self, config):
        self.functions = make_member(config)
        self._init = jax.jit(self.functions.init)
        self.collect, self.learn = jax.jit(self.functions.collect), jax.jit(self.functions.learn)
        self.settings = {
            name: jnp.asarray(value, jnp.int32 if isinstance(value, int) else jnp.float32)
            for name, value in traced_settings(config).items()
        }

    def init(self, seed=0):
        return self._init(jax.random.key(seed), self.settings)

    def run(self, state, updates):
        """The state after these updates, and the metrics of each."""
        history = []
        for _ in range(updates):
            state, metrics = self.learn(state, self.collect(state))
            history.append(metrics)
        return state, history


@functools.cache
def member(algorithm="haepo", **changes):
    return Member(config_with(algorithm=algorithm, **changes))


class _FiveSteps(dict):
    """`env_params` that can be the key of a cache."""

    def __hash__(self):
        return hash(tuple(self.items()))


FIVE_STEPS = _FiveSteps(length=5)


def with_setting(state, name, value):
    return dataclasses.replace(state, settings=state.settings | {name: jnp.float32(value)})


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class TestMemberState:
    def test_a_new_member_has_not_diverged_and_has_done_no_update(self):
        state = member().init()
        assert state.updates_done == 0 and state.updates_done.dtype == jnp.int32
        assert not state.diverged and state.diverged.dtype == bool
        assert state.diverged_at == -1 and state.diverged_at.dtype == jnp.int32
        assert state.settings == member().settings

    def test_updates_are_counted(self):
        state, counts = member().init(), []
        for _ in range(3):
            state, _ = member().run(state, 1)
            counts.append(int(state.updates_done))
        assert counts == [1, 2, 3]
        assert not state.diverged and state.diverged_at == -1

    def test_an_update_keeps_every_shape_and_dtype(self):
        state = member().init()
        after, _ = member().run(state, 1)

        def kind(tree):
            return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

        assert kind(state) == kind(after)

    def test_an_update_moves_the_parameters_and_leaves_key_and_settings(self):
        state = member().init()
        after, _ = member().run(state, 1)
        assert differ(state.learner.params, after.learner.params)
        assert after.key == state.key
        assert_identical(after.settings, state.settings)


class TestSeeds:
    def test_same_seed_gives_bit_identical_parameters_and_metrics(self):
        results = [one.run(one.init(3), 3) for one in (member(), Member(config_with()))]
        assert_identical(results[0][0].learner, results[1][0].learner)
        assert_identical(results[0][1], results[1][1])

    def test_another_seed_gives_other_parameters_from_the_start(self):
        assert differ(member().init(0).learner.params, member().init(1).learner.params)
        results = [member().collect(member().init(seed)).observations[:, 0] for seed in (0, 1)]
        assert differ(*results)

    def test_each_update_plays_new_episodes(self):
        state = member().init()
        later = dataclasses.replace(state, updates_done=state.updates_done + 1)
        assert differ(member().collect(state).observations[:, 0], member().collect(later).observations[:, 0])


def test_an_environment_that_is_none_or_has_no_such_parameters_is_refused():
    config = fixed_config({"env_params": {"gravity": 9.0}})
    with pytest.raises(ConfigError, match=r"environment must be a component or its name, got \{\}"):
        make_member(config, environment={})
    with pytest.raises(ConfigError, match=r"config\.env_params\.gravity is not a parameter of Catch-bsuite"):
        make_member(config, environment=make("Catch-bsuite"))


class TestMetrics:
    def test_info_metrics_of_the_environment_are_reported_under_their_names(self):
        walk = member("haepo", env="RandomWalk-haepo", env_params=FIVE_STEPS)
        state = walk.init()
        batch = walk.collect(state)
        metrics = walk.learn(state, batch)[1]
        reached = np.asarray(jnp.where(batch.mask, batch.rewards, 0)).sum(-1) > 0
        assert 0 < reached.sum() < M
        assert metrics["success"] == reached.mean()

    def test_metrics_describe_the_batch_of_the_update(self):
        state = member().init()
        batch = member().collect(state)
        metrics = member().learn(state, batch)[1]
        lengths = np.asarray(batch.mask).sum(-1)
        assert lengths.min() < lengths.max()
        assert metrics["episode_length"] == lengths.mean() == metrics["episode_return"]
        assert metrics["env_steps"] == lengths.sum()
        entropy = np.asarray(batch.entropies)[np.asarray(batch.mask)].mean()
        assert metrics["policy_entropy"] == pytest.approx(entropy, rel=1e-5)

    def test_episode_return_is_not_discounted(self):
        state = member().init()
        batch = member().collect(state)
        results = [member().learn(with_setting(state, "discount", discount), batch) for discount in (1.0, 0.5)]
        assert results[0][1]["episode_return"] == results[1][1]["episode_return"]
        assert results[0][1]["grad_norm"] != results[1][1]["grad_norm"]


class TestHorizon:
    @pytest.mark.parametrize(("horizon", "expected"), [(None, 500), (24, 24), (10_000, 500)])
    def test_the_horizon_is_the_smaller_of_the_configs_and_the_environments(self, horizon, expected):
        assert make_member(config_with(horizon=horizon)).horizon == expected

    def test_the_horizon_is_the_length_of_the_batch(self):
        assert member().collect(member().init()).rewards.shape == (M, T)

    def test_the_horizon_cuts_the_episodes_of_ppo_too(self):
        one = member("ppo", horizon=3)
        batch = one.collect(one.init())
        np.testing.assert_array_equal(np.flatnonzero(batch.done[0]), [2, 5])

    def test_an_unknown_environment_is_refused(self):
        with pytest.raises(ConfigError, match="env 'CartPole-v9' is not known"):
            make_member(config_with(env="CartPole-v9"))


class TestEnvironmentParams:
    @pytest.mark.parametrize("algorithm", ["haepo", "ppo"])
    def test_env_params_are_traced_settings_that_reach_the_environment(self, algorithm):
        """At a slip of 1 every move goes the other way: the walker who is sent right never leaves its place."""
        one = member(algorithm, env="RandomWalk-haepo", env_params=FIVE_STEPS)
        assert one.settings["env_params.length"].dtype == jnp.int32
        slipping = Member(
            config_with(algorithm=algorithm, env="RandomWalk-haepo", sweep={"env_params.slip": (0.0, 0.5)})
        )
        assert slipping.settings["env_params.slip"].dtype == jnp.float32
        positions = {}
        for slip in (0.0, 1.0):
            state = with_setting(slipping.init(), "env_params.slip", slip)
            batch = slipping.collect(state)
            moves = np.sign(np.diff(np.asarray(batch.observations)[..., 0]))[:, 0]
            positions[slip] = moves, np.asarray(batch.actions)[:, 0]
        np.testing.assert_array_equal(positions[0.0][0], positions[0.0][1] == 1)
        np.testing.assert_array_equal(positions[1.0][0], positions[1.0][1] == 0)
        assert slipping.collect._cache_size() == 1

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            (
                {"env_params": {"slipp": 0.1}},
                "config.env_params.slipp is not a parameter of RandomWalk-haepo; did you",
            ),
            (
                {"sweep": {"env_params.slipp": (0.1,)}},
                "config.env_params.slipp is not a parameter of RandomWalk-haepo",
            ),
            ({"env_params": {"length": 2.5}}, "config.env_params.length of RandomWalk-haepo must be a whole number, "),
            (
                {"sweep": {"env_params.length": (2, 2.5)}},
                "config.sweep.env_params.length of RandomWalk-haepo must be a whole number, got 2.5",
            ),
            ({"env_params": {"length": 0}}, "config.env_params.length of RandomWalk-haepo must be at least 1, got 0."),
            (
                {"sweep": {"env_params.slip": (0.5, 1.5)}},
                "config.sweep.env_params.slip of RandomWalk-haepo must be from 0 to 1, got 1.5.",
            ),
            ({"env_params": {"max_steps_in_episode": 3}}, "config.horizon cuts episodes short"),
            ({"env_kwargs": {"size": 3}}, "config.env_kwargs.size is not an argument of RandomWalk-haepo"),
        ],
        ids=lambda case: str(case)[:40],
    )
    def test_env_params_that_the_environment_cannot_have_are_refused(self, changes, sentence):
        with pytest.raises(ConfigError, match=sentence):
            make_member(config_with(env="RandomWalk-haepo", **changes))

    def test_env_params_may_be_whole_or_real_numbers_of_the_same_value(self):
        functions = make_member(config_with(env="RandomWalk-haepo", env_params={"length": 3.0, "slip": 1}))
        assert functions.environment.name == "RandomWalk-haepo"

    def test_env_kwargs_decide_shapes(self):
        functions = make_member(config_with(env="DeepSea-bsuite", env_kwargs={"size": 5}))
        assert functions.environment.observation_shape == (5, 5)


LIMIT = 150


@pytest.fixture(scope="module")
def runs():
    """Five updates with a limit that is reached on the way, and five without."""
    limited, free = member(max_env_steps=LIMIT), member()
    return limited.run(limited.init(), 5), free, free.run(free.init(), 5)


class TestMaxEnvSteps:
    """`max_env_steps`: a member stops after the update that brings it there."""

    def test_the_budget_is_reached_by_a_whole_update(self, runs):
        (state, history), free, (_, free_history) = runs
        taken = np.cumsum([int(metrics["env_steps"]) for metrics in free_history])
        last = int(np.argmax(taken >= LIMIT))
        assert 0 < last < 4
        assert total_steps(np.asarray(state.env_steps)) == taken[last]
        for update in range(last + 1):
            assert_identical(history[update], free_history[update])
        after, _ = free.run(free.init(), last + 1)
        assert_identical(state.learner, after.learner)

    def test_a_member_at_its_budget_has_not_diverged_and_reports_no_more_metrics(self, runs):
        (state, history), _, _ = runs
        assert not state.diverged and state.diverged_at == -1 and state.updates_done == 5
        last = history[-1]
        assert last.keys() == history[0].keys()
        for name, value in last.items():
            assert value.dtype == history[0][name].dtype
            assert value == 0 if name == "env_steps" else np.isnan(value)

    def test_a_member_runs_until_it_has_taken_its_budget(self, runs):
        (state, _), free, _ = runs
        limited = member(max_env_steps=LIMIT)
        assert not limited.functions.runs(state) and limited.functions.runs(limited.init())
        assert free.functions.runs(state)
        for steps, expected in ((LIMIT - 1, True), (LIMIT, False)):
            assert limited.functions.runs(dataclasses.replace(state, env_steps=jnp.uint32([0, steps]))) == expected
        assert not free.functions.runs(dataclasses.replace(state, diverged=jnp.bool_(True)))

    @pytest.mark.parametrize("before", [2**31 - 3, 2**32 - 3, 2**40 - 3])
    def test_steps_are_counted_beyond_32_bits(self, before):
        one, limited = member(), member(max_env_steps=2**31 - 1)
        state = dataclasses.replace(one.init(), env_steps=jnp.uint32([before >> 31, before % 2**31]))
        state, history = one.run(state, 2)
        taken = sum(int(metrics["env_steps"]) for metrics in history)
        assert total_steps(np.asarray(state.env_steps)) == before + taken > before
        assert not limited.functions.runs(state)


@pytest.mark.parametrize("algorithm", ["haepo", "ppo", pytest.param("reinforce", marks=pytest.mark.slow)])
class TestDivergence:
    """A member whose loss or parameters are not finite keeps the last learner that was."""

    @staticmethod
    def dead(algorithm, name="optimizer.learning_rate", value=np.nan):
        """A member that lives for one update and dies in the next; its state before death, and after."""
        healthy, _ = member(algorithm).run(member(algorithm).init(), 1)
        dying = with_setting(healthy, name, value)
        return healthy, *member(algorithm).run(dying, 1)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_diverged_member_keeps_its_last_finite_learner(self, algorithm, value):
        healthy, state, _ = self.dead(algorithm, value=value)
        assert_identical(state.learner, healthy.learner)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params))

    def test_divergence_is_recorded_with_its_update(self, algorithm):
        healthy, state, _ = self.dead(algorithm)
        assert not healthy.diverged and healthy.diverged_at == -1
        assert state.diverged and state.diverged_at == 1 and state.updates_done == 2

    def test_a_diverged_member_stays_stopped_after_its_cause_is_gone(self, algorithm):
        healthy, state, _ = self.dead(algorithm)
        cured = dataclasses.replace(state, settings=healthy.settings)
        after, _ = member(algorithm).run(cured, 2)
        assert after.diverged and after.diverged_at == 1 and after.updates_done == 4
        assert_identical(after.learner, healthy.learner)

    def test_a_diverged_member_reports_nan_in_later_updates(self, algorithm):
        _, state, (last,) = self.dead(algorithm)
        assert last["env_steps"] > 0 and np.isfinite(last["episode_return"])  # of the episodes it died from
        _, later = member(algorithm).run(state, 2)
        for metrics in later:
            assert metrics.keys() == last.keys()
            for name, value in metrics.items():
                assert value.dtype == last[name].dtype
                assert value == 0 if name == "env_steps" else np.isnan(value)


def test_divergence_stops_the_environments_of_ppo_too():
    one = member("ppo")
    dead, _ = one.run(with_setting(one.init(), "optimizer.learning_rate", np.nan), 1)
    after, _ = one.run(dead, 1)
    assert dead.diverged
    assert_identical(after.learner.environments, dead.learner.environments)


def test_a_diverged_member_does_not_touch_the_others_under_vmap():
    alive = member().init(0)
    dying = with_setting(member().init(1), "optimizer.learning_rate", np.nan)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), alive, dying)
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(member().collect(state) for state in (alive, dying)))
    after, metrics = jax.jit(jax.vmap(member().functions.learn))(together, batch)
    np.testing.assert_array_equal(after.diverged, [False, True])
    np.testing.assert_array_equal(after.diverged_at, [-1, 0])
    assert np.isfinite(metrics["episode_return"]).all()
    alone, _ = member().run(alive, 1)
    jax.tree.map(
        lambda one, both: assert_allclose(one, both[0], rtol=1e-4, atol=1e-5),
        alone.learner.params,
        after.learner.params,
    )


def test_a_member_diverges_by_a_loss_that_is_not_finite_though_its_parameters_are():
    # Returns whose product with the log-likelihoods overflows; a gradient of such a norm is clipped to 0.
    one = Member(config_with(algorithm="reinforce", reinforce={"normalization": "none"}))
    state = one.init()
    batch = member("reinforce").collect(state)
    after, metrics = one.learn(state, batch._replace(rewards=jnp.full((M, T), 3e36)))
    assert np.isinf(metrics["loss"])
    assert after.diverged and after.diverged_at == 0
    assert_identical(after.learner, state.learner)


def _scheduled(algorithm, **changes):
    """A member whose learning rate falls to 0 over 1,000 updates, or 1,000 steps of the environment."""
    return Member(
        config_with(
            algorithm=algorithm,
            num_updates=1000,
            max_env_steps=1000,
            optimizer={"schedule": "linear"},
            **changes,
        )
    )


@pytest.mark.parametrize(
    "algorithm",
    ["ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS if name != "ppo")],
)
def test_the_schedule_follows_the_budget_that_ends_the_run(algorithm):
    run = _scheduled(algorithm)
    state, each = run.init(), count_steps_of_update(config_with(algorithm=algorithm))
    while run.functions.runs(state):
        before = state
        state, _ = run.learn(state, run.collect(state))
        share = max(int(before.updates_done), int(total_steps(np.asarray(before.env_steps)))) / 1000
        step = int(state.learner.optimizer_state[-1].count)
        assert step - each == pytest.approx(share * 1000 * each, abs=1)
    assert int(state.updates_done) < 200 and step > 0.9 * 1000 * each  # nearly no learning rate is left


@pytest.mark.slow
def test_a_step_budget_that_is_never_reached_leaves_the_schedule_to_the_updates():
    """A budget that is never reached changes no bit, and without one the program is as it was."""
    free, limited = (
        Member(config_with(optimizer={"schedule": "cosine"}, **budget))
        for budget in ({}, {"max_env_steps": 2**31 - 1})
    )
    ends = [run.run(run.init(), 3)[0].learner for run in (free, limited)]
    assert_identical(*ends)


@pytest.mark.parametrize(("trajectories", "horizon", "allowed"), [(2, 2**30, False), (2**16, 2**15 - 1, True)])
def test_an_update_of_more_steps_than_int32_counts_is_refused(trajectories, horizon, allowed):
    config = config_with(env="LongChain-haepo", env_kwargs={"max_steps": 2**30}, num_trajectories=trajectories)
    config = dataclasses.replace(config, horizon=horizon)
    if allowed:
        assert make_member(config).horizon == horizon
        return
    with pytest.raises(ConfigError, match=r"is 2,147,483,648 environment steps in an update, and one counts up to"):
        make_member(config)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"min_batch_steps": 10, "max_batch_steps": 1023},
            "config.max_batch_steps 1,023 is less than the 1,024 steps that num_trajectories 8 episodes of at most "
            "128 steps may take; give at least as many, or take fewer episodes or a shorter horizon.",
        ),
        (
            {"min_batch_steps": 2**31 - 8},
            "config.min_batch_steps 2,147,483,640 lets an update come to 2,147,484,663 environment steps, and one "
            "counts up to 2,147,483,647; give a smaller one, or config.max_batch_steps.",
        ),
    ],
)
def test_a_batch_counted_in_steps_that_episodes_cannot_keep_to_is_refused(values, sentence):
    config = config_with(env="LongChain-haepo", num_trajectories=8, **values)
    with pytest.raises(ConfigError, match=sentence):
        make_member(dataclasses.replace(config, horizon=128))
