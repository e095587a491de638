"""Adapters' folders read as models: base and adapter together, their tokenizer, and what is refused."""

import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from helpers.numpy_decoder import ARCHITECTURES, random_params
from helpers.own_model import TEMPLATE, write_own_model, write_tokenizer

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.chat import ChatTemplate
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.adapters import CONFIG, WEIGHTS, read_adapter, write_adapter
from haepo_jax.language.model.hugging_face.bases import find_parts
from haepo_jax.language.model.hugging_face.folder import TokenIds, read_model, write_model
from haepo_jax.language.model.lora import split_adapter

ADAPTER = Adapter(rank=2, alpha=5.0)


@functools.cache
def parts_of(name):
    return split_adapter(random_params(Decoder(ARCHITECTURES[name], adapter=ADAPTER)))


def write(folder, name="qwen3", base="base", adapter=ADAPTER, score=None):
    """Writes a base, if it is not there, and an adapter `folder`; gives the adapter's folder."""
    params, low_rank = parts_of(name)
    if not (folder.parent / base).exists():
        write_model(folder.parent / base, ARCHITECTURES[name], params, token_ids=TokenIds(eos=1, pad=0))
    write_adapter(folder, ARCHITECTURES[name], low_rank, adapter, base=str(folder.parent / base), score=score)
    return folder


def by_path(params):
    return {"/".join(path): np.asarray(leaf, np.float64) for path, leaf in flatten_dict(params).items()}


def expected(name, *scales):
    """The parameters of the base with the adapter added so many times, float64."""
    params, low_rank = (by_path(part) for part in parts_of(name))
    for path in [path for path in low_rank if path.endswith("_in")]:
        module = path.rpartition("/")[0]
        product = low_rank[path] @ low_rank[f"{module}/adapter_out"]
        params[f"{module}/kernel"] = params[f"{module}/kernel"] + sum(scales) * product
    return params


def change_config(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["qwen3", "gpt_neox"])
def test_an_adapter_s_folder_is_read_as_its_base_with_the_adapter_added(name, tmp_path):
    model, wanted = read_model(write(tmp_path / "adapter", name)), expected(name, 2.5)
    got, plain = by_path(model.params), by_path(parts_of(name)[0])
    assert model.architecture == ARCHITECTURES[name] and got.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_allclose(got[path], leaf, rtol=1e-5, atol=1e-6)
    assert np.abs(got["layers/mlp/up/kernel"] - plain["layers/mlp/up/kernel"]).max() > 0.01


def test_it_is_added_before_the_parameters_are_rounded_to_fewer_digits(tmp_path):
    folder = write(tmp_path / "adapter")
    whole, half = read_model(folder).params, read_model(folder, dtype=jnp.bfloat16).params
    for path, leaf in by_path(half).items():
        np.testing.assert_array_equal(leaf, np.asarray(jnp.asarray(by_path(whole)[path], jnp.bfloat16), np.float64))
    assert half["embedding"].dtype == jnp.bfloat16


def test_an_adapter_may_adapt_what_another_has_made(tmp_path):
    write(tmp_path / "first")
    got = by_path(read_model(write(tmp_path / "second", base="first", adapter=Adapter(2, 1.0))).params)
    assert find_parts(tmp_path / "second").adapters == (tmp_path / "first", tmp_path / "second")
    for path, leaf in expected("qwen3", 2.5, 0.5).items():
        np.testing.assert_allclose(got[path], leaf, rtol=1e-5, atol=1e-6)


def test_the_head_of_a_reward_model_is_read_with_its_adapter(tmp_path):
    score = np.linspace(-1, 1, 16, dtype=np.float32)
    folder = write(tmp_path / "adapter", score=score)
    np.testing.assert_array_equal(read_model(folder).score, score)
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    tensors["base_model.model.score.weight"] = np.zeros((2, 16), np.float32)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"score.weight has shape \[2, 16\]; that of a reward model has \[1, 16\]"):
        read_model(folder)


def test_an_adapter_stored_in_bfloat16_is_read(tmp_path):
    folder = write(tmp_path / "adapter")
    held = safetensors.numpy.load_file(folder / WEIGHTS)
    halved = {name: np.asarray(jnp.asarray(leaf, jnp.bfloat16)) for name, leaf in held.items()}
    safetensors.numpy.save_file(halved, folder / WEIGHTS)
    inward = read_adapter(folder, ARCHITECTURES["qwen3"])[1]["layers"]["mlp"]["up"]["adapter_in"]
    given = np.asarray(parts_of("qwen3")[1]["layers"]["mlp"]["up"]["adapter_in"])
    assert inward.dtype == np.float32
    np.testing.assert_array_equal(inward, np.asarray(jnp.asarray(given, jnp.bfloat16), np.float32))


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("", "base_model_name_or_path names no model; write there the folder of the model that the adapter adapts."),
        (None, "base_model_name_or_path names no model; write there the folder of the model"),
        ("owner/model", "base_model_name_or_path is 'owner/model', where no model is; write there the folder"),
        (3, "base_model_name_or_path is 3, where no model is; write there the folder"),
    ],
)
def test_an_adapter_without_its_base_is_refused(base, sentence, tmp_path):
    folder = write(tmp_path / "adapter")
    change_config(folder, base_model_name_or_path=base)
    with pytest.raises(ConfigError) as error:
        read_model(folder)
    assert str(error.value).startswith(f"{folder / CONFIG}: {sentence}")


def test_an_adapter_of_itself_is_refused(tmp_path):
    folder = write(tmp_path / "adapter")
    change_config(folder, base_model_name_or_path=str(folder))
    with pytest.raises(ConfigError, match="leads back to the adapter itself"):
        read_model(folder)


def test_a_folder_with_weights_and_an_adapter_is_refused(tmp_path):
    write(tmp_path / "adapter")
    write(tmp_path / "base", base="other")
    with pytest.raises(ConfigError, match="holds the weights of a model and adapter_config"):
        read_model(tmp_path / "base")


def make_adapter_of_own_model(folder, **generation):
    """An adapter whose base is the model that reads characters, as `adapter` and `base` of a folder."""
    base = write_own_model(folder / "base", template=None)
    if generation:
        (base / "generation_config.json").write_text(json.dumps(generation))
    config = {"peft_type": "LORA", "lora_alpha": 1, "base_model_name_or_path": str(base)}
    (folder / "adapter").mkdir()
    (folder / "adapter" / CONFIG).write_text(json.dumps(config))
    return folder / "adapter"


def test_an_adapter_has_the_tokenizer_of_its_base(tmp_path):
    tokenizer = Tokenizer.from_folder(make_adapter_of_own_model(tmp_path))
    assert tokenizer.folder == tmp_path / "base" and (tokenizer.eos_id, tokenizer.pad_id) == (1, 0)


def test_a_tokenizer_beside_an_adapter_is_its_own_and_the_base_says_how_to_sample(tmp_path):
    folder = make_adapter_of_own_model(tmp_path, eos_token_id=[1, 5])
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.folder == folder and tokenizer.eos_ids == (1, 5)
    assert ChatTemplate.from_folder(tokenizer.folder).source == folder / "tokenizer_config.json"
    tokenizer.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "generation_config.json").read_text())["eos_token_id"] == [1, 5]
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["chat_template"] == TEMPLATE
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))
    with pytest.raises(ConfigError, match=r"but vocab_size in config\.json is 7"):
        Tokenizer.from_folder(folder)
