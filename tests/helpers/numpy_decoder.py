"""A decoder in float64 NumPy, from the formulas: one sequence without padding, one head and one position at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

from haepo_jax.language.model.architecture import Architecture, RopeScaling

_SIZES = {"vocab_size": 19, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "intermediate_size": 24}
_NEOX = _SIZES | {"num_kv_heads": 4, "layer_norm": True, "gated_mlp": False, "mlp_bias": True, "norm_epsilon": 1e-5}

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
        query_key_norm=True,
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
        exact_gelu=False,
        tie_embeddings=True,
        **_NEOX,
    ),
}
"""Every choice of every family: grouped queries, head sizes other than D / H, biases, ties, scalings."""


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
    states = params["embedding"][np.asarray(tokens)]
    for layer in range(arch.num_layers):
        p = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["layers"])
        attended = _attention(arch, p["attention"], _norm(arch, p["attention_norm"], states), adapter)
        if arch.parallel_residual:
            states = states + attended + _mlp(arch, p["mlp"], _norm(arch, p["mlp_norm"], states), adapter)
        else:
            states = states + attended
            states = states + _mlp(arch, p["mlp"], _norm(arch, p["mlp_norm"], states), adapter)
    states = _norm(arch, params["final_norm"], states)
    return states @ (params["embedding"].T if arch.tie_embeddings else params["head"])


def wave_lengths(arch):
    """Tokens until each pair of dimensions has turned once."""
    size = arch.head_dim if arch.rotary_dim is None else arch.rotary_dim
    lengths = [2 * np.pi * arch.rope_theta ** (2 * i / size) for i in range(size // 2)]
    scaling = arch.rope_scaling
    if scaling is None:
        return lengths
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


def turned(arch, vector, position):
    """A head's query or key, its pairs of dimensions turned as complex numbers."""
    waves = np.asarray(wave_lengths(arch))
    half = len(waves)
    pairs = vector[:half] + 1j * vector[half : 2 * half]
    pairs = pairs * np.exp(2j * np.pi * position / waves)
    return np.concatenate([pairs.real, pairs.imag, vector[2 * half :]])


def _attention(arch, p, states, adapter):
    length, size = len(states), arch.head_dim
    shape = length, -1, size
    queries = _project(p["query"], states, adapter).reshape(shape)
    keys = _project(p["key"], states, adapter).reshape(shape)
    values = _project(p["value"], states, adapter).reshape(shape)
    result = np.zeros((length, arch.num_heads, size))
    for head in range(arch.num_heads):
        shared = head * arch.num_kv_heads // arch.num_heads
        q, k = queries[:, head], keys[:, shared]
        if arch.query_key_norm:
            q, k = _norm(arch, p["query_norm"], q), _norm(arch, p["key_norm"], k)
        q = np.stack([turned(arch, q[t], t) for t in range(length)])
        k = np.stack([turned(arch, k[t], t) for t in range(length)])
        for t in range(length):
            scores = np.array([q[t] @ k[s] for s in range(t + 1)]) / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            result[t, head] = weights / weights.sum() @ values[: t + 1, shared]
    return _project(p["output"], result.reshape(length, -1), adapter)


def _mlp(arch, p, states, adapter):
    inner = _project(p["up"], states, adapter)
    if arch.gated_mlp:
        gate = _project(p["gate"], states, adapter)
        inner = gate / (1 + np.exp(-gate)) * inner
    elif arch.exact_gelu:
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
    else:
        inner = inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3))) / 2
    return _project(p["down"], inner, adapter)


def _project(p, states, adapter):
    result = states @ p["kernel"] + p.get("bias", 0)
    if adapter is not None:
        result = result + adapter.alpha / adapter.rank * (states @ p["adapter_in"] @ p["adapter_out"])
    return result


def _norm(arch, p, states):
    if arch.layer_norm:
        centred = states - states.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + arch.norm_epsilon) * p["scale"] + p["bias"]
    return states / np.sqrt((states**2).mean(-1, keepdims=True) + arch.norm_epsilon) * p["scale"]
