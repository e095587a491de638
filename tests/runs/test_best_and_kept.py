"""Evaluation in training as a run folder has it: best policies and kept checkpoints, also after a stop."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from helpers.called_commands import call
from helpers.command_runner import Command
from helpers.command_runner import run as command
from helpers.run_folders import TINY, assert_same_end, checkpoints, table, wait_for
from helpers.settings import add_fixed

from haepo_jax.config import differing_fields
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.files import read_record
from haepo_jax.runs.states import load_member, load_states

UPDATES, EVERY = 11, 2
SWEPT = TINY | {
    "num_updates": 14,
    "max_env_steps": 4 * UPDATES,
    "evaluate_every": EVERY,
    "evaluate_episodes": 3,
    "optimizer": {"learning_rate": 0.3},
    "sweep": {"haepo": {"kl_coef": (0.0, 0.1)}},
}
"""Four members that end after eleven updates of four pulls."""
TWO_GROUPS = SWEPT | {"sweep": {"haepo": {"score": ("sum", "log_ratio"), "kl_coef": (0.0, 0.1)}}}


def train(workdir, settings=SWEPT, keep=EVERY):
    run_sweep(from_values(add_fixed(settings)), workdir, checkpoint_seconds=0, keep_checkpoints_every=keep)
    return workdir


@pytest.fixture(scope="module", params=["one group", pytest.param("two groups", marks=pytest.mark.slow)])
def settings(request):
    return {"one group": SWEPT, "two groups": TWO_GROUPS}[request.param]


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run", settings)


def summarised(workdir):
    return json.loads((workdir / "summary.json").read_text())["members"]


def updates_in(workdir):
    """The checkpoints of each wave."""
    return [
        sorted(int(path.name) for path in wave.iterdir() if path.name.isdigit())
        for wave in sorted((workdir / "checkpoints").iterdir())
    ]


def test_evaluations_are_a_column_and_their_best_is_in_the_summary(finished):
    rows = table(finished)
    scores = rows["eval_return"].to_numpy().reshape(-1, UPDATES)
    evaluated = np.arange(1, UPDATES + 1) % EVERY == 0
    assert np.isnan(scores[:, ~evaluated]).all() and np.isfinite(scores[:, evaluated]).all()
    for member, own in zip(summarised(finished), scores, strict=True):
        assert member["best_eval_return"] == np.nanmax(own)
        assert member["best_eval_update"] == np.nanargmax(own) + 1
    assert len({member["best_eval_update"] for member in summarised(finished)}) > 1


def test_the_best_policy_is_the_one_that_the_run_had_at_that_update(finished):
    """That of the kept checkpoint of the same update, byte for byte."""
    for member, summary in enumerate(summarised(finished)[:2]):
        best, update = load_member(finished, member, "best"), summary["best_eval_update"]
        assert best.update == update
        jax.tree.map(np.testing.assert_array_equal, best.params, load_member(finished, member, update).params)
    last = load_member(finished, 0)
    assert last.update == UPDATES and not np.array_equal(
        *map(flat, (last.params, load_member(finished, 0, "best").params))
    )


def flat(params):
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])


def test_checkpoints_to_keep_stay_beside_the_newest_three(finished):
    kept = set(range(EVERY, UPDATES, EVERY))
    for there in updates_in(finished):
        assert kept < set(there) and len(there) == len(kept | set(there[-3:]))


@pytest.mark.slow
def test_a_run_that_resumes_from_an_earlier_checkpoint_ends_alike(finished, settings, tmp_path):
    """As after a kill: what was written after the sixth update of the first wave is gone."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "summary.json").unlink()
    first = sorted((workdir / "checkpoints").iterdir())[0]
    for path in first.iterdir():
        if int(path.name) > 6:
            shutil.rmtree(path)
    train(workdir, settings, keep=None)
    assert_same_end(finished, workdir)
    assert summarised(workdir) == summarised(finished)
    assert {2, 4, 6} < set(updates_in(workdir)[0])  # also where nothing asks for it any more


