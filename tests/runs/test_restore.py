"""The way back of a small run whose state is NumPy arrays: three members, rows and a checkpoint after each update."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.runs import checksums
from haepo_jax.runs.checkpoints import Checkpointer
from haepo_jax.runs.identity import read_run_id, write_identity
from haepo_jax.runs.metrics.parts import list_parts
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.recorder import Recorder, Rows
from haepo_jax.runs.restore import (
    Restored,
    Source,
    check_resumable,
    describe_next_start,
    find_newest,
    resume,
    set_foreign_parts_aside,
)

# What the storage library leaves behind when it fails on damaged data.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MEMBERS = range(3)
UPDATES = 4


def state(update, size=2):
    return {"params": np.full((3, size), update, np.float32), "step": np.full(3, update, np.int32)}


def record(workdir, updates, members=MEMBERS, begun=None):
    """Records updates one by one; the last member stops after two."""
    (workdir / "metrics").mkdir(exist_ok=True)
    run = read_run_id(workdir)
    writer = MetricsWriter(workdir / "metrics", [Member(k, k, {}) for k in members], run=run)
    recorder = Recorder(workdir, Checkpointer(folder(workdir, members), members, run=run), writer, begun or START)
    for update in updates:
        shape = (1, len(members))
        rows = Rows(
            {"loss": np.full(shape, update, np.float32)},
            np.full(shape, update, np.int64),
            where=np.array([[member < 2 or update < 2 for member in members]]),
            diverged=np.zeros(shape, bool),
        )
        recorder.commit(update + 1, state(update + 1), rows, note=lambda: None, beside=lambda: None)
    recorder.close()


START = Restored(0, None, 0)


def folder(workdir, members=MEMBERS):
    return workdir / "checkpoints" / f"members-{members.start:06d}-{members.stop:06d}"


def make(workdir):
    workdir.mkdir()
    write_identity(workdir, {}, [{"index": k, "seed": k, "settings": {}} for k in range(6)])
    record(workdir, range(UPDATES))
    return workdir


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make(tmp_path_factory.mktemp("other") / "run")


@pytest.fixture
def workdir(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def sources(workdir):
    return [Source(folder(workdir), MEMBERS)]


def back(workdir, template=None):
    template = state(0) if template is None else template
    check_resumable(workdir, sources(workdir), template)
    return resume(workdir, sources(workdir), template, MEMBERS)


def part(workdir, update):
    return workdir / "metrics" / f"part-00000-00000000-{update:08d}.parquet"


def contents(workdir):
    return {
        str(path.relative_to(workdir)): path.read_bytes() if path.is_file() else None for path in workdir.rglob("*")
    }


def assert_refused(workdir, sentence, **options):
    before = contents(workdir)
    with pytest.raises(ConfigError, match=sentence):
        check_resumable(workdir, sources(workdir), options.get("template", state(0)))
    with pytest.raises(ConfigError, match=sentence):
        back(workdir, **options)
    assert contents(workdir) == before


def assert_at(restored, update):
    assert restored.update == update
    jax.tree.map(np.testing.assert_array_equal, restored.tree, state(update))


def test_a_run_resumes_from_its_newest_checkpoint_with_all_its_rows(workdir):
    before = contents(workdir)
    restored = back(workdir)
    assert_at(restored, UPDATES)
    assert restored.rows == 2 * UPDATES + 2
    assert contents(workdir) == before


def test_rows_that_no_checkpoint_counts_are_dropped(workdir):
    shutil.rmtree(folder(workdir) / "4")
    assert_at(back(workdir), 3)
    assert not part(workdir, 3).exists() and part(workdir, 2).exists()


def test_rows_recorded_after_a_resume_are_counted_from_all_rows(workdir):
    shutil.rmtree(folder(workdir) / "4")
    record(workdir, range(3, 6), begun=back(workdir))
    assert back(workdir).rows == 2 * 6 + 2


class TestRowsThatAreGone:
    def test_after_an_older_checkpoint_are_computed_again(self, workdir, capsys):
        part(workdir, 3).unlink()
        assert_at(back(workdir), 3)
        assert "after update 4 cannot be used (8 of its rows are there, of 10)" in (capsys.readouterr().out)
        assert sorted(os.listdir(folder(workdir))) == ["2", "3"]
        assert (workdir / "checkpoints" / "members-000000-000003_without_rows" / "4").is_dir()

    @pytest.mark.parametrize("update", [0, 1])
    def test_before_every_checkpoint_are_refused(self, workdir, update):
        part(workdir, update).unlink()
        assert_refused(workdir, r"metrics has lost rows of the run, as .*4 states: \d of its rows are there")

    def test_altogether_are_refused(self, workdir):
        shutil.rmtree(workdir / "metrics")
        assert_refused(workdir, "0 of its rows are there, of 10")

    def test_rows_lost_with_a_damaged_part_are_refused_and_the_part_is_named(self, workdir):
        part(workdir, 0).write_bytes(part(workdir, 0).read_bytes()[:100])
        assert_refused(workdir, r"Not read: part-00000-00000000-00000000\.parquet, as it cannot be read as a parquet")

    def test_of_a_member_that_has_stopped_are_refused(self, workdir):
        from haepo_jax.runs.metrics.writer import drop_rows

        drop_rows(workdir, 0, range(2, 3))
        assert_refused(workdir, "8 of its rows are there, of 10")


class TestAnotherRunsCheckpoint:
    def test_is_refused(self, workdir, other):
        shutil.rmtree(folder(workdir))
        shutil.copytree(folder(other), folder(workdir))
        assert_refused(workdir, r"members-000000-000003/4 is of another run than that of --workdir")

    def test_is_refused_by_one_who_only_looks(self, workdir, other):
        shutil.rmtree(folder(workdir) / "4")
        shutil.copytree(folder(other) / "4", folder(workdir) / "4")
        with pytest.raises(ConfigError, match="is of another run"):
            find_newest(workdir, sources(workdir), state(0), MEMBERS)

    def test_parts_of_another_run_are_set_aside(self, workdir, other, capsys):
        shutil.copy(part(other, 3), part(workdir, 7))
        assert_at(back(workdir), UPDATES)
        set_foreign_parts_aside(workdir)
        assert "metrics/part-00000-00000000-00000007.parquet is none of this run's (it belongs to another run)" in (
            capsys.readouterr().out
        )
        assert (workdir / "metrics_set_aside" / part(workdir, 7).name).is_file()
        assert list_parts(workdir).others == {}


def test_another_wave_s_checkpoint_is_refused(workdir):
    record(workdir, range(2), members=range(3, 6))
    shutil.rmtree(folder(workdir) / "2")
    shutil.copytree(folder(workdir, range(3, 6)) / "2", folder(workdir) / "2")
    assert_refused(workdir, "members-000000-000003/2 holds members 3 to 5, where members 0 to 2 belong")


def test_another_structure_is_refused_with_both_shapes(workdir):
    assert_refused(
        workdir,
        r"is of another structure than this run's: params is float32\[2\] there and float32\[5\] here",
        template=state(0, size=5),
    )


def test_another_random_number_generator_is_refused(workdir):
    with jax.default_prng_impl("rbg"):
        assert_refused(workdir, "jax_default_prng_impl 'threefry2x32', and now it is 'rbg'")
        with pytest.raises(ConfigError, match="rbg"):
            find_newest(workdir, sources(workdir), state(0), MEMBERS)


def test_another_version_of_the_numbers_is_refused_but_may_be_looked_at(workdir, monkeypatch):
    monkeypatch.setattr("haepo_jax.runs.identity.NUMBERS", 7)
    assert_refused(workdir, "version 1 of the package's numbers, and this is version 7")
    assert_at(find_newest(workdir, sources(workdir), state(0), MEMBERS), UPDATES)


class TestDamage:
    def test_is_set_aside_and_the_one_before_is_taken(self, workdir, capsys):
        for path in (folder(workdir) / "4").rglob("d/*"):
            path.write_bytes(b"")
        assert_at(find_newest(workdir, sources(workdir), state(0), MEMBERS), 3)
        assert_at(back(workdir), 3)
        assert "The checkpoint after update 4 is damaged (" in capsys.readouterr().out
        assert (workdir / "checkpoints" / "members-000000-000003_damaged" / "4").is_dir()
        assert not part(workdir, 3).exists()

    def test_of_all_starts_again_and_says_so(self, workdir, capsys):
        for path in folder(workdir).rglob("d/*"):
            path.write_bytes(b"")
        assert back(workdir) == Restored(0, None, 0)
        assert "No good checkpoint is left: starting again from the first update." in capsys.readouterr().out
        assert list((workdir / "metrics").iterdir()) == []

    def test_of_all_whose_rows_are_there_never_drops_rows_that_a_good_one_lacks(self, workdir):
        """The newest one lacks rows and those before it are damaged: to start again would lose all."""
        part(workdir, 3).unlink()
        for update in (2, 3):
            for path in (folder(workdir) / str(update)).rglob("d/*"):
                path.write_bytes(b"")
        with pytest.raises(ConfigError, match="has lost rows"):
            back(workdir)
        assert part(workdir, 0).exists() and (folder(workdir) / "4").is_dir()

    def test_of_a_record_is_damage(self, workdir):
        path = folder(workdir) / "4" / "record" / "metadata"
        path.write_text(path.read_text()[:-9])
        assert_at(back(workdir), 3)

    def test_a_checkpoint_without_a_record_is_none_of_a_run_with_an_id(self, workdir, capsys):
        shutil.rmtree(folder(workdir) / "4" / "record")
        assert_at(back(workdir), 3)
        assert "is damaged (it does not state its run)" in capsys.readouterr().out


class TestNames:
    @pytest.mark.parametrize("name", ["12", "99999999999", "²", "kept"])
    def test_a_renamed_checkpoint_is_taken_and_named_again(self, workdir, name):
        (folder(workdir) / "4").rename(folder(workdir) / name)
        assert_at(back(workdir), UPDATES)
        assert sorted(os.listdir(folder(workdir))) == ["2", "3", "4"]

    def test_a_copy_is_set_aside(self, workdir):
        shutil.copytree(folder(workdir) / "3", folder(workdir) / "12")
        assert_at(back(workdir), UPDATES)
        assert sorted(os.listdir(folder(workdir))) == ["2", "3", "4"]

    def test_that_are_no_update_are_left_as_they_are(self, workdir):
        for name in ("²", "99999999999", "notes"):
            (folder(workdir) / name).mkdir()
        assert_at(back(workdir), UPDATES)
        record(workdir, range(4, 6), begun=back(workdir))
        assert {"²", "99999999999", "notes", "6"} < set(os.listdir(folder(workdir)))

    def test_a_file_in_the_place_of_the_folder_is_refused(self, workdir):
        shutil.rmtree(folder(workdir))
        folder(workdir).write_text("")
        assert_refused(workdir, "members-000000-000003 is no folder, and checkpoints belong there; move it away")


def test_a_run_from_before_there_were_ids_resumes(workdir, monkeypatch):
    """Its parts and checkpoints state nothing."""
    from haepo_jax.runs.metrics import writer

    shutil.rmtree(workdir)
    workdir.mkdir()
    (workdir / "run.json").write_text(json.dumps({"run": None, "numbers": {}}))
    (workdir / "members.json").write_text(json.dumps([{"index": k, "seed": k, "settings": {}} for k in range(3)]))
    with monkeypatch.context() as patch:
        patch.setattr(writer, "make_statement", lambda run, name: None)
        for update in range(3):
            old_start = checksums.start_before_records(update + 1)
            patch.setattr(checksums, "start_of_record", lambda digest, start=old_start: start)
            record(workdir, [update], begun=Restored(update, None, 0))
            shutil.rmtree(folder(workdir) / str(update + 1) / "record")
    assert_refused(workdir, r"params is float32\[2\] there and float32\[5\] here", template=state(0, size=5))
    assert_refused(workdir, r"step is int32\[\] there and absent here", template={"params": state(0)["params"]})
    restored = back(workdir)
    assert_at(restored, 3)
    assert restored.rows == 2 * 3 + 2
    record(workdir, [3], begun=restored)
    assert_at(back(workdir), 4)
    part(workdir, 1).unlink()
    assert_refused(workdir, "has lost rows")


def test_what_is_left_names_the_checkpoint_or_the_beginning(workdir):
    assert describe_next_start(workdir) == "the same command resumes from the last checkpoint."
    shutil.rmtree(folder(workdir))
    (workdir / "checkpoints" / "²").mkdir()
    assert describe_next_start(workdir).endswith("the same command starts from the first update.")
