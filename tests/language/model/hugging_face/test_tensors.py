"""Names, shapes and orders of stored tensors, by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numpy_decoder import ARCHITECTURES, NEWER, random_params

from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.model.hugging_face.tensors import (
    SCORE,
    Leaf,
    Part,
    count_tensor_bytes,
    flatten_by_path,
    iterate_tensors,
    list_leaves,
    make_leaf,
)

FLOAT32 = np.dtype("float32")


def stored_names(arch):
    return {name: leaf.tensor_shape for leaf in list_leaves(arch).values() for name in leaf.tensor_names}


def test_names_and_shapes_of_a_qwen3():
    arch = dataclasses.replace(ARCHITECTURES["qwen3"], num_layers=1)
    assert stored_names(arch) == {
        "model.embed_tokens.weight": (19, 16),
        "model.layers.0.input_layernorm.weight": (16,),
        "model.layers.0.self_attn.q_proj.weight": (24, 16),
        "model.layers.0.self_attn.k_proj.weight": (12, 16),
        "model.layers.0.self_attn.v_proj.weight": (12, 16),
        "model.layers.0.self_attn.o_proj.weight": (16, 24),
        "model.layers.0.self_attn.q_norm.weight": (6,),
        "model.layers.0.self_attn.k_norm.weight": (6,),
        "model.layers.0.post_attention_layernorm.weight": (16,),
        "model.layers.0.mlp.gate_proj.weight": (24, 16),
        "model.layers.0.mlp.up_proj.weight": (24, 16),
        "model.layers.0.mlp.down_proj.weight": (16, 24),
        "model.norm.weight": (16,),
        "lm_head.weight": (19, 16),
    }


def test_names_and_shapes_of_a_gpt_neox():
    arch = dataclasses.replace(ARCHITECTURES["gpt_neox"], num_layers=1)
    assert stored_names(arch) == {
        "gpt_neox.embed_in.weight": (19, 16),
        "gpt_neox.layers.0.input_layernorm.weight": (16,),
        "gpt_neox.layers.0.input_layernorm.bias": (16,),
        "gpt_neox.layers.0.post_attention_layernorm.weight": (16,),
        "gpt_neox.layers.0.post_attention_layernorm.bias": (16,),
        "gpt_neox.layers.0.attention.query_key_value.weight": (48, 16),
        "gpt_neox.layers.0.attention.query_key_value.bias": (48,),
        "gpt_neox.layers.0.attention.dense.weight": (16, 16),
        "gpt_neox.layers.0.attention.dense.bias": (16,),
        "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": (24, 16),
        "gpt_neox.layers.0.mlp.dense_h_to_4h.bias": (24,),
        "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": (16, 24),
        "gpt_neox.layers.0.mlp.dense_4h_to_h.bias": (16,),
        "gpt_neox.final_layer_norm.weight": (16,),
        "gpt_neox.final_layer_norm.bias": (16,),
        "embed_out.weight": (19, 16),
    }


def test_fused_and_expert_tensors_have_the_shapes_that_public_models_have():
    names = stored_names(dataclasses.replace(NEWER["phi3"], num_layers=1))
    assert names["model.layers.0.self_attn.qkv_proj.weight"] == (16 + 2 * 8, 16)
    assert names["model.layers.0.mlp.gate_up_proj.weight"] == (2 * 24, 16)
    names = stored_names(dataclasses.replace(NEWER["qwen3_moe"], num_layers=1))
    assert names["model.layers.0.mlp.gate.weight"] == (3, 16)
    assert names["model.layers.0.mlp.experts.2.down_proj.weight"] == (16, 24)
    names = stored_names(dataclasses.replace(NEWER["olmo2"], num_layers=1))
    assert "model.layers.0.input_layernorm.weight" not in names
    assert names["model.layers.0.self_attn.k_norm.weight"] == (8,)


def test_rows_of_a_fused_tensor_lie_one_part_below_the_other():
    weight = np.arange(7 * 2, dtype=np.float32).reshape(7, 2)
    for place, rows in enumerate(([0, 1, 2, 3], [4, 5], [6])):
        leaf = Leaf("{}.w", (1, 2, len(rows)), True, Part(place, (4, 2, 1)))
        np.testing.assert_array_equal(make_leaf(leaf, lambda name: weight, FLOAT32)[0], weight[rows].T)


@pytest.mark.parametrize(("part", "outputs"), [(0, [0, 1, 6, 7]), (1, [2, 3, 8, 9]), (2, [4, 5, 10, 11])])
def test_fused_projections_are_taken_apart_head_by_head(part, outputs):
    # Two heads of two dimensions. Of the twelve outputs the first head has six: two of its query, two of its key,
    # two of its value; then the second head.
    weight = np.arange(12 * 4, dtype=np.float32).reshape(12, 4)
    bias = 100 + np.arange(12, dtype=np.float32)
    place = Part(part, (4, 4, 4), blocks=2)
    kernel = make_leaf(Leaf("{}.w", (1, 4, 4), True, place), lambda name: weight, FLOAT32)
    np.testing.assert_array_equal(kernel, weight[outputs].T[None])
    got = make_leaf(Leaf("{}.b", (1, 4), False, place), lambda name: bias, FLOAT32)
    np.testing.assert_array_equal(got, bias[None, outputs])


def test_a_layer_each_has_its_tensor_and_kernels_are_transposed():
    params = flatten_by_path(random_params(Decoder(ARCHITECTURES["qwen3"])))
    tensors = dict(iterate_tensors(list_leaves(ARCHITECTURES["qwen3"]), params, FLOAT32))
    kernel = params["layers/attention/key/kernel"]
    for layer in range(2):
        np.testing.assert_array_equal(tensors[f"model.layers.{layer}.self_attn.k_proj.weight"], kernel[layer].T)
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"], params["embedding"])
    np.testing.assert_array_equal(tensors["lm_head.weight"], params["head"].T)


@pytest.mark.parametrize(
    "name",
    [
        *ARCHITECTURES,
        *(name if name in ("qwen3_moe", "phi3") else pytest.param(name, marks=pytest.mark.slow) for name in NEWER),
    ],
)
def test_to_tensors_and_back(name):
    arch = (ARCHITECTURES | NEWER)[name]
    stored, params = list_leaves(arch), flatten_by_path(random_params(Decoder(arch)))
    tensors = list(iterate_tensors(stored, params, FLOAT32))
    assert [tensor.nbytes for _, tensor in tensors] == count_tensor_bytes(stored, FLOAT32)
    assert all(tensor.flags.c_contiguous for _, tensor in tensors)
    named = dict(tensors)
    assert len(named) == len(tensors)
    for path, leaf in stored.items():
        assert all(named[name].shape == leaf.tensor_shape for name in leaf.tensor_names)
        np.testing.assert_array_equal(make_leaf(leaf, named.get, FLOAT32), params[path])


def test_a_reward_head_is_a_row():
    stored = {"score": Leaf(SCORE, (3,))}
    ((name, tensor),) = iterate_tensors(stored, {"score": jnp.array([1.0, 2.0, 3.0])}, FLOAT32)
    assert name == "score.weight"
    np.testing.assert_array_equal(tensor, [[1, 2, 3]])
    np.testing.assert_array_equal(make_leaf(stored["score"], lambda name: tensor, FLOAT32), [1, 2, 3])
