"""A decoder in float64 NumPy, from the formulas: one sequence without padding, one head and one position at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

from haepo_jax.language.model.architecture import Architecture, Experts, RopeScaling

_SIZES = {"vocab_size": 19, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "intermediate_size": 24}
_NEOX = _SIZES | {
    "num_kv_heads": 4,
    "layer_norm": True,
    "gated_mlp": False,
    "activation": "gelu",
    "mlp_bias": True,
    "norm_epsilon": 1e-5,
}
_GEMMA = _SIZES | {
    "num_kv_heads": 2,
    "norm_plus_one": True,
    "post_norm": True,
    "activation": "gelu_tanh",
    "scaled_embedding": True,
    "tie_embeddings": True,
    "windowed_layers": (True, False),
}

ARCHITECTURES = {
    # Waves of 6, 35, 199 and 1117 tokens: kept, on the ramp, stretched, stretched.
    "llama": Architecture(
        family="llama",
        num_kv_heads=2,
        head_dim=8,
        rope_theta=1000.0,
        max_length=256,
        rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 64),
        **_SIZES,
    ),
    "llama_biased": Architecture(
        family="llama",
        num_kv_heads=4,
        head_dim=4,
        rope_theta=5e5,
        max_length=128,
        norm_epsilon=1e-5,
        rope_scaling=RopeScaling("linear", 4.0),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tie_embeddings=True,
        **_SIZES,
    ),
    "qwen2": Architecture(
        family="qwen2",
        num_kv_heads=1,
        head_dim=4,
        rope_theta=30.0,
        max_length=64,
        qkv_bias=True,
        tie_embeddings=True,
        **_SIZES,
    ),
    "qwen3": Architecture(
        family="qwen3",
        num_kv_heads=2,
        head_dim=6,
        rope_theta=12_345.0,
        max_length=64,
        query_key_norm="head",
        **_SIZES,
    ),
    "gpt_neox": Architecture(
        family="gpt_neox",
        head_dim=4,
        rotary_dim=2,
        rope_theta=10_000.0,
        max_length=64,
        parallel_residual=True,
        qkv_bias=True,
        output_bias=True,
        **_NEOX,
    ),
    "gpt_neox_sequential": Architecture(
        family="gpt_neox",
        head_dim=4,
        rope_theta=100.0,
        max_length=64,
        tie_embeddings=True,
        **(_NEOX | {"activation": "gelu_tanh"}),
    ),
}
"""Every choice of the first families: grouped queries, head sizes other than D / H, biases, ties, scalings."""
NEWER = {
    "mistral": Architecture(
        family="mistral",
        num_kv_heads=2,
        head_dim=8,
        rope_theta=100.0,
        max_length=256,
        window=3,
        rope_scaling=RopeScaling("yarn", 4.0, 1.0, 32.0, 64, attention_factor=1.2),
        **_SIZES,
    ),
    "qwen3_moe": Architecture(
        family="qwen3_moe",
        num_kv_heads=2,
        head_dim=4,
        rope_theta=100.0,
        max_length=64,
        query_key_norm="head",
        experts=Experts(count=3, per_token=2, normalized=True),
        **_SIZES,
    ),
    "gemma2": Architecture(
        family="gemma2",
        head_dim=4,
        rope_theta=100.0,
        max_length=64,
        window=3,
        query_scale=9.0,
        attention_softcap=2.0,
        final_softcap=3.0,
        **_GEMMA,
    ),
    "gemma3_text": Architecture(
        family="gemma3_text",
        head_dim=6,
        rope_theta=1000.0,
        local_rope_theta=30.0,
        rope_scaling=RopeScaling("linear", 8.0),
        max_length=64,
        window=4,
        query_scale=5.0,
        query_key_norm="head",
        **_GEMMA,
    ),
    "olmo2": Architecture(
        family="olmo2",
        num_kv_heads=2,
        head_dim=4,
        rope_theta=100.0,
        max_length=64,
        query_key_norm="joint",
        pre_norm=False,
        post_norm=True,
        **_SIZES,
    ),
    "smollm3": Architecture(
        family="smollm3",
        num_kv_heads=2,
        head_dim=4,
        rope_theta=100.0,
        max_length=64,
        rotated_layers=(True, False),
        tie_embeddings=True,
        **_SIZES,
    ),
    "phi3": Architecture(
        family="phi3",
        num_kv_heads=2,
        head_dim=4,
        rotary_dim=2,
        rope_theta=100.0,
        max_length=64,
        window=5,
        **_SIZES,
    ),
}
"""What the families after them add, one or more of each."""


def random_params(decoder, seed=0):
    """Parameters of a decoder in which no leaf is at a value that hides a mistake."""
    rng = np.random.default_rng(seed)
    nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == "scale":
            noise = 1 + 0.3 * noise
        elif name in ("kernel", "head"):
            noise *= 1.5 / np.sqrt(leaf.shape[-2])
        elif name != "embedding":
            noise *= 0.3
        return jnp.asarray(noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(decoder.init, jax.random.key(0), *nothing)["params"])


def reference_logits(arch, params, tokens, adapter=None):
    """Logits `[T, V]` of one sequence `[T]`."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    states = params["embedding"][np.asarray(tokens)] * (np.sqrt(arch.hidden_size) if arch.scaled_embedding else 1)
    for layer in range(arch.num_layers):
        p = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["layers"])

        def normed(name, states, p=p):
            return _norm(arch, p[name], states) if name in p else states

        attended = _attention(arch, p["attention"], normed("attention_norm", states), adapter, layer)
        attended = normed("attention_post_norm", attended)
        if arch.parallel_residual:
            states = states + attended + _mlp(arch, p["mlp"], normed("mlp_norm", states), adapter)
        else:
            states = states + attended
            states = states + normed("mlp_post_norm", _mlp(arch, p["mlp"], normed("mlp_norm", states), adapter))
    states = _norm(arch, params["final_norm"], states)
    return _capped(states @ (params["embedding"].T if arch.tie_embeddings else params["head"]), arch.final_softcap)


