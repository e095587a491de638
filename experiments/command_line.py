"""What every command line shares: flags read strictly, and errors told in one sentence.

Exit codes: 0 done, 2 bad flag, config or folder, 3 every member diverged, 4 storage failed, 42 stalled or another
process of the run is gone, 130 Ctrl-C, 143 SIGTERM.
"""

import ast
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import config_flags
from rich.console import Console

from experiments import beginning
from haepo_jax import compilation_cache, processes, runtime, signals, streams
from haepo_jax.config import ExperimentConfig, from_config_dict, setting_names
from haepo_jax.errors import ConfigError, Interrupted, Stalled, StorageError, nearest
from haepo_jax.terminal import add_row, make_table, visible

BAD_INPUT, ALL_DIVERGED, STORAGE = 2, 3, 4

FLAGS = flags.FLAGS

_known_settings: Callable[[], list[str]] = setting_names
"""The settings of the command's config."""
_overrides: dict[str, dict[str, Any]] = {"env_kwargs": {}, "env_params": {}, "sweep": {}}
"""`--config.env_params.slip=0.1` and the like, by group: names that need not be in the config file."""


_NO_DEVICES = "Unable to initialize backend"  # as JAX begins to say of devices that are not there


def define_config(settings: Callable[[], list[str]] = setting_names) -> None:
    """Defines `--config`, a config file whose settings flags like `--config.num_seeds=64` override.

    Args:
      settings: gives the names of all settings there are.
    """
    global _known_settings  # noqa: PLW0603
    _known_settings = settings
    config_flags.DEFINE_config_file("config", None, "Config file, such as configs/cartpole.py.", lock_config=True)


def define_workdir() -> None:
    """Defines `--workdir`."""
    flags.DEFINE_string("workdir", None, "Run folder.")


