"""Sampling responses on the device, one token at a time from a key-value cache."""

import itertools
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


_MANY, _FEW, _LONG = 1024, 8, 256
"""Where sampling takes more than one shape: so many tokens of a batch, so few responses left, so long a response."""


class _Rows(NamedTuple):
    """Responses on their way; all of them, or those that are left."""

    step: jax.Array
    """int32, the tokens that were drawn for each."""
    key: jax.Array
    tokens: jax.Array
    """`[b, R]`, as the next three fields those of `Samples`."""
    log_probs: jax.Array
    entropy: jax.Array
    ended: jax.Array
    lengths: jax.Array
    """`[b]` int32, tokens up to the end."""


class _Context(NamedTuple):
    """What rows see and are, which no step changes."""

    prompts: Cache
    """Keys and values of N prompts, of b / N adjacent rows each."""
    valid: jax.Array
    """`[b, P + R]`; all slots of the response count as valid, as none before its turn is looked at."""
    positions: jax.Array
    """`[b, P + R]` int32."""
    numbers: jax.Array
    """`[b]` int32, places in the batch."""


class _Stage(NamedTuple):
    """A part of the way, of one shape."""

    rows: int
    slots: int
    """Of the cache: it holds as many tokens of each response."""
    until: int
    """The stage ends when so few responses are left."""


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

    The samples of a prompt share its keys and values. Those of the responses grow in a few steps, and where few
    responses of many are left, they alone are continued; neither changes what is drawn.

    Args:
      decoder: the model.
      params: its parameters.
      prompts: `[N, P]` int32, padded on the left.
      prompt_valid: `[N, P]` boolean.
      key: PRNG key.
      num_samples: responses for each prompt.
      response_length: R, the most tokens of a response, its end-of-sequence token included.
      temperature: divides the logits; above 0.
      top_p: draws from the smallest set of likeliest tokens whose probabilities sum to at least this.
      eos_ids: the tokens that end a response.
      pad_id: the token that fills it up.
      greedy: whether each token is the likeliest one, the first of several; nothing is drawn then.

    Returns:
      `Samples` of N x num_samples responses.
    """
    batch, architecture = prompts.shape[0] * num_samples, decoder.architecture
    variables, ends = {"params": params}, jnp.asarray(eos_ids, jnp.int32)
    apply: Any = decoder.apply  # whose result depends on the method

    def draw(rows: _Rows, logits: jax.Array, numbers: jax.Array) -> _Rows:
        key, step_key = jax.random.split(rows.key)
        logits = logits / temperature
        likely = logits if top_p == 1.0 else _nucleus(logits, top_p)
        if not greedy:
            noise = jax.random.gumbel(step_key, (batch, logits.shape[-1]), logits.dtype)
            likely += noise if numbers.shape[0] == batch else noise[numbers]  # its own, whatever else is left
        drawn = jnp.argmax(likely, axis=-1)
        shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(shifted)
        total = jnp.sum(weights, axis=-1)
        log_probs = jnp.take_along_axis(shifted, drawn[:, None], axis=-1)[:, 0] - jnp.log(total)
        entropy = jnp.log(total) - jnp.sum(weights * shifted, axis=-1) / total
        alive = ~rows.ended
        tokens = jnp.where(alive, drawn, pad_id).astype(jnp.int32)
        return _Rows(
            rows.step + 1,
            key,
            rows.tokens.at[:, rows.step].set(tokens),
            rows.log_probs.at[:, rows.step].set(jnp.where(alive, log_probs, 0)),
            rows.entropy.at[:, rows.step].set(jnp.where(alive, entropy, 0)),
            rows.ended | jnp.any(tokens[:, None] == ends, axis=-1),
            rows.lengths + alive,
        )

    def walk(rows: _Rows, cache: Cache, context: _Context, stage: _Stage) -> tuple[_Rows, Cache]:
        """Draws until few are left, the slots are full, or the length is reached."""
        most = min(response_length, stage.slots + 1)
        room = prompts.shape[1] + stage.slots

        def go_on(carry: tuple[_Rows, Cache]) -> jax.Array:
            return (carry[0].step < most) & (jnp.sum(~carry[0].ended) > stage.until)

        def advance(carry: tuple[_Rows, Cache]) -> tuple[_Rows, Cache]:
            rows, cache = carry
            last = jax.lax.dynamic_slice_in_dim(rows.tokens, rows.step - 1, 1, axis=1)
            states, cache = apply(
                variables,
                last,
                context.valid[:, :room],
                cache,
                rows.step - 1,
                prefix=context.prompts,
                positions=context.positions[:, :room],
                method="hidden",
            )
            return draw(rows, apply(variables, states[:, 0], method="logits"), context.numbers), cache

        return jax.lax.while_loop(go_on, advance, (rows, cache))

    cache = make_cache(architecture, prompts.shape[0], prompts.shape[1], decoder.dtype)
    states, cache = apply(variables, prompts, prompt_valid, cache, 0, method="hidden")
    logits = jnp.repeat(apply(variables, states[:, -1], method="logits"), num_samples, axis=0)
    context = _make_context(cache, prompt_valid, num_samples, response_length)
    rows = draw(_begin(batch, response_length, key, pad_id), logits, context.numbers)
    cache = make_cache(architecture, batch, 0, decoder.dtype)
    everyone = rows
    for stage in _plan(batch, response_length):
        if stage.rows < rows.tokens.shape[0]:
            left = jnp.argsort(rows.ended)[: stage.rows]
            everyone = _put(everyone, rows, context.numbers)
            rows, cache, context = _take(rows, cache, context, left)
        rows, cache = walk(rows, _grow(cache, stage.slots), context, stage)
    rows = _put(everyone, rows, context.numbers)
    valid = jnp.arange(response_length) < rows.lengths[:, None]
    return Samples(rows.tokens, valid, rows.log_probs, rows.entropy, rows.ended)


def _plan(batch: int, length: int) -> list[_Stage]:
    """The stages of a batch: compiling each takes seconds, so that a small batch has one, and a large one a few.

    Example:
      >>> [tuple(stage) for stage in _plan(64, 50)]
      [(64, 12, 16), (64, 49, 16), (16, 49, 0)]
    """
    if length == 1:
        return []
    if batch * length < _MANY:
        return [_Stage(batch, length - 1, 0)]
    sizes = [batch, *(size for size in (batch // 4, batch // 16) if size >= _FEW), 0]
    slots = {length // part for part in ((4, 2) if length >= _LONG else (4,))} - {0}
    everyone = [_Stage(batch, count, sizes[1]) for count in (*sorted(slots), length - 1)]
    return everyone + [_Stage(size, length - 1, until) for size, until in itertools.pairwise(sizes[1:])]


def _begin(batch: int, length: int, key: jax.Array, pad_id: int) -> _Rows:
    nothing = jnp.zeros((batch, length), jnp.float32)
    tokens = jnp.full((batch, length), pad_id, jnp.int32)
    return _Rows(jnp.int32(0), key, tokens, nothing, nothing, jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32))


def _make_context(prompts: Cache, prompt_valid: jax.Array, num_samples: int, length: int) -> _Context:
    valid = jnp.repeat(prompt_valid, num_samples, axis=0)
    valid = jnp.pad(valid, ((0, 0), (0, length)), constant_values=True)
    positions = jnp.maximum(jnp.cumsum(valid, axis=-1, dtype=jnp.int32) - 1, 0)
    return _Context(prompts, valid, positions, jnp.arange(valid.shape[0], dtype=jnp.int32))


def _take(rows: _Rows, cache: Cache, context: _Context, left: jax.Array) -> tuple[_Rows, Cache, _Context]:
    """Those rows alone, each with its own copy of its prompt."""
    shared = context.numbers.shape[0] // context.prompts.keys.shape[1]
    some = _Rows(rows.step, rows.key, *(leaf[left] for leaf in rows[2:]))
    cache = Cache(*(leaf[:, left] for leaf in cache))
    prompts = Cache(*(leaf[:, left // shared] for leaf in context.prompts))
    return some, cache, _Context(prompts, context.valid[left], context.positions[left], context.numbers[left])


def _grow(cache: Cache, slots: int) -> Cache:
    """The cache with room for so many tokens."""
    missing = slots - cache.keys.shape[-2]
    return Cache(*(jnp.pad(leaf, [(0, 0)] * 3 + [(0, missing), (0, 0)]) for leaf in cache))


def _put(everyone: _Rows, rows: _Rows, numbers: jax.Array) -> _Rows:
    """The whole batch, with these rows as they are now."""
    if rows.tokens.shape[0] == everyone.tokens.shape[0]:
        return rows
    parts = (whole.at[numbers].set(part) for whole, part in zip(everyone[2:], rows[2:], strict=True))
    return _Rows(rows.step, rows.key, *parts)


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
