"""What a process is readied with."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest
from helpers.command_runner import ROOT
from helpers.run_folders import table

from haepo_jax.errors import ConfigError
from haepo_jax.runtime import startup

UNUSABLE = [
    ("jax_debug_nans", True),
    ("jax_disable_jit", True),
    ("jax_debug_key_reuse", True),
    ("jax_numpy_rank_promotion", "raise"),
    ("jax_numpy_dtype_promotion", "strict"),
    ("jax_transfer_guard", "disallow"),
    ("jax_transfer_guard_device_to_host", "disallow_explicit"),
]


def python(*arguments, **environment):
    """Runs Python by itself, as JAX reads these variables when it is imported."""
    own = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""} | environment
    return subprocess.run(
        [sys.executable, *arguments], check=False, cwd=ROOT, env=own, capture_output=True, text=True, timeout=200
    )


def program(text, **environment):
    """What a program prints."""
    finished = python("-c", textwrap.dedent(text), **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def train(workdir, **environment):
    return python("-m", "experiments.train", "--config=configs/cartpole.py", f"--workdir={workdir}", **environment)


@pytest.mark.parametrize(("name", "value"), UNUSABLE)
def test_a_flag_that_stops_sound_runs_is_refused_with_its_name(name, value):
    startup.check_flags()
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with pytest.raises(ConfigError, match=f"{name.upper()}={value} cannot be used here: .*Leave it unset"):
            startup.check_flags()
    finally:
        jax.config.update(name, getattr(before, "value", before))


def test_a_command_with_such_a_flag_makes_nothing(tmp_path):
    finished = train(tmp_path / "run", JAX_DISABLE_JIT="1")
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "JAX_DISABLE_JIT=True cannot be used here" in finished.stderr
    assert not list(tmp_path.iterdir())


def test_without_the_systems_word_on_cores_all_are_used(monkeypatch):
    assert startup.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert startup.usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert startup.usable_cores() == 1


def test_no_module_starts_devices_on_import_and_forked_workers_compute():
    printed = program("""
        import importlib, os, pkgutil, warnings
        import haepo_jax
        for module in pkgutil.walk_packages(haepo_jax.__path__, "haepo_jax."):
            # Imported when an environment of theirs is made, which starts the devices anyway, or with a logger.
            of_libraries = ("haepo_jax.environments.libraries.", "haepo_jax.runs.loggers.")
            if module.name.startswith(of_libraries):
                continue
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                assert "pip install" in str(error), error
            from jax._src import xla_bridge
            assert not xla_bridge.backends_are_initialized(), module.name
        warnings.simplefilter("ignore")  # of JAX, of all forks
        import jax
        from haepo_jax.environments import make
        for number in range(2):
            worker = os.fork()
            if not worker:
                frozen_lake = make("FrozenLake-misc")
                os._exit(int(jax.numpy.arange(4).sum()) + number)
            assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 6 + number
        print("done")
    """)
    assert printed == "done\n"


def test_a_program_of_ones_own_gets_the_devices_and_the_cache_of_the_commands(tmp_path):
    printed = program(
        """
        import os
        from haepo_jax import runtime
        runtime.setup()
        runtime.setup()
        import jax
        print(jax.device_count() == len(os.sched_getaffinity(0)), jax.config.jax_compilation_cache_dir)
        """,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
    )
    assert printed == f"True {tmp_path / 'haepo_jax'}\n"


@pytest.mark.slow
def test_a_program_that_is_set_up_gives_the_bits_of_the_command(tmp_path):
    small = {"num_updates": 5, "num_trajectories": 4, "num_seeds": 3, "horizon": 20}
    text = """
        import sys
        from haepo_jax import runtime
        runtime.setup()
        sys.path.insert(0, ".")
        from configs import cartpole
        from haepo_jax.runs import experiment
        from haepo_jax.config import from_config_dict
        config = cartpole.get_config()
        config.update(SMALL)
        assert experiment.run(from_config_dict(config), WORKDIR)
    """.replace("SMALL", repr(small)).replace("WORKDIR", repr(str(tmp_path / "own")))
    program(text)
    arguments = [f"--config.{name}={value}" for name, value in small.items()]
    finished = python(
        *("-m", "experiments.train", "--config=configs/cartpole.py", f"--workdir={tmp_path / 'command'}", *arguments)
    )
    assert finished.returncode == 0, finished.stderr
    assert table(tmp_path / "own").equals(table(tmp_path / "command"))


@pytest.mark.slow
def test_a_number_of_devices_that_was_asked_for_stays():
    text = "from haepo_jax import runtime; runtime.setup(); import jax; print(jax.device_count())"
    assert program(text, JAX_NUM_CPU_DEVICES="3") == "3\n"
    assert program(text, XLA_FLAGS="--xla_force_host_platform_device_count=5") == "5\n"


def test_setting_up_after_jax_has_computed_is_refused(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    jax.devices()
    with pytest.raises(ConfigError, match="must be called before JAX computes anything"):
        startup.use_every_core()


@pytest.mark.slow
def test_a_missing_platform_is_refused_in_a_sentence(tmp_path):
    finished = train(tmp_path / "run", JAX_PLATFORMS="nonsense")
    assert finished.returncode == 2, finished.stderr
    assert "nonsense" in finished.stderr and "Traceback" not in finished.stderr
