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
from haepo_jax.language.model.architecture import FIXED, Architecture, Experts, RopeScaling
from haepo_jax.language.model.hugging_face.families import FAMILIES, Family
from haepo_jax.language.model.hugging_face.fields import Fields

_CLASSIFIER = "ForSequenceClassification"
_LONGEST = 2**31 - 1  # int32 holds positions
_LAYER_TYPES = ("full_attention", "sliding_attention")
_ROPE_FIELDS = (
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
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
    name = choose("family", architecture.family, tuple(FAMILIES))
    family = FAMILIES[name]
    activations = {ours: theirs for theirs, ours in [*family.activations.items()][::-1]}
    config = {
        "architectures": [family.stem + _get_suffix(family, classifier)],
        "model_type": name,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "max_position_embeddings": architecture.max_length,
        family.epsilon_field: architecture.norm_epsilon,
        family.activation_field: activations.get(architecture.activation, architecture.activation),
        "tie_word_embeddings": architecture.tie_embeddings and not classifier,
        "attention_bias": architecture.output_bias,
        "torch_dtype": dtype,
        "eos_token_id": token_ids.eos if isinstance(token_ids.eos, int) else list(token_ids.eos),
        "pad_token_id": token_ids.pad,
        "bos_token_id": token_ids.bos,
        **_make_rope(architecture, family),
        **_make_windows(architecture, family),
    }
    if not family.fixed_head_dim:
        config["head_dim"] = architecture.head_dim
    if family.kv_heads != "none":
        config["num_key_value_heads"] = architecture.num_kv_heads
    if family.mlp_bias:
        config["mlp_bias"] = architecture.mlp_bias
    if name == "gpt_neox":
        config["use_parallel_residual"] = architecture.parallel_residual
    if family.softcaps is not None:
        config |= {
            "attn_logit_softcapping": architecture.attention_softcap,
            "final_logit_softcapping": architecture.final_softcap,
            "query_pre_attn_scalar": _whole(architecture.query_scale),
        }
    if family.experts and architecture.experts is not None:
        config |= {
            "num_experts": architecture.experts.count,
            "num_experts_per_tok": architecture.experts.per_token,
            "norm_topk_prob": architecture.experts.normalized,
            "moe_intermediate_size": architecture.intermediate_size,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    if classifier:
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    _check_stored(architecture, config, classifier)
    return config


def _get_suffix(family: Family, classifier: bool) -> str:
    if classifier and family.stem == "Gemma3":
        return "Text" + _CLASSIFIER
    return _CLASSIFIER if classifier else "ForCausalLM"


def _whole(value: float | None) -> float | int | None:
    """The number as transformers wants it, whole where it is."""
    return int(value) if value is not None and value.is_integer() else value


def _make_rope(architecture: Architecture, family: Family) -> dict[str, Any]:
    share = architecture.rotated_dim, architecture.head_dim
    theta = "rotary_emb_base" if family.rotary_field == "rotary_pct" else "rope_theta"
    rope: dict[str, Any] = {
        "rope_scaling": _make_rope_scaling(architecture.rope_scaling),
        theta: architecture.rope_theta,
    }
    if family.rotary_field:
        rope[family.rotary_field] = _share(*share)
    if family.local_rope:
        rope["rope_local_base_freq"] = architecture.local_rope_theta
    if family.unrotated_layers:
        rope["no_rope_layers"] = [int(kind.rope_theta is not None) for kind in architecture.layer_kinds]
    return rope


def _make_windows(architecture: Architecture, family: Family) -> dict[str, Any]:
    if family.windows == "none":
        return {}
    windows: dict[str, Any] = {"sliding_window": architecture.window}
    if family.windows == "switched":
        windows["use_sliding_window"] = architecture.window is not None
    if family.windows != "all" and not family.experts:
        windows["layer_types"] = [_LAYER_TYPES[kind.window is not None] for kind in architecture.layer_kinds]
    return windows


def _architecture(fields: Fields) -> Architecture:
    name = fields.word("model_type", tuple(FAMILIES))
    family, fixed = FAMILIES[name], FIXED[name]
    if "quantization_config" in fields:
        raise fields.refusal("quantization_config", "quantised weights are not supported")
    if fields.flag("use_bidirectional_attention", False):
        raise fields.refusal("use_bidirectional_attention", "attention to later tokens is not supported")
    heads, layers = fields.count("num_attention_heads"), fields.count("num_hidden_layers", high=MOST_LAYERS)
    head_dim = _head_dim(fields, family, heads)
    kv_heads = heads
    if family.kv_heads != "none":
        kv_heads = fields.count("num_key_value_heads", heads if family.kv_heads == "heads" else None)
    if heads % kv_heads:
        raise fields.refusal("num_key_value_heads", f"it must divide num_attention_heads, {heads}")
    max_length = fields.count("max_position_embeddings", high=_LONGEST)
    rope = _rope(fields, family, head_dim, max_length)
    rotated = _rotated_layers(fields, layers) if family.unrotated_layers else ()
    window, windowed = _windows(fields, family, layers, rotated)
    activation = fields.word(family.activation_field, tuple(family.activations), next(iter(family.activations)))
    bias = bool(family.attention_bias) and fields.flag(family.attention_bias, name == "gpt_neox")
    choices: dict[str, Any] = {
        "qkv_bias": bias,
        "mlp_bias": family.mlp_bias and fields.flag("mlp_bias", False),
        "activation": family.activations[activation],
        "parallel_residual": name == "gpt_neox" and fields.flag("use_parallel_residual", True),
    }
    if family.softcaps is not None:
        attention, final = family.softcaps
        choices |= {
            "query_scale": fields.number("query_pre_attn_scalar", 256.0),
            "attention_softcap": fields.optional_number("attn_logit_softcapping", attention),
            "final_softcap": fields.optional_number("final_logit_softcapping", final),
        }
    return Architecture(
        family=name,
        vocab_size=fields.count("vocab_size"),
        hidden_size=fields.count("hidden_size"),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=fields.count("moe_intermediate_size" if family.experts else "intermediate_size"),
        max_length=max_length,
        norm_epsilon=fields.number(family.epsilon_field),
        rotated_layers=rotated,
        window=window,
        windowed_layers=windowed,
        experts=_experts(fields) if family.experts else None,
        output_bias=bias,
        tie_embeddings=_is_classifier(fields) or fields.flag("tie_word_embeddings", family.tied),
        **(rope | choices | fixed),
    )


def _experts(fields: Fields) -> Experts:
    if fields.count("decoder_sparse_step", 1) != 1:
        raise fields.refusal("decoder_sparse_step", "a mixture of experts in every layer is supported, which is 1")
    if fields.get("mlp_only_layers"):
        raise fields.refusal("mlp_only_layers", "a mixture of experts in every layer is supported, which is []")
    count = fields.count("num_local_experts" if "num_local_experts" in fields else "num_experts")
    per_token = fields.count("num_experts_per_tok")
    if per_token > count:
        raise fields.refusal("num_experts_per_tok", f"it must be at most the number of experts, {count}")
    return Experts(count, per_token, fields.flag("norm_topk_prob", False))


def _rotated_layers(fields: Fields, layers: int) -> tuple[bool, ...]:
    given = fields.flags("no_rope_layers", layers)
    interval = fields.count("no_rope_layer_interval", 4)
    rotated = given or tuple((layer + 1) % interval != 0 for layer in range(layers))
    return () if all(rotated) else rotated


def _windows(
    fields: Fields, family: Family, layers: int, rotated: tuple[bool, ...]
) -> tuple[int | None, tuple[bool, ...]]:
    """The window, and which layers have it unless all have."""
    kinds = fields.words("layer_types")
    if set(kinds) - set(_LAYER_TYPES):
        raise fields.refusal("layer_types", f"supported: {', '.join(_LAYER_TYPES)}")
    if kinds and len(kinds) != layers:
        raise fields.refusal("layer_types", f"it must name the type of each of {layers} layers")
    allowed = family.windows in ("all", "alternating") or (
        family.windows == "switched" and fields.flag("use_sliding_window", False)
    )
    window = fields.optional_count("sliding_window", family.window) if allowed else None
    if fields.flag("use_sliding_window", False) and family.windows == "none":
        raise fields.refusal("use_sliding_window", f"{fields.get('model_type')} is supported without a window")
    if kinds:
        windowed = tuple(kind == "sliding_attention" for kind in kinds)
    elif family.windows == "alternating":
        every = fields.count("sliding_window_pattern", family.alternation)
        windowed = tuple((layer + 1) % every != 0 for layer in range(layers))
    elif family.windows == "switched" and family.unrotated_layers:
        windowed = tuple(not turns for turns in rotated) if rotated else (False,) * layers
    elif family.windows == "switched" and not family.experts:
        first = fields.count("max_window_layers", 28)
        windowed = tuple(layer >= first for layer in range(layers))
    else:
        windowed = (window is not None,) * layers
    if window is None and kinds and any(windowed):
        raise fields.refusal("layer_types", "sliding_attention needs a sliding_window that is in use")
    if family.windows == "all" and kinds and not all(windowed) and window is not None:
        raise fields.refusal("layer_types", f"{fields.get('model_type')} has its sliding_window in every layer")
    if window is None or not any(windowed):
        return None, ()
    return window, () if all(windowed) else windowed


def _is_classifier(fields: Fields) -> bool:
    return any(name.endswith(_CLASSIFIER) for name in fields.words("architectures"))


def _head_dim(fields: Fields, family: Family, heads: int) -> int:
    if not family.fixed_head_dim and "head_dim" in fields:
        return fields.count("head_dim")
    if family.head_dim is not None:
        return family.head_dim  # what transformers takes for this family
    size = fields.count("hidden_size")
    if size % heads:
        raise fields.refusal("hidden_size", f"it must be a multiple of num_attention_heads, {heads}")
    return size // heads


def _rope(fields: Fields, family: Family, head_dim: int, max_length: int) -> dict[str, Any]:
    """The choices of the rotary positions, as fields of `Architecture`."""
    rope = fields.section("rope_scaling" if fields.get("rope_scaling") else "rope_parameters")
    local = None
    if family.local_rope:
        old = "rope_local_base_freq"
        local = fields.number(old, 10_000.0)
        if "full_attention" in rope or "sliding_attention" in rope:
            rope.allow(_LAYER_TYPES)
            inner = rope.section("sliding_attention")
            local = inner.number("rope_theta", local)
            inner.word("rope_type", ("default",), "default")
            inner.allow(("rope_type", "rope_theta"))
            rope = rope.section("full_attention")
    neox = family.rotary_field == "rotary_pct"
    old_theta = "rotary_emb_base" if neox and "rotary_emb_base" in fields else "rope_theta"
    theta = rope.number("rope_theta") if "rope_theta" in rope else fields.number(old_theta, family.rope_theta)

    old_share = family.rotary_field or "partial_rotary_factor"
    place, name = (rope, "partial_rotary_factor") if "partial_rotary_factor" in rope else (fields, old_share)
    share = place.number(name, 0.25 if neox else 1.0)
    if not family.rotary_field and share != 1.0:
        raise place.refusal(name, f"{fields.get('model_type')} is supported with all dimensions rotated")
    rotated = int(head_dim * share)
    if rotated < 2 or rotated % 2 or rotated > head_dim:
        raise place.refusal(name, f"of {head_dim} dimensions of a head, an even number must be rotated")

    kind = rope.word("rope_type" if "rope_type" in rope else "type", family.rope_kinds, "default")
    rope.allow(_ROPE_FIELDS)
    return {
        "rope_theta": theta,
        "local_rope_theta": local,
        "rotary_dim": None if rotated == head_dim else rotated,
        "rope_scaling": _scaling(rope, kind, max_length),
    }


def _scaling(rope: Fields, kind: str, max_length: int) -> RopeScaling | None:
    if kind == "default":
        return None
    factor = rope.number("factor")
    if kind == "linear":
        return RopeScaling(kind, factor)
    original = "original_max_position_embeddings"
    if kind == "llama3":
        low, high = (rope.number(name) for name in ("low_freq_factor", "high_freq_factor"))
        if high <= low:
            raise rope.refusal("high_freq_factor", f"it must be above low_freq_factor, {low}")
        return RopeScaling(kind, factor, low, high, rope.count(original, high=_LONGEST))
    slow, fast = rope.number("beta_slow", 1.0), rope.number("beta_fast", 32.0)
    if fast <= slow:
        raise rope.refusal("beta_fast", f"it must be above beta_slow, {slow}")
    length, truncate = rope.count(original, max_length, high=_LONGEST), rope.flag("truncate", True)
    usual = _get_magnitude(factor, 1.0)
    if "mscale" in rope and "mscale_all_dim" in rope:
        usual = _get_magnitude(factor, rope.number("mscale")) / _get_magnitude(factor, rope.number("mscale_all_dim"))
    return RopeScaling(kind, factor, slow, fast, length, rope.number("attention_factor", usual), truncate)


def _get_magnitude(factor: float, scale: float) -> float:
    """YaRN's recommended factor of queries and keys."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _share(part: int, whole: int) -> float:
    """A share of which `int(whole * share)`, as every reader computes it, is `part` again, whatever was rounded."""
    share = part / whole
    return share if int(whole * share) == part else math.nextafter(share, math.inf)


def _make_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return values
    values["original_max_position_embeddings"] = scaling.original_length
    if scaling.kind == "llama3":
        return values | {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    return values | {
        "beta_slow": scaling.low_freq_factor,
        "beta_fast": scaling.high_freq_factor,
        "attention_factor": scaling.attention_factor,
        "truncate": scaling.truncate,
    }


def _check_stored(architecture: Architecture, config: Mapping[str, Any], classifier: bool) -> None:
    """Reads the config back: not everything that an `Architecture` can say exists in each family."""
    wanted = dataclasses.asdict(dataclasses.replace(architecture, tie_embeddings=True) if classifier else architecture)
    stored = dataclasses.asdict(_architecture(Fields(Path("config.json"), config)))
    differing = [name for name in wanted if wanted[name] != stored[name]]
    if differing:
        raise ValueError(f"A {architecture.family} cannot be stored with this {' and '.join(differing)}.")
