"""What the stages are put together from: models on the devices, compiled updates, and folders to read and write."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled

from haepo_jax.errors import ConfigError
from haepo_jax.language.adapters import fold, init_adapter, join
from haepo_jax.language.architecture import Architecture, of_family
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.corpus import located
from haepo_jax.language.decoder import Adapter, Decoder
from haepo_jax.language.hugging_face import Model, read_model, write_model
from haepo_jax.language.hugging_face_config import TokenIds
from haepo_jax.language.learner import Learner, Update
from haepo_jax.language.run import Evaluation, Stage
from haepo_jax.language.sharding import for_parameters, make_mesh, over_rows
from haepo_jax.language.tokens import Tokenizer
from haepo_jax.run_folder import storage_errors

Params = Any


class Setting(NamedTuple):
    """What all stages begin with."""

    config: LanguageConfig
    """Its data have paths."""
    workdir: Path
    mesh: Mesh
    generated: bool
    """Whether the data are the generated task, which has a gold reward."""

    @property
    def adapter(self) -> Adapter | None:
        """What is trained instead of all parameters, if anything."""
        model = self.config.model
        return Adapter(model.adapter_rank, model.adapter_alpha) if model.adapter_rank else None

    def decoder(self, architecture: Architecture, adapter: Adapter | None = None) -> Decoder:
        """The decoder as the config wants it computed."""
        return Decoder(architecture, np.dtype(self.config.model.dtype), adapter, self.config.model.remat)

    def read(self, folder: str | Path, dtype: str = "float32") -> Model:
        """The model of a Hugging Face folder, on the devices."""
        return read_model(folder, dtype=dtype, shardings=functools.partial(for_parameters, self.mesh))

    def place(self, examples: Any) -> Any:
        """Examples as a batch on the devices."""
        return jax.device_put(examples, over_rows(self.mesh))


def make_setting(config: LanguageConfig, workdir: Path) -> Setting:
    """Finds or generates the data, and the devices.

    Raises:
      ConfigError: the devices cannot be shared out as the config says.
      StorageError: the generated data could not be written.
    """
    mesh = make_mesh(config.mesh.fsdp)
    with storage_errors(workdir):
        data = located(config.data, workdir / "data")
    return Setting(dataclasses.replace(config, data=data), workdir, mesh, generated=not config.data.demonstrations)


def policy_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Where the fine-tuned policy lies."""
    return _made_by("sft", config.sft_path, workdir)


def reward_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Where the reward model lies."""
    return _made_by("reward", config.reward_path, workdir)


def _made_by(stage: str, path: str, workdir: Path) -> Path:
    folder = Path(path).expanduser() if path else workdir / stage / "model"
    if not (folder / "config.json").is_file():
        advice = "it holds no config.json" if path else f"run --stage={stage} first, or give config.{stage}_path"
        raise ConfigError(f"There is no model in {folder}: {advice}.")
    return folder


def first_model(setting: Setting) -> tuple[Model, Tokenizer, Path]:
    """The model that fine-tuning begins with, its tokenizer, and the folder that the tokenizer is from.

    Raises:
      ConfigError: the config names no model, and its data are not the generated task, which has a tokenizer.
    """
    model, seed = setting.config.model, setting.config.seed
    if model.path:
        folder = Path(model.path).expanduser()
        return setting.read(folder), Tokenizer.from_folder(folder), folder
    folder = setting.workdir / "data"
    if not (folder / "tokenizer.json").is_file():
        raise ConfigError("config.model.path is empty: data of your own need a model with its tokenizer.")
    tokenizer = Tokenizer.from_folder(folder)
    architecture = of_family(
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
    decoder = setting.decoder(architecture)

    def init() -> Params:
        nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return decoder.init(jax.random.key(seed), *nothing)["params"]

    params = jax.jit(init, out_shardings=for_parameters(setting.mesh, jax.eval_shape(init)))()
    return Model(architecture, params, None), tokenizer, folder


def trainable(setting: Setting, decoder: Decoder, params: Params) -> tuple[Params | None, Params]:
    """`(base, trained)`: these parameters as they are held and a fresh adapter, or None and they themselves."""
    if decoder.adapter is None:
        return None, params
    base = jax.tree.map(lambda leaf: leaf.astype(setting.config.model.frozen_dtype), params)
    return base, init_adapter(decoder, jax.random.key(setting.config.seed))


def folded(setting: Setting, read: Callable[[], Params], trained: Params) -> Params:
    """The parameters of the plain model that a stage has made, in float32.

    Args:
      setting: of the stage.
      read: reads again what the adapter adapts, as that may be held in fewer digits.
      trained: the parameters, or the adapter alone.
    """
    return trained if setting.adapter is None else fold(join(read(), trained), setting.adapter)


def write(
    folder: Path, architecture: Architecture, params: Params, tokenizer: Tokenizer, source: Path, score: Any = None
) -> None:
    """Writes `model` into a stage's folder, with the tokenizer's files of the folder `source`."""
    token_ids = TokenIds(tokenizer.eos_id, tokenizer.pad_id)
    with storage_errors(folder):
        write_model(folder / "model", architecture, params, token_ids=token_ids, score=score, tokenizer=source)


def compiled_stage(
    setting: Setting,
    learner: Learner,
    frozen: Any,
    updates: dict[str, Update],
    examples: Any,
    *,
    batch_size: int,
    total: int,
    watched: str,
    evaluation: Evaluation | None = None,
) -> tuple[Stage, str]:
    """A stage ready to run, with that of the updates, by name, which needs the least memory; and its name.

    Raises:
      ConfigError: the devices do not divide the batch.
    """
    devices = setting.mesh.size
    if batch_size % devices:
        raise ConfigError(
            f"A batch of {batch_size} cannot be shared by {devices} devices; make it a multiple of them."
        )
    clock = time.monotonic()
    batch = setting.place(jax.tree.map(lambda array: np.resize(array, (batch_size, *array.shape[1:])), examples))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, learner)
    programs = {
        name: jax.jit(update, donate_argnums=0, out_shardings=(shardings, None))
        .lower(learner, frozen, batch)
        .compile()
        for name, update in updates.items()
    }
    name = min(programs, key=lambda name: _temporary_bytes(programs[name]))
    stage = Stage(
        total=total,
        learner=learner,
        frozen=frozen,
        update=programs[name],
        examples=examples,
        batch_size=batch_size,
        place=setting.place,
        seed=setting.config.seed,
        compile_seconds=time.monotonic() - clock,
        watched=watched,
        evaluation=evaluation,
    )
    return stage, name


def _temporary_bytes(program: Compiled) -> int:
    """What a program needs beside its arguments and results; 0 where the backend does not tell."""
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes


def mean_over_batches(setting: Setting, function: Callable[[Any], jax.Array], examples: Any, size: int) -> float:
    """The mean of `function` of whole batches of these examples; the few that fill no batch are left out."""
    count = len(jax.tree.leaves(examples)[0])
    size = min(size, count)
    starts = range(0, count - size + 1, size)
    values = [
        function(setting.place(jax.tree.map(lambda array, at=at: array[at : at + size], examples))) for at in starts
    ]
    return float(np.mean([np.asarray(value) for value in values]))
