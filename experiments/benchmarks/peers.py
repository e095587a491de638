"""Other codes, each behind a command that prints its own figures as JSON in its last line."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError
from haepo_jax.runtime import signals

_SPEED = ("env_steps", "seconds", "compile_seconds")
_RACE = ("seconds", "seeds", "seeds_at_475")
_SHARE = "share_until_all_at_475"
_SHOWN = 300  # characters of what a command that failed has said


class Peer(NamedTuple):
    """A command to measure beside our own programs."""

    name: str
    command: str
    """For the shell."""


class Arrival(NamedTuple):
    """When the seeds that a command trains came to a mean return of 475."""

    whole_seconds: float
    """Of the command, from its start to its end."""
    training_seconds: float
    """Of the training in it, which comes after importing and compiling."""
    seeds: int
    """How many are trained."""
    seeds_there: int
    """How many of them came there."""
    share: float | None
    """The part of the training after which the last of them was there; None where not all came there."""

    @property
    def seconds(self) -> float | None:
        """Seconds until the last seed was there; all that is not training is among them."""
        return None if self.share is None else self.whole_seconds - (1 - self.share) * self.training_seconds


def parse_peer(text: str) -> Peer:
    """Parses a peer from `NAME=COMMAND`.

    Raises:
      ConfigError: it is not of this form.
    """
    name, equals, command = text.partition("=")
    if not (name.strip() and equals and command.strip()):
        raise ConfigError(f"--peer must be NAME=COMMAND, such as 'rejax=python rejax.py'; got {text!r}.")
    return Peer(name.strip(), command.strip())


def measure_peer(peer: Peer) -> dict[str, float]:
    """Runs a peer once.

    Returns:
      `env_steps`, `seconds` of training and `compile_seconds`, as it prints them.

    Raises:
      ConfigError: it failed, or its last line is not what it should be.
    """
    line, _ = run_command(f"--peer {peer.name}", peer.command)
    figures = _parse_figures(peer, line, _SPEED)
    if min(figures["env_steps"], figures["seconds"]) <= 0:
        raise ConfigError(f"--peer {peer.name} prints {line}: env_steps and seconds must be positive.")
    return figures


def race_peer(peer: Peer, environment: Mapping[str, str] | None = None) -> Arrival:
    """Runs a peer once, to see when its seeds come to a mean return of 475.

    Args:
      peer: what to run.
      environment: all environment variables of its process; those of this one by default.

    Raises:
      ConfigError: it failed, or its last line is not what it should be.
    """
    line, whole_seconds = run_command(f"--peer {peer.name}", peer.command, environment)
    figures = _parse_figures(peer, line, _RACE)
    seeds, there = figures["seeds"], figures["seeds_at_475"]
    share = _parse_figures(peer, line, (*_RACE, _SHARE))[_SHARE] if there == seeds else None
    if not (0 < figures["seconds"] <= whole_seconds and 0 <= there <= seeds and 0 <= (share or 0) <= 1):
        raise ConfigError(
            f"--peer {peer.name} prints {line}: seconds must be positive and no more than the command took "
            f"({whole_seconds:.1f}), seeds_at_475 no more than seeds, and {_SHARE} from 0 to 1."
        )
    return Arrival(whole_seconds, figures["seconds"], int(seeds), int(there), share)


def run_command(
    who: str, command: str | Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[str, float]:
    """Runs a command to its end.

    Args:
      who: what an error calls it.
      command: a text is for the shell.
      environment: all environment variables of its process; those of this one by default.

    Returns:
      The last line that it prints, empty where it prints none, and its seconds.

    Raises:
      ConfigError: it failed.
    """
    clock = time.perf_counter()
    done = signals.run_child(
        command,
        shell=isinstance(command, str),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - clock
    if done.returncode:
        raise ConfigError(f"{who} ended with exit code {done.returncode}: {done.stderr.strip()[-_SHOWN:]}")
    return (done.stdout.strip().splitlines() or [""])[-1], seconds


def _parse_figures(peer: Peer, line: str, names: Sequence[str]) -> dict[str, float]:
    """These numbers of the JSON object in a peer's last line."""
    try:
        figures: dict[str, Any] = json.loads(line)
        return {name: float(figures[name]) for name in names}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--peer {peer.name} must print a JSON object with {', '.join(names)} as its last line; got {line!r}."
        ) from None
