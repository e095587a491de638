"""A decoder small enough to check by hand, and batches for it."""

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.scoring import Sequences

VOCAB, EOS, PAD = 13, 1, 0
PROMPT, RESPONSE = 5, 6

ARCHITECTURE = Architecture(
    family="llama",
    vocab_size=VOCAB,
    hidden_size=8,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    intermediate_size=16,
    rope_theta=100.0,
    max_length=64,
)
DECODER = Decoder(ARCHITECTURE)


_init = jax.jit(DECODER.init)  # compiled once for all modules that ask for parameters as they are imported


def params_of(seed=0):
    """Parameters far enough from 0 that distributions are not flat."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    params = _init(jax.random.key(seed), tokens, jnp.ones((1, 2), bool))["params"]
    return jax.tree.map(lambda leaf: 3.0 * leaf if leaf.ndim > 1 else leaf, params)


def prompts(count, seed=0):
    """`(tokens [count, PROMPT], valid)`, of lengths from 1 to PROMPT, padded on the left."""
    rng = np.random.default_rng(seed)
    lengths = 1 + np.arange(count) % PROMPT
    valid = np.arange(PROMPT) >= PROMPT - lengths[:, None]
    tokens = np.where(valid, rng.integers(2, VOCAB, (count, PROMPT)), PAD)
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(valid)


def sequences(count, seed=0):
    """Prompts with responses of 1 to RESPONSE tokens."""
    rng = np.random.default_rng(seed + 1)
    tokens, valid = prompts(count, seed)
    lengths = 1 + rng.permutation(count) % RESPONSE
    response_valid = np.arange(RESPONSE) < lengths[:, None]
    responses = np.where(response_valid, rng.integers(1, VOCAB, (count, RESPONSE)), PAD)
    return Sequences(
        jnp.asarray(np.concatenate([tokens, responses], axis=1), jnp.int32),
        jnp.asarray(np.concatenate([valid, response_valid], axis=1)),
    )
