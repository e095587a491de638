"""The part that all command lines share: flags are read strictly, and an error is one sentence.

Exit codes: 0 done, 2 bad flag, config or folder, 3 every member diverged, 4 storage failed, 42 stalled or another
process of the run is gone, 130 Ctrl-C, 143 SIGTERM.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from absl import flags, logging
from rich.console import Console
from rich.table import Table

from experiments.cli import arguments, config_file, flag_help, launch
from experiments.cli.shipped_configs import list_configs
from haepo_jax import components
from haepo_jax.config import ExperimentConfig, from_config_dict
from haepo_jax.config.meanings import Setting, settings_of
from haepo_jax.config.reads import OFFERED, list_of_agents, set_and_unread, unread, unread_by_all, why_unread
from haepo_jax.errors import ConfigError, Interrupted, Stalled, StorageError, quoted
from haepo_jax.fields import leaves
from haepo_jax.runtime import compilation_cache, processes, signals, startup, streams
from haepo_jax.runtime.paths import folder
from haepo_jax.text import add_row, fit_table, make_table, visible

BAD_INPUT, ALL_DIVERGED, STORAGE = launch.BAD_INPUT, 3, 4

FLAGS = flags.FLAGS

_settings_of_config: Callable[[], Iterable[Setting]] = tuple
"""The settings of the command's config."""
_given = arguments.Arguments((), asks_for_help=False)
"""The arguments of the command besides its own flags."""


_KINDS = {"env": ("runs on environments", ("train", "sweep")), "rl": ("language models", ("tldr",))}
"""By a setting or section that configs of this kind alone have: what they are of, and the commands that take them."""
_SHARED = ("loggers", "logged_members")
"""Flags that several commands take, beside config and workdir."""
_NO_DEVICES = "Unable to initialize backend"  # as JAX begins to say of devices that are not there


def define_config(
    settings: Callable[[], Iterable[Setting]] = lambda: settings_of(ExperimentConfig()),
) -> None:
    """Defines `--config`, a config file whose settings flags like `--config.num_seeds=64` override.

    Args:
      settings: gives all settings there are.
    """
    global _settings_of_config  # noqa: PLW0603
    _settings_of_config = settings
    flags.DEFINE_string(
        "config",
        None,
        "A shipped config by name, such as cartpole, or a config file; NAME:TEXT gives its get_config an argument.",
    )


def define_workdir() -> None:
    """Defines `--workdir`."""
    flags.DEFINE_string("workdir", None, "Run folder.")


def define_workdirs() -> None:
    """Defines `--workdir` of a command that takes several."""
    flags.DEFINE_multi_string("workdir", [], "Run folder; given more than once, its runs are compared.")


def define_loggers(*, of_members: bool = True) -> None:
    """Defines `--loggers`, and `--logged_members` where a run has several; they decide no number of a run."""
    flags.DEFINE_list(
        "loggers", [], "What shows metrics elsewhere too: tensorboard, wandb, mlflow, or package.module:attribute."
    )
    if of_members:
        flags.DEFINE_list("logged_members", ["0"], "Members, such as 0,5, whose metrics the loggers show.")


def read_loggers() -> dict[str, Any]:
    """Reads the two as arguments of a run.

    Raises:
      ConfigError: members that are no whole numbers.
    """
    members = arguments.parse_whole_numbers("--logged_members", FLAGS.logged_members, low=0)
    return {"loggers": FLAGS.loggers, "logged_members": members}


def make_console() -> Console:
    """Makes the console of tables: as wide as the terminal, and wide enough for them where there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table, its first column to the left and the others to the right."""
    table = make_table(title, headings)
    for cells in rows:
        add_row(table, cells)
    show_table(table)


def show_table(table: Table) -> None:
    """Prints a table, row by row as blocks where the terminal is too narrow for it."""
    console = make_console()
    console.print(fit_table(table, console))


