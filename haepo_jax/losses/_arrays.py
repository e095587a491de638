"""What every loss needs of its input arrays: dtype, shape and mask checks, and sums that may cross devices.

Private to `haepo_jax.losses`. Nothing here knows any loss.
"""

from collections.abc import Hashable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

AxisName = Hashable | None


def as_float(name: str, value: ArrayLike) -> jax.Array:
    """`value` in float32 or wider: half precision and integers become float32, float64 stays."""
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array.astype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def same_float(**named: ArrayLike) -> tuple[jax.Array, ...]:
    """All arrays in their widest common float dtype, after a check that their shapes are equal."""
    arrays = {name: as_float(name, value) for name, value in named.items()}
    check_same_shape(**arrays)
    wide = any(array.dtype == jnp.float64 for array in arrays.values())
    dtype = jnp.float64 if wide else jnp.float32
    return tuple(array.astype(dtype) for array in arrays.values())


def check_same_shape(**named: jax.Array) -> None:
    """Refuses broadcasting: all arrays must have one shape, named with the others in the message."""
    shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
    chex.assert_equal_shape(list(named.values()), custom_message=f"no broadcasting here: {shapes}")


def check_rank(name: str, array: jax.Array) -> None:
    """The last axis is the one that is reduced, so there must be one."""
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a scalar.")


def check_scalar(name: str, value: ArrayLike) -> None:
    """Refuses an array where one number is meant: it would broadcast."""
    if jnp.shape(value):
        raise ValueError(f"{name} must be a scalar, got an array of shape {jnp.shape(value)}.")


def check_positive(name: str, value: ArrayLike) -> None:
    """Refuses an array, and a number that is seen not to be positive; a traced one passes."""
    check_scalar(name, value)
    if is_concrete(value) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name} must be positive, got {value}.")


def as_mask(where: ArrayLike | None, like: jax.Array, name: str) -> jax.Array:
    """The mask `where` (True = valid) for the array `like`; all valid when it is None."""
    if where is None:
        return jnp.ones(like.shape, bool)
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"where must be boolean (True = valid), got dtype {mask.dtype}.")
    check_same_shape(**{name: like, "where": mask})
    return mask


def all_sum(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """Sum over the last axis, and over the devices that share it."""
    total = jnp.sum(x, axis=-1, dtype=x.dtype)
    return total if axis_name is None else lax.psum(total, axis_name)


def all_max(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """Maximum over the last axis and the devices that share it, as a constant (pmax has no gradient)."""
    top = lax.stop_gradient(jnp.max(x, axis=-1, initial=-jnp.inf))
    return top if axis_name is None else lax.pmax(top, axis_name)


def mean_where(values: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Mean of the valid values; 0 if there is none."""
    count = jnp.maximum(jnp.sum(mask, axis=axis, dtype=jnp.int32), 1).astype(values.dtype)
    return jnp.sum(jnp.where(mask, values, 0), axis=axis) / count


def deviations(values: jax.Array, mask: jax.Array, axis_name: AxisName) -> tuple[jax.Array, jax.Array]:
    """`[..., M]` values less the mean of the valid ones, 0 where masked, and `[..., 1]` the number of those (or 1).

    Measured from the largest value: equal values then differ by exactly 0, not by a rounding of their mean that
    a division by their spread would blow up to order 1.
    """
    top = all_max(jnp.where(mask, values, -jnp.inf), axis_name)[..., None]
    offsets = jnp.where(mask, values - jnp.where(top == -jnp.inf, 0, top), 0)
    count = jnp.maximum(all_sum(mask.astype(values.dtype), axis_name), 1)[..., None]
    return jnp.where(mask, offsets - all_sum(offsets, axis_name)[..., None] / count, 0), count


def is_concrete(*values: ArrayLike | None) -> bool:
    """True when no value is being traced, so that its numbers can be looked at."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def is_concrete_zero(value: ArrayLike) -> bool:
    """True for the number 0, so that the term it multiplies can be left out; False when traced."""
    return is_concrete(value) and bool(np.all(np.asarray(value) == 0))
