"""A Hugging Face folder of a tiny model that reads characters, as one's own models are given."""

import functools
import json

import jax
import jax.numpy as jnp
from helpers.small_tokenizers import characters

from haepo_jax.language.model.architecture import make_architecture
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.model.hugging_face.config import TokenIds
from haepo_jax.language.model.hugging_face.folder import write_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@functools.cache
def _made():
    tokenizer = characters()
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 16}
    architecture = make_architecture(
        "qwen3",
        head_dim=4,
        vocab_size=tokenizer.vocab_size,
        rope_theta=1e4,
        max_length=256,
        tie_embeddings=True,
        **sizes,
    )
    nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    return architecture, jax.jit(Decoder(architecture).init)(jax.random.key(0), *nothing)["params"]


def write_tokenizer(folder, template=TEMPLATE, **settings):
    """The files of the tokenizer; no chat template where that is None."""
    folder.mkdir(parents=True, exist_ok=True)
    characters().backend.save(str(folder / "tokenizer.json"))
    tokens = {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>"}
    chat = {} if template is None else {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens | chat | settings))
    return folder


def write_own_model(folder, **settings):
    """The whole folder."""
    architecture, params = _made()
    write_model(folder, architecture, params, token_ids=TokenIds(1, 0, None))
    return write_tokenizer(folder, **settings)


def write_rows(path, rows):
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
