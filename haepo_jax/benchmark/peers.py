"""Other codes, each behind a command that tells its own figures as JSON in its last line."""

import json
import subprocess
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError

_FIELDS = ("env_steps", "seconds", "compile_seconds")
_SHOWN = 300  # characters of what a command that failed has said


class Peer(NamedTuple):
    """A command to measure beside our own programs."""

    name: str
    command: str
    """For the shell."""


def parse(text: str) -> Peer:
    """A peer from `NAME=COMMAND`.

    Raises:
      ConfigError: it is not of this form.
    """
    name, equals, command = text.partition("=")
    if not (name.strip() and equals and command.strip()):
        raise ConfigError(f"--peer must be NAME=COMMAND, such as 'rejax=python rejax.py'; got {text!r}.")
    return Peer(name.strip(), command.strip())


def measure(peer: Peer) -> dict[str, float]:
    """Runs a peer once.

    Returns:
      `env_steps`, `seconds` of training and `compile_seconds`, as it tells them.

    Raises:
      ConfigError: it failed, or its last line is not what it should be.
    """
    done = subprocess.run(peer.command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"--peer {peer.name} ended with exit code {done.returncode}: {done.stderr.strip()[-_SHOWN:]}"
        )
    line = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        told: dict[str, Any] = json.loads(line)
        result = {name: float(told[name]) for name in _FIELDS}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--peer {peer.name} must print a JSON object with {', '.join(_FIELDS)} as its last line; got {line!r}."
        ) from None
    if min(result["env_steps"], result["seconds"]) <= 0:
        raise ConfigError(f"--peer {peer.name} tells {line}: env_steps and seconds must be positive.")
    return result
