import json

import jax
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import to_json
from haepo_jax.config.members import make_members
from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import lock_folder
from haepo_jax.runs.identity import check_run, open_run, read_run_id, write_identity
from haepo_jax.runs.metrics.writer import MetricsWriter

CONFIG = fixed_config({"num_seeds": 2})
RUN = (to_json(CONFIG), [member.to_json() for member in make_members(CONFIG)])


@pytest.fixture
def workdir(tmp_path):
    with open_run(tmp_path / "run", *RUN):
        pass
    return tmp_path / "run"


def test_every_run_has_an_id_of_its_own_and_keeps_it(workdir, tmp_path):
    first = read_run_id(workdir)
    with open_run(workdir, *RUN), open_run(tmp_path / "other", *RUN):
        assert read_run_id(workdir) == first != read_run_id(tmp_path / "other")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([], "holds 0 members, unlike the 2"),
        (RUN[1][::-1], "holds another member 0, unlike the 2"),
        ({}, "holds no list of members, unlike the 2"),
    ],
)
def test_members_that_do_not_follow_from_the_config_are_refused(workdir, members, sentence):
    (workdir / "members.json").write_text(json.dumps(members))
    with pytest.raises(ConfigError, match=sentence), open_run(workdir, *RUN):
        pass


def test_a_run_of_ppo_from_before_values_had_a_bound_of_their_own_keeps_the_one_it_had(tmp_path):
    config = to_json(fixed_config({"num_seeds": 2, "algorithm": "ppo", "ppo": {"clip_epsilon": 0.3}}))
    with open_run(tmp_path, config, RUN[1]):
        pass
    del config["ppo"]["value_clip_epsilon"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    kept, changed = (config | {"ppo": config["ppo"] | {"value_clip_epsilon": bound}} for bound in (0.3, None))
    check_run(tmp_path, kept, RUN[1])
    with pytest.raises(ConfigError, match=r"ppo\.value_clip_epsilon \(was 0\.3, now None\)"):
        check_run(tmp_path, changed, RUN[1])


def test_deleted_members_are_written_again(workdir):
    before = (workdir / "members.json").read_bytes()
    (workdir / "members.json").unlink()
    with open_run(workdir, *RUN):
        assert (workdir / "members.json").read_bytes() == before


def test_a_folder_without_its_config_is_not_begun_again(workdir):
    (workdir / "config.json").unlink()
    (workdir / "metrics").mkdir()
    check_run(workdir, *RUN)  # nothing was written yet
    (workdir / "metrics" / "part.parquet").touch()
    with pytest.raises(ConfigError, match=r"holds metrics of a run, but no config\.json"):
        check_run(workdir, *RUN)


def test_other_settings_of_jax_are_refused(workdir):
    with (
        jax.enable_x64(True),
        pytest.raises(ConfigError, match=r"begun with jax_enable_x64 False, and now it is True.*JAX_ENABLE_X64=False"),
    ):
        check_run(workdir, *RUN)


def test_another_version_of_the_numbers_is_refused(workdir, monkeypatch):
    monkeypatch.setattr("haepo_jax.runs.identity.NUMBERS", 99)
    with pytest.raises(ConfigError, match=r"version 1 of the package's numbers, and this is version 99"):
        check_run(workdir, *RUN)


def test_a_folder_of_before_there_were_ids_stays_without_one(workdir):
    (workdir / "run.json").unlink()
    with open_run(workdir, *RUN):
        assert read_run_id(workdir) is None


def test_a_run_that_lost_its_id_recovers_it_from_its_parts(workdir):
    (workdir / "run.json").unlink()
    writer = MetricsWriter(workdir / "metrics", make_members(CONFIG), run="found")
    writer.write(0, {}, np.ones((1, 2), np.int64))
    write_identity(workdir, *RUN)
    assert read_run_id(workdir) == "found"


def test_a_file_in_the_place_of_a_folder_is_named(workdir):
    (workdir / "metrics").write_text("")
    with pytest.raises(ConfigError, match="metrics is no folder, and metrics of the run belong there; move it away"):
        check_run(workdir, *RUN)


@pytest.mark.parametrize("content", ["[]", "{}", '{"run": 3, "numbers": {}}', '{"run": "x"}'])
def test_a_damaged_id_is_refused(workdir, content):
    (workdir / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        check_run(workdir, *RUN)


class TestRefusal:
    def test_leaves_nothing_of_a_folder_that_was_not_there(self, tmp_path):
        with pytest.raises(ConfigError), lock_folder(tmp_path / "deep" / "run"):
            raise ConfigError
        assert list(tmp_path.iterdir()) == []

    def test_leaves_what_was_there(self, tmp_path):
        (tmp_path / "notes").touch()
        with pytest.raises(ConfigError), lock_folder(tmp_path):
            raise ConfigError
        assert (tmp_path / "notes").exists()
