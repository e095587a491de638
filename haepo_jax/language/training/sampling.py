"""Sampling responses on the device, one token at a time from a key-value cache."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.model.decoder import Cache, Decoder, make_cache
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.types import Params


class Samples(NamedTuple):
    """Responses of at most R tokens, padded on the right; B is prompts x samples, a prompt's samples adjacent."""

    tokens: jax.Array
    """`[B, R]` int32, `pad_id` after the end."""
    valid: jax.Array
    """`[B, R]` boolean, True up to the end-of-sequence token and for it."""
    log_probs: jax.Array
    """`[B, R]` float32, in nats, under the policy at this temperature before `top_p` cuts it; 0 after the end."""
    entropy: jax.Array
    """`[B, R]` float32, of the policy at this temperature at each token, in nats; 0 after the end."""
    ended: jax.Array
    """`[B]` boolean, False for a response that was cut at R tokens."""


class _Carry(NamedTuple):
    step: jax.Array
    cache: Cache
    logits: jax.Array
    samples: Samples
    key: jax.Array


def sample(
    decoder: Decoder,
    params: Params,
    prompts: jax.Array,
    prompt_valid: jax.Array,
    key: jax.Array,
    *,
    num_samples: int = 1,
    response_length: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_ids: Sequence[int],
    pad_id: int,
    greedy: bool = False,
) -> Samples:
    """Samples responses; stops when all have ended.

    Args:
      decoder: the model.
      params: its parameters.
      prompts: `[N, P]` int32, padded on the left.
      prompt_valid: `[N, P]` boolean.
      key: PRNG key.
      num_samples: responses for each prompt, which share one pass over it.
      response_length: R, the most tokens of a response, its end-of-sequence token included.
      temperature: divides the logits; above 0.
      top_p: draws from the smallest set of likeliest tokens whose probabilities sum to at least this.
      eos_ids: the tokens that end a response.
      pad_id: the token that fills it up.
      greedy: whether each token is the likeliest one, the first of several; nothing is drawn then.

    Returns:
      `Samples` of N x num_samples responses.
    """
    batch, prompt_length = prompts.shape[0] * num_samples, prompts.shape[1]
    slots = prompt_length + response_length
    variables, ends = {"params": params}, jnp.asarray(eos_ids, jnp.int32)
    apply: Any = decoder.apply  # whose result depends on the method

    room = jnp.zeros((prompts.shape[0], response_length), bool)
    cache = make_cache(decoder.architecture, prompts.shape[0], slots, decoder.dtype)
    states, cache = apply(variables, prompts, jnp.concatenate([prompt_valid, room], axis=1), cache, 0, method="hidden")
    logits = apply(variables, states[:, -1], method="logits")
    cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_samples, axis=1), cache)
    logits, prompt_valid = (jnp.repeat(leaf, num_samples, axis=0) for leaf in (logits, prompt_valid))

    def any_left(carry: _Carry) -> jax.Array:
        return (carry.step < response_length) & ~jnp.all(carry.samples.ended)

    def advance(carry: _Carry) -> _Carry:
        key, step_key = jax.random.split(carry.key)
        logits = carry.logits / temperature
        if greedy:
            drawn = jnp.argmax(logits, axis=-1)
        else:
            drawn = jax.random.categorical(step_key, logits if top_p == 1.0 else _nucleus(logits, top_p))
        every = jax.nn.log_softmax(logits)
        log_probs = jnp.take_along_axis(every, drawn[:, None], axis=-1)[:, 0]
        entropy = -jnp.sum(jnp.exp(every) * every, axis=-1)
        alive = ~carry.samples.ended
        tokens = jnp.where(alive, drawn, pad_id).astype(jnp.int32)
        samples = Samples(
            carry.samples.tokens.at[:, carry.step].set(tokens),
            carry.samples.valid.at[:, carry.step].set(alive),
            carry.samples.log_probs.at[:, carry.step].set(jnp.where(alive, log_probs, 0)),
            carry.samples.entropy.at[:, carry.step].set(jnp.where(alive, entropy, 0)),
            carry.samples.ended | jnp.any(tokens[:, None] == ends, axis=-1),
        )
        slot = prompt_length + carry.step
        states, cache = apply(
            variables,
            tokens[:, None],
            jnp.concatenate([prompt_valid, samples.valid], axis=1),
            carry.cache,
            slot,
            method="hidden",
        )
        return _Carry(carry.step + 1, cache, apply(variables, states[:, 0], method="logits"), samples, key)

    nothing = Samples(
        jnp.full((batch, response_length), pad_id, jnp.int32),
        jnp.zeros((batch, response_length), bool),
        jnp.zeros((batch, response_length), jnp.float32),
        jnp.zeros((batch, response_length), jnp.float32),
        jnp.zeros(batch, bool),
    )
    return jax.lax.while_loop(any_left, advance, _Carry(jnp.int32(0), cache, logits, nothing, key)).samples


def append_to_prompts(prompts: jax.Array, prompt_valid: jax.Array, samples: Samples) -> Sequences:
    """Puts the samples behind their prompts, `[N, P]`, as sequences to score."""
    count = samples.tokens.shape[0] // prompts.shape[0]
    prompts, prompt_valid = (jnp.repeat(leaf, count, axis=0) for leaf in (prompts, prompt_valid))
    return Sequences(
        jnp.concatenate([prompts, samples.tokens], axis=1), jnp.concatenate([prompt_valid, samples.valid], axis=1)
    )


def _nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """The logits with -inf outside of the smallest set of likeliest tokens of probability `top_p`."""
    descending = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(descending)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    least = jnp.min(jnp.where(before < top_p, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)
