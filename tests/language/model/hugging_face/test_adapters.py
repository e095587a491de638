"""Adapters as PEFT's folders: the names that PEFT gives, fused modules, and back; with PEFT itself where it is.

Parity with PEFT runs where torch, transformers and peft are installed, or with the interpreter named in
HAEPO_TORCH_PYTHON.
"""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from helpers import peft_logits
from helpers.numpy_decoder import ARCHITECTURES, NEWER, random_params
from helpers.torch_python import find_python, run_script

from haepo_jax.errors import ConfigError
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.adapters import CONFIG, WEIGHTS, read_adapter, write_adapter
from haepo_jax.language.model.hugging_face.folder import TokenIds, read_model, write_model
from haepo_jax.language.model.lora import join, split_adapter

ADAPTER = Adapter(rank=2, alpha=5.0)
QWEN = ARCHITECTURES["qwen3"]
UP_PROJ = "base_model.model.model.layers.{}.mlp.up_proj"


@functools.cache
def adapter_of(name):
    return split_adapter(random_params(Decoder((ARCHITECTURES | NEWER)[name], adapter=ADAPTER)))[1]


def changes(adapter, params):
    """What an adapter adds to each kernel, float64, by the path of its projection."""
    leaves = {"/".join(path): np.asarray(leaf, np.float64) for path, leaf in flatten_dict(params).items()}
    paths = {path.rpartition("/")[0] for path in leaves}
    return {
        path: adapter.alpha / adapter.rank * leaves[f"{path}/adapter_in"] @ leaves[f"{path}/adapter_out"]
        for path in paths
    }


def rewrite(folder, config=None, **tensors):
    """Changes a written folder: fields of its configuration, and tensors, None to remove one."""
    given = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(given | (config or {})))
    held = safetensors.numpy.load_file(folder / WEIGHTS) | tensors
    kept = {name: tensor for name, tensor in held.items() if tensor is not None}
    safetensors.numpy.save_file(kept, folder / WEIGHTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_adapter(folder, QWEN, adapter_of("qwen3"), ADAPTER, base="")
    return folder


@pytest.mark.parametrize(
    "name", ["gpt_neox", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "qwen3_moe", "phi3"))]
)
def test_what_is_written_is_read_back(name, tmp_path):
    params = adapter_of(name)
    write_adapter(tmp_path, (ARCHITECTURES | NEWER)[name], params, ADAPTER, base="")
    adapter, got = read_adapter(tmp_path, (ARCHITECTURES | NEWER)[name])
    before, after = changes(ADAPTER, params), changes(adapter, got)
    assert before.keys() == after.keys()
    for path, change in before.items():
        np.testing.assert_allclose(after[path], change, rtol=1e-5, atol=1e-6)
        assert np.abs(change).max() > 0.01
    if name == "qwen3":
        assert adapter == ADAPTER
        jax.tree.map(np.testing.assert_array_equal, got, params)


def test_the_names_are_those_of_peft(tmp_path):
    score = np.linspace(-1, 1, 16)
    write_adapter(tmp_path, QWEN, adapter_of("qwen3"), ADAPTER, base="some/base", score=score)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (2, 5, "LORA")
    modules = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == modules and config["rank_pattern"] == {}
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["score"])
    assert config["base_model_name_or_path"] == "some/base"
    tensors = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    of_second = {name.partition("layers.1.")[2] for name in tensors if ".layers.1." in name}
    homes = [f"{'mlp' if name in ('down_proj', 'gate_proj', 'up_proj') else 'self_attn'}.{name}" for name in modules]
    assert of_second == {f"{home}.lora_{which}.weight" for home in homes for which in "AB"}
    inward = tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"]
    np.testing.assert_array_equal(inward.T, adapter_of("qwen3")["layers"]["attention"]["query"]["adapter_in"][1])
    np.testing.assert_allclose(tensors["base_model.model.score.weight"][0], score, rtol=1e-6)


