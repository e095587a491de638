"""In which precision matrix products are computed: as JAX has it on a device, or in float32.

GPUs and TPUs compute products of float32 in fewer bits by default (TF32, bfloat16); CPUs do not. JAX decides it while
a program is traced, in the thread that traces it. So functions that are traced later, in any thread, are wrapped.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax

DEFAULT, FLOAT32 = "default", "float32"
PRECISIONS = (DEFAULT, FLOAT32)
"""What `config.precision` may be; `default` leaves it to JAX and its flag `jax_default_matmul_precision`."""


@contextlib.contextmanager
def computing_products(precision: str) -> Iterator[None]:
    """Traces programs whose matrix products are of this precision, in this thread.

    Args:
      precision: one of `PRECISIONS`. Products whose code asks for a precision by itself keep that.
    """
    if precision == DEFAULT:
        yield
        return
    with jax.default_matmul_precision(precision):
        yield


def with_precision[**P, T](precision: str, function: Callable[P, T]) -> Callable[P, T]:
    """Makes the function whose matrix products are of this precision, wherever it is traced.

    Args:
      precision: as of `computing_products`.
      function: of arrays; it is given back as it is where the precision is left to JAX.
    """
    if precision == DEFAULT:
        return function

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with computing_products(precision):
            return function(*args, **kwargs)

    return wrapped


def name_precision() -> str:
    """Names the precision of programs that are traced here: what JAX calls it, or `default` where it is left open."""
    return jax.config.jax_default_matmul_precision or DEFAULT
