"""The families that are read and written: what their tensors are called, and how their `config.json` says things.

What a family's models compute is in `architecture.py`; nothing here changes it.
"""

from collections.abc import Mapping
from typing import NamedTuple

_LLAMA = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "layers/attention_norm": "model.layers.{}.input_layernorm",
    "layers/mlp_norm": "model.layers.{}.post_attention_layernorm",
    "layers/attention/query": "model.layers.{}.self_attn.q_proj",
    "layers/attention/key": "model.layers.{}.self_attn.k_proj",
    "layers/attention/value": "model.layers.{}.self_attn.v_proj",
    "layers/attention/output": "model.layers.{}.self_attn.o_proj",
    "layers/attention/query_norm": "model.layers.{}.self_attn.q_norm",
    "layers/attention/key_norm": "model.layers.{}.self_attn.k_norm",
    "layers/mlp/gate": "model.layers.{}.mlp.gate_proj",
    "layers/mlp/up": "model.layers.{}.mlp.up_proj",
    "layers/mlp/down": "model.layers.{}.mlp.down_proj",
}
_POST_NORMS = {
    "layers/attention_post_norm": "model.layers.{}.post_attention_layernorm",
    "layers/mlp_norm": "model.layers.{}.pre_feedforward_layernorm",
    "layers/mlp_post_norm": "model.layers.{}.post_feedforward_layernorm",
}
_EXPERTS = {
    "layers/mlp/router": "model.layers.{}.mlp.gate",
    **{f"layers/mlp/{name}": f"model.layers.{{}}.mlp.experts.{{}}.{name}_proj" for name in ("gate", "up", "down")},
}
_PHI3 = {
    **{f"layers/attention/{name}": "model.layers.{}.self_attn.qkv_proj" for name in ("query", "key", "value")},
    **{f"layers/mlp/{name}": "model.layers.{}.mlp.gate_up_proj" for name in ("gate", "up")},
}
_NEOX = {
    "embedding": "gpt_neox.embed_in",
    "final_norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
    "layers/attention_norm": "gpt_neox.layers.{}.input_layernorm",
    "layers/mlp_norm": "gpt_neox.layers.{}.post_attention_layernorm",
    **{
        f"layers/attention/{name}": "gpt_neox.layers.{}.attention.query_key_value"
        for name in ("query", "key", "value")
    },
    "layers/attention/output": "gpt_neox.layers.{}.attention.dense",
    "layers/mlp/up": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "layers/mlp/down": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
}

_GELU_TANH = {"gelu_pytorch_tanh": "gelu_tanh"}
_ROPE_KINDS = ("default", "linear", "llama3", "yarn")


class Family(NamedTuple):
    """How one family is stored; the defaults are Llama's ways."""

    stem: str
    """What the names of its transformers classes begin with."""
    names: Mapping[str, str]
    """The tensor of each module of the decoder, without `.weight`; `{}` stands for the layer, a second for the expert.
    Modules with the same name share a fused tensor."""
    activation_field: str = "hidden_act"
    activations: Mapping[str, str] = {"silu": "silu"}
    """The activations that it is supported with, by their names there; the first is its default."""
    epsilon_field: str = "rms_norm_eps"
    head_dim: int | None = None
    """Of a config that gives none; None stands for `hidden_size` over the heads."""
    fixed_head_dim: bool = False
    """The config has no say in it: it is `hidden_size` over the heads."""
    kv_heads: str = "heads"
    """Without `num_key_value_heads` there are as many as `heads`; `given`: it must be there; `none`: no such field."""
    rope_theta: float = 10_000.0
    rope_kinds: tuple[str, ...] = _ROPE_KINDS
    rotary_field: str = ""
    """The share of a head that is rotated; all is, where the family has no such field."""
    local_rope: bool = False
    """Layers with a window have a base of their own."""
    attention_bias: str = "attention_bias"
    """The field for biases of the attention; empty where the family has no choice."""
    mlp_bias: bool = False
    """Whether it has the field `mlp_bias`."""
    tied: bool = False
    """Of a config that does not say whether the head is the embedding."""
    windows: str = "none"
    """Which layers have a window: `all`, by `sliding_window`; `switched` on by `use_sliding_window`, for those from
    `max_window_layers` on; `alternating` with layers that see everything, after each so many."""
    window: int | None = None
    """Of a config that does not say."""
    alternation: int = 1
    """One layer in so many sees everything, where layers alternate and the config does not say."""
    unrotated_layers: bool = False
    """Some layers have no positions, by `no_rope_layers`."""
    softcaps: tuple[float | None, float | None] | None = None
    """Attention's and the logits', of a config that does not say; None where the family has no such fields."""
    experts: bool = False
    by_head: bool = False
    """In fused queries, keys and values each head's three come one after the other."""


FAMILIES = {
    "llama": Family("Llama", _LLAMA, mlp_bias=True),
    "mistral": Family("Mistral", _LLAMA, kv_heads="given", attention_bias="", windows="all", window=4096),
    "qwen2": Family("Qwen2", _LLAMA, attention_bias="", windows="switched", window=4096),
    "qwen3": Family("Qwen3", _LLAMA, head_dim=128, windows="switched", window=4096),
    "qwen3_moe": Family(
        "Qwen3Moe", _LLAMA | _EXPERTS, kv_heads="given", windows="switched", window=4096, experts=True
    ),
    "gemma2": Family(
        "Gemma2",
        _LLAMA | _POST_NORMS,
        activation_field="hidden_activation",
        activations=_GELU_TANH,
        head_dim=256,
        kv_heads="given",
        tied=True,
        windows="alternating",
        window=4096,
        alternation=2,
        softcaps=(50.0, 30.0),
    ),
    "gemma3_text": Family(
        "Gemma3",
        _LLAMA | _POST_NORMS,
        activation_field="hidden_activation",
        activations=_GELU_TANH,
        head_dim=256,
        kv_heads="given",
        rope_theta=1_000_000.0,
        local_rope=True,
        tied=True,
        windows="alternating",
        window=4096,
        alternation=6,
        softcaps=(None, None),
    ),
    "olmo2": Family("Olmo2", _LLAMA | _POST_NORMS),
    "smollm3": Family(
        "SmolLM3",
        _LLAMA,
        kv_heads="given",
        rope_theta=2_000_000.0,
        mlp_bias=True,
        tied=True,
        windows="switched",
        unrotated_layers=True,
    ),
    "phi3": Family(
        "Phi3",
        _LLAMA | _PHI3,
        rope_kinds=("default",),
        rotary_field="partial_rotary_factor",
        attention_bias="",
        windows="all",
    ),
    "gpt_neox": Family(
        "GPTNeoX",
        _NEOX,
        activations={"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh"} | _GELU_TANH,
        epsilon_field="layer_norm_eps",
        fixed_head_dim=True,
        kv_heads="none",
        rotary_field="rotary_pct",
        by_head=True,
    ),
}
"""By the `model_type` of their `config.json`."""
