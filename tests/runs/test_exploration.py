"""Exploration as a run folder has it: its columns, its state after a stop, and none of it in an evaluation."""

import json
import shutil

import numpy as np
import pytest
from helpers.called_commands import call
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off, table
from helpers.settings import add_fixed

from haepo_jax.config.sweep import from_values
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.states import load_states

pytestmark = pytest.mark.slow

UPDATES = 8
EXPLORING = TINY | {
    "env": "CartPole-v1",
    "horizon": 30,
    "num_updates": UPDATES,
    "num_trajectories": 6,
    "exploration": {"persistences": (1, 4, 16)},
    "sweep": {"exploration": {"rate": (0.3, 0.6)}},
}


def train(workdir, settings=EXPLORING):
    run_sweep(from_values(add_fixed(settings)), workdir, checkpoint_seconds=0, keep_checkpoints_every=2)
    return workdir


@pytest.fixture(scope="module", params=[None, 100], ids=["episodes", "steps"])
def finished(request, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run", EXPLORING | {"min_batch_steps": request.param})


def test_shares_and_plain_returns_are_columns(finished):
    rows = table(finished)
    shares = rows["exploration_share"].to_numpy().reshape(-1, UPDATES)
    np.testing.assert_allclose(shares[:, 0], 0.5, rtol=1e-6)
    of_settings = shares.reshape(2, 2, UPDATES)  # two seeds of each
    assert (shares[:, -1] < 0.5).all() and (of_settings[0, :, -1] != of_settings[1, :, -1]).all()
    assert (of_settings[:, 0] != of_settings[:, 1]).any()
    plain = rows["plain_return"].to_numpy()
    assert (plain[np.isfinite(plain)] >= 1).all() and np.isfinite(plain).mean() > 0.5


def test_a_run_that_resumes_ends_with_the_bits_of_one_left_alone(finished, tmp_path):
    workdir = cut_off(finished, tmp_path / "run", 4)
    settings = json.loads((workdir / "config.json").read_text())
    train(workdir, EXPLORING | {"min_batch_steps": settings["min_batch_steps"]})
    assert checkpoints(workdir)[-1] == UPDATES
    assert_same_end(finished, workdir)


def test_the_shares_of_each_member_are_in_its_checkpoint(finished):
    ((population, state, _),) = load_states(finished)
    shares = population.here(state.learner.exploration)
    assert shares.shape[-1] == 3
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    assert (shares >= population.config.exploration.floor - 1e-6).all()


def test_an_evaluation_has_the_policies_alone_and_nothing_of_exploration(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    code, _ = call("evaluate", workdir, episodes=3)
    result = json.loads((workdir / "evaluation.json").read_text())
    assert code == 0 and all(np.isfinite(member["greedy_return"]) for member in result["members"])
    assert not any("exploration_share" in member or "plain_return" in member for member in result["members"])
