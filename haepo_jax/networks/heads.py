"""Heads: the layer after a torso, and what its outputs are, a distrax distribution over actions or a value."""

from collections.abc import Callable

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.networks.masks import mask_logits
from haepo_jax.networks.recurrent import Carry, Memory
from haepo_jax.networks.torsos import HEAD, MakeTorso


class Network(nn.Module):
    """A torso and a linear layer after it, which lie side by side among the parameters."""

    make_torso: MakeTorso
    output_size: int
    output_scale: float
    """Of the last layer's weights. Near-zero outputs make a first policy near uniform (or centred)."""

    def setup(self) -> None:
        """Makes the torso."""
        self.torso = self.make_torso()
        nn.share_scope(self, self.torso)

    @nn.compact
    def __call__(self, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, jax.Array]:
        """Maps `[..., *observation_shape]` to `[..., output_size]`, with the carry after it, if any."""
        carry, features = ((), self.torso(observations)) if memory is None else self.torso(observations, memory)
        name = getattr(self.torso, "head_name", HEAD)
        head = nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(self.output_scale), name=name)
        return carry, head(features)


class CategoricalPolicy(nn.Module):
    """Choices: softmax over the outputs of a network."""

    make_torso: MakeTorso
    name_of_torso: str
    num_choices: int
    distribute: Callable[[jax.Array, jax.Array | None], distrax.Distribution]
    """What the logits `[..., num_choices]` and a mask like them, or None, are: `choose_one` or `choose_each`."""

    @nn.compact
    def __call__(
        self, observations: jax.Array, memory: Memory | None = None, mask: jax.Array | None = None
    ) -> tuple[Carry, distrax.Distribution]:
        """The carry, if any, and the distribution over actions at `observations [..., *O]`.

        Args:
          observations: `[..., *O]`.
          memory: the carry before them.
          mask: `[..., num_choices]` boolean, the choices that are allowed; all when None.
        """
        network = Network(self.make_torso, self.num_choices, 0.01, name=self.name_of_torso)
        carry, logits = network(observations, memory)
        return carry, self.distribute(logits, mask)


def choose_one(logits: jax.Array, mask: jax.Array | None) -> distrax.Distribution:
    """Makes the distribution over discrete actions, one of n, of `logits [..., n]`."""
    return distrax.Categorical(logits=logits if mask is None else mask_logits(logits, mask))


def choose_each(nvec: tuple[int, ...], logits: jax.Array, mask: jax.Array | None) -> distrax.Distribution:
    """Makes the distribution over several choices at once, `[..., A]`: independent categoricals.

    Args:
      nvec: how many there are of each choice, A numbers.
      logits: `[..., sum(nvec)]`, one choice after the other.
      mask: like them, or None.
    """
    # In rows of one length, which is that of the longest: what is beyond a shorter one is masked.
    places, is_there = _rows_of(nvec)
    allowed = is_there if mask is None else is_there & mask[..., places]
    masked = mask_logits(logits[..., places], allowed, is_there)
    return distrax.Independent(distrax.Categorical(logits=masked), 1)


def _rows_of(nvec: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where the logits of each choice lie among all, and which of these places are its own, both `[A, max(nvec)]`."""
    ends = np.cumsum(nvec)
    within = np.arange(max(nvec))
    is_there = within < np.array(nvec)[:, None]
    return np.where(is_there, (ends - nvec)[:, None] + within, 0), is_there


class GaussianPolicy(nn.Module):
    """Real actions: a diagonal Gaussian, its mean from a network and its deviation free of the observation."""

    make_torso: MakeTorso
    name_of_torso: str
    action_size: int
    initial_log_std: float

    @nn.compact
    def __call__(self, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, distrax.Distribution]:
        """The carry, if any, and the distribution over actions at `observations [..., *O]`."""
        network = Network(self.make_torso, self.action_size, 0.01, name=self.name_of_torso)
        carry, mean = network(observations, memory)
        log_std = self.param("log_std", nn.initializers.constant(self.initial_log_std), (self.action_size,))
        std = jnp.broadcast_to(jnp.exp(log_std).reshape((1,) * (mean.ndim - 1) + (-1,)), mean.shape)
        return carry, distrax.MultivariateNormalDiag(mean, std)
