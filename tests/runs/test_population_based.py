"""Runs whose members copy one another: their rows, their summary and their page, whole and resumed."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from helpers import pods
from helpers.html_page import Page
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off, table, wait_for
from helpers.settings import fixed_config

from haepo_jax.analysis import tables
from haepo_jax.errors import ConfigError
from haepo_jax.reports.sweep.page import publish_report
from haepo_jax.runs.experiment import run
from haepo_jax.runs.lineage import Lineage, read_lineage
from haepo_jax.runs.metrics.reader import read_rows

RATE = "optimizer.learning_rate"
PBT = {"every": 3, "populations": 2, "fraction": 0.25, "perturb": {RATE: (1e-4, 1e-1)}}
CONFIG = TINY | {"num_seeds": 8, "num_updates": 12, "pbt": PBT}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pbt") / "run"
    run(fixed_config(CONFIG), folder, checkpoint_seconds=0, keep_checkpoints_every=4)
    return folder


def test_rows_hold_the_settings_of_each_update_and_who_was_copied(finished):
    rows = read_rows(finished, (RATE, "pbt_parent", "pbt_score"))
    rates, parents, scores = (rows.by_update(name, np.nan) for name in (RATE, "pbt_parent", "pbt_score"))
    assert rates.shape == (8, 12)
    first = [member["settings"][RATE] for member in rows.members]
    np.testing.assert_array_equal(rates[:, :3], np.repeat(np.float32(first)[:, None], 3, axis=1))
    members, updates = np.nonzero(parents >= 0)
    assert len(members) and set(updates) <= {2, 5, 8}
    assert (np.isfinite(scores).all(axis=0) == np.isin(np.arange(12), [2, 5, 8])).all()
    for member, update in zip(members, updates, strict=True):
        parent = int(parents[member, update])
        assert scores[parent, update] > scores[member, update] and parent // 4 == member // 4
        ratio = rates[member, update + 1] / rates[parent, update]
        assert (
            np.isclose(ratio, 1.25) or np.isclose(ratio, 0.8) or rates[member, update + 1] in np.float32([1e-4, 0.1])
        )
    changed = rates[:, 1:] != rates[:, :-1]
    assert (changed <= (parents[:, :-1] >= 0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [4, 8])  # amid two exchanges
def test_a_run_that_was_cut_off_resumes_to_the_same_bits(finished, tmp_path, kept):
    folder = cut_off(finished, tmp_path / "run", kept)
    assert run(fixed_config(CONFIG), folder)
    assert_same_end(finished, folder)
    summaries = [json.loads((where / "summary.json").read_text()) for where in (folder, finished)]
    assert summaries[0]["members"] == summaries[1]["members"]


@pytest.mark.parametrize("changes", [{"every": 4}, {"factor": 1.5}, {"perturb": {RATE: (1e-4, 1.0)}}])
def test_other_settings_of_it_are_another_run(finished, changes):
    with pytest.raises(ConfigError) as raised:
        run(fixed_config(CONFIG | {"pbt": PBT | changes}), finished)
    assert f"holds a run with another config: pbt.{next(iter(changes))}" in str(raised.value)


def test_the_summary_names_the_best_member_of_each_population(finished):
    summary = json.loads((finished / "summary.json").read_text())
    populations = summary["populations"]
    assert [population["members"] for population in populations] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [population["population"] for population in populations] == [0, 1]
    lineage = read_lineage(finished)
    for population in populations:
        finals = [summary["members"][k]["final_return"] for k in population["members"]]
        assert population["final_return"] == max(finals)
        assert population["best_member"] == population["members"][int(np.argmax(finals))]
        assert population["settings"][RATE] == lineage.settings[RATE][population["best_member"], -1]
    assert sum(population["copies"] for population in populations) == lineage.copies.sum() > 0
    assert tables.make_populations_table(summary, "bandit").row_count == 2
    assert tables.describe_populations(summary).startswith("Member ")


def test_the_page_shows_the_lineage_of_the_best_member(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    page, headline = publish_report(folder)
    assert headline.startswith("2 populations of 4 members: the highest final return is ")
    read = Page(page.read_text())
    assert read.open == [] and {"progress", "lineage"} <= set(read.attributes("id"))
    assert (folder / "figures" / "lineage-1.png").read_bytes().startswith(b"\x89PNG")
    assert "The ancestors of member" in page.read_text()


def test_a_lineage_follows_a_policy_from_member_to_member():
    parent = np.full((3, 6), -1)
    parent[2, 3], parent[0, 1] = 0, 1  # 2 copies 0 after update 3, which had copied 1 after update 1
    values = np.arange(18.0).reshape(3, 6)
    lineage = Lineage([], np.zeros(3, int), parent, {RATE: values}, values, np.full(3, 6))
    path = lineage.trace(2)
    assert path.tolist() == [1, 1, 0, 0, 2, 2]
    assert lineage.follow(RATE, path).tolist() == [6, 7, 2, 3, 16, 17]
    assert lineage.copies.tolist() == [1, 0, 1]


@pytest.mark.slow
def test_a_member_that_diverged_has_rows_while_it_waits_and_is_none_in_the_end_if_it_was_revived(tmp_path):
    """A learning rate without bounds in float32 diverges at once, and its members copy others at the exchange."""
    huge = {
        "sweep": {RATE: (1e-3, 1e38)},
        "pbt": {"every": 3, "fraction": 0.5, "perturb": {"haepo.kl_coef": (0.1, 1)}},
    }
    config = fixed_config(TINY | {"num_seeds": 4, "num_updates": 8, "haepo": {"num_epochs": 2}} | huge)
    run(config, tmp_path / "run", checkpoint_seconds=0)
    rows = read_rows(tmp_path / "run", ("diverged", RATE))
    assert (rows.count == 8).all()
    diverged = rows.by_update("diverged", True)
    assert diverged[4:, 1:3].all() and not diverged[:, 3:].any()
    assert (rows.by_update(RATE, np.nan)[:, 3:] == np.float32(1e-3)).all()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {member["status"] for member in summary["members"]} == {"ok"}


SWEEP = (
    *pods.SMALL,
    "--config.num_updates=300",
    "--config.pbt.every=7",
    "--config.pbt.populations=2",
    "--config.pbt.perturb.optimizer.learning_rate=(0.0001,0.1)",
    "--checkpoint_seconds=0",
)
"""Twelve members in two populations of six."""


@pytest.mark.slow
def test_two_processes_a_kill_and_other_devices_change_no_bit(tmp_path):
    (alone,) = pods.run(tmp_path / "alone", *SWEEP)
    assert alone.code == 0, alone.err
    for finished in pods.run(tmp_path / "two", *SWEEP, processes=2, devices_each=2):
        assert finished.code == 0, finished.err
    (one,) = pods.start(tmp_path / "killed", *SWEEP, processes=1, devices_each=4)
    wait_for(lambda: any(done > 20 for done in checkpoints(tmp_path / "killed")))
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    (resumed,) = pods.run(tmp_path / "killed", *SWEEP, devices_each=2)  # in waves of one population each
    assert resumed.code == 0, resumed.err
    rows = table(tmp_path / "alone")
    assert (rows["pbt_parent"].to_numpy() >= 0).sum() > 10
    for other in ("two", "killed"):
        others = table(tmp_path / other)
        for name in rows.column_names:
            np.testing.assert_array_equal(rows[name], others[name], err_msg=f"{other}: {name}")
