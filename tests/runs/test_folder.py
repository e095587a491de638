import errno
import importlib
import json
import multiprocessing
import os
import sys

import jax
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import to_json
from haepo_jax.config.members import make_members
from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.runs.files import provenance_path
from haepo_jax.runs.folder import clear_leftovers, load_config, storage_errors, write_file, write_json
from haepo_jax.runs.identity import open_run
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.provenance import Provenance

CONFIG = fixed_config({"num_seeds": 2, "sweep": {"discount": (0.9, 1.0)}})


def open_once(workdir, config=CONFIG):
    with open_run(workdir, to_json(config), [member.to_json() for member in make_members(config)]):
        pass


def test_a_new_folder_gets_its_config_and_members(tmp_path):
    open_once(tmp_path / "deep" / "run")
    assert load_config(tmp_path / "deep" / "run") == CONFIG
    members = read_json(tmp_path / "deep" / "run" / "members.json")
    assert members == [
        {"index": 0, "seed": 0, "settings": {"discount": 0.9}, "group": "all"},
        {"index": 1, "seed": 1, "settings": {"discount": 0.9}, "group": "all"},
        {"index": 2, "seed": 0, "settings": {"discount": 1.0}, "group": "all"},
        {"index": 3, "seed": 1, "settings": {"discount": 1.0}, "group": "all"},
    ]


def test_the_same_config_opens_a_folder_again(tmp_path):
    open_once(tmp_path)
    open_once(tmp_path)


def test_another_config_is_refused_by_every_field_that_differs(tmp_path):
    open_once(tmp_path)
    other = fixed_config(to_json(CONFIG) | {"seed": 4, "sweep": {"discount": (0.9, 0.95)}})
    with pytest.raises(
        ConfigError, match=r"seed \(was 0, now 4\), sweep.discount \(was \[0.9, 1.0\], now \[0.9, 0.95\]\)"
    ):
        open_once(tmp_path, other)


def test_a_damaged_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"env": ')
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        open_once(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        open_once(tmp_path / "run")


def _hold(workdir, started, done):
    with open_run(workdir, to_json(CONFIG), [member.to_json() for member in make_members(CONFIG)]):
        started.set()
        done.wait()


def test_one_run_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, started, done))
    holder.start()
    assert started.wait(60)
    with pytest.raises(ConfigError, match="is in use by another run"):
        open_once(tmp_path)
    done.set()
    holder.join(60)
    open_once(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_file(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "is on a full disk"),
        (OSError(errno.EROFS, "Read-only file system"), r"cannot be written \(Read-only file system\)"),
        (ValueError("kvstore: Error writing: [No space left on device]"), "is on a full disk"),
    ],
)
def test_storage_that_fails_gets_one_sentence(tmp_path, error, sentence):
    with pytest.raises(StorageError, match=sentence) as raised, storage_errors(tmp_path):
        raise error
    assert "what was written before is intact" in str(raised.value)


def test_what_is_said_already_is_not_said_twice(tmp_path):
    with pytest.raises(StorageError) as raised, storage_errors(tmp_path), storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value).count("is on a full disk") == 1


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path):
        raise ZeroDivisionError


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"values": [float("nan"), float("inf"), (-np.inf, 1.5)], "count": 2})
    assert json.loads(path.read_text()) == {"values": [None, None, [None, 1.5]], "count": 2}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"attempts": []}'),
        lambda path: path.write_text('[{"started": "today"}]'),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.parent),
    ],
)
def test_provenance_that_cannot_be_read_is_set_aside_with_a_word(tmp_path, capsys, damage):
    path = tmp_path / "provenance.json"
    damage(path)
    Provenance(tmp_path, jax.devices()).update(run_seconds=2.0)
    assert [attempt["run_seconds"] for attempt in json.loads(path.read_text())] == [2.0]
    assert os.path.lexists(tmp_path / "provenance.damaged-1.json")
    out = capsys.readouterr().out
    assert str(path) in out and "provenance.json is kept as provenance.damaged-1.json, and made again." in out


