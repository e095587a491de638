"""Input arrays as every loss needs them: dtype, shape and mask checks, and sums that may cross devices.

Private to `haepo_jax.losses`. Nothing here knows any loss.
"""

import numbers
from collections.abc import Callable, Hashable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

AxisName = Hashable | None


def as_float(name: str, value: ArrayLike) -> jax.Array:
    """Casts `value` to float32 or wider: half precision and integers become float32, float64 stays."""
    array = _as_array(name, value, "an array of real numbers")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or _is_whole(array)):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array.astype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def same_float(**named: ArrayLike) -> tuple[jax.Array, ...]:
    """Casts all arrays to their widest common float dtype, after a check that their shapes are equal."""
    arrays = {name: as_float(name, value) for name, value in named.items()}
    check_same_shape(**arrays)
    wide = any(array.dtype == jnp.float64 for array in arrays.values())
    dtype = jnp.float64 if wide else jnp.float32
    return tuple(array.astype(dtype) for array in arrays.values())


def check_same_shape(**named: jax.Array) -> None:
    """Refuses broadcasting: all arrays must have one shape, named with the others in the message."""
    shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
    ranks = sorted({array.ndim for array in named.values()})
    steps = len(ranks) > 1 and ranks[0] > 0 and ranks[-1] == ranks[0] + 1
    hint = "; trajectory_log_likelihood sums log-probabilities of steps [..., M, T] to [..., M]" if steps else ""
    chex.assert_equal_shape(list(named.values()), custom_message=f"no broadcasting here: {shapes}{hint}")


def check_rank(name: str, array: jax.Array) -> None:
    """Refuses an array without a last axis, which is the one that is reduced."""
    if array.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a scalar.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuses what is none of the choices."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_flag(name: str, value: object) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {_shown(value)}.")


def check_scalar(name: str, value: ArrayLike) -> None:
    """Refuses what is no number, and an array where one number is meant: it would broadcast."""
    number = _as_array(name, value, "a number")
    if number.shape:
        raise ValueError(f"{name} must be a scalar, got an array of shape {number.shape}.")
    as_float(name, number)


def check_coefficient(name: str, value: ArrayLike) -> None:
    """Refuses what is no number, an array, and a number that is seen to be NaN; a traced one passes."""
    check_scalar(name, value)
    if is_concrete(value) and np.isnan(np.asarray(value)):
        raise ValueError(f"{name} must be a number, got {value}.")


def check_positive(name: str, value: ArrayLike) -> None:
    """Refuses an array, and a number that is seen not to be positive; a traced one passes."""
    check_scalar(name, value)
    if is_concrete(value) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name} must be positive, got {value}.")


def check_finite_positive(name: str, value: ArrayLike) -> None:
    """Refuses an array, and a number that is seen not to be positive or to be infinite; a traced one passes."""
    check_positive(name, value)
    if is_concrete(value) and np.isinf(np.asarray(value)):
        raise ValueError(f"{name} must be finite, got {value}.")


def check_count(name: str, value: object) -> int:
    """Reads a whole number of at least 1, of Python or of NumPy; refuses all else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {_shown(value)}.")
    return int(value)


def check_share(name: str, value: ArrayLike) -> None:
    """Refuses an array, and a number that is seen not to lie between 0 and 1; a traced one passes."""
    check_scalar(name, value)
    if is_concrete(value) and not 0 < np.asarray(value) < 1:
        raise ValueError(f"{name} must be between 0 and 1, a share of the valid trajectories, got {value}.")


def as_mask(where: ArrayLike | None, like: jax.Array, name: str) -> jax.Array:
    """Makes the mask `where` (True = valid) for the array `like`; all valid when it is None."""
    if where is None:
        return jnp.ones(like.shape, bool)
    mask = as_booleans("where", where, "valid")
    check_same_shape(**{name: like, "where": mask})
    return mask


def as_booleans(name: str, value: ArrayLike, true: str) -> jax.Array:
    """Refuses what is no boolean array; `true` is the word for True."""
    array = _as_array(name, value, f"a boolean array (True = {true})")
    if array.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean (True = {true}), got dtype {array.dtype}.")
    return array


def as_flags(name: str, value: ArrayLike) -> jax.Array:
    """Reads `value` as booleans, which may be given as the numbers 0 and 1; refuses others that are seen."""
    flags = as_float(name, value)
    if is_concrete(*jax.tree.leaves(value)) and not np.all(np.isin(np.asarray(value), (0, 1))):
        raise ValueError(f"{name} must be booleans, or 0 and 1, got {_shown(value)}.")
    return flags.astype(bool)


def all_sum(x: jax.Array, axis_name: AxisName, axis: int | tuple[int, ...] = -1) -> jax.Array:
    """Sums over the last axis, or those named, and over the devices that share it."""
    return _over(axis_name, lax.psum, jnp.sum(x, axis=axis, dtype=x.dtype))


def all_max(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """Takes the maximum over the last axis and the devices that share it, as a constant (pmax has no gradient)."""
    return _over(axis_name, lax.pmax, lax.stop_gradient(jnp.max(x, axis=-1, initial=-jnp.inf)))


def all_gather(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """Lays the last axes of the devices that share it one after the other, as a constant."""
    return _over(axis_name, lambda x, name: lax.all_gather(x, name, axis=x.ndim - 1, tiled=True), lax.stop_gradient(x))


def start_of_loop(value: ArrayLike, like: jax.Array) -> jax.Array:
    """Fills an array with a number that a loop begins with, typed as differing over devices where `like` does.

    Versions of JAX before 0.7 type a plain constant as equal on all devices of a `shard_map`, and refuse a loop that
    makes it differ. Compiled programs have the constant alone.
    """
    return jnp.where(like == 0, value, value).astype(like.dtype)


def reference_log_ratios(log_likelihoods: jax.Array, reference: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes log-ratios to a reference policy, which is a constant to the gradient; 0 where masked."""
    return jnp.where(mask, log_likelihoods, 0) - lax.stop_gradient(jnp.where(mask, reference, 0))


