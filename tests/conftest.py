"""Settings for all tests: eight virtual CPU devices, and programs that compile fast and once for all workers."""

import gc
import os
import sys
import tempfile

from helpers import quick_compiling

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
if "--optimized" not in sys.argv and "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
    os.environ["XLA_FLAGS"] += f" {quick_compiling.XLA_FLAGS}"

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

FULLY_OPTIMIZED = ("model/test_decoder", "training/test_gradients")
"""Where a tolerance needs programs as users have them."""


def pytest_addoption(parser):
    parser.addoption(
        "--optimized",
        action="store_true",
        help="Compile as for users. Without it most optimisations are left out, and emitters are those that are quick "
        "to start. That takes less than half the time, as compiling is most of what quick tests do.",
    )


PROGRAMS = pytest.StashKey[str]()
"""The folder of the programs that this run of pytest has compiled, which all its processes share."""


def pytest_configure(config):
    gc.set_threshold(10_000)  # as commands have it, `experiments/cli/launch.py`
    if hasattr(config, "workerinput"):
        config.stash[PROGRAMS] = config.workerinput["programs"]
    else:
        folder = tempfile.TemporaryDirectory(prefix="haepo_jax_programs_")
        config.add_cleanup(folder.cleanup)
        config.stash[PROGRAMS] = folder.name
    _share_programs(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Gives the folder to a worker of pytest-xdist."""
    node.workerinput["programs"] = node.config.stash[PROGRAMS]


def pytest_collection_finish(session):
    """What is imported stays to the end, and need not be looked through for what can be freed again and again."""
    gc.collect()
    gc.freeze()


def _share_programs(config):
    jax.config.update("jax_compilation_cache_dir", config.stash[PROGRAMS])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    reset_cache()  # JAX looks for a folder once


@pytest.fixture(autouse=True, scope="module")
def _compilation(request):
    optimized = request.config.option.optimized or f"{request.path.parent.name}/{request.path.stem}" in FULLY_OPTIMIZED
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    _share_programs(request.config)  # tests of caches use others


@pytest.fixture(autouse=True, scope="session")
def _disk(request):
    """Quick tests do not wait for the disk, which a power cut alone would show; the commands that they start do."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.option.optimized:
            patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def exact_products():
    """Products have all bits of float32, for what loses more in many layers or updates than a tolerance can allow."""
    with jax.default_matmul_precision("float32"):
        yield
