"""How the losses of independent groups become one number, and what that does to their slopes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ReduceFn = Callable[..., jax.Array]
"""`reduce_fn(losses, where=valid)`: losses `[...]` of the groups to a scalar. `jnp.sum` and `jnp.mean` are such."""


def mean_over_groups(losses: jax.Array, *, where: jax.Array) -> jax.Array:
    """Averages the losses of the groups that have a valid trajectory; 0 if there is none.

    Args:
      losses: `[...]` losses of the groups, 0 for those without a valid trajectory.
      where: `[...]` boolean, True for the groups with a valid trajectory.

    Returns:
      The scalar mean.

    Example:
      >>> import jax.numpy as jnp
      >>> print(mean_over_groups(jnp.array([1.0, 3.0, 0.0]), where=jnp.array([True, True, False])))
      2.0
    """
    return jnp.sum(losses) / _count(where, losses)


def check_reduce_fn(reduce_fn: object) -> None:
    """Refuses what is neither a function nor None."""
    if not (reduce_fn is None or callable(reduce_fn)):
        raise TypeError(f"reduce_fn must be a function such as jnp.sum, or None, got {reduce_fn!r}.")


def reduce_groups(losses: jax.Array, valid: jax.Array, reduce_fn: ReduceFn | None) -> jax.Array:
    """Reduces losses `[...]`, 0 where not `valid`, to a scalar; leaves them as they are without a function."""
    if reduce_fn is None:
        return losses
    if reduce_fn is mean_over_groups:
        return mean_over_groups(losses, where=valid)
    # With no valid group all count, whose losses are 0: a mean over none would be NaN.
    reduced = reduce_fn(losses, where=valid | ~jnp.any(valid))
    if jnp.shape(reduced) != ():
        raise ValueError(f"reduce_fn must return a scalar, got an array of shape {jnp.shape(reduced)}.")
    return reduced


def reduce_slopes(slopes: jax.Array, losses: jax.Array, valid: jax.Array, reduce_fn: ReduceFn | None) -> jax.Array:
    """Makes of the slopes `[..., M]` of each group's own loss those of the reduced loss, by the chain rule."""
    if reduce_fn is None:
        return slopes
    if reduce_fn is mean_over_groups:  # a quotient, as in the loss, has not the rounding of a factor
        return slopes / _count(valid, slopes)
    return slopes * jax.grad(reduce_groups)(losses, valid, reduce_fn)[..., None]


def weigh_groups(sizes: jax.Array) -> ReduceFn:
    """Makes the mean over groups `[...]` that counts each by its size, so that their members count alike."""

    def reduce(losses: jax.Array, *, where: jax.Array) -> jax.Array:
        weights = jnp.where(where, sizes, 0).astype(losses.dtype)
        return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1)

    return reduce


def _count(valid: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.sum(valid), 1).astype(like.dtype)
