import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.members import Member
from haepo_jax.metrics_parts import metrics_dataset, metrics_parts, read_part, statement
from haepo_jax.recording import MetricsWriter
from haepo_jax.run_folder import write_json

FIRST, SECOND = (f"part-00000-00000000-0000000{update}.parquet" for update in (0, 2))


def write(workdir, first_update, run="ours", members=(0, 1), where=None, process=0):
    """A part of two updates."""
    shape = (2, len(members))
    (workdir / "metrics").mkdir(parents=True, exist_ok=True)
    MetricsWriter(
        workdir / "metrics",
        [Member(k, k, {}) for k in members],
        metrics={"loss": np.float32},
        run=run,
        process=process,
    ).write(first_update, {"loss": np.full(shape, first_update, np.float32)}, np.ones(shape, np.int64), where=where)


@pytest.fixture
def workdir(tmp_path):
    """Four updates of two members, in two parts."""
    write_json(tmp_path / "run.json", {"run": "ours", "numbers": {}})
    write_json(tmp_path / "members.json", [{"index": k, "seed": k, "settings": {}} for k in range(2)])
    write(tmp_path, 0)
    write(tmp_path, 2)
    return tmp_path


def own(workdir):
    return [path.name for path in metrics_parts(workdir).own]


def test_parts_come_in_the_order_of_their_updates_and_their_rows_are_counted(workdir):
    parts = metrics_parts(workdir)
    assert [path.name for path in parts.own] == [FIRST, SECOND]
    assert (parts.others, parts.gap, parts.run) == ({}, "", "ours")
    assert parts.whole.tolist() == [4, 4]
    assert [parts.rows(3, range(2)), parts.rows(9, range(1, 5))] == [6, 4]


def test_members_that_stop_have_fewer_rows(tmp_path):
    write(tmp_path, 0, where=np.array([[True, True], [True, False]]))
    parts = metrics_parts(tmp_path)
    assert parts.whole.tolist() == [2, 1] and not parts.gap


def another_run(workdir):
    write(workdir, 4, run="theirs")
    return "part-00000-00000000-00000004.parquet", "it belongs to another run"


def copy(workdir):
    shutil.copy(workdir / "metrics" / SECOND, workdir / "metrics" / "part-00000-00000000-00000009.parquet")
    return "part-00000-00000000-00000009.parquet", f"it is a copy of {SECOND}"


def doubled_rows(workdir):
    write(workdir, 2, process=1)
    return "part-00001-00000000-00000002.parquet", "its rows are there already"


def notes(workdir):
    (workdir / "metrics" / "notes.txt").write_text("")
    return "notes.txt", "it is no part of the data set"


def two_bytes(workdir):
    (workdir / "metrics" / "x.parquet").write_text("x\n")
    return "x.parquet", "it cannot be read as a parquet file"


def folder(workdir):
    (workdir / "metrics" / "part-00000-00000000-00000004.parquet").mkdir()
    return "part-00000-00000000-00000004.parquet", "it is no file"


def another_table(workdir):
    pq.write_table(pq.read_table(workdir / "metrics" / FIRST).select(["loss"]), workdir / "metrics" / "y.parquet")
    return "y.parquet", "it has no column member of whole numbers"


def unknown_member(workdir):
    write(workdir, 0, members=(7, 8))
    return "part-00000-00000007-00000000.parquet", "it has rows of member 8, which the run has not"


@pytest.mark.parametrize(
    "stranger", [another_run, copy, doubled_rows, notes, two_bytes, folder, another_table, unknown_member]
)
def test_what_is_not_of_the_run_is_named_and_not_read(workdir, stranger):
    name, reason = stranger(workdir)
    assert metrics_parts(workdir).others == {name: reason}
    assert own(workdir) == [FIRST, SECOND]
    assert metrics_dataset(workdir).to_table().num_rows == 8


def test_a_renamed_part_is_read(workdir):
    (workdir / "metrics" / SECOND).rename(workdir / "metrics" / "mine.parquet")
    assert own(workdir) == [FIRST, "mine.parquet"]


def test_a_missing_part_is_a_gap(workdir):
    (workdir / "metrics" / FIRST).unlink()
    parts = metrics_parts(workdir)
    assert parts.gap == f"member 0 has none for updates 0 to 1, before those of {SECOND}"
    assert parts.rows(4, range(2)) == 0
    with pytest.raises(ConfigError, match=r"metrics has lost rows: member 0 has none for updates 0 to 1"):
        metrics_dataset(workdir)


def test_a_row_of_an_update_that_cannot_be_is_no_part(workdir):
    table = read_part(workdir / "metrics" / SECOND)
    updates = table["update"].to_numpy().copy()
    updates[-1] = 2**31 - 1
    changed = table.set_column(table.schema.get_field_index("update"), "update", [updates])
    pq.write_table(changed, workdir / "metrics" / SECOND)
    assert metrics_parts(workdir).others == {SECOND: "its rows do not follow one another, each once"}


def test_a_flipped_bit_in_the_rows_is_noticed(workdir):
    path = workdir / "metrics" / FIRST
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).names.index("loss"))
    content[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"CRC|checksum"):
        metrics_dataset(workdir).to_table()


class TestFolderWithoutAnId:
    def test_holds_parts_without_one(self, tmp_path):
        write(tmp_path, 0, run=None)
        path = tmp_path / "metrics" / FIRST
        table = read_part(path)
        pq.write_table(table.replace_schema_metadata(None), path)  # as they were before they stated anything
        assert own(tmp_path) == [FIRST] and metrics_parts(tmp_path).run is None
        shutil.copy(path, tmp_path / "metrics" / SECOND)
        assert metrics_parts(tmp_path).others == {SECOND: "its name and its rows disagree"}

    def test_has_that_of_its_parts(self, tmp_path):
        write(tmp_path, 0)
        assert metrics_parts(tmp_path).run == "ours"

    def test_is_refused_where_they_disagree(self, tmp_path):
        write(tmp_path, 0)
        write(tmp_path, 2, run="theirs")
        with pytest.raises(ConfigError, match=r"holds parts of 2 runs, and .* has no run\.json"):
            metrics_parts(tmp_path)


def test_a_folder_above_that_looks_like_a_partition_adds_no_column(tmp_path):
    write(tmp_path / "seed=0", 0)
    part = tmp_path / "seed=0" / "metrics" / FIRST
    assert read_part(part).column_names == metrics_dataset(tmp_path / "seed=0").schema.names
    assert read_part(part)["seed"].to_pylist() == [0, 1, 0, 1]
    assert metrics_dataset(tmp_path / "seed=0").to_table()["seed"].to_pylist() == [0, 1, 0, 1]


def test_a_part_states_its_run_and_its_name(workdir):
    assert read_part(workdir / "metrics" / FIRST).schema.metadata == statement("ours", FIRST)