def run(main: Callable[[], int]) -> NoReturn:
    """Parses the flags, calls `main` and exits with what it returns, or with the code of its error or its signal."""
    streams.make_best_effort(launch.cancel_notice)
    signals.watch(lambda sentence: _print_error(sentence, 0))
    # The storage library logs its failures with tracebacks; they become a sentence below.
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _skip_storage_noise
    try:
        startup.use_every_core()  # before the config file, which may compute with JAX
        _parse(sys.argv)
        startup.setup()
        code = main()
        compilation_cache.seal()
    except ConfigError as error:
        code = _print_error(error, BAD_INPUT)
        if processes.report_refusal(sys.argv, error):
            _exit_now(code)
    except StorageError as error:
        code = _print_error(error, STORAGE)
    except Stalled as error:
        _exit_now(_print_error(error, Stalled.EXIT_CODE))  # at once: a usual exit waits for the process that is gone
    except Interrupted as error:
        code = _print_error(error, 128 + error.signal_number)
        if not processes.joined():
            _exit_now(code)  # at once: a usual exit waits for a program that is being compiled
    except Exception as error:
        if _NO_DEVICES in str(error):
            code = _print_error(" ".join(str(error).split()), BAD_INPUT)
            if processes.report_refusal(sys.argv, error):
                _exit_now(code)
        elif processes.joined():
            traceback.print_exc()
            code = 1
        else:
            raise
    finally:
        launch.cancel_notice()
        streams.close_quietly()
    if code and processes.joined():
        processes.leave(code)  # a usual exit waits for the others, who may wait for this one
    signals.unwatch()
    sys.exit(code)


def read_config() -> ExperimentConfig:
    """Makes the validated config of an experiment.

    Raises:
      ConfigError: no `--config`, or a setting that is not allowed.
    """
    return from_config_dict(read_config_values())


def read_config_values(example: str = "cartpole") -> dict[str, Any]:
    """Reads the settings of `--config` with its overrides, not yet validated.

    Raises:
      ConfigError: no `--config`, or one that cannot be loaded.
    """
    given = _given.overrides
    if FLAGS.config is None:
        if given:
            raise ConfigError(f"--config.{given[0].name} needs --config=FILE, the config that it changes.")
        raise ConfigError(f"--config is missing: give a shipped config or a config file, such as --config={example}.")
    values = config_file.load(FLAGS.config, given, _settings())
    _check_kind(values, example)
    return values


def _check_kind(values: Mapping[str, Any], example: str) -> None:
    """Refuses a config of environments where one of language models is read, and the other way round."""
    for section, (kind, commands) in _KINDS.items():
        if section in values and not _has_section(section):
            takes = " and ".join(launch.word_calls(f"python -m experiments.{name}") for name in commands)
            raise ConfigError(
                f"--config={quoted(FLAGS.config)[1:-1]} is a config of {kind}, for {takes}; this command takes "
                f"others, such as --config={example}."
            )


def _has_section(section: str) -> bool:
    """Whether the command's config has this setting or group of settings."""
    return any(name == section or name.startswith(f"{section}.") for name in _settings())


