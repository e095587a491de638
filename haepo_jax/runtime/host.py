"""The machine's memory, and sizes in words."""

import os


def memory_bytes() -> int:
    """Reads the memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def in_words(size: float) -> str:
    """Writes a number of bytes for people.

    Example:
      >>> in_words(3 * 2**30)
      '3.0 GiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
