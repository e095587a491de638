import jax
import jax.numpy as jnp
import pytest

from haepo_jax import compilation_cache


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
    return jax.jit(lambda x: jnp.sin(x) * 3 + 1)(2.0)


def entries(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*-cache")}


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
        lambda path: path.with_name(path.name.removesuffix("-cache") + "-crc32").unlink(),
    ],
    ids=["truncated", "empty", "changed", "never sealed"],
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


def test_the_folder_is_the_one_that_jax_was_given_or_among_the_users_caches(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    assert str(compilation_cache.default_directory()) == "/somewhere"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(compilation_cache.default_directory()) == "/caches/haepo_jax"


def test_a_folder_that_cannot_be_written_is_not_used(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    (tmp_path / "file").write_text("")
    assert compilation_cache.use(tmp_path / "file" / "cache") == []
    assert jax.config.jax_compilation_cache_dir == before
