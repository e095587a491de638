import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.parts import list_parts, make_statement, open_dataset, read_part
from haepo_jax.runs.metrics.reader import read_rows
from haepo_jax.runs.metrics.writer import MetricsWriter

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
    return [path.name for path in list_parts(workdir).own]


def test_parts_come_in_the_order_of_their_updates_and_their_rows_are_counted(workdir):
    parts = list_parts(workdir)
    assert [path.name for path in parts.own] == [FIRST, SECOND]
    assert (parts.others, parts.gap, parts.run) == ({}, "", "ours")
    assert parts.whole.tolist() == [4, 4]
    assert [parts.rows(3, range(2)), parts.rows(9, range(1, 5))] == [6, 4]


def test_members_that_stop_have_fewer_rows(tmp_path):
    write(tmp_path, 0, where=np.array([[True, True], [True, False]]))
    parts = list_parts(tmp_path)
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


def cast(path, **kinds):
    """Writes a part again with columns of other types."""
    table = read_part(path)
    for name, kind in kinds.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("loss", pa.string(), "its column loss is string, not a number"),
        ("loss", pa.float64(), "its column loss is double, and in other parts float"),
        ("env_steps", pa.string(), "its column env_steps is string, not int64"),
        ("env_steps", pa.float64(), "its column env_steps is double, not int64"),
        ("member", pa.int64(), "its column member is int64, not int32"),
        ("update", pa.uint8(), "its column update is uint8, not int32"),
        ("update", pa.float32(), "it has no column update of whole numbers"),
        ("seed", pa.float64(), "its column seed is double, not int64"),
        ("diverged", pa.string(), "its column diverged is string, not bool"),
    ],
)
def test_a_part_whose_column_is_of_another_type_is_named_and_not_read(workdir, name, kind, reason):
    write(workdir, 4)
    last = "part-00000-00000000-00000004.parquet"
    cast(workdir / "metrics" / last, **{name: kind})
    assert list_parts(workdir).others == {last: reason}
    assert own(workdir) == [FIRST, SECOND]


def test_a_run_whose_only_part_is_of_other_types_says_so(workdir):
    (workdir / "metrics" / SECOND).unlink()
    cast(workdir / "metrics" / FIRST, loss=pa.string())
    with pytest.raises(ConfigError, match=f"no rows of the run; {FIRST} is not read: its column loss is string"):
        read_rows(workdir, ("loss",))


def empty(path, name, rows=None):
    """Writes a part again without the values of a column, in some rows or in all."""
    table = read_part(path)
    there = np.ones(table.num_rows, bool)
    there[:rows] = False
    values = pa.array(table[name].to_numpy(), table.schema.field(name).type, mask=~there)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


@pytest.mark.parametrize("name", ["loss", "env_steps", "diverged", "seed"])
def test_a_part_that_has_lost_the_values_of_a_column_is_named_and_not_read(workdir, name):
    empty(workdir / "metrics" / SECOND, name)
    assert list_parts(workdir).others == {SECOND: f"its column {name} has no values"}


def test_a_part_without_some_values_of_a_column_is_named_and_not_read(workdir):
    empty(workdir / "metrics" / SECOND, "loss", rows=1)
    assert list_parts(workdir).others == {SECOND: "its column loss has no value in 1 of 4 rows"}


def test_a_part_without_a_column_of_every_run_is_named_and_not_read(workdir):
    table = read_part(workdir / "metrics" / SECOND)
    pq.write_table(table.drop_columns("env_steps"), workdir / "metrics" / SECOND)
    assert list_parts(workdir).others == {SECOND: "it has no column env_steps"}


