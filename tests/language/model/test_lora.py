"""Adapters as parameters: taken apart, put together, folded in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numpy_decoder import ARCHITECTURES, random_params

from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.lora import fold, init_adapter, join, split_adapter

pytestmark = pytest.mark.usefixtures("exact_products")

ADAPTER = Adapter(rank=2, alpha=5.0)
OFTEN = ("llama_biased", "gpt_neox")  # run with the quick tests
BATCH = jnp.asarray([[0, 3, 7, 1, 18]], jnp.int32), jnp.asarray([[False, True, True, True, True]])


def decoder_and_params(name="qwen3"):
    decoder = Decoder(ARCHITECTURES[name], adapter=ADAPTER)
    return decoder, random_params(decoder)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_split_and_join_are_inverse():
    decoder, params = decoder_and_params()
    base, adapter = split_adapter(params)
    plain = jax.eval_shape(decoder.clone(adapter=None).init, jax.random.key(0), *BATCH)["params"]
    assert jax.tree.map(jnp.shape, base) == jax.tree.map(jnp.shape, plain)
    assert len(jax.tree.leaves(adapter)) == 14  # in and out, of seven projections
    assert_same(join(base, adapter), params)
    assert_same(split_adapter(params)[0], base)


def test_of_a_model_without_adapter_the_adapter_is_empty():
    params = split_adapter(decoder_and_params()[1])[0]
    base, adapter = split_adapter(params)
    assert adapter == {}
    assert_same(base, params)


def test_a_fresh_adapter_fits_and_changes_nothing():
    decoder, params = decoder_and_params()
    adapter = init_adapter(decoder, jax.random.key(1))
    assert jax.tree.map(jnp.shape, adapter) == jax.tree.map(jnp.shape, split_adapter(params)[1])
    assert jnp.any(adapter["layers"]["attention"]["query"]["adapter_in"] != 0)
    base = split_adapter(params)[0]
    plain = decoder.clone(adapter=None).apply({"params": base}, *BATCH)
    np.testing.assert_array_equal(decoder.apply({"params": join(base, adapter)}, *BATCH), plain)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_a_folded_adapter_gives_the_same_logits(name):
    decoder, params = decoder_and_params(name)
    plain = decoder.clone(adapter=None)
    folded = fold(params, ADAPTER)
    assert split_adapter(folded)[1] == {}
    expected = decoder.apply({"params": params}, *BATCH)[:, 1:]
    np.testing.assert_allclose(plain.apply({"params": folded}, *BATCH)[:, 1:], expected, atol=2e-5)
    assert np.max(np.abs(plain.apply({"params": split_adapter(params)[0]}, *BATCH)[:, 1:] - expected)) > 0.1


def test_by_hand_and_in_the_kernels_dtype():
    module = {
        "kernel": jnp.ones((1, 2, 2), jnp.bfloat16),
        "bias": jnp.zeros((1, 2)),
        "adapter_in": jnp.asarray([[[1.0], [2.0]]]),
        "adapter_out": jnp.asarray([[[3.0, 4.0]]]),
    }
    folded = fold({"layers": {"up": module}}, Adapter(rank=1, alpha=0.5))["layers"]["up"]
    assert folded.keys() == {"kernel", "bias"}
    assert folded["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(folded["kernel"].astype(jnp.float32), [[[2.5, 3], [4, 5]]])