def mean_where(
    values: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None, axis_name: AxisName = None
) -> jax.Array:
    """Averages the valid values, over the devices that share the axis too; 0 if there is none."""
    number = _over(axis_name, lax.psum, jnp.sum(mask, axis=axis, dtype=jnp.int32))
    count = jnp.maximum(number, 1).astype(values.dtype)
    return _over(axis_name, lax.psum, jnp.sum(jnp.where(mask, values, 0), axis=axis)) / count


def deviations(values: jax.Array, mask: jax.Array, axis_name: AxisName) -> tuple[jax.Array, jax.Array]:
    """Subtracts from values `[..., M]` the mean of the valid ones, 0 where masked; counts these, `[..., 1]` (or 1).

    Measured from the largest value: equal values then differ by exactly 0, not by a rounding of their mean that
    a division by their spread would blow up to order 1.
    """
    top = all_max(jnp.where(mask, values, -jnp.inf), axis_name)[..., None]
    offsets = jnp.where(mask, values - jnp.where(top == -jnp.inf, 0, top), 0)
    count = jnp.maximum(all_sum(mask.astype(values.dtype), axis_name), 1)[..., None]
    return jnp.where(mask, offsets - all_sum(offsets, axis_name)[..., None] / count, 0), count


def is_concrete(*values: ArrayLike | None) -> bool:
    """Returns True when no value is being traced, so that its numbers can be looked at."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def is_concrete_zero(value: ArrayLike) -> bool:
    """Returns True for the number 0, so that the term it multiplies can be left out; False when traced."""
    return is_concrete(value) and bool(np.all(np.asarray(value) == 0))


def check_reference(kl_coef: ArrayLike, name: str, reference: ArrayLike | None) -> None:
    """Refuses a coefficient of a divergence from a reference that is not given, whose argument is called `name`."""
    if reference is None and not is_concrete_zero(kl_coef):
        raise ValueError(f"kl_coef {kl_coef} needs {name}; give them, or set kl_coef to the number 0 (not traced).")


def unless_zero(coef: ArrayLike, values: jax.Array, otherwise: jax.Array | float = 0) -> jax.Array:
    """Gives the values that a traced coefficient multiplies, or `otherwise` where it is 0: 0 times infinity is NaN.

    What is left out gets a gradient of exactly 0. A concrete coefficient changes nothing here, see `is_concrete_zero`.
    """
    return values if is_concrete(coef) else jnp.where(jnp.asarray(coef) == 0, otherwise, values)


def _over(axis_name: AxisName, reduce: Callable, x: jax.Array) -> jax.Array:
    """`reduce` over the devices that share `x`."""
    if axis_name is None:
        return x
    try:
        return reduce(x, axis_name)
    except NameError as error:
        raise ValueError(f"axis_name {axis_name!r} is not the name of an axis that is mapped here.") from error


def _as_array(name: str, value: ArrayLike, what: str) -> jax.Array:
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be {what}, got {_shown(value)}.") from error


def _is_whole(array: jax.Array) -> bool:
    return array.dtype == jnp.bool_ or jnp.issubdtype(array.dtype, jnp.integer)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