def test_provenance_adds_an_entry_for_each_attempt(tmp_path):
    first = Provenance(tmp_path, jax.devices())
    first.update(outcome="SIGTERM", run_seconds=2.0)
    second = Provenance(tmp_path, jax.devices())
    second.update(outcome="complete", run_seconds=3.0)
    assert second.total("run_seconds") == 5.0
    attempts = json.loads((tmp_path / "provenance.json").read_text())
    assert [attempt["outcome"] for attempt in attempts] == ["SIGTERM", "complete"]
    assert attempts[0]["packages"]["jax"] == jax.__version__
    assert {"command", "git", "xla_flags", "devices", "processes", "started", "python"} < set(attempts[1])


def test_an_attempt_that_noted_no_end_does_not_run_any_more_once_the_next_one_begins(tmp_path):
    for end in (None, "SIGTERM", None):
        attempt = Provenance(tmp_path, jax.devices())
        if end is not None:
            attempt.update(outcome=end)
    outcomes = [attempt["outcome"] for attempt in json.loads((tmp_path / "provenance.json").read_text())]
    assert outcomes == ["broken off", "SIGTERM", "running"]


def test_a_temporary_file_never_goes_through_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    names = []
    write_file(tmp_path / "first", lambda temporary: names.append(temporary.name))
    assert names[0] != ".first.tmp"
    for name in (".file.json.tmp", *names):
        (tmp_path / name).symlink_to(elsewhere)
    write_json(tmp_path / "file.json", {})
    assert elsewhere.read_text() == "mine"
    clear_leftovers(tmp_path)
    assert (tmp_path / names[0]).is_symlink()


def test_what_a_killed_process_left_is_cleared_and_what_is_being_written_is_not(tmp_path):
    (tmp_path / f".{'0' * 16}.tmp").write_text("half")

    def write(temporary):
        clear_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]
        temporary.write_text("whole")

    write_file(tmp_path / "file", write)
    assert (tmp_path / "file").read_text() == "whole"


def test_files_have_the_rights_that_the_user_s_mask_gives(tmp_path):
    (tmp_path / "usual").touch()
    write_json(tmp_path / "file.json", {})
    assert (tmp_path / "file.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_system_without_file_locks_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delitem(sys.modules, "haepo_jax.runs.folder")
    with pytest.raises(ImportError, match="by locks that Windows has not; use it there in WSL"):
        importlib.import_module("haepo_jax.runs.folder")


class TestWhatIsInTheWay:
    """It stays until somebody moves it, so it is no failure of the storage."""

    @pytest.fixture
    def obstacle(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        return tmp_path / "file"

    @pytest.mark.parametrize(
        "write",
        [
            lambda path: path.mkdir(exist_ok=True),
            lambda path: (path / "below").mkdir(parents=True),
            lambda path: write_json(path / "below.json", {}),
        ],
    )
    def test_is_named_where_a_folder_must_be(self, obstacle, write):
        with pytest.raises(ConfigError, match=f"^{obstacle} is in the way"), storage_errors(obstacle.parent):
            write(obstacle)
        assert obstacle.read_text() == "mine"

    def test_is_named_where_a_file_must_be(self, tmp_path):
        (tmp_path / "figure.png").mkdir()
        with pytest.raises(ConfigError, match=r"figure\.png is in the way"), storage_errors(tmp_path):
            write_json(tmp_path / "figure.png", {})
        assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize("process", [0, 1])
def test_attempts_that_took_longer_than_any_run_are_set_aside_and_do_not_stop_it(tmp_path, process):
    Provenance(tmp_path, jax.devices(), process)
    path = provenance_path(tmp_path, process)
    attempt = json.loads(path.read_text())[0]
    path.write_text(json.dumps([attempt | {"run_seconds": 1e308}] * 2))
    assert Provenance(tmp_path, jax.devices(), process).total("run_seconds") == 0
    assert len(list(tmp_path.glob("*.damaged-1.json"))) == 1