def test_a_group_may_lack_a_metric_that_another_one_has_but_not_in_some_parts_alone(workdir):
    members = [{"index": k, "seed": k, "settings": {}, "group": "ab"[k // 2]} for k in range(4)]
    write_json(workdir / "members.json", members)
    for update in (0, 2):
        write(workdir, update, members=(2, 3))
    others = [workdir / "metrics" / f"part-00000-00000002-0000000{update}.parquet" for update in (0, 2)]
    empty(others[0], "loss")
    assert list(list_parts(workdir).others) == [others[0].name]
    empty(others[1], "loss")
    assert not list_parts(workdir).others
    empty(others[1], "env_steps")
    assert list(list_parts(workdir).others) == [others[1].name]


@pytest.mark.parametrize(
    "stranger", [another_run, copy, doubled_rows, notes, two_bytes, folder, another_table, unknown_member]
)
def test_what_is_not_of_the_run_is_named_and_not_read(workdir, stranger):
    name, reason = stranger(workdir)
    assert list_parts(workdir).others == {name: reason}
    assert own(workdir) == [FIRST, SECOND]
    assert open_dataset(workdir).to_table().num_rows == 8


def test_a_renamed_part_is_read(workdir):
    (workdir / "metrics" / SECOND).rename(workdir / "metrics" / "mine.parquet")
    assert own(workdir) == [FIRST, "mine.parquet"]


def test_a_missing_part_is_a_gap(workdir):
    (workdir / "metrics" / FIRST).unlink()
    parts = list_parts(workdir)
    assert parts.gap == f"member 0 has none for updates 0 to 1, before those of {SECOND}"
    assert parts.rows(4, range(2)) == 0
    with pytest.raises(ConfigError, match=r"metrics has lost rows: member 0 has none for updates 0 to 1"):
        open_dataset(workdir)


def test_a_row_of_an_update_that_cannot_be_is_no_part(workdir):
    table = read_part(workdir / "metrics" / SECOND)
    updates = table["update"].to_numpy().copy()
    updates[-1] = 2**31 - 1
    changed = table.set_column(table.schema.get_field_index("update"), "update", [updates])
    pq.write_table(changed, workdir / "metrics" / SECOND)
    assert list_parts(workdir).others == {SECOND: "its rows do not follow one another, each once"}


def test_a_flipped_bit_in_the_rows_is_noticed(workdir):
    path = workdir / "metrics" / FIRST
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).names.index("loss"))
    content[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"CRC|checksum"):
        open_dataset(workdir).to_table()


class TestFolderWithoutAnId:
    def test_holds_parts_without_one(self, tmp_path):
        write(tmp_path, 0, run=None)
        path = tmp_path / "metrics" / FIRST
        table = read_part(path)
        pq.write_table(table.replace_schema_metadata(None), path)  # as they were before they stated anything
        assert own(tmp_path) == [FIRST] and list_parts(tmp_path).run is None
        shutil.copy(path, tmp_path / "metrics" / SECOND)
        assert list_parts(tmp_path).others == {SECOND: "its name and its rows disagree"}

    def test_has_that_of_its_parts(self, tmp_path):
        write(tmp_path, 0)
        assert list_parts(tmp_path).run == "ours"

    def test_is_refused_where_they_disagree(self, tmp_path):
        write(tmp_path, 0)
        write(tmp_path, 2, run="theirs")
        with pytest.raises(ConfigError, match=r"holds parts of 2 runs, and .* has no run\.json"):
            list_parts(tmp_path)


def test_a_folder_above_that_looks_like_a_partition_adds_no_column(tmp_path):
    write(tmp_path / "seed=0", 0)
    part = tmp_path / "seed=0" / "metrics" / FIRST
    assert read_part(part).column_names == open_dataset(tmp_path / "seed=0").schema.names
    assert read_part(part)["seed"].to_pylist() == [0, 1, 0, 1]
    assert open_dataset(tmp_path / "seed=0").to_table()["seed"].to_pylist() == [0, 1, 0, 1]


def test_a_part_states_its_run_and_its_name(workdir):
    assert read_part(workdir / "metrics" / FIRST).schema.metadata == make_statement("ours", FIRST)
