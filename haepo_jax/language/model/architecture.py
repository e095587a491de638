"""The architecture of a decoder: sizes and the few choices in which the supported families differ.

Which choices a family makes is read from a Hugging Face `config.json` in `hugging_face.py`; here are only the choices.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies stretched for contexts longer than those of pre-training."""

    kind: str
    """`linear`: all frequencies divided by `factor`. `llama3`: only those whose wave is long, with a ramp between."""
    factor: float
    low_freq_factor: float = 1.0
    """`llama3`: waves longer than `original_length / low_freq_factor` are divided by `factor`."""
    high_freq_factor: float = 4.0
    """`llama3`: waves shorter than `original_length / high_freq_factor` stay."""
    original_length: int = 8192
    """`llama3`: the context of pre-training, in tokens."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer. The defaults are Llama's choices; `family` only names the format it is stored in."""

    family: str
    """`llama`, `qwen2`, `qwen3` or `gpt_neox`: how a Hugging Face folder names its weights."""
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
    layer_norm: bool = False
    """LayerNorm with bias (GPT-NeoX) instead of RMSNorm."""
    gated_mlp: bool = True
    """`down(silu(gate(x)) * up(x))`; otherwise (GPT-NeoX) `down(gelu(up(x)))`."""
    exact_gelu: bool = True
    """The error-function GELU rather than its tanh form; matters without `gated_mlp` only."""
    parallel_residual: bool = False
    """Attention and MLP both read the layer's input (GPT-NeoX)."""
    query_key_norm: bool = False
    """RMSNorm on every head's queries and keys (Qwen3)."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    tie_embeddings: bool = False
    """The head is the transposed embedding."""

    @property
    def rotated_dim(self) -> int:
        """The number of a head's dimensions that are rotated."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim


def make_architecture(family: str, *, head_dim: int, **sizes: Any) -> Architecture:
    """Makes an architecture with a family's usual choices, for a model that starts from random parameters.

    Args:
      family: `llama`, `qwen2`, `qwen3` or `gpt_neox`.
      head_dim: dimensions of a head; GPT-NeoX rotates a quarter of them.
      sizes: the other fields of `Architecture`.
    """
    choices: dict[str, dict[str, Any]] = {
        "llama": {},
        "qwen2": {"qkv_bias": True},
        "qwen3": {"query_key_norm": True},
        "gpt_neox": {
            "layer_norm": True,
            "gated_mlp": False,
            "parallel_residual": True,
            "qkv_bias": True,
            "output_bias": True,
            "mlp_bias": True,
            "rotary_dim": max(2, head_dim // 8 * 2),
        },
    }
    return Architecture(family=family, head_dim=head_dim, **(sizes | choices[family]))
