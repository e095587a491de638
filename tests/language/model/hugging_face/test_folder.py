"""Folders of models: bit-equal round trips, shards, reward heads, shardings, and every refusal."""

import dataclasses
import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from helpers.numpy_decoder import ARCHITECTURES, NEWER, random_params
from helpers.small_tokenizers import backend, characters

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.checksums import SEAL
from haepo_jax.language.model.hugging_face.folder import TokenIds, read_model, write_model
from haepo_jax.language.model.sharding import make_mesh, shard_parameters
from haepo_jax.language.stages import models

IDS = TokenIds(eos=2, pad=3)
FILE = "model.safetensors"
EVERY = ARCHITECTURES | NEWER


@functools.cache
def params_of(name):
    return random_params(Decoder(EVERY[name]))


def write(folder, name="qwen3", **options):
    write_model(folder, EVERY[name], params_of(name), token_ids=IDS, **options)
    return folder


def change(path, **changes):
    """Rewrites a file of tensors of a folder from elsewhere with some of them changed; None takes one away."""
    (path.parent / SEAL).unlink(missing_ok=True)
    tensors = safetensors.numpy.load_file(path) | {name.replace("__", "."): value for name, value in changes.items()}
    safetensors.numpy.save_file({name: value for name, value in tensors.items() if value is not None}, path)


def change_config(folder, **changes):
    (folder / SEAL).unlink()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def files(folder):
    """All but the checksums."""
    return sorted(path.name for path in folder.iterdir() if path.name != SEAL)