def console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for them where there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table, its first column to the left and the others to the right."""
    table = make_table(title, headings)
    for cells in rows:
        add_row(table, cells)
    console().print(table)


def run(main: Callable[[], int]) -> NoReturn:
    """Parses the flags, calls `main` and exits with what it returns, or with the code of its error or its signal."""
    streams.make_best_effort(beginning.said)
    signals.watch(lambda sentence: _tell(sentence, 0))
    # The storage library logs its failures with tracebacks; they are told in a sentence below.
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _without_storage_noise
    try:
        runtime.use_every_core()  # before the config file, which may compute with JAX
        _parse(sys.argv)
        runtime.setup()
        code = main()
        compilation_cache.seal()
    except ConfigError as error:
        code = _tell(error, BAD_INPUT)
        if not processes.joined():
            processes.report_refusal(sys.argv, error)
    except StorageError as error:
        code = _tell(error, STORAGE)
    except Stalled as error:
        _leave(_tell(error, Stalled.EXIT_CODE))  # at once: a usual exit waits for the process that is gone
    except Interrupted as error:
        code = _tell(error, 128 + error.signal_number)
        if not processes.joined():
            _leave(code)  # at once: a usual exit waits for a program that is being compiled
    except Exception as error:
        if _NO_DEVICES in str(error):
            code = _tell(" ".join(str(error).split()), BAD_INPUT)
        elif processes.joined():
            traceback.print_exc()
            code = 1
        else:
            raise
    finally:
        beginning.said()
        streams.close_quietly()
    if code and processes.joined():
        processes.leave(code)  # a usual exit waits for the others, who may wait for this one
    signals.unwatch()
    sys.exit(code)


def experiment_config() -> ExperimentConfig:
    """The validated config of an experiment.

    Raises:
      ConfigError: no `--config`, or a setting that is not allowed.
    """
    return from_config_dict(config_values())


def config_values(example: str = "configs/cartpole.py") -> dict[str, Any]:
    """The settings of `--config` with its overrides, not yet validated.

    Raises:
      ConfigError: no `--config`.
    """
    if FLAGS.config is None:
        raise ConfigError(f"--config is missing: give a config file, such as --config={example}.")
    values: dict[str, Any] = FLAGS.config.to_dict()
    for group, overrides in _overrides.items():
        if overrides:
            values[group] = dict(values[group]) | overrides
    return values


def workdir(example: str = "runs/cartpole") -> Path:
    """The folder of `--workdir`.

    Raises:
      ConfigError: it is not given, or no path.
    """
    if not FLAGS.workdir:
        raise ConfigError(f"--workdir is missing: give the run a folder, such as --workdir={example}.")
    if "://" in FLAGS.workdir:
        raise ConfigError(
            f"--workdir={FLAGS.workdir} is no path: give a folder of a mounted file system; a bucket can be "
            "mounted as one (docs/pods.md)."
        )
    return Path(FLAGS.workdir).expanduser()


def _parse(argv: list[str]) -> None:
    """Reads the flags. What absl and ml_collections let pass, or answer with a traceback, becomes a sentence."""
    if {"--help", "-h"} & set(argv):
        print(sys.modules["__main__"].__doc__)
        names = [name for name in ("config", "workdir", *_own_flags()) if name in FLAGS]
        print("\n".join(f"  --{name}: {FLAGS[name].help} (default: {FLAGS[name].default})" for name in names))
        sys.exit(0)
    given = sys.argv
    # In place too, as ml_collections looks there for itself.
    argv = sys.argv = _config_file_first(_take_overrides(argv))
    for argument in argv:
        if argument.startswith("--config="):
            path = argument.removeprefix("--config=").partition(":")[0]
            if not Path(path).is_file():
                raise ConfigError(f"--config={path} is not a file; configs/ holds those that are shipped.")
        if argument.startswith("--config.") and "config" in FLAGS:
            _check_setting(argument.removeprefix("--config.").partition("=")[0])
    try:
        rest = FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config."):
            raise ConfigError(f"--{error.flagname} needs --config=FILE, the config that it changes.") from error
        raise ConfigError(f"--{error.flagname} is not a flag{nearest(error.flagname, list(FLAGS)) or '.'}") from error
    except flags.Error as error:
        raise ConfigError(_in_plain_words(str(error))) from error
    except Exception as error:
        raise ConfigError(f"The config file could not be loaded: {type(error).__name__}: {error}.") from error
    sys.argv = given  # which provenance notes
    if rest[1:]:
        raise ConfigError(f"{rest[1]!r} is not a flag: flags begin with --, and take their value after a =.")


def _without_storage_noise(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out the tracebacks that the storage library's event loop prints after it failed: the failure is told."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _own_flags() -> list[str]:
    """The flags that the command itself defines."""
    return [flag.name for flag in FLAGS.get_flags_for_module(sys.modules["__main__"])]


def _check_setting(name: str) -> None:
    known = _known_settings()
    if name not in known:
        raise ConfigError(f"--config.{name} is not a setting{nearest(name, known) or f'; there are {known}.'}")


def _take_overrides(argv: list[str]) -> list[str]:
    """The arguments without those in a group of `_overrides`, which are kept there for `experiment_config`."""
    if "config" not in FLAGS:
        return argv
    rest, arguments = [], iter(argv)
    groups = "|".join(group for group in _overrides if group in _known_settings()) or "(?!)"
    for argument in arguments:
        match = re.fullmatch(rf"--?config\.({groups})\.([^=]*)(?:=(.*))?", argument, re.DOTALL)
        if match is None:
            rest.append(argument)
            continue
        group, name, text = match.groups()
        if text is None:
            text = next(arguments, None)
        if text is None:
            raise ConfigError(f"Missing value for flag --config.{group}.{name}.")
        try:
            _overrides[group][name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            _overrides[group][name] = text
    return rest


def _config_file_first(argv: list[str]) -> list[str]:
    """The same arguments with `--config` ahead of its overrides, as ml_collections wants it."""
    first, others, arguments = [], [], iter(argv[1:])
    for argument in arguments:
        if argument in ("--config", "-config"):
            first += [f"--config={value}" for value in [next(arguments, None)] if value is not None]
        elif re.match(r"--?config=", argument):
            first.append("--" + argument.lstrip("-"))
        else:
            others.append(argument)
    return [argv[0], *first, *others]


def _in_plain_words(message: str) -> str:
    """Absl's message as a sentence that says what is allowed."""
    match = re.fullmatch(r"flag (--[^:]+?): (.*)", message, re.DOTALL)
    if match is None:
        return f"{message}."
    flag, reason = match.groups()
    if "for int()" in reason:
        reason = "it must be a whole number"
    elif "to float" in reason:
        reason = "it must be a number"
    elif "as a ConfigDict" in reason:
        reason = "it must be a group of settings, such as {'name': 0.1}"
    return f"{flag} cannot be used: {reason}."


def _tell(message: object, code: int) -> int:
    print(visible(f"{beginning.command()}: {message}"), file=sys.stderr)
    return code


def _leave(code: int) -> NoReturn:
    streams.close_quietly()
    os._exit(code)
