"""JAX's compilation cache on disk, with a checksum beside each entry.

JAX does not write an entry again that it cannot read, and a process that is killed leaves half of one. So what has no
checksum, or another one, is removed before the cache is used, and then compiled and written anew.
"""

import os
import zlib
from pathlib import Path

import jax

_MIN_SECONDS = 1.0  # what compiles faster is not kept


def default_directory() -> Path:
    """`JAX_COMPILATION_CACHE_DIR`, or `haepo_jax` among the user's caches."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "haepo_jax"


def use(directory: Path) -> list[str]:
    """Makes JAX keep compiled programs in this folder, after removing what is damaged there.

    Returns:
      The names of the removed entries. A folder that cannot be written is not used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        removed = [entry.name for entry in _entries(directory) if not _is_whole(entry)]
        for name in removed:
            _checksum_file(directory / name).unlink(missing_ok=True)
            (directory / name).unlink(missing_ok=True)
    except OSError:
        return []
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    return removed


def seal() -> None:
    """Notes the checksums of the entries that are new; call it once programs are compiled."""
    directory = jax.config.jax_compilation_cache_dir
    if not directory:
        return
    for entry in _entries(Path(directory)):
        if not _checksum_file(entry).exists():
            try:
                _checksum_file(entry).write_text(_checksum(entry))
            except OSError:  # full, or removed by another process: it is compiled again
                continue


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*-cache"))


def _checksum_file(entry: Path) -> Path:
    return entry.with_name(entry.name.removesuffix("-cache") + "-crc32")


def _is_whole(entry: Path) -> bool:
    checksum = _checksum_file(entry)
    return checksum.exists() and checksum.read_text() == _checksum(entry)


def _checksum(entry: Path) -> str:
    content = entry.read_bytes()
    return f"{len(content)} {zlib.crc32(content)}"
