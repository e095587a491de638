import numpy as np
import pyarrow.parquet as pq
import pytest

from haepo_jax.population import Member
from haepo_jax.recording import MetricsWriter, ProgressReport

MEMBERS = [Member(0, 7, {"discount": 0.9}), Member(1, 8, {"discount": 1.0})]


@pytest.fixture
def writer(tmp_path):
    return MetricsWriter(tmp_path / "metrics", MEMBERS)


def write(writer, first_update, num_updates):
    rows = np.arange(num_updates * 2, dtype=np.float32).reshape(num_updates, 2)
    writer.write(first_update, {"loss": rows}, (rows * 2**40).astype(np.int64))


def test_a_part_has_a_row_for_each_update_and_member(writer, tmp_path):
    write(writer, 5, 2)
    part = pq.read_table(tmp_path / "metrics" / "part-00000-00000005.parquet").to_pydict()
    assert part == {
        "member": [0, 1, 0, 1],
        "seed": [7, 8, 7, 8],
        "discount": [0.9, 1.0, 0.9, 1.0],
        "update": [5, 5, 6, 6],
        "env_steps": [0, 2**40, 2 * 2**40, 3 * 2**40],
        "loss": [0.0, 1.0, 2.0, 3.0],
    }


def test_only_parts_at_or_after_an_update_are_dropped(writer, tmp_path):
    for first in (0, 5, 8):
        write(writer, first, 1)
    writer.drop_from(5)
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["part-00000-00000000.parquet"]


def test_the_parts_of_another_process_are_left_alone(tmp_path):
    write(MetricsWriter(tmp_path / "metrics", MEMBERS, process=1), 3, 1)
    MetricsWriter(tmp_path / "metrics", MEMBERS, process=0).drop_from(0)
    assert len(list((tmp_path / "metrics").iterdir())) == 1


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys):
    report = ProgressReport(total=10, done=0, quiet_seconds=1e6)
    for done in (1, 2, 3, 10):
        report.show(done, "12,346 env steps/s  return 99.75")
    report.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("updates 1/10  12,346 env steps/s  return 99.75  left")
    assert lines[1].startswith("updates 10/10")


def test_a_long_sentence_stays_on_one_line(capsys):
    report = ProgressReport(total=1, done=0)
    report.say("word " * 60 + "end [not markup]")
    report.close()
    assert capsys.readouterr().err == "word " * 60 + "end [not markup]\n"
