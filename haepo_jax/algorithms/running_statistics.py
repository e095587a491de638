"""Mean and variance of all that was ever seen, merged batch by batch in float32 without losing what is small.

Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance".
"""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Precise:
    """Numbers, as the sum of a float32 and of what rounding has kept out of it."""

    value: jax.Array
    rest: jax.Array


@flax.struct.dataclass
class RunningStatistics:
    """Statistics of arrays `[*O]`, element by element. Those of nothing are all 0."""

    count: Precise
    """`[]`, how many arrays there were."""
    mean: Precise
    """`[*O]`."""
    squares: Precise
    """`[*O]`, the sum of squared deviations from the mean."""

    @property
    def variance(self) -> jax.Array:
        """`[*O]` population variance; 1 where nothing was seen, so that nothing is changed by it."""
        count = self.count.value
        return jnp.where(count > 0, jnp.maximum(self.squares.value, 0) / jnp.maximum(count, 1), 1)


def no_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """Makes the statistics of no array of this shape."""
    return RunningStatistics(_exactly(jnp.zeros(())), *(_exactly(jnp.zeros(shape)) for _ in range(2)))


def measure_statistics(values: jax.Array, where: jax.Array) -> RunningStatistics:
    """Computes the statistics of a batch; whatever offset its values have, they are not rounded to it.

    Args:
      values: `[..., *O]`.
      where: `[...]` boolean, True for the arrays that count. All others may hold anything.
    """
    axes = tuple(range(where.ndim))
    counted = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    count = where.sum(dtype=jnp.int32).astype(jnp.float32)
    number = jnp.maximum(count, 1)
    centre = jnp.where(counted, values, 0).sum(axes, dtype=jnp.float32) / number
    # The first mean has the error of a long sum, which the mean of what is left of it takes away.
    deviations = jnp.where(counted, values - centre, 0)
    offset = deviations.sum(axes, dtype=jnp.float32) / number
    squares = jnp.square(deviations).sum(axes, dtype=jnp.float32) - count * offset**2
    return RunningStatistics(_exactly(count), _sum(centre, offset), _exactly(jnp.maximum(squares, 0)))


def merge_statistics(one: RunningStatistics, other: RunningStatistics) -> RunningStatistics:
    """Computes the statistics of both together, to the accuracy of float32 however many there were before.

    Args:
      one: of all before.
      other: of a batch.
    """
    count = _add(one.count, other.count)
    share = other.count.value / jnp.maximum(count.value, 1)
    apart = (other.mean.value - one.mean.value) + (other.mean.rest - one.mean.rest)
    between = apart**2 * (one.count.value * share)
    squares = _add(_add(one.squares, other.squares), _exactly(between))
    return RunningStatistics(count, _add(one.mean, _exactly(apart * share)), squares)


def _exactly(value: jax.Array) -> Precise:
    return Precise(value.astype(jnp.float32), jnp.zeros(value.shape, jnp.float32))


def _sum(one: jax.Array, other: jax.Array) -> Precise:
    """The sum of two floats with its rounding error: Knuth's two-sum."""
    value = one + other
    of_other = value - one
    return Precise(value, (one - (value - of_other)) + (other - of_other))


def _add(one: Precise, other: Precise) -> Precise:
    total = _sum(one.value, other.value)
    return _sum(total.value, total.rest + (one.rest + other.rest))
