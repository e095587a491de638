"""Log-probabilities of given tokens under a decoder: what the losses take, and what costs memory.

Logits are made for the positions that are asked for alone, and with `chunk_size` a few of them at a time, so that
no array `[B, T, V]` exists in either pass.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.model.decoder import Decoder, compute_logits
from haepo_jax.types import Params

Array = Any
"""`jax.Array` on the devices, `np.ndarray` on the host."""


class Prompts(NamedTuple):
    """Prompts alone, padded on the left."""

    tokens: Array
    """`[N, P]` int32."""
    valid: Array
    """`[N, P]` boolean."""


class Sequences(NamedTuple):
    """Prompts, padded on the left, each followed by its response, padded on the right."""

    tokens: Array
    """`[B, P + R]` int32."""
    valid: Array
    """`[B, P + R]` boolean."""


def flatten_comparisons(comparisons: Sequences) -> Sequences:
    """Lays comparisons `[B, 2, P + R]` out as `[2 B, P + R]`: rows 2i and 2i + 1 are those of comparison i."""
    return Sequences(*(leaf.reshape(-1, leaf.shape[-1]) for leaf in comparisons))


def token_log_probs(
    states: jax.Array,
    head: jax.Array,
    tokens: jax.Array,
    *,
    temperature: float = 1.0,
    chunk_size: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Computes log-probabilities of tokens, given the states that they are predicted from.

    Args:
      states: `[..., D]` normed last states.
      head: `[D, V]`.
      tokens: `[...]` int32.
      temperature: divides the logits, as in sampling.
      chunk_size: how many tokens' logits exist at a time; all when None. The gradient computes each chunk again.
      softcap: `Architecture.final_softcap` of the model.

    Returns:
      `[...]` float32, in nats.
    """

    def score(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        states, tokens = chunk
        logits = compute_logits(states, head, softcap) / temperature
        chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    if chunk_size is None:
        return score((states, tokens))
    count, chunk_size = tokens.size, min(chunk_size, tokens.size)
    flat = states.reshape(count, states.shape[-1]), tokens.reshape(count)
    missing = -count % chunk_size
    chunks = jax.tree.map(
        lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, chunk_size, *x.shape[1:]), flat
    )
    return jax.lax.map(jax.checkpoint(score), chunks).reshape(-1)[:count].reshape(tokens.shape)


def response_log_probs(
    decoder: Decoder,
    params: Params,
    sequences: Sequences,
    *,
    response_length: int,
    temperature: float = 1.0,
    chunk_size: int | None = None,
) -> jax.Array:
    """Computes log-probabilities of the responses' tokens, teacher-forced.

    Args:
      decoder: the model.
      params: its parameters.
      sequences: prompts with their responses.
      response_length: R.
      temperature: divides the logits, as in sampling.
      chunk_size: how many tokens' logits exist at a time; all of the responses' when None.

    Returns:
      `[B, R]` float32, in nats; those of padding are finite and mean nothing.
    """
    variables = {"params": params}
    states, _ = decoder.apply(variables, sequences.tokens, sequences.valid, method="hidden")
    head: Any = decoder.apply(variables, method="head_matrix")
    return token_log_probs(
        states[:, -response_length - 1 : -1],
        head,
        sequences.tokens[:, -response_length:],
        temperature=temperature,
        chunk_size=chunk_size,
        softcap=decoder.architecture.final_softcap,
    )