def test_a_fused_module_has_an_adapter_of_three_times_the_rank(tmp_path):
    write_adapter(tmp_path, ARCHITECTURES["gpt_neox"], adapter_of("gpt_neox"), ADAPTER, base="")
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["rank_pattern"] == {"query_key_value": 6} and config["alpha_pattern"] == {"query_key_value": 15}
    outward = safetensors.numpy.load_file(tmp_path / WEIGHTS)[
        "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_B.weight"
    ]
    keys = outward.reshape(4, 3, 4, 6)[:, 1]  # heads, parts, dimensions, ranks
    assert keys[..., 2:4].all() and not keys[..., :2].any() and not keys[..., 4:].any()


def test_modules_of_other_ranks_and_scales_become_one_adapter(tmp_path):
    rng = np.random.default_rng(0)
    prefix = "base_model.model.model.layers.{}.{}.lora_{}.weight"
    tensors = {}
    for layer in range(2):
        for module, rank, size, features in (("self_attn.q_proj", 4, 16, 24), ("mlp.up_proj", 1, 16, 24)):
            tensors[prefix.format(layer, module, "A")] = rng.normal(size=(rank, size)).astype(np.float32)
            tensors[prefix.format(layer, module, "B")] = rng.normal(size=(features, rank)).astype(np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS)
    config = {"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": {"up_proj": 3}, "use_rslora": True}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    adapter, params = read_adapter(tmp_path, QWEN)
    got = changes(adapter, params)
    for path, module, scale in (("attention/query", "self_attn.q_proj", 4.0), ("mlp/up", "mlp.up_proj", 3.0)):
        inward, outward = (tensors[prefix.format(1, module, which)].astype(np.float64) for which in "AB")
        np.testing.assert_allclose(got[f"layers/{path}"][1], scale * (outward @ inward).T, rtol=1e-5, atol=1e-6)
    assert not got["layers/mlp/down"].any()


