"""Runs a command line of `experiments` as its user would, in a process of its own.

The process is forked from a server that has imported what commands need once. None of it may start a JAX backend on
import, as gymnax by itself does: a backend does not survive the fork.
"""

import functools
import gc
import multiprocessing
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
from helpers import quick_compiling

ROOT = Path(__file__).parents[2]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        *(
            "jax",
            "flax.linen",
            "optax",
            "distrax",
            "orbax.checkpoint",
            "ml_collections.config_flags",
            "haepo_jax.runs.experiment",
            "haepo_jax.runs.evaluation",
            "haepo_jax.reports.learning_curve",
            "haepo_jax.reports.sweep.page",
        ),
        *("matplotlib.pyplot", "scipy.stats", "pyarrow.dataset", "pyarrow.parquet", "rich.progress"),
    ]
)


@functools.cache
def _compiled():
    """The folder of what the commands of one test process have compiled; commands import this file too."""
    return tempfile.TemporaryDirectory(prefix="haepo_jax_compiled_")


class Finished(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def complaints(self):
        """Its errors, without what a command reports while it waits, which it does where the machine is slow."""
        return re.sub(
            r"^(Playing|Drawing|Tracing|Compiling) \.\.\.\n|^(Played|Drawn|Traced|Compiled) in .+\n",
            "",
            self.err,
            flags=re.M,
        )


def last_of_each(arguments, several=()):
    """The arguments without those that a later one replaces: a command refuses a flag that is given twice.

    Flags of which it takes `several` keep all.
    """
    flags = [argument.partition("=")[0] for argument in arguments]
    last = {flag: k for k, flag in enumerate(flags)}
    return [argument for k, argument in enumerate(arguments) if flags[k] in several or last[flags[k]] == k]


class Command:
    """A command that has been started; of arguments for the same flag the last one counts."""

    def __init__(self, module, *arguments, xla_flags="", prepare=None):
        """`prepare` is called in the process before the command begins."""
        self._folder = Path(tempfile.mkdtemp())
        self._outputs = [self._folder / name for name in ("out", "err")]
        # As in the tests that start it, which conftest.py decides.
        few_optimizations = jax.config.read("jax_disable_most_optimizations")
        flags = f"{xla_flags} {quick_compiling.XLA_FLAGS}".strip() if few_optimizations else xla_flags
        environment = {"XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": _compiled().name}
        arguments = last_of_each(
            [str(argument) for argument in arguments], ["--workdir"] if module == "experiments.report" else ()
        )
        command = (module, arguments, self._outputs, environment, few_optimizations, prepare)
        self._process = _SERVER.Process(target=_main, args=command)
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process.is_alive()

    def wait(self, seconds=240):
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(f"still running after {seconds} s: {self._outputs[1].read_text()}")
        out, err = (path.read_text() if path.exists() else "" for path in self._outputs)
        shutil.rmtree(self._folder)
        return Finished(self._process.exitcode, out, err)


def run(module, *arguments):
    """Runs `python -m MODULE ARGUMENTS` to its end."""
    return Command(module, *arguments).wait()


def _main(module, arguments, outputs, environment, few_optimizations, prepare):
    gc.freeze()  # what the server has imported stays
    os.chdir(ROOT)
    os.environ |= environment
    jax.config.update("jax_disable_most_optimizations", few_optimizations)
    for number, path in enumerate(outputs, start=1):
        file = path.open("w")
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.path.insert(0, str(ROOT))
    sys.argv = [module, *arguments]
    if prepare is not None:
        prepare()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
