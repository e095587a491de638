"""Errors that end a run early, each in one sentence. Command lines turn them into an exit code."""

import difflib
from collections.abc import Sequence

from haepo_jax.text import visible

CODE_FAILURES = (Exception, SystemExit)
"""What code from outside may raise, to be caught and named: `SystemExit` too, as a module may be a script."""
_LONGEST_NAME = 100  # compared with others; what is longer is no slip of the finger


class ConfigError(ValueError):
    """A setting, a flag or a folder that cannot be used; the message names it and says what is allowed."""


class StorageError(OSError):
    """The run folder cannot be written any more; what was written before is intact."""


def in_the_way(path: object) -> ConfigError:
    """Makes the error that names a file, a link or a folder where the run needs to put something else."""
    return ConfigError(f"{path} is in the way of what the run writes there; move it away, and ask again.")


class Interrupted(Exception):
    """A signal asked the run to stop; it did, after a checkpoint."""

    def __init__(self, signal_number: int, updates_done: int, total: int) -> None:
        """Holds the signal and how far the run came."""
        super().__init__(f"Stopped after update {updates_done} of {total}; the same command resumes from there.")
        self.signal_number = signal_number


class Stalled(Exception):
    """A process stood still, or another one of the run is gone; started again, the run resumes."""

    EXIT_CODE = 42

    @classmethod
    def after(cls, seconds: float) -> "Stalled":
        """No sign of life for so long."""
        return cls(
            f"Nothing has moved for {seconds:g} s: a device or another process of the run hangs. Stopped; the same "
            "command resumes from the last checkpoint. If a chunk of updates takes longer, give train or sweep "
            "a larger --stall_seconds."
        )

    @classmethod
    def alone(cls, reason: str) -> "Stalled":
        """Another process cannot be reached."""
        return cls(
            f"Another process of the run is gone ({reason}). Stopped; once all are started again, the same command "
            "resumes from the last checkpoint."
        )


def quoted(value: object, longest: int = 200) -> str:
    """Writes any value as a sentence can hold it: on one line, and not too long.

    Example:
      >>> quoted("a" * 300, longest=9)
      "'aaaaaaaa..."
    """
    try:
        text = visible(repr(value))
    except Exception:  # of a foreign class, or a number of more digits than Python writes
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}..."


def message_of(error: BaseException) -> str:
    """Returns what an error says: nothing where that fails, as it may in a class from outside.

    Example:
      >>> message_of(ValueError("no maze"))
      'no maze'
    """
    try:
        return str(error)
    except Exception:
        return ""


def said_first(error: BaseException) -> str:
    """Returns the first line of what an error says; nothing where it says nothing."""
    return next(iter(message_of(error).splitlines()), "")


def first_line(error: BaseException) -> str:
    r"""Returns the first line of what an error says, without its stop; its name where it says nothing.

    Example:
      >>> first_line(ValueError("no maze.\nMore of it")), first_line(KeyboardInterrupt())
      ('no maze', 'KeyboardInterrupt')
    """
    return said_first(error).rstrip(".") or type(error).__name__


def with_name(error: BaseException, text: str) -> str:
    """Joins the name of an error and what it says, as the end of a sentence without its stop.

    Example:
      >>> with_name(ValueError(), "no maze."), with_name(ValueError(), "")
      ('ValueError: no maze', 'ValueError')
    """
    said = text[:300].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def how_it_ended(error: BaseException) -> str:
    r"""Words how a file of Python ended that could not be run, as the end of a sentence without its stop.

    Example:
      >>> how_it_ended(ValueError("no maze.\nMore of it"))
      'ends with ValueError: no maze. More of it'
    """
    where, text = "", message_of(error)
    if isinstance(error, SyntaxError):
        text = error.msg
        if error.lineno is not None:
            where = f" at line {error.lineno}"
    return f"ends{where} with {with_name(error, ' '.join(text.split()))}"


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint `; did you mean X?` with the known names nearest to `name`, or nothing when none is near.

    Example:
      >>> nearest("CartPole-v2", ["CartPole-v1", "Acrobot-v1"])
      '; did you mean CartPole-v1?'
    """
    matcher = difflib.SequenceMatcher(b=name[:_LONGEST_NAME].lower())
    likeness = {}
    for candidate in known:
        matcher.set_seq1(candidate.lower())
        likeness[candidate] = matcher.ratio()
    best = max(likeness.values(), default=0.0)
    near = [candidate for candidate in known if likeness[candidate] >= max(0.6, best - 0.1)][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def suggestion(name: str, known: Sequence[str]) -> str:
    """Words the end of a sentence about an unknown `name`: the known ones near it, else all of them.

    Example:
      >>> suggestion("slipp", ["length", "slip"])
      '; did you mean slip?'
      >>> suggestion("noise", ["length", "slip"])
      '; allowed: length, slip.'
    """
    if not known:
        return ", which has none."
    return nearest(name, known) or f"; allowed: {', '.join(known)}."


def choose(what: str, value: object, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`, else a `ConfigError` that names it and them, or the nearest of many."""
    if isinstance(value, str) and value in choices:
        return value
    near = nearest(value, choices) if isinstance(value, str) else ""
    allowed = near if near and len(choices) > 8 else f"; allowed: {', '.join(choices)}."
    raise ConfigError(f"{what} {quoted(value)} is not known{allowed}")
