"""Runs whose members hold more than a policy, cut off and killed: they end with the bits of one left alone."""

import os
import signal

import pytest
from helpers.command_runner import Command, run
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off, wait_for

from haepo_jax.config.sweep import from_values
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.states import load_states

UPDATES = 5
CARTPOLE = TINY | {"env": "CartPole-v1", "horizon": 30, "num_updates": UPDATES, "optimizer": {"learning_rate": 0.03}}
SEGMENTS = {"segment_length": 3, "num_steps": 14, "num_minibatches": 2, "target_policy_kl": 1e-4}
KINDS = {
    "segments of environments that carry on, with a critic and a reference": {
        "min_batch_steps": None,
        "haepo": SEGMENTS | {"bootstrap": "value", "reference": "ema", "kl_coef": 0.1},
    },
    "segments that begin in one state": {
        **{"env": "FrozenLake-misc", "min_batch_steps": 100},
        "haepo": SEGMENTS | {"group_by": "start_state", "segment_length": 2},
    },
    "segments of whole episodes, by time, with a critic on the policy's torso": {
        "haepo": SEGMENTS
        | {"segments_from": "episodes", "group_by": "time", "critic": "shared", "bootstrap": "value"},
    },
    "rounds and earlier batches": {"min_batch_steps": 100, "haepo": {"history": 2, "num_epochs": 2}},
}
pytestmark = pytest.mark.slow


def train(workdir, kind):
    run_sweep(from_values(CARTPOLE | KINDS[kind]), workdir, checkpoint_seconds=0, keep_checkpoints_every=1)
    return workdir


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_off_ends_with_the_bits_of_one_left_alone(kind, tmp_path):
    finished = train(tmp_path / "finished", kind)
    workdir = train(cut_off(finished, tmp_path / "run", 2), kind)
    assert checkpoints(workdir)[-1] == UPDATES
    assert_same_end(finished, workdir)
    if kind.startswith("segments"):  # the factor of the temperature has moved, and is a number of each member's own
        ((population, state, _),) = load_states(finished)
        assert (population.here(state.learner.adaptation) > 0).all()


DEFAULT = (
    "--config=configs/any_task.py",
    "--config.env=Catch-bsuite",
    "--config.num_seeds=2",
    "--config.max_env_steps=none",
    "--config.num_updates=60",
    "--config.min_batch_steps=50",
    "--config.policy.hidden_sizes=(8,)",
    "--checkpoint_seconds=0",
)
"""The default: batches counted in steps, earlier ones that compete again, and exploration."""


def test_a_killed_run_of_the_default_ends_as_one_left_alone(tmp_path):
    alone, workdir = tmp_path / "alone", tmp_path / "run"
    finished = run("experiments.train", *DEFAULT, f"--workdir={alone}")
    assert finished.code == 0, finished.err
    command = Command("experiments.train", *DEFAULT, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 2)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    resumed = run("experiments.train", *DEFAULT, f"--workdir={workdir}")
    assert resumed.code == 0, resumed.err
    assert "Resuming after update" in resumed.out
    assert_same_end(workdir, alone)
    ((_, state, _),) = load_states(workdir)
    assert state.learner.history is not None and state.learner.exploration is not None
