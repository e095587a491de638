"""The architecture of a decoder: sizes, and the choices in which the supported families differ, one a field.

A family is a set of these choices and the names under which a Hugging Face folder stores them
(`hugging_face/families.py`); the decoder knows the choices alone.
"""

import dataclasses
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies stretched for contexts longer than those of pre-training."""

    kind: str
    """`linear`: all frequencies divided by `factor`. `llama3` and `yarn`: only those whose wave is long, with a ramp
    between, by wave length in the first and by dimension in the second (arXiv 2309.00071)."""
    factor: float
    low_freq_factor: float = 1.0
    """Waves longer than `original_length / low_freq_factor` are divided by `factor`; YaRN's beta_slow."""
    high_freq_factor: float = 4.0
    """Waves shorter than `original_length / high_freq_factor` stay; YaRN's beta_fast."""
    original_length: int = 8192
    """The context of pre-training, in tokens; not read by `linear`."""
    attention_factor: float = 1.0
    """`yarn`: rotated queries and keys are both multiplied by this."""
    truncate: bool = True
    """`yarn`: the ramp begins and ends at whole dimensions."""


@dataclasses.dataclass(frozen=True)
class Experts:
    """A feed-forward half that is a mixture of experts; each is a network of `Architecture.intermediate_size`."""

    count: int
    per_token: int
    """Experts that a token's router chooses, and whose outputs are added, weighted by the router's softmax."""
    normalized: bool
    """The weights of the chosen experts are divided by their sum."""


class LayerKind(NamedTuple):
    """The positions that a layer's attention sees."""

    window: int | None
    """Tokens that a token attends to at most, itself included; all before it when None."""
    rope_theta: float | None
    """Base of the rotary wavelengths; None for a layer without positions."""
    rope_scaling: RopeScaling | None


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer. The defaults are Llama's choices; `family` only names the format it is stored in."""

    family: str
    """How a Hugging Face folder names its weights: one of `families.FAMILIES`."""
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rope_theta: float
    max_length: int
    """Longest sequence that its rotary embedding was made for, in tokens."""
    norm_epsilon: float = 1e-6
    rotary_dim: int | None = None
    """How many of a head's dimensions are rotated; all when unset."""
    rope_scaling: RopeScaling | None = None
    local_rope_theta: float | None = None
    """Base of the wavelengths in layers with a window, which are then not scaled (Gemma 3); as in all when unset."""
    rotated_layers: tuple[bool, ...] = ()
    """Which layers rotate queries and keys (SmolLM3); all when empty."""
    window: int | None = None
    """Tokens that a token attends to, itself included, in layers with a window."""
    windowed_layers: tuple[bool, ...] = ()
    """Which layers have the window (Gemma, Qwen); all when empty."""
    layer_norm: bool = False
    """LayerNorm with bias (GPT-NeoX) instead of RMSNorm."""
    norm_plus_one: bool = False
    """RMSNorm multiplies by 1 + scale instead of by the scale (Gemma)."""
    pre_norm: bool = True
    """Attention and MLP read the normed residual stream."""
    post_norm: bool = False
    """What attention and MLP give is normed before it is added (OLMo-2, and Gemma besides `pre_norm`)."""
    parallel_residual: bool = False
    """Attention and MLP both read the layer's input (GPT-NeoX)."""
    gated_mlp: bool = True
    """`down(activation(gate(x)) * up(x))`; otherwise (GPT-NeoX) `down(activation(up(x)))`."""
    activation: str = "silu"
    """`silu`, `gelu`, or `gelu_tanh`, its tanh form."""
    experts: Experts | None = None
    """The feed-forward half of every layer is a mixture of experts (Qwen3-MoE)."""
    query_key_norm: str = "none"
    """RMSNorm of queries and keys: of each `head` (Qwen3, Gemma 3), or of all heads at once, `joint` (OLMo-2)."""
    query_scale: float | None = None
    """Attention's scores are divided by the square root of this (Gemma); of `head_dim` when unset."""
    attention_softcap: float | None = None
    """Attention's scores s become `cap * tanh(s / cap)` (Gemma 2)."""
    final_softcap: float | None = None
    """Logits become `cap * tanh(logit / cap)` (Gemma 2)."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the square root of `hidden_size` (Gemma)."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    tie_embeddings: bool = False
    """The head is the transposed embedding."""

    @property
    def rotated_dim(self) -> int:
        """The number of a head's dimensions that are rotated."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer."""
        windowed = self.windowed_layers or (self.window is not None,) * self.num_layers
        rotated = self.rotated_layers or (True,) * self.num_layers
        return tuple(self._kind(*layer) for layer in zip(windowed, rotated, strict=True))

    def _kind(self, windowed: bool, rotated: bool) -> LayerKind:
        local = windowed and self.local_rope_theta is not None
        theta = self.local_rope_theta if local else self.rope_theta
        scaling = None if local else self.rope_scaling
        return LayerKind(self.window if windowed else None, *((theta, scaling) if rotated else (None, None)))


_GEMMA: dict[str, Any] = {
    "norm_plus_one": True,
    "post_norm": True,
    "activation": "gelu_tanh",
    "scaled_embedding": True,
}
FIXED: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"query_key_norm": "head"},
    "qwen3_moe": {"query_key_norm": "head"},
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA | {"query_key_norm": "head"},
    "olmo2": {"query_key_norm": "joint", "pre_norm": False, "post_norm": True},
    "smollm3": {},
    "phi3": {},
    "gpt_neox": {"layer_norm": True, "gated_mlp": False, "mlp_bias": True},
}
"""The choices that all models of a family share, where they are not the defaults."""


def make_architecture(family: str, *, head_dim: int, **sizes: Any) -> Architecture:
    """Makes an architecture with a family's usual choices, for a model that starts from random parameters.

    Args:
      family: one of `FIXED`; a mixture of experts must be given its `experts`.
      head_dim: dimensions of a head; GPT-NeoX rotates a quarter of them.
      sizes: the other fields of `Architecture`.
    """
    usual: dict[str, dict[str, Any]] = {
        "gpt_neox": {
            "activation": "gelu",
            "parallel_residual": True,
            "qkv_bias": True,
            "output_bias": True,
            "rotary_dim": max(2, head_dim // 8 * 2),
        },
    }
    return Architecture(family=family, head_dim=head_dim, **(sizes | FIXED[family] | usual.get(family, {})))
