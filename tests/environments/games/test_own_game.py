"""A game of one's own: a config names what makes it, and all of self-play goes with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.run_folders import TINY
from helpers.settings import fixed_config
from helpers.toy_games import MOST, make_best_taker, make_nim

from haepo_jax.config import from_config_dict
from haepo_jax.environments import make
from haepo_jax.environments.games.against import LINEUP, Lineup
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member
from haepo_jax.reports.cross_play import rate_all
from haepo_jax.runs.cross_play import play_all
from haepo_jax.runs.experiment import run

NIM = "helpers.toy_games:make_nim"


def test_a_config_names_what_makes_a_game():
    nim = make(NIM, (("stones", 9),))
    assert nim.name == nim.game.name == NIM and nim.max_steps == 5
    assert nim.feature_shape == (10,) and nim.mask_size == nim.action_space.n == MOST
    assert make(make_nim()).observation_shape == (8 + MOST,)


def test_who_begins_wins_where_both_know_the_best_moves():
    """Of 7 stones who begins takes 3, and from then on leaves a multiple of 4."""
    self_play = {"opponents": "helpers.toy_games:make_best_taker", "random_share": 0.0}
    config = from_config_dict({"env": NIM, "num_trajectories": 4, "min_batch_steps": None, "self_play": self_play})
    environment, act = make_member(config).environment, make_best_taker()
    numbers = {LINEUP: Lineup(jnp.zeros(1), jnp.array([-jnp.inf, 0.0]))}

    @jax.jit
    @jax.vmap
    def play(key):
        state, observation = environment.reset(numbers, key)
        begins, total, alive = state.position["heap"] == 7, jnp.float32(0), jnp.bool_(True)
        for _ in range(environment.max_steps):
            after = environment.step(numbers, key, state, act(observation, key))
            total += jnp.where(alive, after.reward, 0)
            state, observation, alive = after.state, after.observation, alive & ~after.done
        return begins, total, alive

    begins, total, alive = play(jax.random.split(jax.random.key(0), 200))
    assert 60 < begins.sum() < 140 and not alive.any()
    np.testing.assert_array_equal(total, np.where(begins, 1, -1))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            make_nim()._replace(num_actions=4),
            r"env nim: the observation of its reset is float32\[11\]; it must be float32\[12\]",
        ),
        (make_nim()._replace(max_moves="many"), "env nim fails: .*"),
        (
            make_nim()._replace(find_player=lambda state: state["who"]),
            r"step, at line \d+ of .*test_own_game\.py: .*who",
        ),
    ],
)
def test_what_is_no_game_is_refused_in_a_sentence(made, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(made)


@pytest.mark.slow
def test_games_that_are_cut_count_for_nobody(tmp_path):
    """A learner moves twice at most, after which 9 stones are seldom gone."""
    own = {"env": NIM, "env_kwargs": {"stones": 9, "limited": False}, "horizon": 2}
    self_play = {"opponents": "pool", "pool_size": 1, "snapshot_every": 1, "draw": "win_rate"}
    run(fixed_config(TINY | own | {"self_play": self_play}), tmp_path / "run")
    played = play_all(tmp_path / "run", games=40)
    assert [player.name for player in played.players] == ["member 0", "member 1", "random"]
    off = ~np.eye(3, dtype=bool)
    assert (played.games[off] > 0).all() and (played.games[off] < 40).all()
    np.testing.assert_array_equal(played.games, played.wins + played.draws + played.wins.T)
    np.testing.assert_allclose(played.points_of_each, played.points.sum(axis=1) / played.games.sum(axis=1))
    assert np.isfinite(rate_all(played).elo).all()
