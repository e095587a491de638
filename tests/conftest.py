"""Settings for all tests: eight virtual CPU devices, and programs that compile fast."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import jax
import pytest

FULLY_OPTIMIZED = ("model/test_decoder", "training/test_gradients")
"""Where a tolerance needs programs as users have them."""


def pytest_addoption(parser):
    parser.addoption(
        "--optimized",
        action="store_true",
        help="Compile as for users. Without it most optimisations are left out, which takes two fifths less time, as "
        "compiling is most of what quick tests do.",
    )


@pytest.fixture(autouse=True, scope="module")
def _compilation(request):
    optimized = request.config.option.optimized or f"{request.path.parent.name}/{request.path.stem}" in FULLY_OPTIMIZED
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
