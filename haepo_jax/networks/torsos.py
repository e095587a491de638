"""Torsos: Flax modules that map observations `[..., *O]` to features `[..., F]`, whatever axes lead."""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.networks.recurrent import CELLS

HEAD = "head"
"""The name of the layer after a torso, unless that has an attribute `head_name`."""
Activation = Callable[[jax.Array], jax.Array]
MakeTorso = Callable[[], nn.Module]


class MLP(nn.Module):
    """Multilayer perceptron with orthogonal weights, for observations of any shape, which it flattens."""

    observation_shape: tuple[int, ...]
    hidden_sizes: Sequence[int]
    activation: Activation

    @property
    def head_name(self) -> str:
        """The name of the layer after it: the next one, where checkpoints have had it before there were torsos."""
        return f"Dense_{len(self.hidden_sizes)}"

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., *observation_shape]` to `[..., hidden_sizes[-1]]`."""
        x = _flat(observations, len(self.observation_shape))
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        return x


class CNN(nn.Module):
    """One convolution and one dense layer, for small images `(H, W, C)` and grids `(H, W)`.

    The sizes are those of Young & Tian (2019), "MinAtar". Cells beyond the border count as 0, so that the image keeps
    its size. The convolution is one product of matrices: under `vmap` over members with weights of their own a
    grouped convolution takes 1.5 to 1.7 times as long (CPU, 8 members x 128 images of 10 x 10 x 4).
    """

    observation_shape: tuple[int, ...]
    activation: Activation
    channels: int = 16
    """Filters of the convolution."""
    kernel_size: int = 3
    """Side of a filter, in cells."""
    dense_size: int = 128
    """Width of the dense layer, and so of the features."""

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., H, W, C]` or `[..., H, W]` to `[..., dense_size]`."""
        if len(self.observation_shape) not in (2, 3):
            raise ConfigError(
                "config.policy.network cnn takes observations of shape (height, width) or (height, width, channels), "
                f"and these have shape {self.observation_shape}; take mlp."
            )
        for name in ("channels", "kernel_size", "dense_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"config.policy.network_kwargs.{name} of cnn must be a whole number of at least 1, got "
                    f"{quoted(value)}."
                )
        images = observations if len(self.observation_shape) == 3 else observations[..., None]
        x = self._dense(self.channels)(_windows(images, self.kernel_size))
        x = _flat(self.activation(x), 3)
        return self.activation(self._dense(self.dense_size)(x))

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))


TORSOS: Mapping[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, **CELLS}
"""The torsos that a config can name in a word."""


def _flat(array: jax.Array, axes: int) -> jax.Array:
    """The last so many axes as one."""
    return array.reshape(*array.shape[: array.ndim - axes], -1)


def _windows(images: jax.Array, size: int) -> jax.Array:
    """Collects around each cell of `[..., H, W, C]` its size x size cells: `[..., H, W, size * size * C]`."""
    height, width = images.shape[-3:-1]
    border = ((size - 1) // 2, size // 2)
    padded = jnp.pad(images, [(0, 0)] * (images.ndim - 3) + [border, border, (0, 0)])
    shifted = [padded[..., i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)
