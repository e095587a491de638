import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.runtime.paths import folder


def test_a_folder_may_be_there_or_not(tmp_path):
    assert folder("--workdir", str(tmp_path)) == tmp_path
    assert folder("--workdir", str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"


def test_a_path_without_a_letter_is_refused():
    with pytest.raises(ConfigError, match=r"--workdir is empty; give a folder, such as \. for"):
        folder("--workdir", "")


def test_home_folders_are_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder("--workdir", "~/runs") == tmp_path / "runs"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("~nosuchuser/x", "begins with the home folder of a user whom this machine does not know."),
        ("W/" + "a" * 300, "cannot be a folder: File name too long."),
        ("W/a\0b", "cannot be a folder: embedded null byte."),
        ("W/file", "is a file; give a folder."),
        ("W/file/x/y", "which is a file; give a folder."),
        ("W/loop/x", "cannot be a folder: Too many levels of symbolic links."),
        ("gs://bucket/run", "is no path: give a folder of a mounted file system"),
    ],
)
def test_what_can_be_no_folder_is_refused_in_a_sentence(given, sentence, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError) as raised:
        folder("--workdir", given.replace("W", str(tmp_path)))
    assert sentence in str(raised.value) and str(raised.value).startswith("--workdir=")
