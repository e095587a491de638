import numpy as np
import pyarrow.parquet as pq
import pytest

from haepo_jax.config.members import Member, text_settings
from haepo_jax.environments.contract import REPORTED
from haepo_jax.runs.metrics.writer import MetricsWriter, drop_rows

MEMBERS = [Member(0, 7, {"discount": 0.9}), Member(1, 8, {"discount": 1.0})]


@pytest.fixture
def writer(tmp_path):
    return made(tmp_path)


def made(tmp_path, members=MEMBERS, **options):
    return MetricsWriter(tmp_path / "metrics", members, metrics={"loss": np.float32}, **options)


def write(writer, first_update, num_updates):
    rows = np.arange(num_updates * 2, dtype=np.float32).reshape(num_updates, 2)
    writer.write(first_update, {"loss": rows}, (rows * 2**40).astype(np.int64))


def test_a_part_has_a_row_for_each_update_and_member(writer, tmp_path):
    write(writer, 5, 2)
    part = pq.read_table(tmp_path / "metrics" / "part-00000-00000000-00000005.parquet").to_pydict()
    assert part == {
        "member": [0, 1, 0, 1],
        "seed": [7, 8, 7, 8],
        "discount": [0.9, 1.0, 0.9, 1.0],
        "update": [5, 5, 6, 6],
        "env_steps": [0, 2**40, 2 * 2**40, 3 * 2**40],
        "diverged": [False] * 4,
        "loss": [0.0, 1.0, 2.0, 3.0],
    }
    assert part.keys() - MEMBERS[0].settings.keys() <= REPORTED  # so that no measure of an environment has their name


def test_rows_of_stopped_members_are_left_out_and_deaths_are_marked(writer, tmp_path):
    where = np.array([[True, True], [True, False], [False, False]])
    diverged = np.array([[False, True], [False, False], [False, False]])
    writer.write(
        3,
        {"loss": np.arange(6, dtype=np.float32).reshape(3, 2)},
        np.ones((3, 2), np.int64),
        where=where,
        diverged=diverged,
    )
    part = rows(tmp_path)
    assert (part["member"], part["update"]) == ([0, 1, 0], [3, 3, 4])
    assert (part["loss"], part["diverged"]) == ([0.0, 1.0, 2.0], [False, True, False])


def test_nothing_is_written_when_every_member_has_stopped(writer, tmp_path):
    writer.write(0, {"loss": np.zeros((1, 2), np.float32)}, np.ones((1, 2), np.int64), where=np.zeros((1, 2), bool))
    assert list((tmp_path / "metrics").iterdir()) == []


def test_settings_that_are_no_numbers_are_text_and_missing_metrics_null(tmp_path):
    members = [Member(4, 0, {"haepo.score": "sum", "policy.hidden_sizes": (8, 4)})]
    writer = MetricsWriter(
        tmp_path / "metrics",
        members,
        metrics={"loss": np.float32, "value_loss": np.float32},
        text=text_settings(members),
        process=3,
    )
    write_one = {"loss": np.ones((1, 1), np.float32)}
    writer.write(0, write_one, np.ones((1, 1), np.int64))
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["part-00003-00000004-00000000.parquet"]
    part = rows(tmp_path)
    assert (part["haepo.score"], part["policy.hidden_sizes"], part["value_loss"]) == (["sum"], ["8x4"], [None])


class TestDroppedRows:
    def names(self, tmp_path):
        return sorted(path.name for path in (tmp_path / "metrics").iterdir())

    def test_are_those_at_or_after_an_update(self, writer, tmp_path):
        for first in (0, 5, 8):
            write(writer, first, 1)
        drop_rows(tmp_path, 5)
        assert self.names(tmp_path) == ["part-00000-00000000-00000000.parquet"]

    def test_are_cut_out_of_a_part_that_holds_others(self, writer, tmp_path):
        write(writer, 0, 4)
        drop_rows(tmp_path, 2, range(1, 2))
        part = rows(tmp_path)
        assert list(zip(part["member"], part["update"], strict=True)) == [
            (0, 0),
            (1, 0),
            (0, 1),
            (1, 1),
            (0, 2),
            (0, 3),
        ]

    def test_of_other_members_stay_as_they_are(self, writer, tmp_path):
        write(writer, 0, 4)
        part = tmp_path / "metrics" / "part-00000-00000000-00000000.parquet"
        before = part.stat().st_mtime_ns
        drop_rows(tmp_path, 0, range(2, 9))
        assert part.stat().st_mtime_ns == before

    def test_may_be_of_any_process(self, tmp_path):
        write(made(tmp_path, process=1), 3, 1)
        drop_rows(tmp_path, 0)
        assert self.names(tmp_path) == []


def rows(tmp_path):
    (part,) = (tmp_path / "metrics").iterdir()
    return pq.read_table(part).to_pydict()
