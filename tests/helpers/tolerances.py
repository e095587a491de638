"""Tolerances of tests whose numbers come from matrix products: they follow the precision of the backend's products."""

import jax

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
