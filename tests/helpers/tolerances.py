"""Tolerances of tests whose numbers come from matrix products: they follow the precision of the backend's products."""

import jax
import numpy as np
import pytest

_BITS = {"gpu": 10, "tpu": 7}
"""Of the fraction of a factor of a product of float32, by default: TF32 on GPUs, bfloat16 on TPUs."""
_EXACT = ("float32", "highest")
_LOST = 4  # times the rounding of one factor, for what a few products in a row lose


def of_products(tolerance, *, platform=None, precision=None):
    """The tolerance of numbers that come from matrix products of float32.

    Args:
      tolerance: relative, or absolute of numbers about 1, where products have all bits of float32.
      platform: of the backend; that which runs by default.
      precision: of products there, as JAX names it; what its flag says by default.

    Returns:
      `tolerance`, or what the backend's products lose where that is more.
    """
    platform = jax.default_backend() if platform is None else platform
    precision = jax.config.jax_default_matmul_precision if precision is None else precision
    if precision in _EXACT or platform not in _BITS:
        return tolerance
    return max(tolerance, _LOST * 2.0 ** -(_BITS[platform] + 1))


def assert_allclose(actual, desired, rtol=1e-7, atol=0.0):
    """`np.testing.assert_allclose` of numbers that come from matrix products.

    What products lose is relative to what they add up: it is measured by the largest number that is compared, and by 1
    at least.
    """
    desired = np.asarray(desired)
    lost = of_products(0.0) * np.abs(desired, where=np.isfinite(desired), out=np.zeros(desired.shape)).max(initial=1.0)
    np.testing.assert_allclose(actual, desired, rtol=of_products(rtol), atol=max(atol, lost))


def assert_close(actual, expected, rtol=1e-4, atol=1e-6):
    """Asserts that trees of numbers that come from matrix products are alike, as far as the backend's products are."""
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol, atol), actual, expected)


def approx(expected, rel=1e-6, abs=None):
    """`pytest.approx` of a number that comes from matrix products.

    Args:
      expected: the number.
      rel: as of `pytest.approx`.
      abs: likewise; without it the tolerance is relative alone, for numbers much smaller than 1.
    """
    return pytest.approx(expected, rel=of_products(rel), abs=None if abs is None else of_products(abs))


def assert_same_products(actual, expected):
    """Asserts that two programs with the same products, of batches of other sizes, have given the same trees.

    On CPUs they have the same bits. A GPU may take another kernel for a batch of another size, which adds up in
    another order, and rounds factors that differ by a bit to neighbouring ones.
    """
    if jax.default_backend() == "cpu" and of_products(0.0) == 0:
        jax.tree.map(np.testing.assert_array_equal, actual, expected)
    else:
        assert_close(actual, expected, rtol=1e-5)
