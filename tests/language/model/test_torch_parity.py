"""The same outputs as the torch implementation of transformers, from its folders and, by it, from ours.

Runs where torch and transformers are installed, or with the interpreter named in HAEPO_TORCH_PYTHON.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import torch_logits
from helpers.numpy_decoder import ARCHITECTURES, NEWER, random_params
from helpers.torch_python import find_python, run_script

from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.model.hugging_face.folder import TokenIds, read_model, write_model
from haepo_jax.language.training.sampling import sample

OURS = {
    **{name: {} for name in (*ARCHITECTURES, *NEWER)},
    "qwen3_sharded": {"max_shard_bytes": 4000},
    "gpt_neox_bfloat16": {"dtype": jnp.bfloat16},
    "llama_classifier": {"score": np.linspace(-1, 1, 16, dtype=np.float32)},
    "gpt_neox_classifier": {"score": np.linspace(-1, 1, 16, dtype=np.float32)},
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Their models and ours, with the outputs that the torch implementation gives; or skips and says why."""
    python = find_python("torch", "transformers")
    theirs, ours = (tmp_path_factory.mktemp(name) for name in ("theirs", "ours"))
    for name, options in OURS.items():
        stem = name.removesuffix("_sharded").removesuffix("_bfloat16").removesuffix("_classifier")
        arch = (ARCHITECTURES | NEWER)[stem]
        params = random_params(Decoder(arch))
        write_model(ours / name, arch, params, token_ids=TokenIds(eos=1, pad=0), **options)
        np.savez(ours / f"{name}.npz", **torch_logits.inputs(arch.vocab_size))
    done = run_script(python, torch_logits.__file__, theirs, ours, timeout=1800)
    assert done.returncode == 0, done.stderr
    return theirs, ours


@functools.partial(jax.jit, static_argnums=0)
def outputs(architecture, params, score, tokens, valid):
    decoder = Decoder(architecture)
    if score is None:
        return decoder.apply({"params": params}, tokens, valid)
    states, _ = decoder.apply({"params": params}, tokens, valid, method="hidden")
    return states[:, -1:] @ score


def assert_parity(folder, name):
    model = read_model(folder / name)
    given = np.load(folder / f"{name}.npz")
    batch = jnp.asarray(given["tokens"], jnp.int32), given["valid"]
    got = np.asarray(outputs(model.architecture, model.params, model.score, *batch))
    expected = given["outputs"]
    if model.score is None:
        got, expected = got[given["valid"]], expected[given["valid"]]
    assert got.shape == expected.shape
    assert expected.std() > 0.2
    print(f"{name}: largest difference {np.max(np.abs(got - expected)):.1e}, largest {np.max(np.abs(expected)):.1f}")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=3e-5)


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exact_products")]


@pytest.mark.parametrize("name", torch_logits.CASES)
def test_their_folders_give_their_outputs(folders, name):
    assert_parity(folders[0], name)


@pytest.mark.parametrize("name", OURS)
def test_our_folders_give_them_our_outputs(folders, name):
    assert_parity(folders[1], name)


@pytest.mark.parametrize("name", [name for name in torch_logits.CASES if not name.endswith("classifier")])
def test_greedy_decoding_with_a_cache_gives_their_tokens(folders, name):
    model, given = read_model(folders[0] / name), np.load(folders[0] / f"{name}.npz")
    prompts = jnp.asarray(given["tokens"], jnp.int32), jnp.asarray(given["valid"])
    options = {"response_length": torch_logits.NEW_TOKENS, "greedy": True, "eos_ids": (1,), "pad_id": 0}
    draw = jax.jit(functools.partial(sample, Decoder(model.architecture), **options))
    np.testing.assert_array_equal(draw(model.params, *prompts, jax.random.key(0)).tokens, given["answers"])


@pytest.mark.parametrize("name", torch_logits.CASES)
def test_their_folders_survive_being_written_by_us(folders, tmp_path, name):
    model = read_model(folders[0] / name)
    write_model(tmp_path, model.architecture, model.params, token_ids=TokenIds(eos=1, pad=0), score=model.score)
    again = read_model(tmp_path)
    assert again.architecture == model.architecture
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