def _capped(values, cap):
    return values if cap is None else cap * np.tanh(values / cap)


def _has_window(arch, layer):
    return arch.window is not None and (not arch.windowed_layers or arch.windowed_layers[layer])


def wave_lengths(arch, layer=0):
    """Tokens until each pair of dimensions has turned once."""
    size = arch.head_dim if arch.rotary_dim is None else arch.rotary_dim
    if arch.rotated_layers and not arch.rotated_layers[layer]:
        return [np.inf] * (size // 2)
    local = arch.local_rope_theta is not None and _has_window(arch, layer)
    theta = arch.local_rope_theta if local else arch.rope_theta
    lengths = [2 * np.pi * theta ** (2 * i / size) for i in range(size // 2)]
    scaling = arch.rope_scaling
    if scaling is None or local:
        return lengths
    if scaling.kind == "yarn":
        ends = [
            size * np.log(scaling.original_length / (2 * np.pi * turns)) / (2 * np.log(theta))
            for turns in (scaling.high_freq_factor, scaling.low_freq_factor)
        ]
        first, last = max(np.floor(ends[0]), 0), min(np.ceil(ends[1]), size - 1)
        stretched = [min(max((i - first) / (last - first), 0), 1) for i in range(size // 2)]
        return [1 / ((1 - s) / n + s / (scaling.factor * n)) for s, n in zip(stretched, lengths, strict=True)]
    if scaling.kind == "linear":
        return [length * scaling.factor for length in lengths]
    scaled = []
    for length in lengths:
        if length < scaling.original_length / scaling.high_freq_factor:
            scaled.append(length)
        elif length > scaling.original_length / scaling.low_freq_factor:
            scaled.append(length * scaling.factor)
        else:
            low, high = scaling.low_freq_factor, scaling.high_freq_factor
            smooth = (scaling.original_length / length - low) / (high - low)
            scaled.append(1 / ((1 - smooth) / (scaling.factor * length) + smooth / length))
    return scaled


def turned(arch, vector, position, layer=0):
    """A head's query or key, its pairs of dimensions turned as complex numbers."""
    waves = np.asarray(wave_lengths(arch, layer))
    half = len(waves)
    pairs = vector[:half] + 1j * vector[half : 2 * half]
    pairs = pairs * np.exp(2j * np.pi * position / waves)
    if arch.rope_scaling is not None and arch.rope_scaling.kind == "yarn":
        pairs = pairs * arch.rope_scaling.attention_factor
    return np.concatenate([pairs.real, pairs.imag, vector[2 * half :]])


def _attention(arch, p, states, adapter, layer):
    length, size = len(states), arch.head_dim
    shape = length, -1, size
    queries, keys = _project(p["query"], states, adapter), _project(p["key"], states, adapter)
    if arch.query_key_norm == "joint":
        queries, keys = _norm(arch, p["query_norm"], queries), _norm(arch, p["key_norm"], keys)
    queries, keys = queries.reshape(shape), keys.reshape(shape)
    values = _project(p["value"], states, adapter).reshape(shape)
    result = np.zeros((length, arch.num_heads, size))
    for head in range(arch.num_heads):
        shared = head * arch.num_kv_heads // arch.num_heads
        q, k = queries[:, head], keys[:, shared]
        if arch.query_key_norm == "head":
            q, k = _norm(arch, p["query_norm"], q), _norm(arch, p["key_norm"], k)
        q = np.stack([turned(arch, q[t], t, layer) for t in range(length)])
        k = np.stack([turned(arch, k[t], t, layer) for t in range(length)])
        for t in range(length):
            first = max(0, t + 1 - arch.window) if _has_window(arch, layer) else 0
            scores = np.array([q[t] @ k[s] for s in range(first, t + 1)]) / np.sqrt(arch.query_scale or size)
            scores = _capped(scores, arch.attention_softcap)
            weights = np.exp(scores - scores.max())
            result[t, head] = weights / weights.sum() @ values[first : t + 1, shared]
    return _project(p["output"], result.reshape(length, -1), adapter)


def _mlp(arch, p, states, adapter):
    if arch.experts is not None:
        return np.stack([_mix(arch, p, state) for state in states])
    inner = _project(p["up"], states, adapter)
    if arch.gated_mlp:
        inner = _activated(arch, _project(p["gate"], states, adapter)) * inner
    else:
        inner = _activated(arch, inner)
    return _project(p["down"], inner, adapter)


def _mix(arch, p, state):
    """What the experts of one token give."""
    scores = state @ p["router"]["kernel"]
    shares = np.exp(scores) / np.exp(scores).sum()
    chosen = np.argsort(-shares)[: arch.experts.per_token]
    total = shares[chosen].sum() if arch.experts.normalized else 1
    result = 0
    for expert in chosen:
        gate, up, down = (p[name]["kernel"][expert] for name in ("gate", "up", "down"))
        result = result + shares[expert] / total * (_activated(arch, state @ gate) * (state @ up)) @ down
    return result


def _activated(arch, inner):
    if arch.activation == "silu":
        return inner / (1 + np.exp(-inner))
    if arch.activation == "gelu":
        return inner * (1 + erf(inner / np.sqrt(2))) / 2
    return inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3))) / 2


def _project(p, states, adapter):
    result = states @ p["kernel"] + p.get("bias", 0)
    if adapter is not None:
        result = result + adapter.alpha / adapter.rank * (states @ p["adapter_in"] @ p["adapter_out"])
    return result


def _norm(arch, p, states):
    if arch.layer_norm:
        centred = states - states.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + arch.norm_epsilon) * p["scale"] + p["bias"]
    scale = p["scale"] + 1 if arch.norm_plus_one else p["scale"]
    return states / np.sqrt((states**2).mean(-1, keepdims=True) + arch.norm_epsilon) * scale
