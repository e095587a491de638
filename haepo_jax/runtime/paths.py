"""Paths that people give, looked at before anything is made of them."""

import stat
from pathlib import Path

from haepo_jax.errors import ConfigError, quoted


def folder(what: str, given: str) -> Path:
    """Makes a path of what was given for a folder, which need not be there yet.

    Args:
      what: the flag or setting, for the sentence of an error.
      given: its text; `~` and `~NAME` stand for home folders.

    Raises:
      ConfigError: it is no path, or what is there is no folder.
    """
    named = f"{what}={quoted(given)[1:-1]}"
    if not given:
        raise ConfigError(f"{what} is empty; give a folder, such as . for the working directory.")
    if "://" in given:
        raise ConfigError(
            f"{named} is no path: give a folder of a mounted file system; a bucket can be mounted as one "
            "(docs/pods.md)."
        )
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{named} begins with the home folder of a user whom this machine does not know.") from error
    for part in (path, *path.parents):
        try:
            is_folder = stat.S_ISDIR(part.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"{named} cannot be a folder: {reason}.") from error
        if not is_folder:
            what = "is a file" if part == path else f"lies below {quoted(str(part))[1:-1]}, which is a file"
            raise ConfigError(f"{named} {what}; give a folder.")
        break
    return path
