import jax
import jax.numpy as jnp
import pytest

from haepo_jax.runtime import compilation_cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder in use, into which everything that is compiled goes."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setattr(compilation_cache, "_MIN_SECONDS", 0.0)
    directory = tmp_path / "cache"
    compilation_cache.use(directory)
    jax.clear_caches()
    yield directory
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def compile_one():
    jax.clear_caches()
    return float(jax.jit(lambda x: jnp.sin(x) * 3 + 1)(2.0))


def entries(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*-cache")}


def checksum_file(path):
    return path.with_name(path.name.removesuffix("-cache") + "-crc32")


def test_what_is_compiled_is_kept_and_stays(cache):
    compile_one()
    compilation_cache.seal()
    kept = entries(cache)
    assert kept and compilation_cache.use(cache) == []
    assert entries(cache) == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:40] + b"x" + path.read_bytes()[41:]),
        lambda path: checksum_file(path).unlink(),
        lambda path: checksum_file(path).write_bytes(b""),
        lambda path: checksum_file(path).write_bytes(b"\xff\xfe\x00 no text"),
        lambda path: checksum_file(path).write_bytes(checksum_file(path).read_bytes() + b"1"),
        lambda path: (checksum_file(path).unlink(), checksum_file(path).mkdir()),
        lambda path: (path.unlink(), path.mkdir(), (path / "file").write_text("")),
    ],
    ids=[
        *("truncated", "empty", "changed", "never sealed", "empty checksum", "checksum that is no text"),
        *("another checksum", "checksum that is a folder", "folder"),
    ],
)
def test_a_damaged_entry_is_removed_and_written_again(cache, damage):
    value = compile_one()
    compilation_cache.seal()
    kept = entries(cache)
    for name in kept:
        damage(cache / name)
    assert compilation_cache.use(cache) == sorted(kept)
    assert entries(cache) == {}
    assert compile_one() == value
    assert entries(cache).keys() == kept.keys()
    compilation_cache.seal()
    assert compilation_cache.use(cache) == []


@pytest.fixture
def settings(monkeypatch):
    """JAX's own, as they were at the end."""
    before = jax.config.jax_compilation_cache_dir
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"JAX_COMPILATION_CACHE_DIR": "/shared", "XDG_CACHE_HOME": "/caches"}, "/shared/haepo_jax"),
        ({"JAX_COMPILATION_CACHE_DIR": "file:///shared"}, "/shared/haepo_jax"),
        ({"JAX_COMPILATION_CACHE_DIR": "gs://bucket/cache"}, "gs://bucket/cache"),
        ({"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": "/caches"}, "/caches/haepo_jax"),
        ({"HOME": "/home/me"}, "/home/me/.cache/haepo_jax"),
    ],
)
def test_the_folder_is_ours_alone_in_the_one_that_jax_was_given_or_among_the_users_caches(
    settings, environment, expected
):
    for name, value in environment.items():
        settings.setenv(name, value)
    assert compilation_cache.default_directory() == expected


def test_entries_of_other_programs_are_never_touched(settings, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("jit_other-123-cache", "jit_other-123-atime", "-cache", "jit_ours-123-cache", "jit_ours-123-crc32"):
        (shared / name).write_bytes(b"theirs")
    before = {path.name: path.read_bytes() for path in shared.iterdir()}
    settings.setenv("JAX_COMPILATION_CACHE_DIR", str(shared))
    settings.setattr(compilation_cache, "_MIN_SECONDS", 0.0)
    compilation_cache.use_default()
    compile_one()
    compilation_cache.seal()
    compilation_cache.use_default()
    assert {path.name: path.read_bytes() for path in shared.iterdir() if path.is_file()} == before
    assert entries(shared / "haepo_jax")


def test_a_cache_that_jax_uses_by_itself_is_not_sealed(settings, tmp_path):
    (tmp_path / "jit_other-123-cache").write_bytes(b"theirs")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.seal()
    assert [path.name for path in tmp_path.iterdir()] == ["jit_other-123-cache"]


def test_an_address_is_left_to_jax_and_becomes_no_folder(settings, tmp_path):
    settings.chdir(tmp_path)
    settings.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/cache")
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/cache")
    compilation_cache.use_default()
    compilation_cache.seal()
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/cache"
    assert not list(tmp_path.iterdir())


def test_a_system_without_a_home_has_no_cache_and_a_warning(settings, capsys):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    settings.setattr(compilation_cache.Path, "home", nobody)
    compilation_cache.use_default()
    assert jax.config.jax_compilation_cache_dir is None
    assert capsys.readouterr().err == (
        "Compiled programs are not kept, as there is no home folder; JAX_COMPILATION_CACHE_DIR may name a folder for "
        "them.\n"
    )


@pytest.mark.parametrize("place", ["file/cache", "/proc/cache"])
def test_a_cache_folder_that_cannot_be_written_is_skipped_with_a_warning(settings, tmp_path, capsys, place):
    (tmp_path / "file").write_text("")
    settings.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / place))
    compilation_cache.use_default()
    assert jax.config.jax_compilation_cache_dir is None
    assert "cannot be used (" in capsys.readouterr().err


def test_a_folder_that_may_only_be_read_is_not_used(settings, tmp_path):
    settings.setattr(compilation_cache.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError):
        compilation_cache.use(tmp_path)
