"""Rotary position embedding (arXiv 2104.09864), in the half-split layout that all supported families share."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.language.model.architecture import Architecture, LayerKind, RopeScaling


def compute_rotary_angles(
    architecture: Architecture, positions: jax.Array, kind: LayerKind | None = None
) -> jax.Array:
    """Computes the angle by which each pair of dimensions is turned.

    Args:
      architecture: gives how many dimensions are rotated.
      positions: `[B, T]` int, a token's place among the valid tokens of its sequence.
      kind: of the layer; the first one's when None. Without positions all angles are 0.

    Returns:
      `[B, T, rotated_dim / 2]` float32, in radians.
    """
    frequencies = _frequencies(architecture, kind or architecture.layer_kinds[0])
    return positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)


def rotate(heads: jax.Array, angles: jax.Array, factor: jax.Array | None = None) -> jax.Array:
    """Turns the first dimensions of every head, and leaves the others.

    Args:
      heads: `[B, T, H, head_dim]` queries or keys.
      angles: `[B, T, rotated_dim / 2]`.
      factor: what is turned is multiplied by this, where given (YaRN).

    Returns:
      As `heads`, in its dtype; dimension i is paired with i + rotated_dim / 2.
    """
    half = angles.shape[-1]
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    if factor is not None:
        cos, sin = factor * cos, factor * sin
    first, second, rest = jnp.split(heads.astype(jnp.float32), [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(heads.dtype)


def get_attention_factor(kind: LayerKind) -> float:
    """Returns the factor of `rotate` in layers of this kind."""
    return 1.0 if kind.rope_scaling is None else kind.rope_scaling.attention_factor


def _frequencies(architecture: Architecture, kind: LayerKind) -> np.ndarray:
    """`[rotated_dim / 2]` float64, radians a token."""
    size = architecture.rotated_dim
    if kind.rope_theta is None:
        return np.zeros(size // 2)
    frequencies = kind.rope_theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    return frequencies if kind.rope_scaling is None else _scaled(frequencies, kind.rope_theta, size, kind.rope_scaling)


def _scaled(frequencies: np.ndarray, theta: float, size: int, scaling: RopeScaling) -> np.ndarray:
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    if scaling.kind == "yarn":
        begin, end = (_find_dimension(turns, theta, size, scaling.original_length) for turns in (high, low))
        if scaling.truncate:
            begin, end = math.floor(begin), math.ceil(end)
        begin, end = max(begin, 0), min(end, size - 1)
        end = end + 0.001 if begin == end else end
        kept = 1 - np.clip((np.arange(size // 2) - begin) / (end - begin), 0, 1)
    else:
        turns = scaling.original_length * frequencies / (2 * math.pi)  # within the context of pre-training
        kept = np.clip((turns - low) / (high - low), 0, 1)  # 0 long waves, 1 short ones
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor


def _find_dimension(turns: float, theta: float, size: int, length: int) -> float:
    """The pair of dimensions, counted from 0 and with a fraction, that turns so often within a context."""
    return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))
