import sys

import numpy as np
import pytest

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.runs.loggers import Scalars, check_request

pytest.importorskip("tensorboardX")
MEMBERS = [Member(index, index, {}) for index in (4, 5, 6)]


def write(directory, first_update, values):
    """Rows of members 4 to 6, of which 5 is chosen; the second row of it is left out."""
    scalars = Scalars(directory, MEMBERS, {5, 9}, first_update)
    loss = np.float32(values)[:, None] * np.ones(3, np.float32)
    where = np.ones(loss.shape, bool)
    where[1:, 1] = False
    scalars.write(first_update, {"loss": loss}, where)
    scalars.close()


def scalars_of(directory):
    """`(tag, update, value)` of every event, as TensorBoard's files have them."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 - the format is its

    found = []
    for path in sorted(directory.iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 8], "little")
            event = Event.FromString(content[position + 12 : position + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            position += 16 + length
    return found


def test_only_chosen_members_have_a_folder_with_the_rows_that_ran(tmp_path):
    write(tmp_path, 3, [0.5, 0.25])
    assert [path.name for path in tmp_path.iterdir()] == ["member-00005"]
    assert scalars_of(tmp_path / "member-00005") == [("loss", 3, 0.5)]


def test_updates_without_a_value_have_no_point(tmp_path):
    write(tmp_path, 3, [np.nan, 0.25])
    assert scalars_of(tmp_path / "member-00005") == []


def test_nothing_chosen_writes_nothing(tmp_path):
    scalars = Scalars(tmp_path, MEMBERS, (), 0)
    scalars.write(0, {"loss": np.ones((1, 3), np.float32)}, np.ones((1, 3), bool))
    scalars.close()
    assert list(tmp_path.iterdir()) == []


def test_a_member_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"--tensorboard_members=7 is no member; there are members 0 to 6\."):
        check_request({7}, 7)


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    check_request((), 7)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[tensorboard\]'"):
        check_request({0}, 7)
