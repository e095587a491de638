"""What every command line shares: flags read strictly, and errors told in one sentence.

Exit codes: 0 done, 2 bad flag, config or folder, 3 every member diverged, 4 storage failed, 42 stalled or another
process of the run is gone, 130 Ctrl-C, 143 SIGTERM.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import jax
from absl import flags, logging
from rich.console import Console
from rich.table import Table

from experiments import arguments, config_file, flag_help
from haepo_jax import compilation_cache
from haepo_jax.config import ExperimentConfig, PolicyConfig, from_config_dict
from haepo_jax.config_meanings import Setting, settings_of
from haepo_jax.config_reads import set_and_unread, unread, unread_by_all
from haepo_jax.errors import ConfigError, Interrupted, Stalled, StorageError, printable
from haepo_jax.paths import folder

BAD_INPUT, ALL_DIVERGED, STORAGE = 2, 3, 4

FLAGS = flags.FLAGS

_settings_of_config: Callable[[], Iterable[Setting]] = tuple
"""The settings of the command's config."""
_given = arguments.Arguments((), asks_for_help=False)
"""What the command was given besides its own flags."""


_AT_ONCE = "Stopped at once; the same command goes on from the last checkpoint."


class _Terminated(BaseException):
    """SIGTERM while no run is there to end with a checkpoint: between two of them, or while one compiles."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


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
        "config", None, "Config file, such as configs/cartpole.py; FILE:TEXT gives its get_config an argument."
    )


def define_workdir() -> None:
    """Defines `--workdir`."""
    flags.DEFINE_string("workdir", None, "Run folder.")


def console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for them where there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table, its first column to the left and the others to the right."""
    table = Table(title=title, title_justify="left")
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="right" if k else "left")
    for cells in rows:
        table.add_row(*cells)
    console().print(table)


def run(main: Callable[[], int]) -> NoReturn:
    """Parses the flags, calls `main` and exits with what it returns, or with the code of its error."""
    # The storage library logs its failures with tracebacks; they are told in a sentence below.
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _without_storage_noise
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _parse(sys.argv)
        _use_every_core()
        _keep_freed_memory()
        compilation_cache.use(compilation_cache.default_directory())
        code = main()
        compilation_cache.seal()
    except ConfigError as error:
        code = _tell(error, BAD_INPUT)
    except StorageError as error:
        code = _tell(error, STORAGE)
    except Stalled as error:
        _tell(error, Stalled.EXIT_CODE)
        sys.stdout.flush()
        os._exit(Stalled.EXIT_CODE)  # at once: what runs at a usual exit waits for the process that is gone
    except Interrupted as error:
        code = _tell(error, 128 + error.signal_number)
    except KeyboardInterrupt:
        code = _tell(_AT_ONCE, 128 + signal.SIGINT)
    except _Terminated:
        code = _tell(_AT_ONCE, 128 + signal.SIGTERM)
    sys.exit(code)


def experiment_config() -> ExperimentConfig:
    """Makes the validated config of an experiment.

    Raises:
      ConfigError: no `--config`, or a setting that is not allowed.
    """
    return from_config_dict(config_values())


def config_values(example: str = "configs/cartpole.py") -> dict[str, Any]:
    """Reads the settings of `--config` with its overrides, not yet validated.

    Raises:
      ConfigError: no `--config`, or one that cannot be loaded.
    """
    given = _given.overrides
    if FLAGS.config is None:
        if given:
            raise ConfigError(f"--config.{given[0].name} needs --config=FILE, the config that it changes.")
        raise ConfigError(f"--config is missing: give a config file, such as --config={example}.")
    return config_file.load(
        FLAGS.config, given, [setting.name for setting in _settings().values() if setting.is_group]
    )


def check_read(configs: Sequence[ExperimentConfig], swept: Iterable[str] = ()) -> None:
    """Refuses arguments that set what no experiment reads, and says what a config file sets in vain.

    Args:
      configs: the experiments of the command.
      swept: settings by dotted name that differ between their members.

    Raises:
      ConfigError: an argument gives such a setting, or it is swept; an environment that does not exist.
    """
    log_std = "policy.initial_log_std"
    if log_std in {*swept, *(override.name for override in _given.overrides)} or any(
        config.policy.initial_log_std != PolicyConfig.initial_log_std for config in configs
    ):
        # Only now, as the environments take a second to import.
        from haepo_jax.environments import Discrete
        from haepo_jax.training import make_environment

        discrete = [isinstance(make_environment(config).action_space, Discrete) for config in configs]
    else:
        discrete = [False] * len(configs)
    of_each = [unread(config, discrete_actions=is_so) for config, is_so in zip(configs, discrete, strict=True)]
    for name in swept:
        for reasons in of_each:
            if name in reasons:
                raise ConfigError(f"config.sweep.{name} has no effect, as {reasons[name]}.")
    tell_unread(configs[0], unread_by_all(of_each))


def tell_unread(config: Any, reasons: Mapping[str, str]) -> None:
    """Refuses arguments that set what nothing reads, and says what a config file sets in vain.

    A config file may do so, as it may serve several methods.

    Args:
      config: an experiment's or a language model's.
      reasons: the settings that nothing reads, each with the reason.

    Raises:
      ConfigError: an argument gives such a setting.
    """
    for override in _given.overrides:
        if override.name in reasons:
            raise ConfigError(
                f"--config.{override.name}={override.text} has no effect, as {reasons[override.name]}; leave it out."
            )
    for reason, names in set_and_unread(config, reasons).items():
        print(printable(f"The config file sets what is not read, as {reason}: {', '.join(names)}."), flush=True)


def workdir(example: str = "runs/cartpole") -> Path:
    """Reads the folder of `--workdir`.

    Raises:
      ConfigError: it is not given, or no folder.
    """
    if not FLAGS.workdir:
        raise ConfigError(f"--workdir is missing: give the run a folder, such as --workdir={example}.")
    return folder("--workdir", FLAGS.workdir)


def _settings() -> dict[str, Setting]:
    return {setting.name: setting for setting in _settings_of_config()} if "config" in FLAGS else {}


def _parse(argv: list[str]) -> None:
    """Reads the flags and the settings, or prints the help."""
    global _given  # noqa: PLW0603
    settings = _settings()
    _given = arguments.parse(argv, FLAGS, settings)
    if _given.asks_for_help:
        own = [FLAGS[name] for name in ("config", "workdir", *_own_flags()) if name in FLAGS]
        print(flag_help.help_text(sys.modules["__main__"].__doc__ or "", own, settings))
        sys.exit(0)


def _without_storage_noise(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out the tracebacks that the storage library's event loop prints after it failed: the failure is told."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _own_flags() -> list[str]:
    """The flags that the command itself defines."""
    return [flag.name for flag in FLAGS.get_flags_for_module(sys.modules["__main__"])]


def _use_every_core() -> None:
    """Makes each CPU core a device, as a member's small operations do not fill more than one."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has begun already, with the devices that it has
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def _keep_freed_memory() -> None:
    """Lets the process keep what it frees, where the C library is glibc.

    A program's temporaries are allocated anew at each call, and the largest are otherwise given back to the system
    each time: to get them again, zeroed page by page, took 40% of an update of a language model on a CPU.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # as malloc.h numbers them
        set_option(mmap_max, 0)
        set_option(trim_threshold, 2**31 - 1)
        set_option(top_pad, 2**28)


def _tell(message: object, code: int) -> int:
    print(f"{Path(sys.argv[0]).stem}: {printable(str(message))}", file=sys.stderr)
    return code
