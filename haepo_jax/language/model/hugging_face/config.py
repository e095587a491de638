"""`config.json` of a Hugging Face folder, as transformers 4 and 5 write it, to an `Architecture` and back.

What would change the model's function and is not supported is refused. Dropout rates, which concern other trainers,
and how weights were initialised are passed over.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError, choose
from haepo_jax.language.config import MOST_LAYERS
from haepo_jax.language.data.json_text import read_object
from haepo_jax.language.model.architecture import Architecture, RopeScaling
from haepo_jax.language.model.hugging_face.fields import Fields

CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gpt_neox": "GPTNeoX"}
"""The supported families, and what the names of their transformers classes begin with."""

_CLASSIFIER = "ForSequenceClassification"
_EXACT_GELU = {"gelu": True, "gelu_new": False, "gelu_fast": False, "gelu_pytorch_tanh": False}
_LONGEST = 2**31 - 1  # int32 holds positions
_ROPE_KINDS = ("default", "linear", "llama3")
_ROPE_FIELDS = (
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


class TokenIds(NamedTuple):
    """The special tokens that `config.json` names."""

    eos: int | Sequence[int]
    """One, or all that end a response."""
    pad: int
    bos: int | None = None


def read_architecture(folder: Path) -> Architecture:
    """Reads the architecture that a folder's `config.json` describes.

    A `...ForSequenceClassification` has no head over the vocabulary; its architecture says that it is tied.

    Args:
      folder: holds `config.json`.

    Raises:
      ConfigError: there is none, it is damaged, or it asks for what is not supported; the field is named.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.json.")
    return _architecture(Fields(path, read_object(path)))


def make_config(
    architecture: Architecture, *, token_ids: TokenIds, dtype: str, classifier: bool = False
) -> dict[str, Any]:
    """Makes the content of a `config.json`; its keys are those that transformers 4 and 5 both read.

    Args:
      architecture: the model's.
      token_ids: its special tokens.
      dtype: name of the dtype that its weights are stored in.
      classifier: whether the folder holds a `...ForSequenceClassification` with one label, instead of a model with a
        head over the vocabulary.

    Raises:
      ValueError: its family has no such architecture; the fields that cannot be stored are named.
    """
    family = choose("family", architecture.family, tuple(CLASSES))
    config = {
        "architectures": [CLASSES[family] + (_CLASSIFIER if classifier else "ForCausalLM")],
        "model_type": family,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "max_position_embeddings": architecture.max_length,
        "tie_word_embeddings": architecture.tie_embeddings and not classifier,
        "rope_scaling": _rope_scaling_json(architecture.rope_scaling),
        "attention_bias": architecture.output_bias,
        "torch_dtype": dtype,
        "eos_token_id": token_ids.eos if isinstance(token_ids.eos, int) else list(token_ids.eos),
        "pad_token_id": token_ids.pad,
        "bos_token_id": token_ids.bos,
    }
    if family == "gpt_neox":
        config |= {
            "layer_norm_eps": architecture.norm_epsilon,
            "hidden_act": "gelu" if architecture.exact_gelu else "gelu_new",
            "use_parallel_residual": architecture.parallel_residual,
            "rotary_emb_base": architecture.rope_theta,
            "rotary_pct": _share(architecture.rotated_dim, architecture.head_dim),
        }
    else:
        config |= {
            "num_key_value_heads": architecture.num_kv_heads,
            "head_dim": architecture.head_dim,
            "rms_norm_eps": architecture.norm_epsilon,
            "hidden_act": "silu",
            "rope_theta": architecture.rope_theta,
            "mlp_bias": architecture.mlp_bias,
        }
    if classifier:
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    _check_stored(architecture, config, classifier)
    return config