@pytest.mark.parametrize(
    ("name", "max_shard_bytes"),
    [
        *((name, size) for name in ARCHITECTURES for size in (10**9, 4000)),
        *((name, 4000) for name in ("gemma3_text", "qwen3_moe", "phi3")),
        *(pytest.param(name, 10**9, marks=pytest.mark.slow) for name in NEWER),
    ],
)
def test_round_trip_is_bit_equal(tmp_path, name, max_shard_bytes):
    model = read_model(write(tmp_path / "new" / "model", name, max_shard_bytes=max_shard_bytes))
    assert model.architecture == EVERY[name]
    assert_same(model.params, params_of(name))
    assert model.score is None


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_round_trip_in_bfloat16(tmp_path, name):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params_of(name))
    write_model(tmp_path, ARCHITECTURES[name], params, token_ids=IDS, dtype=jnp.bfloat16)
    assert_same(read_model(tmp_path, dtype=jnp.bfloat16).params, params)
    assert_same(read_model(tmp_path).params, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    with safetensors.safe_open(tmp_path / FILE, framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
        assert file.metadata() == {"format": "pt"}


def test_float16_is_read(tmp_path):
    write(tmp_path, "qwen2")
    half = {name: tensor.astype(np.float16) for name, tensor in safetensors.numpy.load_file(tmp_path / FILE).items()}
    safetensors.numpy.save_file(half, tmp_path / FILE)
    (tmp_path / SEAL).unlink()
    got = read_model(tmp_path).params["embedding"]
    np.testing.assert_array_equal(got, params_of("qwen2")["embedding"].astype(jnp.float16).astype(jnp.float32))


def test_a_model_that_was_read_gives_the_same_logits(tmp_path):
    model = read_model(write(tmp_path))
    batch = jnp.asarray([[1, 5, 18]], jnp.int32), jnp.ones((1, 3), bool)
    decoder = Decoder(ARCHITECTURES["qwen3"])
    np.testing.assert_array_equal(
        Decoder(model.architecture).apply({"params": model.params}, *batch),
        decoder.apply({"params": params_of("qwen3")}, *batch),
    )


def test_shards_keep_within_their_size(tmp_path):
    write(tmp_path, max_shard_bytes=4000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = {name: safetensors.numpy.load_file(tmp_path / name) for name in set(index["weight_map"].values())}
    count = len(shards)
    assert files(tmp_path) == sorted(
        ["config.json", "model.safetensors.index.json"]
        + [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    )
    assert count > 3
    assert all(sum(tensor.nbytes for tensor in shard.values()) <= 4000 for shard in shards.values())
    assert index["weight_map"] == {name: file for file, shard in shards.items() for name in shard}
    assert index["metadata"]["total_size"] == 4 * sum(leaf.size for leaf in jax.tree.leaves(params_of("qwen3")))


def test_who_may_read_the_config_may_read_the_weights(tmp_path):
    write(tmp_path)
    assert (tmp_path / FILE).stat().st_mode == (tmp_path / "config.json").stat().st_mode


def test_a_tensor_above_the_size_has_a_file_of_its_own(tmp_path):
    write(tmp_path, max_shard_bytes=1)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == len(index["weight_map"])
    assert_same(read_model(tmp_path).params, params_of("qwen3"))


def test_writing_again_replaces_the_model_and_nothing_else(tmp_path):
    write(tmp_path, max_shard_bytes=4000)
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "gpt_neox")
    assert files(tmp_path) == ["config.json", FILE, "notes.txt"]
    assert_same(read_model(tmp_path).params, params_of("gpt_neox"))
    write(tmp_path, max_shard_bytes=4000)
    assert FILE not in files(tmp_path)
    assert_same(read_model(tmp_path).params, params_of("qwen3"))


def test_a_folder_whose_writing_failed_holds_no_model(tmp_path, monkeypatch):
    write(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path)
    assert files(tmp_path) == []
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_neox"])
def test_a_reward_model_has_a_score_and_no_head(tmp_path, name):
    arch, score = ARCHITECTURES[name], jnp.arange(16.0)
    write(tmp_path, name, score=score)
    model = read_model(tmp_path)
    np.testing.assert_array_equal(model.score, score)
    assert model.architecture == dataclasses.replace(arch, tie_embeddings=True)
    assert_same(model.params, {key: leaf for key, leaf in params_of(name).items() if key != "head"})
    tensors = safetensors.numpy.load_file(tmp_path / FILE)
    assert tensors["score.weight"].shape == (1, 16)
    assert not tensors.keys() & {"lm_head.weight", "embed_out.weight"}
    # And once more, from what was read.
    write_model(tmp_path, model.architecture, model.params, token_ids=IDS, score=model.score)
    assert_same(read_model(tmp_path)[1:], model[1:])


def test_a_tied_head_may_be_there_if_it_is_the_embedding(tmp_path):
    write(tmp_path, "qwen2")
    embedding = np.asarray(params_of("qwen2")["embedding"])
    change(tmp_path / FILE, lm_head__weight=embedding)
    assert_same(read_model(tmp_path).params, params_of("qwen2"))
    change(tmp_path / FILE, lm_head__weight=embedding + 1)
    with pytest.raises(
        ConfigError, match=rf"^{tmp_path}: tensor lm_head\.weight differs from the embedding that it is tied to\.$"
    ):
        read_model(tmp_path)


def test_a_tied_head_without_the_embedding_is_refused(tmp_path):
    write(tmp_path, "qwen2")
    embedding = safetensors.numpy.load_file(tmp_path / FILE)["model.embed_tokens.weight"]
    change(tmp_path / FILE, **{"model.embed_tokens.weight": None, "lm_head.weight": embedding})
    with pytest.raises(ConfigError, match=r" holds no tensor model\.embed_tokens\.weight, which config\.json asks "):
        read_model(tmp_path)


def test_the_newer_name_of_gpt_neoxs_head(tmp_path):
    write(tmp_path, "gpt_neox")
    change(tmp_path / FILE, embed_out__weight=None, lm_head__weight=np.asarray(params_of("gpt_neox")["head"].T))
    assert_same(read_model(tmp_path).params, params_of("gpt_neox"))


def test_constants_of_older_versions_are_passed_over(tmp_path):
    write(tmp_path / "neox", "gpt_neox")
    extra = ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq")
    change(tmp_path / "neox" / FILE, **{f"gpt_neox.layers.0.{name}": np.ones(3, np.float32) for name in extra})
    assert_same(read_model(tmp_path / "neox").params, params_of("gpt_neox"))
    write(tmp_path / "llama", "llama")
    change(tmp_path / "llama" / FILE, **{"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)})
    assert_same(read_model(tmp_path / "llama").params, params_of("llama"))


def test_each_leaf_goes_to_its_devices(tmp_path):
    write(tmp_path, score=jnp.arange(16.0))
    mesh = make_mesh(4, rows=8)
    model = read_model(tmp_path, shardings=functools.partial(shard_parameters, mesh))
    expected = {key: leaf for key, leaf in params_of("qwen3").items() if key != "head"}
    assert_same(model.params, expected)
    assert jax.tree.map(lambda leaf: leaf.sharding, model.params) == shard_parameters(mesh, expected)
    assert len(model.score.sharding.device_set) == 8
    assert not model.params["embedding"].is_fully_replicated
    # And back from the devices.
    write_model(tmp_path / "again", model.architecture, model.params, token_ids=IDS, score=model.score)
    assert_same(read_model(tmp_path / "again").params, expected)


def test_the_tokenizer_is_saved_beside_the_model(tmp_path):
    characters().save(tmp_path / "source")
    (tmp_path / "source" / "merges.txt").write_text("merges")
    write(tmp_path / "model", tokenizer=Tokenizer.from_folder(tmp_path / "source"))
    assert files(tmp_path / "model") == ["config.json", "merges.txt", FILE, "tokenizer.json", "tokenizer_config.json"]
    assert (tmp_path / "model" / "merges.txt").read_text() == "merges"
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == (
        tmp_path / "source" / "tokenizer.json"
    ).read_bytes()
    write(tmp_path / "source", tokenizer=Tokenizer.from_folder(tmp_path / "source"))  # where it is already
    assert "tokenizer.json" in files(tmp_path / "source")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        (lambda params: params | {"score": jnp.zeros(16)}, "score"),
        (lambda params: {name: leaf for name, leaf in params.items() if name != "head"}, "head"),
        (lambda params: params | {"embedding": params["embedding"][:5]}, "embedding"),
        (
            lambda params: random_params(Decoder(ARCHITECTURES["qwen3"], adapter=Adapter(2, 1.0))),
            "layers/attention/key/adapter_in, .*",
        ),
    ],
)
def test_parameters_of_another_architecture_are_refused(tmp_path, params, named):
    params = params(params_of("qwen3"))
    with pytest.raises(ValueError, match=rf"^The parameters are not of this architecture: {named}\.$"):
        write_model(tmp_path / "model", ARCHITECTURES["qwen3"], params, token_ids=IDS)
    assert not (tmp_path / "model").exists()


def test_a_score_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^The parameters are not of this architecture: score\.$"):
        write(tmp_path, score=jnp.zeros((16, 1)))


def test_a_missing_tensor_is_named(tmp_path):
    write(tmp_path)
    change(tmp_path / FILE, **{"model.layers.1.mlp.up_proj.weight": None})
    with pytest.raises(
        ConfigError,
        match=rf"^{tmp_path} holds no tensor model\.layers\.1\.mlp\.up_proj\.weight, which config\.json asks for\.$",
    ):
        read_model(tmp_path)


def test_an_unknown_tensor_is_named(tmp_path):
    write(tmp_path)
    change(tmp_path / FILE, **{"model.layers.0.self_attn.q_proj.bias": np.zeros(24, np.float32)})
    with pytest.raises(
        ConfigError,
        match=rf"^{tmp_path} holds tensor model\.layers\.0\.self_attn\.q_proj\.bias, which config\.json has no place ",
    ):
        read_model(tmp_path)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    write(tmp_path)
    change_config(tmp_path, vocab_size=20)
    with pytest.raises(
        ConfigError,
        match=rf"^{tmp_path}: tensor model\.embed_tokens\.weight has shape \[19, 16\]; by config\.json it is \[20, ",
    ):
        read_model(tmp_path)


def test_a_reward_head_with_two_labels_is_refused(tmp_path):
    write(tmp_path, score=jnp.arange(16.0))
    change(tmp_path / FILE, score__weight=np.zeros((2, 16), np.float32))
    with pytest.raises(ConfigError, match=r"tensor score\.weight has shape \[2, 16\]; by config\.json it is \[1, "):
        read_model(tmp_path)


def test_a_tensor_of_another_dtype_is_named(tmp_path):
    write(tmp_path)
    change(tmp_path / FILE, **{"model.norm.weight": np.ones(16, np.int32)})
    with pytest.raises(ConfigError, match=r"tensor model\.norm\.weight has dtype I32; supported: F32, BF16, F16\.$"):
        read_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 2000])
def test_a_damaged_file_is_named(tmp_path, keep):
    write(tmp_path)
    (tmp_path / SEAL).unlink()
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:keep])
    with pytest.raises(ConfigError, match=rf"^{tmp_path / FILE} is damaged: .*\.$"):
        read_model(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    (write(tmp_path) / FILE).unlink()
    (tmp_path / SEAL).unlink()
    message = rf"^{tmp_path} holds neither model\.safetensors nor model\.safetensors\.index\.json"
    with pytest.raises(ConfigError, match=rf"{message}\.$"):
        read_model(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ConfigError, match=rf"{message}; pytorch_model\.bin is not read\.$"):
        read_model(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}'])
def test_an_index_without_files_is_refused(tmp_path, index):
    (write(tmp_path) / FILE).unlink()
    (tmp_path / SEAL).unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ConfigError, match=r"index\.json: weight_map must be an object that names the file of "):
        read_model(tmp_path)


