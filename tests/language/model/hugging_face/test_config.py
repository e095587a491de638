"""`config.json`: public models, both ways of writing the rotary settings, and every refusal."""

import dataclasses
import json

import numpy as np
import pytest
from helpers.numpy_decoder import ARCHITECTURES, NEWER

from haepo_jax.errors import ConfigError
from haepo_jax.language.model.architecture import Architecture, Experts, RopeScaling
from haepo_jax.language.model.hugging_face.config import TokenIds, make_config, read_architecture
from haepo_jax.language.model.hugging_face.families import FAMILIES
from haepo_jax.language.model.hugging_face.tensors import list_leaves

IDS = TokenIds(eos=2, pad=3)
PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "num_attention_heads": 8,
    "num_hidden_layers": 16,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_parallel_residual": True,
    "vocab_size": 50304,
}
QWEN2 = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = {
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
LLAMA = {
    "attention_bias": False,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}
LLAMA3_ROPE = LLAMA["rope_scaling"]
MISTRAL = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
GEMMA2 = {
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "vocab_size": 256000,
}
GEMMA3 = {
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
QWEN3_MOE = QWEN3 | {
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
OLMO2 = {
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 16,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "rms_norm_eps": 1e-06,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "vocab_size": 100352,
}
SMOLLM3 = {
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "max_position_embeddings": 65536,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 128256,
}
PHI3 = {
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "vocab_size": 32064,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
SUPPORTED = "supported: llama, mistral, qwen2, qwen3, qwen3_moe, gemma2, gemma3_text, olmo2, smollm3, phi3, gpt_neox"


def read(folder, values):
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return read_architecture(folder)


def without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


@pytest.mark.parametrize(
    ("values", "parameters"),
    [
        (PYTHIA, 1_011_781_632),
        (QWEN2, 494_032_768),
        (QWEN3, 596_049_920),
        (LLAMA, 1_235_814_400),
        (MISTRAL, 7_241_732_096),
        (GEMMA2, 2_614_341_888),
        (GEMMA3, 999_885_952),
        (QWEN3_MOE, 30_532_122_624),
        (OLMO2, 1_484_916_736),
        (SMOLLM3, 3_075_098_624),
        (PHI3, 3_821_079_552),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_a_public_model_has_as_many_parameters_as_published(tmp_path, values, parameters):
    arch = read(tmp_path, values)
    assert sum(int(np.prod(leaf.shape)) for leaf in list_leaves(arch).values()) == parameters


def test_fields_of_public_models(tmp_path):
    assert read(tmp_path, LLAMA) == Architecture(
        family="llama",
        vocab_size=128256,
        hidden_size=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
        intermediate_size=8192,
        rope_theta=500_000.0,
        max_length=131072,
        norm_epsilon=1e-5,
        rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192),
        tie_embeddings=True,
    )
    pythia = read(tmp_path, PYTHIA)
    assert (pythia.head_dim, pythia.rotary_dim, pythia.num_kv_heads) == (256, 64, 8)
    assert pythia.parallel_residual and pythia.layer_norm and pythia.activation == "gelu" and not pythia.gated_mlp
    assert pythia.qkv_bias and pythia.output_bias and pythia.mlp_bias and not pythia.tie_embeddings
    qwen2 = read(tmp_path, QWEN2)
    assert (qwen2.head_dim, qwen2.rope_theta) == (64, 1e6)
    assert qwen2.qkv_bias and not qwen2.output_bias and not qwen2.mlp_bias and qwen2.query_key_norm == "none"
    qwen3 = read(tmp_path, QWEN3)
    assert qwen3.query_key_norm == "head" and not qwen3.qkv_bias and qwen3.head_dim == 128


def test_fields_of_newer_public_models(tmp_path):
    assert (read(tmp_path, MISTRAL).window, read(tmp_path, MISTRAL).windowed_layers) == (4096, ())
    gemma2 = read(tmp_path, GEMMA2)
    assert (gemma2.attention_softcap, gemma2.final_softcap, gemma2.query_scale) == (50.0, 30.0, 256.0)
    assert gemma2.windowed_layers == (True, False) * 13 and gemma2.tie_embeddings and gemma2.norm_plus_one
    gemma3 = read(tmp_path, GEMMA3)
    assert gemma3.windowed_layers == ((True,) * 5 + (False,)) * 4 + (True, True) and gemma3.window == 512
    assert (gemma3.rope_theta, gemma3.local_rope_theta, gemma3.attention_softcap) == (1e6, 1e4, None)
    assert gemma3.query_key_norm == "head" and gemma3.pre_norm and gemma3.post_norm
    moe = read(tmp_path, QWEN3_MOE)
    assert (moe.experts, moe.intermediate_size) == (Experts(128, 8, normalized=True), 768)
    olmo2 = read(tmp_path, OLMO2)
    assert olmo2.query_key_norm == "joint" and olmo2.post_norm and not olmo2.pre_norm
    smollm3 = read(tmp_path, SMOLLM3)
    assert smollm3.rotated_layers == (True, True, True, False) * 9 and smollm3.tie_embeddings
    assert (smollm3.window, smollm3.rope_theta) == (None, 5e6)
    assert (read(tmp_path, PHI3).window, read(tmp_path, PHI3).rotary_dim) == (2047, None)


def test_yarn_scaling_as_public_models_write_it(tmp_path):
    arch = read(tmp_path, QWEN3 | {"rope_scaling": YARN})
    assert arch.rope_scaling == RopeScaling("yarn", 4.0, 1.0, 32.0, 32768, 0.1 * np.log(4.0) + 1)
    scaled = read(tmp_path, QWEN3 | {"rope_scaling": YARN | {"mscale": 2.0, "mscale_all_dim": 1.0}}).rope_scaling
    assert scaled.attention_factor == (0.2 * np.log(4.0) + 1) / (0.1 * np.log(4.0) + 1)
    bare = {"type": "yarn", "factor": 2.0, "attention_factor": 1.5, "beta_fast": 16, "truncate": False}
    assert read(tmp_path, QWEN3 | {"rope_scaling": bare}).rope_scaling == RopeScaling(
        "yarn", 2.0, 1.0, 16.0, 40960, 1.5, truncate=False
    )


def test_windows_of_qwens_are_switched_on(tmp_path):
    assert read(tmp_path, QWEN2).window is None
    on = QWEN2 | {"use_sliding_window": True, "max_window_layers": 21}
    assert (read(tmp_path, on).window, read(tmp_path, on).windowed_layers) == (32768, (False,) * 21 + (True,) * 3)
    assert read(tmp_path, on | {"max_window_layers": 24}).window is None
    by_name = QWEN3 | {"use_sliding_window": True, "sliding_window": 9}
    kinds = ["sliding_attention", "full_attention"] * 14
    assert read(tmp_path, by_name | {"layer_types": kinds}).windowed_layers == (True, False) * 14
    assert read(tmp_path, MISTRAL | {"sliding_window": None}).window is None
    assert read(tmp_path, without(MISTRAL, "sliding_window")).window == 4096


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (QWEN2, without(QWEN2, "rope_theta") | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
        (
            LLAMA,
            without(LLAMA, "rope_theta", "rope_scaling") | {"rope_parameters": LLAMA3_ROPE | {"rope_theta": 5e5}},
        ),
        (LLAMA, LLAMA | {"rope_scaling": without(LLAMA3_ROPE, "rope_type") | {"type": "llama3"}}),
        (
            PYTHIA,
            without(PYTHIA, "rotary_emb_base", "rotary_pct")
            | {"rope_parameters": {"rope_theta": 10000, "rope_type": "default", "partial_rotary_factor": 0.25}},
        ),
        (QWEN3, QWEN3 | {"layer_types": ["full_attention"] * 28, "dtype": "bfloat16"}),
        (PYTHIA, PYTHIA | {"rope_theta": 10000, "head_dim": None}),
        (
            GEMMA3,
            without(GEMMA3, "rope_theta", "rope_local_base_freq", "sliding_window_pattern")
            | {
                "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4 + ["sliding_attention"] * 2,
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            },
        ),
        (SMOLLM3, without(SMOLLM3, "no_rope_layers")),
        (QWEN3_MOE, without(QWEN3_MOE, "num_experts") | {"num_local_experts": 128}),
    ],
)
def test_both_ways_of_writing_mean_the_same(tmp_path, old, new):
    assert read(tmp_path, new) == read(tmp_path, old)


def test_what_a_config_leaves_out_has_the_familys_default(tmp_path):
    arch = read(tmp_path, without(LLAMA, "head_dim", "num_key_value_heads", "rope_theta", "rope_scaling", "mlp_bias"))
    assert (arch.head_dim, arch.num_kv_heads, arch.rope_theta, arch.rope_scaling) == (64, 32, 10_000.0, None)
    assert not read(tmp_path, without(QWEN2, "tie_word_embeddings")).tie_embeddings
    assert read(tmp_path, without(QWEN3, "head_dim")).head_dim == 128
    neox = read(tmp_path, without(PYTHIA, "rotary_pct", "rotary_emb_base", "use_parallel_residual", "hidden_act"))
    assert (neox.rotary_dim, neox.rope_theta, neox.parallel_residual, neox.activation) == (64, 10_000.0, True, "gelu")


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_fast", "gelu_pytorch_tanh"])
def test_tanh_forms_of_gelu(tmp_path, activation):
    assert read(tmp_path, PYTHIA | {"hidden_act": activation}).activation == "gelu_tanh"


def test_a_classifier_has_no_head(tmp_path):
    assert read(tmp_path, PYTHIA | {"architectures": ["GPTNeoXForSequenceClassification"]}).tie_embeddings


@pytest.mark.parametrize("name", [*ARCHITECTURES, *NEWER])
@pytest.mark.parametrize("classifier", [False, True])
def test_what_is_written_is_read_back(tmp_path, name, classifier):
    arch = (ARCHITECTURES | NEWER)[name]
    config = make_config(arch, token_ids=TokenIds(eos=5, pad=6, bos=7), dtype="bfloat16", classifier=classifier)
    assert read(tmp_path, config) == (dataclasses.replace(arch, tie_embeddings=True) if classifier else arch)
    assert (config["eos_token_id"], config["pad_token_id"], config["bos_token_id"]) == (5, 6, 7)
    assert make_config(arch, token_ids=TokenIds((5, 8), 6), dtype="bfloat16")["eos_token_id"] == [5, 8]
    assert config["torch_dtype"] == "bfloat16"
    stem = FAMILIES[arch.family].stem + "Text" * (classifier and name == "gemma3_text")
    assert config["architectures"] == [stem + ("ForSequenceClassification" if classifier else "ForCausalLM")]
    assert ("id2label" in config) == classifier


def test_every_share_of_rotated_dimensions_is_read_back_as_it_was(tmp_path):
    for head_dim in (44, 45, 49, 64, 71, 96):
        for rotated in range(2, head_dim, 2):
            sizes = {"head_dim": head_dim, "hidden_size": 4 * head_dim, "rotary_dim": rotated}
            arch = dataclasses.replace(ARCHITECTURES["gpt_neox"], **sizes)
            again = read(tmp_path, make_config(arch, token_ids=IDS, dtype="float32"))
            assert (again.head_dim, again.rotated_dim) == (head_dim, rotated)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("qwen2", {"qkv_bias": False}, "qkv_bias"),
        ("qwen2", {"output_bias": True}, "output_bias"),
        ("llama", {"query_key_norm": "head"}, "query_key_norm"),
        ("llama", {"window": 5}, "window"),
        ("mistral", {"windowed_layers": (True, False)}, "windowed_layers"),
        ("qwen3", {"attention_softcap": 5.0}, "attention_softcap"),
        ("gemma2", {"local_rope_theta": 5.0}, "local_rope_theta"),
        ("gemma2", {"query_scale": None}, "query_scale"),
        ("olmo2", {"post_norm": False}, "post_norm"),
        ("llama", {"rotary_dim": 4}, "rotary_dim"),
        ("qwen3", {"layer_norm": True, "gated_mlp": False}, "layer_norm and gated_mlp"),
        ("gpt_neox", {"num_kv_heads": 2}, "num_kv_heads"),
        ("gpt_neox_sequential", {"head_dim": 8}, "head_dim"),
    ],
)
def test_what_a_family_cannot_store_is_refused(name, changes, named):
    arch = dataclasses.replace((ARCHITECTURES | NEWER)[name], **changes)
    with pytest.raises(ValueError, match=rf"^A {arch.family} cannot be stored with this .*{named}.*\.$"):
        make_config(arch, token_ids=IDS, dtype="float32")


def test_another_family_cannot_be_written():
    arch = dataclasses.replace(ARCHITECTURES["llama"], family="falcon")
    with pytest.raises(ConfigError, match=r"^family 'falcon' is not known; .*llama, mistral, .*, gpt_neox\.$"):
        make_config(arch, token_ids=IDS, dtype="float32")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("{", r"config\.json is not valid JSON: .*\.$"),
        ([1], r"config\.json does not hold a JSON object\.$"),
        ({}, rf"config\.json: model_type is missing; {SUPPORTED}\.$"),
        (LLAMA | {"model_type": "falcon"}, rf"model_type is 'falcon'; {SUPPORTED}\.$"),
        (LLAMA | {"model_type": ["llama"]}, r"model_type is \['llama'\]; supported: "),
        (
            LLAMA | {"quantization_config": {"bits": 4}},
            r"quantization_config is {'bits': 4}; quantised weights are not supported\.$",
        ),
        (LLAMA | {"use_sliding_window": True}, r"use_sliding_window is True; llama is supported without a window\.$"),
        (
            QWEN3 | {"layer_types": ["chunked_attention"] * 28},
            r"layer_types is \['chunked_attention.*; supported: full_attention, sliding_attention\.$",
        ),
        (
            QWEN3 | {"layer_types": ["full_attention"]},
            r"layer_types is \['full_attention'\]; it must name the type of ",
        ),
        (
            QWEN3 | {"layer_types": ["sliding_attention"] * 28},
            r"layer_types is .*; sliding_attention needs a sliding_window that is in use\.$",
        ),
        (
            MISTRAL | {"layer_types": ["full_attention"] * 32},
            r"layer_types is .*; mistral has its sliding_window in every layer\.$",
        ),
        (
            GEMMA3 | {"use_bidirectional_attention": True},
            r"use_bidirectional_attention is True; attention to later tokens is not supported\.$",
        ),
        (GEMMA2 | {"attn_logit_softcapping": 0}, r"attn_logit_softcapping is 0; it must be a number above 0\.$"),
        (without(GEMMA2, "num_key_value_heads"), r"num_key_value_heads is missing; it must be a whole number above 0"),
        (
            QWEN3_MOE | {"decoder_sparse_step": 2},
            r"decoder_sparse_step is 2; a mixture of experts in every layer is supported, which is 1\.$",
        ),
        (QWEN3_MOE | {"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\]; a mixture of experts in every layer is "),
        (
            QWEN3_MOE | {"num_experts_per_tok": 129},
            r"num_experts_per_tok is 129; it must be at most the number of experts, 128\.$",
        ),
        (SMOLLM3 | {"no_rope_layers": [1, 0]}, r"no_rope_layers is \[1, 0\]; it must be a list of 36 times 0 or 1, "),
        (
            PHI3 | {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
            r"rope_scaling\.type is 'longrope'; supported: default\.$",
        ),
        (
            GEMMA3 | {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            r"rope_parameters\.sliding_attention\.rope_type is 'linear'; supported: default\.$",
        ),
        (
            QWEN3 | {"rope_scaling": YARN | {"beta_fast": 0.5}},
            r"rope_scaling\.beta_fast is 0\.5; it must be above beta_slow, 1\.0\.$",
        ),
        (QWEN3 | {"layer_types": 3}, r"layer_types is 3; it must be a list of strings\.$"),
        (LLAMA | {"architectures": 3}, r"architectures is 3; it must be a list of strings\.$"),
        (without(LLAMA, "vocab_size"), r"vocab_size is missing; it must be a whole number above 0\.$"),
        (LLAMA | {"hidden_size": 2048.5}, r"hidden_size is 2048\.5; it must be a whole number above 0\.$"),
        (LLAMA | {"num_hidden_layers": True}, r"num_hidden_layers is True; it must be a whole number above 0\.$"),
        (LLAMA | {"num_hidden_layers": 0}, r"num_hidden_layers is 0; it must be a whole number above 0\.$"),
        (LLAMA | {"num_key_value_heads": 7}, r"num_key_value_heads is 7; it must divide num_attention_heads, 32\.$"),
        (
            QWEN2 | {"num_attention_heads": 13, "num_key_value_heads": 1},
            r"hidden_size is 896; it must be a multiple of num_attention_heads, 13\.$",
        ),
        (without(LLAMA, "rms_norm_eps"), r"rms_norm_eps is missing; it must be a number above 0\.$"),
        (PYTHIA | {"layer_norm_eps": "tiny"}, r"layer_norm_eps is 'tiny'; it must be a number above 0\.$"),
        (LLAMA | {"hidden_act": "gelu"}, r"hidden_act is 'gelu'; supported: silu\.$"),
        (PYTHIA | {"hidden_act": "relu"}, r"hidden_act is 'relu'; supported: gelu, gelu_new, gelu_fast, gelu_pytorch"),
        (PYTHIA | {"attention_bias": "yes"}, r"attention_bias is 'yes'; it must be true or false\.$"),
        (LLAMA | {"rope_theta": 0}, r"rope_theta is 0; it must be a number above 0\.$"),
        (QWEN2 | {"rope_scaling": 2.0}, r"rope_scaling is 2\.0; it must be an object\.$"),
        (
            QWEN2 | {"rope_scaling": {"type": "longrope", "factor": 4.0}},
            r"rope_scaling\.type is 'longrope'; supported: default, linear, llama3, yarn\.$",
        ),
        (
            LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
            r"rope_scaling\.rope_type is 'dynamic'; supported: default, linear, llama3, yarn\.$",
        ),
        (
            without(LLAMA, "rope_scaling") | {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            r"rope_parameters\.full_attention is {'rope_theta': 10000\.0}; fields that are supported here: rope_type",
        ),
        (
            LLAMA | {"rope_scaling": without(LLAMA3_ROPE, "factor")},
            r"rope_scaling\.factor is missing; it must be a number above 0\.$",
        ),
        (
            LLAMA | {"rope_scaling": LLAMA3_ROPE | {"high_freq_factor": 1.0}},
            r"rope_scaling\.high_freq_factor is 1\.0; it must be above low_freq_factor, 1\.0\.$",
        ),
        (
            QWEN2 | {"partial_rotary_factor": 0.5},
            r"partial_rotary_factor is 0\.5; qwen2 is supported with all dimensions rotated\.$",
        ),
        *(
            (values | {field: size}, rf"{field} is {size}; it must be at most \d+\.$")
            for values, field, size in (
                (LLAMA, "num_hidden_layers", 10**9),
                (LLAMA, "hidden_size", 10**9),
                (LLAMA, "vocab_size", 10**12),
                (LLAMA, "num_attention_heads", 2**62),
                (LLAMA, "num_key_value_heads", 10**30),
                (LLAMA, "head_dim", 10**9),
                (PYTHIA, "intermediate_size", 2**40),
                (PYTHIA, "max_position_embeddings", 2**31),
            )
        ),
        (QWEN2 | {"rms_norm_eps": float("inf")}, r"rms_norm_eps is inf; it must be at most 1e\+30\.$"),
        (QWEN2 | {"rms_norm_eps": float("nan")}, r"rms_norm_eps is nan; it must be a number above 0\.$"),
        (QWEN2 | {"rope_theta": 10**400}, r"rope_theta is 10+\.\.\.; it must be at most 1e\+30\.$"),
        (LLAMA | {"rope_scaling": LLAMA3_ROPE | {"\x1b[2J": 1}}, r"rope_scaling\.\\x1b\[2J is 1; fields that are "),
        (LLAMA | {"model_type": "m" * 10_000}, r"model_type is 'm+\.\.\.; supported: "),
        ('{"a":' * 100_000, r"config\.json is not valid JSON: it is nested too deeply\.$"),
        ('{"vocab_size": ' + "9" * 5000 + "}", r"is not valid JSON: a number in it has too many digits\.$"),
        ("\ufeff" + json.dumps(LLAMA | {"hidden_act": "gelu"}), r"hidden_act is 'gelu'; supported: silu\.$"),
        (PYTHIA | {"rotary_pct": 0.005}, r"rotary_pct is 0\.005; of 256 dimensions of a head, an even number must "),
    ],
)
def test_what_is_not_supported_is_refused_by_file_and_field(tmp_path, values, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        read(tmp_path, values)
    assert str(tmp_path / "config.json") in str(error.value)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=rf"^{tmp_path} holds no config\.json\.$"):
        read_architecture(tmp_path)
