"""Calls the commands of `experiments` in this process, where starting one each time would take too long."""

import contextlib
import importlib
import io
from types import SimpleNamespace

import pytest
from absl import flags
from helpers.settings import fixed_config

from experiments.cli import command_line
from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.runtime import processes


def _module(name):
    """A command as a module; the flags that it defines are taken away again, as commands share some names."""
    before = set(flags.FLAGS)
    module = importlib.import_module(f"experiments.{name}")
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
    return module


def call(command, folder, settings=None, **changes):
    """Calls the main function of a command of `experiments` in this process.

    Args:
      command: its name.
      folder: its `--workdir`.
      settings: its config, as nested dictionaries.
      **changes: flags by name.

    Returns:
      The exit code, and what was printed. An exception that commands do not turn into a sentence is raised.
    """
    given = SimpleNamespace(
        checkpoint_seconds=0.0,
        stall_seconds=300.0,
        episodes=2,
        seed=0,
        gif=None,
        dry_run=False,
        members_per_device=None,
        trajectory_devices=None,
        keep_checkpoints_every=None,
        checkpoint="last",
        loggers=[],
        output=None,
        logged_members=["0"],
        **dict.fromkeys(("coordinator", "num_processes", "process_id", "heartbeat_seconds", "join_seconds")),
    )
    vars(given).update(changes)
    main, out = _module(command).main, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        patch.setattr(flags, "FLAGS", given)
        patch.setattr(command_line, "FLAGS", given)
        patch.setattr(command_line, "read_workdir", lambda *_: folder)
        patch.setattr(command_line, "read_workdirs", lambda *_: [folder])
        patch.setattr(command_line, "read_config", lambda: fixed_config(settings))
        patch.setattr(command_line, "read_config_values", lambda *_: settings)
        patch.setattr(command_line, "check_read", lambda *_: None)
        patch.setattr(processes, "initialize", lambda *_: None)
        try:
            code = main()
        except ConfigError as error:
            code = command_line._print_error(error, command_line.BAD_INPUT)
        except StorageError as error:
            code = command_line._print_error(error, command_line.STORAGE)
    return code, out.getvalue()
