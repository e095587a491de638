"""Gradients in pieces: a mean over tokens is one over all tokens of the batch, however they are shared out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tiny_decoder import DECODER, RESPONSE, params_of, sequences

from haepo_jax.language.config import from_config_dict
from haepo_jax.language.model.sharding import make_mesh
from haepo_jax.language.training import reward, sft
from haepo_jax.language.training.learner import init_learner, make_supervised_update
from haepo_jax.language.training.scoring import Sequences

pytestmark = pytest.mark.usefixtures("exact_products")

COUNTS = jnp.array([5.0, 1.0, 3.0, 2.0, 4.0, 1.0, 2.0])
VALUES = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)


def loss(trained, frozen, batch, where):
    """A mean over things of which a row has several."""
    del frozen
    values, counts = batch
    counts = counts if where is None else jnp.where(where, counts, 0)
    of_rows = jnp.square(values @ trained - 1.0)
    return jnp.sum(counts * of_rows) / jnp.maximum(jnp.sum(counts), 1), {
        "twice": jnp.sum(counts * 2) / jnp.maximum(jnp.sum(counts), 1)
    }


def weigh(batch, where=None):
    return jnp.sum(batch[1] if where is None else jnp.where(where, batch[1], 0))


@pytest.mark.parametrize("microbatch", [3, 20, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2, 7))])
def test_rows_in_pieces_count_by_their_tokens(microbatch):
    optimizer, start = optax.sgd(0.1), jnp.array([0.5, -0.3, 0.2])
    learner = init_learner(start, optimizer, seed=0, mesh=make_mesh(1, rows=8))
    ends = []
    for size in (0, microbatch):
        update = make_supervised_update(loss, weigh, weigh, optimizer, microbatch=size)
        after, metrics = jax.jit(update)(learner, None, (VALUES, COUNTS))
        ends.append((after.trained, metrics))
    (whole, metrics), (pieces, others) = ends
    np.testing.assert_allclose(pieces, whole, rtol=1e-6)
    assert np.abs(np.asarray(whole - start)).max() > 1e-2
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-5, err_msg=name)
    assert metrics["twice"] == pytest.approx(2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_a_stage_takes_the_same_step_whatever_its_microbatch(stage):
    rows = sequences(12)
    batch = rows if stage == "sft" else Sequences(*(leaf.reshape(6, 2, -1) for leaf in rows))
    of = {"sft": sft, "reward": reward}[stage]
    score = jnp.linspace(-1.0, 1.0, 8)
    trained = params_of() if stage == "sft" else {"decoder": params_of(), "score": score}
    ends = []
    for size in (0, 4, 5):
        config = from_config_dict({stage: {"batch_size": len(batch.tokens), "microbatch": size}})
        learner = init_learner(trained, of.make_optimizer_of(config), seed=0, mesh=make_mesh(1, rows=1))
        after, metrics = jax.jit(of.make_update(config, DECODER, response_length=RESPONSE))(learner, None, batch)
        ends.append((after.optimizer_state, metrics))
    for state, metrics in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6), (state, metrics), ends[0])
