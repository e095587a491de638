"""Two ways to the same gradient of a loss that couples all the responses of a group.

The loss sees a response only through its log-probabilities. So its gradient is that of `sum c * log_probs` with
constant c, its derivative by the log-probabilities: `two_pass` computes all log-probabilities without a graph, then
c, then accumulates `c * grad log_probs` one microbatch at a time. That is exact, though a softmax over the group
couples all of its responses, and its memory does not grow with their number.

Where a loss is a sum over rows, `accumulate_gradient` needs one pass alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.types import Params

Rows = Any
"""A pytree of arrays with a leading axis of responses."""
Metrics = Any

LogProbs = Callable[[Params, Rows], jax.Array]
"""`(params, rows [n, ...]) -> log-probabilities [n, R]`, each row's its own."""
Loss = Callable[[jax.Array], tuple[jax.Array, Metrics]]
"""`log-probabilities [N, R] -> (loss, metrics)`, float32."""
Gradient = Callable[[Params, Rows, Loss], tuple[jax.Array, Metrics, Params]]
"""`(params, rows [N, ...], loss) -> (loss, metrics, gradient)`; the gradient is float32 or wider."""


def one_shot(log_probs: LogProbs) -> Gradient:
    """Computes the gradient by differentiating through all responses at once."""

    def gradient(params: Params, rows: Rows, loss: Loss) -> tuple[jax.Array, Metrics, Params]:
        (value, metrics), grads = jax.value_and_grad(lambda params: loss(log_probs(params, rows)), has_aux=True)(
            params
        )
        return value, metrics, jax.tree.map(_widened, grads)

    return gradient


def two_pass(log_probs: LogProbs, *, microbatch: int) -> Gradient:
    """Computes the gradient with the memory of `microbatch` responses, at the cost of a second forward pass.

    Args:
      log_probs: the model's part.
      microbatch: responses at a time. When they do not divide the number of responses, the last microbatch is
        filled up with copies that count for nothing.
    """

    def gradient(params: Params, rows: Rows, loss: Loss) -> tuple[jax.Array, Metrics, Params]:
        values = map_in_microbatches(lambda piece: log_probs(params, piece), rows, microbatch)
        (value, metrics), coefficients = jax.value_and_grad(loss, has_aux=True)(values)
        return value, metrics, pull_back(log_probs, params, rows, coefficients, microbatch=microbatch)

    return gradient


def pull_back(log_probs: LogProbs, params: Params, rows: Rows, slopes: jax.Array, *, microbatch: int) -> Params:
    """Computes the derivative, by the parameters, of the sum of slopes times log-probabilities.

    Args:
      log_probs: the model's part.
      params: where it is taken.
      rows: `[N, ...]`.
      slopes: `[N, R]`.
      microbatch: responses at a time.

    Returns:
      The derivative, float32 or wider.
    """

    def accumulate(total: Params, piece: tuple[Rows, jax.Array]) -> tuple[Params, None]:
        rows, slopes = piece
        _, pull = jax.vjp(lambda params: log_probs(params, rows), params)
        return _add(total, pull(slopes)[0]), None

    weighted = _split(rows, microbatch), _split(slopes, microbatch, fill=0.0)
    return jax.lax.scan(accumulate, _zeros(params), weighted)[0]


def accumulate_gradient(
    loss: Callable[[Params, Rows, jax.Array], tuple[jax.Array, Metrics]],
    params: Params,
    rows: Rows,
    *,
    microbatch: int,
) -> tuple[jax.Array, Metrics, Params]:
    """Computes value, metrics and gradient of a loss that is a sum over rows, a microbatch at a time.

    Args:
      loss: `(params, rows [n, ...], which of them count [n]) -> (loss, metrics)`, whose sums over pieces are those of
        all rows: what divides them must be that of the whole batch.
      params: where the gradient is taken.
      rows: `[N, ...]`.
      microbatch: rows at a time.

    Returns:
      `(loss, metrics, gradient)`, the gradient float32 or wider.
    """

    def piece_of(piece: tuple[Rows, jax.Array]) -> tuple[jax.Array, Metrics, Params]:
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, *piece)
        return value, metrics, grads

    def accumulate(total: Any, piece: tuple[Rows, jax.Array]) -> tuple[Any, None]:
        return _add(total, piece_of(piece)), None

    count = jax.tree.leaves(rows)[0].shape[0]
    pieces = _split(rows, microbatch), _split(jnp.ones(count, bool), microbatch, fill=False)
    value, metrics, _ = jax.eval_shape(piece_of, jax.tree.map(lambda leaf: leaf[0], pieces))
    start = (*jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, metrics)), _zeros(params))
    return jax.lax.scan(accumulate, start, pieces)[0]


def map_in_microbatches(function: Callable[[Rows], jax.Array], rows: Rows, size: int) -> jax.Array:
    """Computes `function(rows)` for `size` rows at a time, all when 0; each result must come from its row alone."""
    count = jax.tree.leaves(rows)[0].shape[0]
    return _join(jax.lax.map(function, _split(rows, size)), count)


def _widened(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _zeros(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.zeros_like(_widened(leaf)), params)


def _add(total: Any, more: Any) -> Any:
    return jax.tree.map(lambda total, leaf: total + leaf.astype(total.dtype), total, more)


def _split(rows: Rows, size: int, fill: float | bool | None = None) -> Rows:
    """`[N, ...]` as `[pieces, size, ...]`; what is missing repeats the first row, or is `fill`.

    Row i goes to piece i modulo the number of pieces: rows that are spread over devices in blocks stay where they
    are, and each piece is spread over all devices.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    size = min(size or count, count)

    def split(leaf: jax.Array) -> jax.Array:
        missing = -leaf.shape[0] % size
        if missing:
            extra = jnp.broadcast_to(leaf[:1], (missing, *leaf.shape[1:]))
            leaf = jnp.concatenate([leaf, extra if fill is None else jnp.full_like(extra, fill)])
        return jnp.moveaxis(leaf.reshape(size, -1, *leaf.shape[1:]), 0, 1)

    return jax.tree.map(split, rows)


def _join(pieces: jax.Array, count: int) -> jax.Array:
    """The inverse of `_split` for one array."""
    return jnp.moveaxis(pieces, 1, 0).reshape(-1, *pieces.shape[2:])[:count]