def test_evaluate_plays_the_policies_of_a_checkpoint_by_name_or_number(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    code, words = call("evaluate", workdir, checkpoint="best", episodes=3)
    assert code == 0 and "at its best evaluation" in words
    result, summary = json.loads((workdir / "evaluation.json").read_text()), summarised(finished)
    assert result["checkpoint"] == "best"
    assert [member["update"] for member in result["members"]] == [member["best_eval_update"] for member in summary]
    # On other episodes than those that chose the policies.
    fresh = [member["greedy_return"] for member in result["members"]]
    assert not np.isclose(fresh, [member["best_eval_return"] for member in summary]).any()
    code, words = call("evaluate", workdir, checkpoint="first")
    assert code == 2 and "--checkpoint must be last, best or a number of updates from 1 on, got 'first'." in words
    code, words = call("evaluate", workdir, checkpoint="5")
    assert code == 2 and "holds no good checkpoint of 5 updates for members 0 to 3; it has those of 2, 4, 6" in words


def test_members_that_ended_before_a_number_of_updates_have_their_last_state(finished):
    assert {update for _, _, update in load_states(finished, UPDATES + 1)} == {UPDATES}


def test_a_member_that_the_run_has_not_is_refused(finished):
    with pytest.raises(ConfigError, match=r"member 8 is none of .*; it has 0 to [37]\."):
        load_member(finished, 8)


def with_config(finished, workdir, change):
    """A copy of the run, its `config.json` changed."""
    workdir = shutil.copytree(finished, workdir)
    record = json.loads((workdir / "config.json").read_text())
    change(record)
    (workdir / "config.json").write_text(json.dumps(record))
    return workdir


def test_a_run_without_evaluation_has_no_best_policy(finished, tmp_path):
    workdir = with_config(finished, tmp_path / "run", lambda record: record.update(evaluate_every=None))
    with pytest.raises(ConfigError, match=r"has no best policy, as its config.evaluate_every is unset; choose the"):
        load_member(workdir, 0, "best")


def test_a_folder_of_before_there_was_evaluation_is_of_the_same_config(finished, tmp_path):
    """Settings that came later have the values that they had by default."""

    def strip(record):
        del record["evaluate_every"], record["evaluate_episodes"]

    expected = from_values(add_fixed(SWEPT | {"evaluate_every": None, "evaluate_episodes": 16})).record
    found = read_record(with_config(finished, tmp_path / "run", strip))
    assert {line for line in differing_fields(found, expected) if line.startswith("evaluate")} == set()


@pytest.mark.parametrize(
    ("every", "sentence"),
    [
        (0, "keep_checkpoints_every must be a whole number of at least 1, got 0."),
        (15, "keep_checkpoints_every 15 is more than config.num_updates 14, so that no checkpoint would be kept"),
    ],
)
def test_checkpoints_that_cannot_be_kept_are_refused_before_a_folder_is_made(tmp_path, every, sentence):
    with pytest.raises(ConfigError) as raised:
        train(tmp_path / "run", keep=every)
    assert sentence in str(raised.value) and not (tmp_path / "run").exists()


ARGUMENTS = (
    "--config=configs/catch.py",
    "--config.num_seeds=3",
    "--config.num_trajectories=4",
    "--config.policy.hidden_sizes=(8,)",
    "--config.num_updates=400",
    "--config.evaluate_every=10",
    "--keep_checkpoints_every=50",
    "--checkpoint_seconds=0",
)


@pytest.mark.slow
def test_a_run_killed_twice_keeps_the_same_best_policies_and_every_checkpoint_to_keep(tmp_path):
    alone, workdir = tmp_path / "alone", tmp_path / "run"
    assert command("experiments.train", *ARGUMENTS, f"--workdir={alone}").code == 0
    for kept in (100, 250):
        killed = Command("experiments.train", *ARGUMENTS, f"--workdir={workdir}")
        wait_for(lambda kept=kept: kept in checkpoints(workdir), seconds=400)
        os.kill(killed.pid, signal.SIGKILL)
        assert killed.wait().code == -signal.SIGKILL
    assert command("experiments.train", *ARGUMENTS, f"--workdir={workdir}").code == 0
    assert_same_end(alone, workdir)
    assert summarised(alone) == summarised(workdir)
    assert set(range(50, 401, 50)) <= set(checkpoints(workdir))
