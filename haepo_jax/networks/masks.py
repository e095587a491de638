"""Action masks: at the end of observations, and on logits."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def split_mask(
    observations: jax.Array, feature_shape: tuple[int, ...], mask_size: int
) -> tuple[jax.Array, jax.Array | None]:
    """Splits observations `[..., O]` into features `[..., *feature_shape]` and the action mask after them.

    Args:
      observations: `[..., *O]`; vectors where there is a mask.
      feature_shape: of the features.
      mask_size: entries of the mask.

    Returns:
      The features, and the mask `[..., mask_size]` boolean, None where `mask_size` is 0.
    """
    if not mask_size:
        return observations, None
    features, mask = observations[..., :-mask_size], observations[..., -mask_size:]
    return features.reshape(*observations.shape[:-1], *feature_shape), mask > 0.5


def mask_logits(logits: jax.Array, mask: ArrayLike, otherwise: ArrayLike = True) -> jax.Array:
    """Takes all probability from choices that are not allowed; their logits get no gradient.

    Args:
      logits: `[..., n]`.
      mask: `[..., n]` boolean, the choices that are allowed.
      otherwise: `[..., n]` boolean, those where no choice is allowed, as after the end of an episode, so that nothing
        there is infinite.

    Returns:
      `[..., n]`: where a choice is not allowed, a number so low that its probability is 0, and yet finite.

    Example:
      >>> logits = mask_logits(jnp.zeros(3), jnp.array([True, False, True]))
      >>> jax.nn.softmax(logits).tolist()
      [0.5, 0.0, 0.5]
    """
    allowed = jnp.where(jnp.any(mask, axis=-1, keepdims=True), mask, otherwise)
    return jnp.where(allowed, logits, jnp.finfo(logits.dtype).min / 2)