def check_read(
    configs: Sequence[ExperimentConfig], swept: Iterable[str] = (), besides: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuses arguments that set what no experiment reads, and says what a config file sets in vain.

    Args:
      configs: the experiments of the command.
      swept: settings by dotted name that differ between their members.
      besides: settings of no experiment that nothing reads, each with the reason.

    Raises:
      ConfigError: an argument gives such a setting, or it is swept; an environment that does not exist.
    """
    given = {*swept, *(override.name for override in _given.overrides)}
    of_each = [
        unread(config, **_read_environment(config, given), network_arguments=_network_arguments(config))
        for config in configs
    ]
    for name in swept:
        for reasons in of_each:
            if (reason := why_unread(name, reasons)) is not None:
                raise ConfigError(f"config.sweep.{name} has no effect, as {reason}.")
    report_unread(configs[0], unread_by_all(of_each) | dict(besides))


def _read_environment(config: ExperimentConfig, given: Container[str]) -> dict[str, bool]:
    """Finds what `unread` is to know of the environment, where a setting is given or changed that depends on it."""
    defaults = {name: value for name, value, _ in leaves(ExperimentConfig())}
    values = {name: value for name, value, _ in leaves(config)}
    asked = ["policy.initial_log_std", *list_of_agents(config)]
    if not any(name in given or values.get(name) != defaults.get(name) for name in asked):
        return {}
    # Only now, as the environments take a second to import.
    from haepo_jax.environments import Box
    from haepo_jax.population.member import make_environment

    environment = make_environment(config)
    return {
        "discrete_actions": not isinstance(environment.action_space, Box),
        "one_agent": environment.num_agents == 1,
    }


def _network_arguments(config: ExperimentConfig) -> Sequence[str]:
    name = config.policy.network
    if not components.is_outside(name):
        return OFFERED
    from haepo_jax.networks import is_cell

    network = components.load("policy.network", name)
    return OFFERED if is_cell(network) else components.parameters_of(network)


def report_unread(config: Any, reasons: Mapping[str, str]) -> None:
    """Refuses arguments that set what nothing reads, and says what a config file sets in vain.

    A config file may do so, as it may serve several methods.

    Args:
      config: an experiment's or a language model's.
      reasons: the settings that nothing reads, each with the reason.

    Raises:
      ConfigError: an argument gives such a setting.
    """
    for override in _given.overrides:
        if (reason := why_unread(override.name, reasons)) is not None:
            raise ConfigError(f"--config.{override.name}={override.text} has no effect, as {reason}; leave it out.")
    for reason, names in set_and_unread(config, reasons).items():
        print(visible(f"The config file sets {', '.join(names)}, which nothing reads, as {reason}."), flush=True)


def read_workdir(example: str = "runs/cartpole") -> Path:
    """Reads the folder of `--workdir`.

    Raises:
      ConfigError: it is not given, or no folder.
    """
    if not FLAGS.workdir:
        raise ConfigError(f"--workdir is missing: give the run a folder, such as --workdir={example}.")
    return folder("--workdir", FLAGS.workdir)


def read_workdirs(example: str = "runs/cartpole") -> list[Path]:
    """Reads the folders of all `--workdir`.

    Raises:
      ConfigError: none is given, or one is no folder.
    """
    if not any(FLAGS.workdir):
        raise ConfigError(f"--workdir is missing: give the run a folder, such as --workdir={example}.")
    return [folder("--workdir", given) for given in FLAGS.workdir]


def read_folder(flag: str, given: str | None) -> Path | None:
    """Reads the folder of a flag that need not be given; it need not be there yet.

    Raises:
      ConfigError: it is no folder.
    """
    return None if given is None else folder(flag, given)


def _settings() -> dict[str, Setting]:
    return {setting.name: setting for setting in _settings_of_config()} if "config" in FLAGS else {}


def _parse(argv: list[str]) -> None:
    """Reads the flags and the settings, or prints the help."""
    global _given  # noqa: PLW0603
    settings = _settings()
    _given = arguments.parse(argv, FLAGS, settings)
    if _given.asks_for_help:
        own = [FLAGS[name] for name in ("config", "workdir", *_list_own_flags(), *_SHARED) if name in FLAGS]
        purpose = launch.word_calls(sys.modules["__main__"].__doc__ or "")
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else flag_help.WIDEST
        print(flag_help.format_help(purpose, own, settings, _list_own_configs() if settings else (), width))
        sys.exit(0)


def _skip_storage_noise(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out tracebacks of the storage library's event loop after it failed: the failure has its sentence."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _list_own_configs() -> list[str]:
    """The shipped configs that the command takes."""
    return list_configs(of_language=_has_section("rl"))


def _list_own_flags() -> list[str]:
    """The flags that the command itself defines."""
    return [flag.name for flag in FLAGS.get_flags_for_module(sys.modules["__main__"])]


def _print_error(message: object, code: int) -> int:
    print(f"{launch.command_name()}: {visible(message)}", file=sys.stderr)
    return code


def _exit_now(code: int) -> NoReturn:
    streams.close_quietly()
    os._exit(code)
