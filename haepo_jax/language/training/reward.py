"""The reward model: a decoder whose states are scored by one vector, learned from comparisons (Bradley-Terry)."""

import jax
import jax.numpy as jnp
import optax

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.learner import Update, make_supervised_update, whole
from haepo_jax.language.training.scoring import Sequences, flatten_comparisons
from haepo_jax.losses import dpo_loss
from haepo_jax.optimizer import make_optimizer
from haepo_jax.types import Metrics, Params


def init_reward_params(held: Params | None, trained: Params) -> tuple[Params | None, Params]:
    """Makes the parameters of a reward model whose rewards are all 0.

    Args:
      held: those of a decoder that an adapter adapts, or None.
      trained: the decoder's parameters, or its adapter's.

    Returns:
      `(base, trained)`, `{"decoder": ...}` or None, and `{"decoder": ..., "score": [D]}`.
    """
    (size,) = (trained if held is None else held)["embedding"].shape[1:]
    score = jnp.zeros(size, jnp.float32)
    return None if held is None else {"decoder": held}, {"decoder": trained, "score": score}


def compute_rewards(
    decoder: Decoder, params: Params, sequences: Sequences, *, response_length: int, pooling: str
) -> jax.Array:
    """Computes the reward of each response.

    Args:
      decoder: the model.
      params: of the reward model.
      sequences: prompts with their responses.
      response_length: R.
      pooling: how a response's reward comes from the scores of its valid tokens: their `sum`, their `mean`, or
        that of the `last` one, which is end-of-sequence unless the response was cut. Padding is never read.

    Returns:
      `[B]` float32; 0 for an empty response.
    """
    states, _ = decoder.apply({"params": params["decoder"]}, sequences.tokens, sequences.valid, method="hidden")
    scores = jnp.matmul(states[:, -response_length:], params["score"].astype(states.dtype)).astype(jnp.float32)
    valid = sequences.valid[:, -response_length:]
    if pooling == "last":
        after = jnp.pad(valid[:, 1:], ((0, 0), (0, 1)))
        valid = valid & ~after
    total = jnp.sum(jnp.where(valid, scores, 0), axis=-1)
    return total / jnp.maximum(jnp.sum(valid, axis=-1), 1) if pooling == "mean" else total


def bradley_terry_loss(
    chosen: jax.Array, rejected: jax.Array, where: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Computes loss and accuracy of rewards `[B]` for the preferred and for the other response of each comparison.

    `where` `[B]` is True for the comparisons that count; all do when it is None.

    It is the loss of DPO with the reward in the place of the log-ratio, and beta 1.
    """
    nothing = jnp.zeros_like(chosen)
    loss, terms = dpo_loss(chosen, rejected, nothing, nothing, beta=1.0, where=where)
    return loss, jnp.mean(terms.accuracy)


def make_optimizer_of(config: LanguageConfig) -> optax.GradientTransformation:
    """Makes the stage's optimiser."""
    return make_optimizer(config.reward.optimizer, config.reward.num_steps)


def judge(
    config: LanguageConfig,
    decoder: Decoder,
    params: Params,
    comparisons: Sequences,
    *,
    response_length: int,
    where: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes loss and accuracy on comparisons, `[B, 2, P + R]`, the preferred response first.

    `where` `[B]` is True for the comparisons that count; all do when it is None.
    """
    given = _given(config, decoder, params, comparisons, response_length)
    return bradley_terry_loss(given[0::2], given[1::2], where)


def compute_held_out_accuracy(
    config: LanguageConfig, decoder: Decoder, params: Params, comparisons: Sequences, *, response_length: int
) -> jax.Array:
    """Computes the accuracy on comparisons, `[B, 2, P + R]`, of which those without any valid token do not count."""
    given = _given(config, decoder, params, comparisons, response_length)
    where = jnp.any(comparisons.valid, axis=(-2, -1))
    return bradley_terry_loss(given[0::2], given[1::2], where)[1]


def _given(
    config: LanguageConfig, decoder: Decoder, params: Params, comparisons: Sequences, response_length: int
) -> jax.Array:
    """The rewards of the rows of comparisons."""
    rows = flatten_comparisons(comparisons)
    return compute_rewards(decoder, params, rows, response_length=response_length, pooling=config.reward.pooling)


def make_update(config: LanguageConfig, decoder: Decoder, *, response_length: int) -> Update:
    """Makes an update `(learner, base, comparisons) -> (learner, metrics)`, on comparisons `[B, 2, P + R]`.

    Without an adapter all parameters are trained, and `base` is None. Metrics: `loss`, `accuracy`, `grad_norm` and
    `tokens`.
    """

    def loss(
        trained: Params, base: Params | None, comparisons: Sequences, where: jax.Array | None
    ) -> tuple[jax.Array, Metrics]:
        params = whole(base, trained)
        value, accuracy = judge(config, decoder, params, comparisons, response_length=response_length, where=where)
        return value, {"accuracy": accuracy}

    def count(comparisons: Sequences, where: jax.Array | None) -> jax.Array:
        return jnp.int32(len(comparisons.tokens)) if where is None else jnp.sum(where, dtype=jnp.int32)

    return make_supervised_update(
        loss,
        count,
        lambda comparisons: jnp.sum(comparisons.valid[..., -response_length:], dtype=jnp.int32),
        make_optimizer_of(config),
        microbatch=config.reward.microbatch,
    )