def _architecture(fields: Fields) -> Architecture:
    family = fields.word("model_type", tuple(CLASSES))
    if "quantization_config" in fields:
        raise fields.refusal("quantization_config", "quantised weights are not supported")
    if fields.flag("use_sliding_window", False):
        raise fields.refusal("use_sliding_window", "attention within a window is not supported")
    if set(fields.words("layer_types")) - {"full_attention"}:
        raise fields.refusal("layer_types", "full_attention alone is supported")
    heads = fields.count("num_attention_heads")
    neox = family == "gpt_neox"
    head_dim = _head_dim(fields, family, heads)
    kv_heads = heads if neox else fields.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.refusal("num_key_value_heads", f"it must divide num_attention_heads, {heads}")
    theta, rotary_dim, scaling = _rope(fields, family, head_dim)
    activation = fields.word("hidden_act", tuple(_EXACT_GELU) if neox else ("silu",), "gelu" if neox else "silu")
    bias = family != "qwen2" and fields.flag("attention_bias", neox)
    return Architecture(
        family=family,
        vocab_size=fields.count("vocab_size"),
        hidden_size=fields.count("hidden_size"),
        num_layers=fields.count("num_hidden_layers", high=MOST_LAYERS),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=fields.count("intermediate_size"),
        rope_theta=theta,
        max_length=fields.count("max_position_embeddings", high=_LONGEST),
        norm_epsilon=fields.number("layer_norm_eps" if neox else "rms_norm_eps"),
        rotary_dim=rotary_dim,
        rope_scaling=scaling,
        layer_norm=neox,
        gated_mlp=not neox,
        exact_gelu=_EXACT_GELU.get(activation, True),
        parallel_residual=neox and fields.flag("use_parallel_residual", True),
        query_key_norm=family == "qwen3",
        qkv_bias=bias or family == "qwen2",
        output_bias=bias,
        mlp_bias=neox or (family == "llama" and fields.flag("mlp_bias", False)),
        tie_embeddings=_is_classifier(fields) or fields.flag("tie_word_embeddings", False),
    )


def _is_classifier(fields: Fields) -> bool:
    return any(name.endswith(_CLASSIFIER) for name in fields.words("architectures"))


def _head_dim(fields: Fields, family: str, heads: int) -> int:
    if family != "gpt_neox" and "head_dim" in fields:
        return fields.count("head_dim")
    if family == "qwen3":
        return 128  # what transformers takes for this family
    size = fields.count("hidden_size")
    if size % heads:
        raise fields.refusal("hidden_size", f"it must be a multiple of num_attention_heads, {heads}")
    return size // heads


def _rope(fields: Fields, family: str, head_dim: int) -> tuple[float, int | None, RopeScaling | None]:
    """The base, how many dimensions are rotated unless all are, and the scaling."""
    rope = fields.section("rope_scaling" if fields.get("rope_scaling") else "rope_parameters", _ROPE_FIELDS)
    neox = family == "gpt_neox"
    old_theta = "rotary_emb_base" if neox and "rotary_emb_base" in fields else "rope_theta"
    theta = rope.number("rope_theta") if "rope_theta" in rope else fields.number(old_theta, 10_000.0)

    old_share = "rotary_pct" if neox else "partial_rotary_factor"
    place, name = (rope, "partial_rotary_factor") if "partial_rotary_factor" in rope else (fields, old_share)
    share = place.number(name, 0.25 if neox else 1.0)
    if not neox and share != 1.0:
        raise place.refusal(name, f"{family} is supported with all dimensions rotated")
    rotated = int(head_dim * share)
    if rotated < 2 or rotated % 2 or rotated > head_dim:
        raise place.refusal(name, f"of {head_dim} dimensions of a head, an even number must be rotated")

    kind = rope.word("rope_type" if "rope_type" in rope else "type", _ROPE_KINDS, "default")
    scaling = None
    if kind == "linear":
        scaling = RopeScaling(kind, rope.number("factor"))
    elif kind == "llama3":
        scaling = RopeScaling(
            kind,
            rope.number("factor"),
            rope.number("low_freq_factor"),
            rope.number("high_freq_factor"),
            rope.count("original_max_position_embeddings", high=_LONGEST),
        )
        if scaling.high_freq_factor <= scaling.low_freq_factor:
            raise rope.refusal("high_freq_factor", f"it must be above low_freq_factor, {scaling.low_freq_factor}")
    return theta, None if rotated == head_dim else rotated, scaling


def _share(part: int, whole: int) -> float:
    """A share of which `int(whole * share)`, as every reader computes it, is `part` again, whatever was rounded."""
    share = part / whole
    return share if int(whole * share) == part else math.nextafter(share, math.inf)


def _rope_scaling_json(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
    return values


def _check_stored(architecture: Architecture, config: Mapping[str, Any], classifier: bool) -> None:
    """Reads the config back: not everything that an `Architecture` can say exists in each family."""
    wanted = dataclasses.asdict(dataclasses.replace(architecture, tie_embeddings=True) if classifier else architecture)
    stored = dataclasses.asdict(_architecture(Fields(Path("config.json"), config)))
    differing = [name for name in wanted if wanted[name] != stored[name]]
    if differing:
        raise ValueError(f"A {architecture.family} cannot be stored with this {' and '.join(differing)}.")
