"""Settings for all tests: eight virtual CPU devices, and programs that compile fast."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import jax
import pytest

FULLY_OPTIMIZED = (
    *(
        "losses",
        "test_adapters",
        "test_checkpointing",
        "test_compiler",
        "test_decoder",
        "test_gradients",
        "test_memory",
    ),
    *("test_population", "test_replay", "test_sampling", "test_scoring", "test_spreading", "test_training"),
)
"""What is compiled as for users: the losses, and tests of bits, of tight tolerances, of memory and of the compiler
itself. Elsewhere most
optimisations are left out, which takes a third less time, as compiling is most of what quick tests do."""


@pytest.fixture(autouse=True, scope="module")
def _compilation(request):
    quick = request.config.option.markexpr == "not slow"
    optimized = not quick or bool(set(FULLY_OPTIMIZED) & {request.path.stem, *request.path.parent.parts})
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