def test_a_damaged_index_is_refused(tmp_path):
    write(tmp_path, max_shard_bytes=4000)
    (tmp_path / SEAL).unlink()
    for text, wrong in (("{", "is not valid JSON"), ("[]", "does not hold a JSON object")):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ConfigError, match=rf"model\.safetensors\.index\.json {wrong}"):
            read_model(tmp_path)


def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path):
    folder = write(tmp_path / "model")
    (folder / FILE).rename(tmp_path / FILE)
    (folder / SEAL).unlink()
    for name in (f"../{FILE}", str(tmp_path / FILE), "..", "a/b", "a\\b", "", "\x1b[2J"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
        with pytest.raises(ConfigError) as error:
            read_model(folder)
        assert str(error.value).endswith(f"index.json: weight_map names {name!r}, which is no file of this folder.")


def test_a_tensor_in_two_files_is_refused(tmp_path):
    write(tmp_path, max_shard_bytes=4000)
    (tmp_path / SEAL).unlink()
    first, second, *_ = sorted(tmp_path.glob("model-*.safetensors"))
    both = safetensors.numpy.load_file(first) | safetensors.numpy.load_file(second)
    safetensors.numpy.save_file(both, first)
    with pytest.raises(ConfigError, match=rf"is in two files, one of them {second.name}\.$"):
        read_model(tmp_path)


def test_a_flipped_bit_in_any_file_that_we_wrote_is_noticed(tmp_path):
    characters().save(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    write(tmp_path / "model", max_shard_bytes=16_000, tokenizer=tokenizer)
    names = files(tmp_path / "model")
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    for name in names:
        path = tmp_path / "model" / name
        good = path.read_bytes()
        place = good.index(b"9") if name == "config.json" else len(good) - 3
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(ConfigError) as error:
            read_model(tmp_path / "model")
        assert str(path) in str(error.value) or name in str(error.value)
        path.write_bytes(good)
    read_model(tmp_path / "model")


def test_a_file_that_was_changed_on_purpose_is_read_without_the_checksums(tmp_path):
    write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_theta": 5000.0}))
    with pytest.raises(ConfigError, match=r"its checksum is not the one in haepo_jax\.json; if you changed the file "):
        read_model(tmp_path)
    (tmp_path / SEAL).unlink()
    assert read_model(tmp_path).architecture.rope_theta == 5000.0


def test_damaged_checksums_are_refused(tmp_path):
    write(tmp_path)
    elsewhere = '{"checksums": {"../x": 1}, "facts": {}}'
    for text in ("{", "[]", "{}", '{"checksums": [], "facts": {}}', elsewhere, "[" * 10**5):
        (tmp_path / SEAL).write_text(text)
        with pytest.raises(ConfigError, match=rf"^{tmp_path / SEAL} .*\.$"):
            read_model(tmp_path)


def test_what_was_written_of_the_model_is_read_back(tmp_path):
    assert read_model(write(tmp_path, facts={"pooling": "last"})).facts == {"pooling": "last"}
    (tmp_path / SEAL).unlink()
    assert read_model(tmp_path).facts == {}


def test_a_config_that_asks_for_more_than_there_is_is_refused_before_anything_is_allocated(tmp_path):
    write(tmp_path, "llama")
    (tmp_path / SEAL).unlink()
    good = json.loads((tmp_path / "config.json").read_text())
    most = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 2**24) | {"num_hidden_layers": 10_000}
    for changes in ({"num_hidden_layers": 10_000}, {"vocab_size": 2**24}, most):
        (tmp_path / "config.json").write_text(json.dumps(good | changes))
        with pytest.raises(ConfigError, match=r"which config\.json asks for\.$|; by config\.json it is \["):
            read_model(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path, max_shard_bytes=4000)
    shard = min(tmp_path.glob("model-00002-of-*.safetensors"))
    shard.unlink()
    (tmp_path / SEAL).unlink()
    with pytest.raises(
        ConfigError, match=rf"^{tmp_path} holds no {shard.name}, which its model\.safetensors\.index\.json names\.$"
    ):
        read_model(tmp_path)


def test_what_one_stage_writes_is_what_the_next_reads(tmp_path):
    words = ["<eos>", "<unk>", "<end>", "<bos>", " ", *"abc"]
    write(tmp_path / "given", "gpt_neox")
    change_config(tmp_path / "given", eos_token_id=[0, 2], bos_token_id=3, pad_token_id=None)
    backend(words).save(str(tmp_path / "given" / "tokenizer.json"))
    (tmp_path / "given" / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    (tmp_path / "given" / "generation_config.json").write_text('{"eos_token_id": [0, 2], "temperature": 0.6}')
    folder = tmp_path / "given"
    for name in ("sft", "reward", "rl"):
        model, tokenizer = read_model(folder), Tokenizer.from_folder(folder)
        assert (tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id) == ((0, 2), len(words), 3)
        folder = tmp_path / name / "model"
        models.write_stage_model(folder, model.architecture, model.params, tokenizer)
        config = json.loads((folder / "config.json").read_text())
        assert (config["eos_token_id"], config["pad_token_id"], config["bos_token_id"]) == ([0, 2], len(words), 3)
        assert json.loads((folder / "generation_config.json").read_text())["temperature"] == 0.6


def test_without_the_library_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ConfigError, match=r"^Language models need the safetensors library; install it with pip inst"):
        read_model(tmp_path)
