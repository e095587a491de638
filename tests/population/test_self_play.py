"""Opponents of a learner: who is drawn how often, who enters the pool, and what training and its metrics see of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.run_folders import TINY
from helpers.settings import fixed_config

from haepo_jax.config import from_config_dict, traced_settings, with_settings
from haepo_jax.config.reads import unread
from haepo_jax.environments.games.against import LINEUP
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member
from haepo_jax.population.self_play import OpponentPool, make_self_play, weigh_pool

GAME = {"env": "TicTacToe-haepo"}
PERFECT = "haepo_jax.environments.games.perfect:make_perfect_player"


def self_play_of(**settings):
    config = from_config_dict(GAME | {"self_play": settings})
    return config, make_self_play(config, make_member(from_config_dict(GAME)).environment)


def pool_of(update, points=(0.5, 0.5, 0.5, 0.5)):
    return OpponentPool({"w": 10.0 * jnp.arange(4.0)}, jnp.array(update), jnp.array(points))


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3, 0]),
        ("newest", [0, 1, 0, 0]),
        ("win_rate", np.array([1.001, 0.001, 0.251, 0]) / 1.253),
    ],
)
def test_one_of_the_pool_is_drawn_as_its_setting_says_and_never_an_empty_place(draw, expected):
    """Points 0, 1 and a half against the three that are there."""
    weights = weigh_pool(pool_of([4, 6, 2, -1], (0.0, 1.0, 0.5, 0.0)), draw)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_lineup_is_random_play_the_pool_and_the_newest_policy_with_their_shares():
    config, self_play = self_play_of(opponents="pool", pool_size=4, random_share=0.2, newest_share=0.25)
    pool = pool_of([0, 2, -1, -1])
    lineup = self_play.line_up(config, {"w": jnp.float32(7)}, pool)
    assert lineup.params["w"].tolist() == [0, 10, 20, 30, 7]
    np.testing.assert_allclose(np.exp(lineup.log_chances), [0.2, 0.3, 0.3, 0, 0, 0.2], rtol=1e-6)
    drawn = jax.random.categorical(jax.random.key(0), lineup.log_chances, shape=(5000,))
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 5000, [0.2, 0.3, 0.3, 0, 0, 0.2], atol=0.03)
    traced = with_settings(config, {"self_play.random_share": jnp.float32(1)})  # a share may be swept
    assert np.exp(self_play.line_up(traced, {"w": 7.0}, pool).log_chances).tolist() == [1, 0, 0, 0, 0, 0]


def test_a_policy_enters_the_pool_every_few_updates_in_the_place_of_the_oldest():
    _, self_play = self_play_of(opponents="pool", pool_size=2, snapshot_every=3)
    pool = self_play.init({"w": jnp.float32(0)})
    held = []
    for done in range(1, 10):
        pool = self_play.remember(pool, {"w": jnp.float32(done)}, None, jnp.int32(done))
        held.append((pool.update.tolist(), pool.params["w"].tolist()))
    assert held[1] == ([0, -1], [0, 0])
    assert held[2] == held[4] == ([0, 3], [0, 3])
    assert held[5] == ([6, 3], [6, 3]) and held[8] == ([6, 9], [6, 9])


def test_points_of_a_policy_of_the_pool_move_to_those_of_an_update_and_begin_at_a_half():
    _, self_play = self_play_of(opponents="pool", pool_size=2, snapshot_every=2, draw="win_rate")
    pool = self_play.init({"w": jnp.float32(0)})
    pool = self_play.remember(pool, {"w": jnp.float32(1)}, jnp.array([1.0, jnp.nan]), jnp.int32(1))
    np.testing.assert_allclose(pool.points, [0.65, 0.5])
    pool = self_play.remember(pool, {"w": jnp.float32(2)}, jnp.array([1.0, 1.0]), jnp.int32(2))
    np.testing.assert_allclose(pool.points, [0.755, 0.5])  # the second place has a new policy


def test_points_by_kind_take_the_place_of_the_counts_that_they_are_made_of():
    _, self_play = self_play_of(opponents="pool", pool_size=2, draw="win_rate")
    counts = {"games_random": 0.25, "points_random": 0.2, "games_pool": 0.5, "points_pool": 0.1}
    counts |= {"games_newest": 0.0, "points_newest": 0.0, "games_0": 0.5, "points_0": 0.1}
    counts |= {"games_1": 0.0, "points_1": 0.0, "games_2": 0.0, "points_2": 0.0, "win_rate": 0.3}
    assert set(counts) >= set(self_play.environment.info_metrics) - {"draw_rate", "loss_rate"}
    metrics, points = self_play.measure({name: jnp.float32(value) for name, value in counts.items()})
    assert set(metrics) == {"win_rate", "points_random", "points_pool", "points_newest"}
    np.testing.assert_allclose([metrics["points_random"], metrics["points_pool"]], [0.8, 0.2], rtol=1e-6)
    assert np.isnan(metrics["points_newest"])
    np.testing.assert_allclose(points, [0.2, np.nan], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"algorithm": "ppo", "ppo": {"num_steps": 8, "num_minibatches": 2}},
        {"algorithm": "grpo"},
        {"memory": "recompute"},
        {"policy": {"network": "gru", "hidden_sizes": (4, 4)}},
        {"normalize_observations": True},
        {"min_batch_steps": 60},
    ],
    ids=str,
)
def test_every_kind_of_batch_and_network_plays_against_a_pool(changed):
    settings = {"opponents": "pool", "pool_size": 2, "snapshot_every": 1, "draw": "win_rate"}
    trained = make_population(fixed_config({**TINY, **GAME, "self_play": settings, **changed})).run([{}], range(2))
    assert np.isfinite(trained["loss"]).all()
    assert (np.isfinite(trained["points_pool"]) | np.isfinite(trained["points_newest"])).any()


@pytest.mark.slow
def test_a_learner_against_the_perfect_player_never_wins_and_learns_to_draw():
    config = fixed_config(
        GAME
        | {"num_updates": 150, "num_trajectories": 64, "num_seeds": 2}
        | {"self_play": {"opponents": PERFECT, "random_share": 0.0}}
    )
    trained = make_population(config).run([{}], range(2))
    assert not trained["win_rate"].any()
    draws = trained["draw_rate"][0]
    assert (draws[:, -10:].mean(axis=1) > draws[:, :10].mean(axis=1) + 0.3).all()


@pytest.mark.slow
def test_a_member_that_copies_takes_over_the_pool_of_its_parent():
    pbt = {"every": 3, "fraction": 0.5, "perturb": {"optimizer.learning_rate": (1e-4, 1e-1)}}
    settings = {"opponents": "pool", "pool_size": 2, "snapshot_every": 1}
    population = make_population(
        fixed_config(TINY | GAME | {"num_seeds": 4, "num_updates": 6, "pbt": pbt, "self_play": settings})
    )
    state, metrics = population.advance(population.init(), np.int32(3))
    parents, pool = np.asarray(metrics["pbt_parent"])[2], population.to_host(state).opponents
    assert (parents >= 0).any()
    for row in np.flatnonzero(parents >= 0):
        jax.tree.map(lambda leaf, r=row: np.testing.assert_array_equal(leaf[r], leaf[parents[r]]), pool)


@pytest.mark.slow
def test_a_member_that_diverges_keeps_its_pool():
    settings = {"opponents": "pool", "pool_size": 2, "snapshot_every": 1}
    config = fixed_config(TINY | GAME | {"optimizer": {"learning_rate": 3e38}, "self_play": settings})
    functions = make_member(dataclasses.replace(config, memory="store"))
    settings = {name: jnp.asarray(value) for name, value in traced_settings(config).items()}
    state = functions.init(jax.random.key(0), settings)
    step = jax.jit(lambda state: functions.learn(state, functions.collect(state)))
    for _ in range(4):
        state, _ = step(state)
    assert state.diverged
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.opponents.params))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"env": "CartPole-v1", "self_play": {"opponents": "pool"}},
            "opponents pool belongs to a two-player game, such as TicTacToe-haepo, and env CartPole-v1 is none",
        ),
        (
            {"env": "CartPole-v1", "self_play": {"opponents": PERFECT}},
            "opponents haepo_jax.environments.games.perfect:make_perfect_player belongs to a two-player game",
        ),
        (
            GAME | {"self_play": {"opponents": "math:cos", "opponents_kwargs": {"x": 1.0}}},
            r"config.self_play.opponents_kwargs.x is not an argument of cos",
        ),
        (GAME | {"self_play": {"opponents": "pool", "snapshots": "population"}}, r"set config.pbt.every \(config.pbt"),
        (
            GAME | {"self_play": {"opponents": "pol"}},
            "'pol' is not known; allowed: random, newest, pool, or one of your",
        ),
        (GAME | {"self_play": {"pool_size": 0}}, "config.self_play.pool_size must be at least 1, got 0"),
        (
            GAME | {"sweep": {"self_play": {"newest_share": (0.0, 1.0)}}},
            "newest_share has no effect, as .* belongs to",
        ),
    ],
)
def test_what_makes_no_opponents_is_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_member(from_config_dict(values))


def test_opponents_that_make_no_action_are_refused():
    def make_silent():
        return lambda observation, key: observation

    config = fixed_config(TINY | GAME)
    config = dataclasses.replace(config, self_play=dataclasses.replace(config.self_play, opponents=make_silent))
    with pytest.raises(ConfigError, match=r"make_silent gives float32\[27\]; it must give one action"):
        jax.eval_shape(
            lambda key: make_member(config).environment.reset(
                {LINEUP: make_self_play(config, make_member(config).environment).line_up(config, (), None)}, key
            ),
            jax.random.key(0),
        )


@pytest.mark.parametrize("opponents", ["random", "newest", "pool", PERFECT])
def test_settings_of_a_pool_are_read_where_there_is_one(opponents):
    names = {
        name for name in unread(from_config_dict({"self_play": {"opponents": opponents}})) if "self_play." in name
    }
    of_pool = {f"self_play.{name}" for name in ("pool_size", "snapshot_every", "snapshots", "draw", "newest_share")}
    kwargs = set() if opponents == PERFECT else {"self_play.opponents_kwargs"}
    random = {"self_play.random_share"} if opponents == "random" else set()
    assert names == kwargs | random | (set() if opponents == "pool" else of_pool)
