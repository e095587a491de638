"""Tiny random models of the torch implementation of transformers, and what they compute, for `test_torch_parity.py`.

Needs nothing of haepo_jax: any interpreter that has torch and transformers can run it.

    python torch_logits.py THEIRS OURS

writes the models of CASES to THEIRS/NAME, and their inputs and outputs to THEIRS/NAME.npz; and it reads the models
OURS/NAME, and adds their outputs to the inputs in OURS/NAME.npz: logits, and the tokens that greedy decoding with a
cache gives.
"""

import sys
from pathlib import Path

import numpy as np

_SIZES = {
    "vocab_size": 37,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CASES = {
    "llama": {"num_key_value_heads": 2, "rope_theta": 1000.0, "rope_scaling": _LLAMA3},
    "llama_biased": {
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 16,
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
    },
    "qwen2": {"num_key_value_heads": 1, "rope_theta": 300.0, "tie_word_embeddings": True},
    "qwen2_bfloat16": {"num_key_value_heads": 2, "rope_theta": 1e6},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 12, "rope_theta": 12_345.0},
    "qwen3_tied": {"num_key_value_heads": 4, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    "gpt_neox": {"rotary_pct": 0.25, "rotary_emb_base": 10_000},
    "gpt_neox_sequential": {
        "rotary_pct": 1.0,
        "rotary_emb_base": 50,
        "use_parallel_residual": False,
        "hidden_act": "gelu_new",
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    "mistral": {"num_key_value_heads": 2, "head_dim": 12, "sliding_window": 4, "rope_theta": 1000.0},
    "mistral_yarn": {"num_key_value_heads": 2, "sliding_window": None, "rope_theta": 100.0, "rope_scaling": _YARN},
    "qwen2_windowed": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3_moe": {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "norm_topk_prob": True,
    },
    "gemma2": {
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 4,
        "query_pre_attn_scalar": 20,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 4,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1000.0,
        "rope_local_base_freq": 50.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "olmo2": {"num_key_value_heads": 2, "rope_theta": 500.0},
    "smollm3": {"num_key_value_heads": 2, "no_rope_layer_interval": 2, "rope_theta": 700.0},
    "phi3": {"num_key_value_heads": 2, "sliding_window": 6, "partial_rotary_factor": 0.5},
    "mistral_classifier": {"num_key_value_heads": 2, "sliding_window": 3},
    "llama_classifier": {"num_key_value_heads": 2, "rope_theta": 200.0},
    "qwen3_classifier": {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True},
    "gpt_neox_classifier": {"rotary_pct": 0.5},
}
"""Of each model what differs from the sizes that all have; its name begins with its `model_type`."""


FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "olmo2", "smollm3", "phi3"),
    "gpt_neox",
)
NEW_TOKENS = 6


def inputs(vocab_size=_SIZES["vocab_size"]):
    """`tokens` `[3, 12]`, padded on the left with 0, which they never are elsewhere, and `valid`."""
    tokens = np.random.default_rng(0).integers(1, vocab_size, size=(3, 12))
    valid = np.arange(12) >= np.array([[0], [5], [9]])
    return {"tokens": np.where(valid, tokens, 0), "valid": valid}


def _make(folder):
    import torch
    import transformers

    torch.manual_seed(0)
    for name, options in CASES.items():
        family = max((family for family in FAMILIES if name.startswith(family)), key=len)
        config = transformers.AutoConfig.for_model(family, **(_SIZES | options))
        if name.endswith("classifier"):
            config.num_labels = 1
            model = transformers.AutoModelForSequenceClassification.from_config(config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                noise = torch.randn_like(parameter)
                norm = parameter.ndim == 1 and path.endswith("weight")
                parameter.copy_(1 + 0.3 * noise if norm else noise * (0.3 if parameter.ndim == 1 else 0.2))
        if name.endswith("bfloat16"):
            model.to(torch.bfloat16)
        shards = {"max_shard_size": "20KB"} if name in ("llama", "gpt_neox") else {}
        model.save_pretrained(folder / name, **shards)
        np.savez(folder / f"{name}.npz", **inputs())


def _add_outputs(path):
    import torch
    import transformers

    given = dict(np.load(path))
    folder = path.with_suffix("")
    (architecture,) = transformers.AutoConfig.from_pretrained(folder).architectures
    # The other kernels leave Gemma 2's soft cap of the scores out, and some versions choose them (5.9 does, 5.24 not).
    options = {"output_loading_info": True, "attn_implementation": "eager"}
    model, loading = getattr(transformers, architecture).from_pretrained(folder, **options)
    wrong = {kind: keys for kind, keys in loading.items() if keys}
    if wrong:
        sys.exit(f"{folder}: {wrong}")
    valid = torch.from_numpy(given["valid"])
    tokens = torch.from_numpy(given["tokens"])
    model = model.float().eval()
    with torch.no_grad():
        positions = (valid.long().cumsum(-1) - 1).clamp(min=0)
        given["outputs"] = model(input_ids=tokens, attention_mask=valid.long(), position_ids=positions).logits.numpy()
        if architecture.endswith("ForCausalLM"):
            options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "use_cache": True}
            answers = model.generate(input_ids=tokens, attention_mask=valid.long(), **options)[:, tokens.shape[1] :]
            room = NEW_TOKENS - answers.shape[1]
            given["answers"] = np.pad(answers.numpy(), ((0, 0), (0, room)))
    np.savez(path, **given)


if __name__ == "__main__":
    theirs, ours = map(Path, sys.argv[1:])
    _make(theirs)
    for inputs_file in (*theirs.glob("*.npz"), *ours.glob("*.npz")):
        _add_outputs(inputs_file)
