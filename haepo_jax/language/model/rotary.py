"""Rotary position embedding (arXiv 2104.09864), in the half-split layout that Llama, Qwen and GPT-NeoX share."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.language.model.architecture import Architecture, RopeScaling


def compute_rotary_angles(architecture: Architecture, positions: jax.Array) -> jax.Array:
    """Computes the angle by which each pair of dimensions is turned.

    Args:
      architecture: gives `rope_theta`, how many dimensions are rotated, and the scaling.
      positions: `[B, T]` int, a token's place among the valid tokens of its sequence.

    Returns:
      `[B, T, rotated_dim / 2]` float32, in radians.
    """
    frequencies = _frequencies(architecture)
    return positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)


def rotate(heads: jax.Array, angles: jax.Array) -> jax.Array:
    """Turns the first dimensions of every head, and leaves the others.

    Args:
      heads: `[B, T, H, head_dim]` queries or keys.
      angles: `[B, T, rotated_dim / 2]`.

    Returns:
      As `heads`, in its dtype; dimension i is paired with i + rotated_dim / 2.
    """
    half = angles.shape[-1]
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second, rest = jnp.split(heads.astype(jnp.float32), [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(heads.dtype)


def _frequencies(architecture: Architecture) -> np.ndarray:
    """`[rotated_dim / 2]` float64, radians a token."""
    size = architecture.rotated_dim
    frequencies = architecture.rope_theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    scaling = architecture.rope_scaling
    return frequencies if scaling is None else _scaled(frequencies, scaling)


def _scaled(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    turns = scaling.original_length * frequencies / (2 * math.pi)  # within the context of pre-training
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0, 1)  # 0 long waves, 1 short ones
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor
