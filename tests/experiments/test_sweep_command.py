"""`experiments.sweep` and its output."""

import json

import pytest
from helpers import pods
from helpers.command_runner import last_of_each, run
from helpers.run_folders import table

FEW = last_of_each((*pods.SMALL, "--config.num_updates=3"))


def sweep(*arguments):
    return run("experiments.sweep", *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two groups, in waves, with scalars of a member."""
    workdir = tmp_path_factory.mktemp("sweep") / "run"
    arguments = last_of_each(
        (
            *(*FEW, '--config.sweep.haepo.score=("sum","mean")', "--config.sweep.haepo.kl_coef=(0.0,0.02)"),
            *("--config.sweep.haepo.entropy_coef=(0.1,)", "--members_per_device=2"),
            *("--loggers=tensorboard", "--logged_members=1"),
        )
    )
    ended = sweep(*arguments, f"--workdir={workdir}")
    assert ended.code == 0, ended.err
    return workdir, arguments, ended


def test_groups_and_waves_are_printed_and_summed_up(finished):
    workdir, _, ended = finished
    assert "Group haepo.score=sum: members 0 to 3 of 8." in ended.out
    assert "Group haepo.score=mean: members 4 to 7 of 8." in ended.out
    calls = [f"python -m experiments.{command} --workdir={workdir}\n" for command in ("report", "evaluate")]
    assert ended.out.endswith(f"Next: {calls[0]}      {calls[1]}")
    summary = json.loads((workdir / "summary.json").read_text())
    assert [member["settings"]["haepo.score"] for member in summary["members"]] == ["sum"] * 4 + ["mean"] * 4
    assert summary["env_steps"] == 8 * 3 * 4 * 9


def test_the_command_of_a_sweep_is_recorded(finished):
    workdir, arguments, _ = finished
    command = json.loads((workdir / "provenance.json").read_text())[0]["command"]
    assert command[-len(arguments) - 1 :] == [*arguments, f"--workdir={workdir}"]


def test_the_rows_of_all_groups_are_one_data_set(finished):
    rows = table(finished[0])
    assert rows.num_rows == 8 * 3
    assert rows["haepo.score"].to_pylist() == ["sum"] * 12 + ["mean"] * 12
    assert rows["haepo.kl_coef"].to_pylist() == [0.0] * 6 + [0.02] * 6 + [0.0] * 6 + [0.02] * 6


def test_pandas_polars_and_duckdb_read_a_sweeps_metrics(finished):
    folder = finished[0] / "metrics"
    pandas, polars, duckdb = (pytest.importorskip(name) for name in ("pandas", "polars", "duckdb"))
    assert len(pandas.read_parquet(folder)) == 24
    assert polars.read_parquet(folder / "*.parquet").height == 24
    assert duckdb.sql(f"select count(*) from '{folder}/*.parquet'").fetchall() == [(24,)]


def test_scalars_of_chosen_members_are_there(finished):
    assert [path.name for path in (finished[0] / "tensorboard").iterdir()] == ["member-00001"]


def test_a_finished_sweep_that_is_started_again_does_nothing(finished):
    workdir, arguments, _ = finished
    again = sweep(*arguments, f"--workdir={workdir}")
    assert again.code == 0 and "is complete already; nothing to do." in again.out


def test_another_block_is_refused_on_a_folder_that_has_begun(finished):
    workdir, arguments, _ = finished
    (workdir / "summary.json").rename(workdir / "summary")
    try:
        refused = sweep(*arguments[:-1], "--members_per_device=4", f"--workdir={workdir}")
    finally:
        (workdir / "summary").rename(workdir / "summary.json")
    assert refused.code == 2
    assert "--members_per_device=4 differs from the 2 that this run was started with" in refused.err


@pytest.mark.slow
def test_a_dry_run_prints_the_memory_needed():
    planned = sweep(*FEW, '--config.sweep.haepo.score=("sum","mean")', "--dry_run")
    assert planned.code == 0, planned.err
    assert "24 members on" in planned.out and "2 programs to compile." in planned.out
    assert "haepo.score=sum" in planned.out and "haepo.score=mean" in planned.out
    assert "Nothing was run." in planned.out


@pytest.mark.slow
def test_a_sweep_that_diverges_as_a_whole_exits_3(tmp_path):
    ended = sweep(*FEW, "--config.optimizer.learning_rate=1e38", f"--workdir={tmp_path / 'run'}")
    assert ended.code == 3
    assert "Every member diverged" in ended.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config.sweep.haepo.score=sum", "--workdir=w"), "config.sweep.haepo.score must be a tuple of values"),
        (
            ("--config.search.num_samples=many", "--workdir=w"),
            "--config.search.num_samples=many cannot be used: it must be a whole number, or none.",
        ),
        (
            ("--logged_members=a", "--workdir=w"),
            "--logged_members must be whole numbers with commas between, from 0 to 2147483647; got 'a'.",
        ),
        (("--trajectory_devices=0", "--workdir=w"), "--trajectory_devices=0 cannot be used"),
        (("--coordinator=localhost:1", "--workdir=w"), "go together; missing: --num_processes, --process_id."),
        (("--config.env=CartPole-v9", "--workdir=w"), "CartPole-v9"),
        (
            ("--workdir=gs://bucket/run",),
            "--workdir=gs://bucket/run is no path: give a folder of a mounted file system",
        ),
        ((), "--workdir is missing: give the run a folder, such as --workdir=runs/beta_lambda."),
    ],
)
def test_bad_input_is_refused_in_a_sentence_with_exit_code_2(arguments, sentence):
    refused = sweep(*FEW, *arguments)
    assert refused.code == 2
    assert sentence in refused.err and "Traceback" not in refused.err