@pytest.mark.parametrize(
    ("pattern", "scales"),
    [
        ({"layers.1.self_attn.q_proj": 3}, (4.0, 1.5)),
        ({"model.layers.0.self_attn.q_proj": 3}, (1.5, 4.0)),
        ({"self_attn.q_proj": 3}, (1.5, 1.5)),
        ({r"layers\.[1-9]\..*q_proj": 3, "q_proj": 1}, (0.5, 1.5)),
        ({"proj": 3, "elf_attn.q_proj": 3}, (4.0, 4.0)),
    ],
    ids=["end of a name", "whole name", "every layer", "expressions, the first that fits", "parts of words"],
)
def test_a_scale_is_that_of_the_first_pattern_that_fits_the_end_of_the_modules_name(pattern, scales, tmp_path):
    rng, prefix = np.random.default_rng(0), "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    tensors = {
        prefix.format(layer, which): rng.normal(size=shape).astype(np.float32)
        for layer in range(2)
        for which, shape in (("A", (2, 16)), ("B", (24, 2)))
    }
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": pattern}))
    got = changes(*read_adapter(tmp_path, QWEN))["layers/attention/query"]
    for layer, scale in enumerate(scales):
        inward, outward = (tensors[prefix.format(layer, which)].astype(np.float64) for which in "AB")
        np.testing.assert_allclose(got[layer], scale * (outward @ inward).T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "tensors", "sentence"),
    [
        ({"peft_type": "IA3"}, {}, "peft_type is 'IA3'; supported: LORA."),
        ({"use_dora": True}, {}, "use_dora is True; it must be false or null."),
        ({"alora_invocation_tokens": [1, 2]}, {}, "alora_invocation_tokens is [1, 2]; it must be false or null."),
        ({"alpha_pattern": {"q_proj": "8"}}, {}, "alpha_pattern.q_proj is '8'; it must be a number above 0."),
        ({"alpha_pattern": {"q_(": 8}}, {}, "alpha_pattern is {'q_(': 8}; its keys must be regular expressions: "),
        (
            {},
            {"base_model.model.model.norm.lora_A.weight": np.zeros((2, 16), np.float32)},
            "which this model has no place for.",
        ),
        (
            {},
            {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": None},
            "the layers of model.layers.{}.mlp.up_proj have adapters of several shapes, or none.",
        ),
        (
            {},
            {
                f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_A.weight": np.zeros((2, 9), np.float32)
                for layer in range(2)
            },
            "the matrices of model.layers.{}.mlp.up_proj have shapes (2, 9) and (24, 2); what they adapt has (24, 1",
        ),
        *(
            (
                {},
                {
                    f"{UP_PROJ.format(layer)}.lora_{which}.weight": matrix
                    for layer in range(2)
                    for which, matrix in pair
                },
                f"the matrices of model.layers.{{}}.mlp.up_proj have shapes {shapes}; what they adapt has (24, 16).",
            )
            for shapes, pair in (
                ("(16,) and (24,)", (("A", np.zeros(16, np.float32)), ("B", np.zeros(24, np.float32)))),
                ("() and ()", (("A", np.zeros((), np.float32)), ("B", np.zeros((), np.float32)))),
                ("(2, 16, 1) and (24, 2)", (("A", np.zeros((2, 16, 1), np.float32)),)),
                ("(0, 16) and (24, 0)", (("A", np.zeros((0, 16), np.float32)), ("B", np.zeros((24, 0), np.float32)))),
            )
        ),
        *(
            ({}, {f"{UP_PROJ.format(0)}.lora_A.weight": matrix}, f"has dtype {dtype}; supported: F32, BF16, F16.")
            for dtype, matrix in (
                ("I8", np.zeros((2, 16), np.int8)),
                ("BOOL", np.zeros((2, 16), bool)),
                ("F8_E4M3", np.zeros((2, 16), jnp.float8_e4m3fn)),
            )
        ),
    ],
)
def test_another_kind_of_adapter_is_refused_in_a_sentence(config, tensors, sentence, written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "adapter")
    rewrite(folder, config, **tensors)
    with pytest.raises(ConfigError) as error:
        read_adapter(folder, QWEN)
    assert sentence in str(error.value)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=rf"^{tmp_path} holds no adapter_config.json, which an adapter has\.$"):
        read_adapter(tmp_path, QWEN)


@pytest.fixture(scope="module")
def by_peft(tmp_path_factory):
    """Models with adapters of ours, and PEFT's outputs with ours and with some of its own; or skips and says why."""
    python = find_python("torch", "transformers", "peft")
    folder = tmp_path_factory.mktemp("peft")
    for name in peft_logits.MODELS:
        architecture = ARCHITECTURES[name]
        base = split_adapter(random_params(Decoder(architecture, adapter=ADAPTER)))[0]
        write_model(folder / name / "base", architecture, base, token_ids=TokenIds(eos=1, pad=0))
        write_adapter(
            folder / name / "ours", architecture, adapter_of(name), ADAPTER, base=str(folder / name / "base")
        )
    done = run_script(python, peft_logits.__file__, folder, timeout=240)
    if done.returncode == peft_logits.NO_PEFT:
        pytest.skip("the interpreter named in HAEPO_TORCH_PYTHON has no peft")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", peft_logits.MODELS)
def test_peft_gives_the_same_outputs(by_peft, name, whose):
    folder = by_peft / name
    model = read_model(folder / "base")
    adapter, params = read_adapter(folder / whose, model.architecture)
    given = np.load(folder / f"{whose}.npz")
    tokens, valid = jnp.asarray(given["tokens"], jnp.int32), jnp.ones(given["tokens"].shape, bool)
    decoder = Decoder(model.architecture, adapter=adapter)
    got = decoder.apply({"params": join(model.params, params)}, tokens, valid)
    np.testing.assert_allclose(got, given["outputs"], rtol=1e-4, atol=1e-4)
    plain = decoder.clone(adapter=None).apply({"params": model.params}, tokens, valid)
    assert np.abs(plain - given["outputs"]).max() > 0.05
