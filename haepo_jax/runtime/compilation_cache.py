"""JAX's compilation cache on disk, with a checksum beside each entry.

JAX does not write an entry again that it cannot read, and a process that is killed leaves half of one. So what has no
checksum, or another one, is removed before the cache is used, and then compiled and written anew. All this happens in
a folder of our own, so that entries of other programs are never touched.
"""

import contextlib
import os
import shutil
import sys
import zlib
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache

_MIN_SECONDS = 1.0  # what compiles faster is not kept
_OURS = "haepo_jax"

_used: list[str] = []
"""The folders that `use` has begun to use."""


def default_directory() -> str | None:
    """Finds `haepo_jax` in `JAX_COMPILATION_CACHE_DIR`, or among the user's caches; None where no such place is known.

    An address such as `gs://bucket/cache` is given back as it is.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR", "").removeprefix("file://")
    if _is_remote(given):
        return given
    if given:
        return str(Path(given) / _OURS)
    caches = os.environ.get("XDG_CACHE_HOME")
    if caches:
        return str(Path(caches) / _OURS)
    try:
        return str(Path.home() / ".cache" / _OURS)
    except RuntimeError:  # no HOME, and a user whom the system does not know
        return None


def use_default() -> None:
    """Uses the folder of `default_directory`; says so where it cannot be used, and then none is."""
    directory = default_directory()
    if directory is None:
        reason = "there is no home folder"
    elif _is_remote(directory):
        return  # JAX itself keeps them there, and reads the address from the environment
    else:
        try:
            use(Path(directory))
            return
        except OSError as error:
            reason = f"{directory} cannot be used ({error.strerror or error})"
    jax.config.update("jax_compilation_cache_dir", None)
    print(
        f"Compiled programs are not kept, as {reason}; JAX_COMPILATION_CACHE_DIR may name a folder for them.",
        file=sys.stderr,
    )


def use(directory: Path) -> list[str]:
    """Makes JAX keep compiled programs in this folder, which is ours alone, after removing what is damaged there.

    Returns:
      The names of the removed entries.

    Raises:
      OSError: the folder cannot be written, or something damaged in it cannot be removed; it is not used then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(0, "it may not be written")
    removed = [entry for entry in _entries(directory) if not _is_whole(entry)]
    for entry in removed:
        _remove(_checksum_file(entry))
        _remove(entry)
    _used.append(str(directory))
    jax_cache.reset_cache()  # JAX looks for a folder once
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    return [entry.name for entry in removed]


def seal() -> None:
    """Notes the checksums of the entries that are new; call it once programs are compiled."""
    directory = jax.config.jax_compilation_cache_dir
    if directory not in _used:  # another program's, which has given it to JAX by itself
        return
    for entry in _entries(Path(directory)):
        if not _checksum_file(entry).exists():
            with contextlib.suppress(OSError):  # full, or removed by another process: it is compiled again
                _checksum_file(entry).write_bytes(_checksum(entry))


def _is_remote(directory: str) -> bool:
    return "://" in directory


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*-cache"))


def _checksum_file(entry: Path) -> Path:
    return entry.with_name(entry.name.removesuffix("-cache") + "-crc32")


def _is_whole(entry: Path) -> bool:
    try:
        return _checksum_file(entry).read_bytes() == _checksum(entry)
    except OSError:  # missing, or no file
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _checksum(entry: Path) -> bytes:
    content = entry.read_bytes()
    return f"{len(content)} {zlib.crc32(content)}".encode()
