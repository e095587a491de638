import json

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from helpers.made_up_sweeps import (
    BOTH,
    ENTROPY,
    RATE,
    SCORE,
    SCORES,
    UPDATES,
    grid,
    hump,
    level,
    read,
    write_metrics,
    write_sweep,
)

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.reports.sweep.folder import find_default_point, read_sweep


def test_a_sweep_is_read_by_member_and_update(tmp_path):
    sweep = read(tmp_path, SCORES, hump, seeds=3, fixed=[SCORE])
    assert sweep.returns.shape == sweep.env_steps.shape == (18, UPDATES)
    assert sweep.groups == ("haepo.score=log_ratio", "haepo.score=mean", "haepo.score=sum")
    np.testing.assert_array_equal(sweep.group, np.repeat([0, 1, 2], 6))
    np.testing.assert_array_equal(sweep.point, np.repeat(np.arange(6), 3))
    for member, (point, seed) in enumerate(zip(sweep.point, np.tile(np.arange(3), 6), strict=True)):
        np.testing.assert_array_equal(sweep.returns[member], hump(sweep.points[point], seed).astype(np.float32))
        np.testing.assert_array_equal(sweep.env_steps[member], 100 * (1 + seed) * np.arange(1, UPDATES + 1))
    assert sweep.done.all() and not sweep.diverged.any() and (sweep.rows == UPDATES).all()


def test_limits_that_are_swept_are_those_of_the_member(tmp_path):
    sweep = read(
        tmp_path,
        grid(num_updates=(5, UPDATES)),
        lambda s, k: level(1),
        seeds=2,
        rows=lambda m: 5,
        complete=False,
    )
    np.testing.assert_array_equal(sweep.done, [True, True, False, False])


def test_the_default_is_the_point_of_the_configs_own_values(tmp_path):
    sweep = read(tmp_path / "a", BOTH, hump, seeds=1)
    assert sweep.points[find_default_point(sweep)] == {RATE: 3e-3, ENTROPY: 5e-3}
    changed = read(tmp_path / "b", BOTH, hump, seeds=1, optimizer={"learning_rate": 1e-2})
    assert changed.points[find_default_point(changed)] == {RATE: 1e-2, ENTROPY: 5e-3}
    assert find_default_point(read(tmp_path / "c", BOTH, hump, seeds=1, haepo={"entropy_coef": 0.02})) is None
    points = grid(policy__hidden_sizes=([32], [64, 64]), env_params__gravity=(9.8, 20.0))
    options = {"seeds": 1, "env_params": {"gravity": 9.8}}
    assert find_default_point(read(tmp_path / "d", points, lambda s, k: level(1), **options)) == 2
    del options["env_params"]
    assert find_default_point(read(tmp_path / "e", points, lambda s, k: level(1), **options)) is None


def test_metrics_that_a_group_does_not_have_are_null_and_not_read(tmp_path):
    write_sweep(tmp_path, SCORES, hump, fixed=[SCORE])
    column = pyarrow.dataset.dataset(tmp_path / "metrics").to_table()["effective_sample_size"]
    assert column.null_count == len(column) * 2 // 3  # of the groups but the first
    assert (read_sweep(tmp_path).rows == UPDATES).all()


def test_a_file_that_is_being_written_is_not_read(tmp_path):
    write_sweep(tmp_path, SCORES, hump, fixed=[SCORE])
    (tmp_path / "metrics" / ".part-00000-00000100.parquet.tmp").write_bytes(b"half")
    assert (read_sweep(tmp_path).rows == UPDATES).all()


def no_config(folder):
    (folder / "config.json").unlink()


def no_members(folder):
    (folder / "members.json").unlink()


def no_metrics(folder):
    for part in (folder / "metrics").iterdir():
        part.unlink()


def no_folder_of_metrics(folder):
    no_metrics(folder)
    (folder / "metrics").rmdir()


def damaged_members(folder):
    (folder / "members.json").write_text("[{")


def damaged_part(folder):
    part = sorted((folder / "metrics").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-20])


def foreign_rows(folder):
    write_metrics(folder / "metrics", [Member(99, 0, SCORES[0])], hump, lambda member: UPDATES)


def last_part_lost(folder):
    sorted((folder / "metrics").iterdir())[-1].unlink()


def change_members(folder, change):
    members = json.loads((folder / "members.json").read_text())
    change(members)
    (folder / "summary.json").unlink()
    (folder / "members.json").write_text(json.dumps(members))


def other_members(folder):
    change_members(folder, lambda members: members[0].update(seed=7))


def other_settings(folder):
    change_members(folder, lambda members: members[5]["settings"].update({RATE: 0.5}))


def rows_of_something_else(folder):
    part = sorted((folder / "metrics").iterdir())[0]
    table = pyarrow.dataset.dataset(part).to_table()
    pyarrow.parquet.write_table(table.drop_columns(["env_steps"]), part)


def stage_of_a_language_model(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["env"]
    (folder / "config.json").write_text(json.dumps(config))


def test_a_run_without_swept_settings_has_one_point(tmp_path):
    run = read(tmp_path, [{}], lambda settings, seed: level(seed), seeds=3)
    assert run.points == ({},) and not run.settings and (run.point == 0).all()
    np.testing.assert_array_equal(run.returns[:, 0], [0.0, 1.0, 2.0])


def test_rows_of_a_member_that_the_run_has_not_are_passed_over(tmp_path):
    whole = read_sweep(write_sweep(tmp_path, SCORES, hump))
    foreign_rows(tmp_path)
    np.testing.assert_array_equal(read_sweep(tmp_path).returns, whole.returns)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_config, "holds no run: there is no config.json in it."),
        (no_members, "holds no run: there is no members.json in it."),
        (no_metrics, "holds a run that has written no metrics yet; ask again after its first updates."),
        (no_folder_of_metrics, "holds a run that has written no metrics yet; ask again after its first updates."),
        (damaged_members, "members.json is damaged"),
        (damaged_part, "00000.parquet is not read: it cannot be read as a parquet file"),
        (last_part_lost, "metrics has lost rows: the run is complete, but 24 of its members, from 0 on, have none"),
        (
            other_members,
            "has rows of member 0 with seed 0, which is 7 in members.json: one of them is of another run.",
        ),
        (other_settings, "with optimizer.learning_rate 0.0003, which is 0.5 in members.json"),
        (rows_of_something_else, "00000.parquet is not read: it has no column env_steps"),
        (stage_of_a_language_model, "holds a stage of a language model; the page is made of runs of train and sweep."),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused_in_a_sentence(tmp_path, spoil, sentence):
    write_sweep(tmp_path, SCORES, hump)
    spoil(tmp_path)
    with pytest.raises(ConfigError) as error:
        read_sweep(tmp_path)
    assert sentence in str(error.value) and len(str(error.value).splitlines()) == 1
