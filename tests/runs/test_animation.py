"""Episodes that policies play, drawn as GIFs."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.settings import fixed_config
from matplotlib.figure import Figure
from PIL import Image

from haepo_jax.config.members import Member
from haepo_jax.environments.drawing import find_drawing
from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.population.member import make_member
from haepo_jax.runs import animation
from haepo_jax.runs.animation import check_drawing, save_gif
from haepo_jax.runs.policies import LoadedPolicy

FIGURE = Figure((1, 1), dpi=20, facecolor=(0.8,) * 3)


@pytest.fixture(scope="module")
def policy():
    """One that has not learned yet."""
    config = fixed_config({"env": "Catch-bsuite", "horizon": 5, "policy": {"hidden_sizes": (4,)}})
    functions = make_member(config)
    own = functions.algorithm.policy
    params = own.init(jax.random.key(0))
    return LoadedPolicy(params, own.apply, Member(0, 0, {}), 0, functions.environment, {}, functions.horizon, own)


def test_a_gif_shows_the_states_of_an_episode(policy, tmp_path):
    steps = save_gif(tmp_path / "episode.gif", policy, seed=1)
    with Image.open(tmp_path / "episode.gif") as image:
        assert image.format == "GIF" and (steps, image.n_frames) == (5, 6)
        image.seek(1)
        before = np.asarray(image.convert("RGB"))
        image.seek(4)
        assert (np.asarray(image.convert("RGB")) != before).any()
    with pytest.raises(StorageError, match="is not written: No such file or directory"):
        save_gif(tmp_path / "nowhere" / "episode.gif", policy)


@pytest.mark.parametrize(
    "picture",
    [np.full((4, 6, 3), 204, np.uint8), np.full((4, 6, 3), 0.8), FIGURE, (FIGURE, None)],
    ids=["uint8", "real", "figure", "figure with axes"],
)
def test_an_environment_may_draw_itself(policy, tmp_path, picture):
    def render(params, states):
        assert params == policy.env_params
        return (picture for _ in states)

    drawn = dataclasses.replace(policy, environment=policy.environment._replace(render=render))
    save_gif(tmp_path / "episode.gif", drawn)
    with Image.open(tmp_path / "episode.gif") as image:
        assert abs(np.asarray(image.convert("RGB")).astype(int) - 204).max() <= 4


def test_what_is_no_picture_and_what_cannot_be_drawn_is_refused(policy):
    def check(render):
        check_drawing(policy.environment._replace(render=render), {})

    with pytest.raises(ConfigError, match=r"env Catch-bsuite draws float64\[4, 6\]; it must be a matplotlib"):
        check(lambda params, states: (np.zeros((4, 6)) for _ in states))
    with pytest.raises(ConfigError, match=r"draws uint8\[1, 65536, 3\]; .* at most 65535 pixels a side"):
        check(lambda params, states: (np.zeros((1, 65536, 3), np.uint8) for _ in states))
    with pytest.raises(ConfigError, match="env Catch-bsuite: its render fails: ZeroDivisionError: division by zero"):
        check(lambda params, states: (1 / 0 for _ in states))
    with pytest.raises(ConfigError, match="env Catch-bsuite cannot be drawn: gymnax does not draw it, and"):
        check(None)


def test_pictures_of_two_sizes_are_refused(policy, tmp_path):
    def render(params, states):
        return (np.zeros((4 + (k > 2), 6, 3), np.uint8) for k, _ in enumerate(states))

    changing = dataclasses.replace(policy, environment=policy.environment._replace(render=render))
    with pytest.raises(ConfigError, match=r"env Catch-bsuite draws \[5, 6, 3\] after \[4, 6, 3\]; all pictures"):
        save_gif(tmp_path / "episode.gif", changing)
    assert not list(tmp_path.iterdir())


def test_the_line_that_fails_in_the_drawing_of_an_environment_of_ones_own_is_named():
    class Broken:
        def render(self, state, params):
            raise ValueError("no picture")

    pictures = find_drawing("Broken", Broken())([None], None)
    with pytest.raises(ConfigError, match=r"env Broken: its render fails at line \d+ of .*: ValueError: no picture"):
        next(pictures)


def test_of_a_long_episode_every_second_or_every_fourth_state_is_drawn_and_the_last(policy, monkeypatch):
    monkeypatch.setattr(animation, "_MOST", 2)
    states, steps = animation._play(policy, jax.random.key(0))
    assert steps == 5
    assert [int(state.ball_y) for state in states] == [0, 4, 5]
