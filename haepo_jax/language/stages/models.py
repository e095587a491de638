"""The models that stages begin from and make, as folders: found, loaded, taken apart for training, written."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, has_own_prompts
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.architecture import Architecture, make_architecture
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.adapters import write_adapter
from haepo_jax.language.model.hugging_face.bases import ADAPTER_CONFIG, MODEL_CONFIG, is_model
from haepo_jax.language.model.hugging_face.config import TokenIds
from haepo_jax.language.model.hugging_face.folder import Model, write_model
from haepo_jax.language.model.hugging_face.tensors import list_leaves
from haepo_jax.language.model.lora import fold, init_adapter, join
from haepo_jax.language.model.sharding import FSDP, shard_parameters
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.status import MODEL, find_divergence
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runtime import paths
from haepo_jax.types import Params

ADAPTER = "adapter"
"""The folder of a stage that holds its adapter alone, in PEFT's format."""

_EMPTY = f"it holds neither {MODEL_CONFIG} nor {ADAPTER_CONFIG}"
_BYTES_TRAINED, _BYTES_FROZEN = 16, 2
"""The least that a parameter takes: in float32 with its gradient and Adam's two moments, or held in bfloat16."""


def find_policy_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Finds the folder of the policy that `rl` begins with: the fine-tuned one, or the first model.

    Raises:
      ConfigError: it holds no model, as its stage is not finished or diverged, or as the config names another folder.
    """
    if begins_with_first_model(config, workdir):
        return _check_model(_check_given("--config.model.path", config.model.path), _EMPTY)
    return _find_made_by("sft", config.sft_path, workdir)


def begins_with_first_model(config: LanguageConfig, workdir: Path) -> bool:
    """Returns whether no stage `sft` comes before `rl`, whose policy is then that of `config.model.path`.

    So it is where there is such a path and no fine-tuned policy, and prompts are one's own or programs reward.
    """
    without_sft = bool(config.model.path) and not config.sft_path and not (workdir / "sft").exists()
    return without_sft and (has_own_prompts(config.data) or bool(config.rl.rewards))


def find_reward_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Finds the folder of the reward model; errors as of `find_policy_folder`."""
    return _find_made_by("reward", config.reward_path, workdir)


def _find_made_by(stage: str, path: str, workdir: Path) -> Path:
    folder = _check_given(f"--config.{stage}_path", path) if path else workdir / stage / MODEL
    update = None if path else find_divergence(workdir / stage)
    if update is not None:
        raise ConfigError(
            f"The stage {stage} in {workdir / stage} diverged at update {update}, so that there is no model to start "
            f"from; try it in another --workdir, with a smaller config.{stage}.optimizer.learning_rate."
        )
    instead = " or config.rl.rewards" if stage == "reward" else ""
    advice = _EMPTY if path else f"run --stage={stage} first, or give config.{stage}_path{instead}"
    return _check_model(folder, advice)


def _check_model(folder: Path, advice: str) -> Path:
    if not is_model(folder):
        raise ConfigError(f"There is no model in {folder}: {advice}.")
    return folder


def _check_given(setting: str, path: str) -> Path:
    """Finds the folder of a model that a setting names, which may be missing, but can be read where it is there."""
    folder = paths.folder(setting, path)
    try:
        os.listdir(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{setting}={path} cannot be read: {error.strerror}.") from error
    return folder


def make_first_model(context: StageContext) -> tuple[Model, Tokenizer]:
    """Makes the model that fine-tuning begins with, and its tokenizer: read from a folder, or a random one.

    Raises:
      ConfigError: the config names neither model nor tokenizer, and its data are not the generated task, which has a
        tokenizer.
    """
    model, seed = context.config.model, context.config.seed
    if model.path:
        folder = _check_given("--config.model.path", model.path)
        return context.read(folder), Tokenizer.from_folder(folder)
    tokenizer = Tokenizer.from_folder(_find_tokenizer(context))
    architecture = make_architecture(
        model.family,
        head_dim=model.hidden_size // model.num_heads,
        vocab_size=tokenizer.vocab_size,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        intermediate_size=model.intermediate_size,
        rope_theta=model.rope_theta,
        max_length=2048,
    )
    size = sum(math.prod(leaf.shape) for leaf in list_leaves(architecture).values())
    copies = context.mesh.size // context.mesh.shape[FSDP]
    check_room(
        size * copies * (_BYTES_FROZEN if context.adapter else _BYTES_TRAINED),
        f"A model of {size:,} parameters",
        "make config.model.hidden_size, intermediate_size or num_layers smaller",
    )
    decoder = context.decoder(architecture)

    def init() -> Params:
        nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return decoder.init(jax.random.key(seed), *nothing)["params"]

    params = jax.jit(init, out_shardings=shard_parameters(context.mesh, jax.eval_shape(init)))()
    return Model(architecture, params, None, {}), tokenizer


def _find_tokenizer(context: StageContext) -> Path:
    """Finds the folder of the tokenizer of a model that starts from random parameters."""
    if context.generated:
        return context.workdir / "data"
    given = context.config.model.tokenizer
    if not given:
        raise ConfigError(
            "config.model.path is empty: data of your own need a model with its tokenizer, or for a model that starts "
            "from random parameters the folder of one as config.model.tokenizer."
        )
    return _check_given("--config.model.tokenizer", given)


def split_trainable(context: StageContext, decoder: Decoder, params: Params) -> tuple[Params | None, Params]:
    """Splits parameters into `(base, trained)`: themselves and a fresh adapter, or None and themselves."""
    if decoder.adapter is None:
        return None, params
    base = jax.tree.map(lambda leaf: leaf.astype(context.config.model.frozen_dtype), params)
    return base, init_adapter(decoder, jax.random.key(context.config.seed))


def fold_adapter(adapter: Adapter | None, read: Callable[[], Params], trained: Params) -> Params:
    """Folds what a stage has trained into the parameters of a plain model, in float32.

    Args:
      adapter: that was trained; None where all parameters were.
      read: reads again what the adapter adapts, as that may be held in fewer digits.
      trained: the parameters, or the adapter alone.
    """
    return trained if adapter is None else fold(join(read(), trained), adapter)


def write_stage_adapter(
    made: Path, architecture: Architecture, adapter: Adapter | None, trained: Params, *, base: str, score: Any = None
) -> None:
    """Writes the adapter that a stage has trained beside its model, into `adapter`; nothing where there is none.

    Args:
      made: the folder of the model, which is no adapter's where the stage diverged.
      architecture: of the model.
      adapter: how it is applied.
      trained: its parameters.
      base: the model that it adapts, as PEFT looks for it.
      score: of a reward model.
    """
    if adapter is not None and made.name == MODEL:
        with storage_errors(made.parent):
            write_adapter(made.with_name(ADAPTER), architecture, trained, adapter, base=base, score=score)


def write_stage_model(
    folder: Path,
    architecture: Architecture,
    params: Params,
    tokenizer: Tokenizer,
    *,
    score: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes a stage's model with its tokenizer; see `write_model`."""
    eos = tokenizer.eos_ids if tokenizer.other_eos_ids else tokenizer.eos_id
    token_ids = TokenIds(eos, tokenizer.pad_id, tokenizer.bos_id)
    with storage_errors(folder.parent):
        write_model(folder, architecture, params, token_ids=token_ids, score=score, tokenizer=tokenizer, facts=facts)
