"""The parts of the stages: models on the devices, compiled updates, and folders to read and write."""

import contextlib
import dataclasses
import functools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data.corpus import located
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.architecture import Architecture, of_family
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.config import TokenIds
from haepo_jax.language.model.hugging_face.folder import Model, read_model, write_model
from haepo_jax.language.model.hugging_face.tensors import leaves
from haepo_jax.language.model.lora import fold, init_adapter, join
from haepo_jax.language.model.sharding import FSDP, for_parameters, make_mesh, over_rows
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.run import Evaluation, Stage
from haepo_jax.language.stages.status import MODEL, find_divergence
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.progress import report_waiting
from haepo_jax.runtime import paths
from haepo_jax.types import Params

_HELD_OUT_ROWS = 64
"""Of a batch of held-out posts or comparisons, where the devices can share that many."""
_BYTES_TRAINED, _BYTES_FROZEN = 16, 2
"""The least that a parameter takes: in float32 with its gradient and Adam's two moments, or held in bfloat16."""


class Setting(NamedTuple):
    """The setting that all stages begin with."""

    config: LanguageConfig
    """Its data have paths."""
    workdir: Path
    mesh: Mesh
    generated: bool
    """Whether the data are the generated task, which has a gold reward."""

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that is trained instead of all parameters, if any."""
        model = self.config.model
        return Adapter(model.adapter_rank, model.adapter_alpha) if model.adapter_rank else None

    def decoder(self, architecture: Architecture, adapter: Adapter | None = None) -> Decoder:
        """The decoder as the config wants it computed."""
        return Decoder(architecture, np.dtype(self.config.model.dtype), adapter, self.config.model.remat)

    def read(self, folder: str | Path, dtype: str = "float32") -> Model:
        """The model of a Hugging Face folder, on the devices."""
        return read_model(folder, dtype=dtype, shardings=functools.partial(for_parameters, self.mesh))

    @property
    def held_out_rows(self) -> int:
        """Rows of a batch of held-out posts or comparisons, a multiple of the devices."""
        return max(_HELD_OUT_ROWS // self.mesh.size, 1) * self.mesh.size

    def place(self, examples: Any) -> Any:
        """Examples as a batch on the devices."""
        return jax.device_put(examples, over_rows(self.mesh))


def make_setting(config: LanguageConfig, workdir: Path, *, batch_size: int = _HELD_OUT_ROWS) -> Setting:
    """Finds or generates the data, and the devices.

    Args:
      config: the settings.
      workdir: holds the folders of all stages.
      batch_size: what the devices must share evenly.

    Raises:
      ConfigError: the devices cannot be shared out as the config says.
      StorageError: the generated data could not be written.
    """
    mesh = make_mesh(config.mesh.fsdp, batch_size)
    with storage_errors(workdir):
        data = located(config.data, workdir / "data")
    return Setting(dataclasses.replace(config, data=data), workdir, mesh, generated=not config.data.demonstrations)


@contextlib.contextmanager
def remove_data_if_refused(workdir: Path) -> Iterator[None]:
    """Removes the generated data again where what follows is refused, if they are new and all that there is."""
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    new = not (workdir / "data").exists()
    try:
        yield
    except ConfigError:
        if new and workdir.is_dir() and {path.name for path in workdir.iterdir()} == {"data"}:
            shutil.rmtree(workdir / "data")
            for folder in made:
                folder.rmdir()
        raise


def find_policy_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Where the fine-tuned policy lies."""
    return _find_made_by("sft", config.sft_path, workdir)


def find_reward_folder(config: LanguageConfig, workdir: Path) -> Path:
    """Where the reward model lies."""
    return _find_made_by("reward", config.reward_path, workdir)


def _find_made_by(stage: str, path: str, workdir: Path) -> Path:
    folder = _check_given(f"--config.{stage}_path", path) if path else workdir / stage / MODEL
    update = None if path else find_divergence(workdir / stage)
    if update is not None:
        raise ConfigError(
            f"The stage {stage} in {workdir / stage} diverged at update {update}, so that there is no model to start "
            f"from; try it in another --workdir, with a smaller config.{stage}.optimizer.learning_rate."
        )
    if not (folder / "config.json").is_file():
        advice = "it holds no config.json" if path else f"run --stage={stage} first, or give config.{stage}_path"
        raise ConfigError(f"There is no model in {folder}: {advice}.")
    return folder


def _check_given(setting: str, path: str) -> Path:
    """The folder of a model that a setting names, which may be missing, but can be read where it is there."""
    folder = paths.folder(setting, path)
    try:
        os.listdir(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{setting}={path} cannot be read: {error.strerror}.") from error
    return folder


def make_first_model(setting: Setting) -> tuple[Model, Tokenizer]:
    """The model that fine-tuning begins with, and its tokenizer.

    Raises:
      ConfigError: the config names no model, and its data are not the generated task, which has a tokenizer.
    """
    model, seed = setting.config.model, setting.config.seed
    if model.path:
        folder = _check_given("--config.model.path", model.path)
        return setting.read(folder), Tokenizer.from_folder(folder)
    if not setting.generated:
        raise ConfigError("config.model.path is empty: data of your own need a model with its tokenizer.")
    tokenizer = Tokenizer.from_folder(setting.workdir / "data")
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
    size = sum(math.prod(leaf.shape) for leaf in leaves(architecture).values())
    copies = setting.mesh.size // setting.mesh.shape[FSDP]
    check_room(
        size * copies * (_BYTES_FROZEN if setting.adapter else _BYTES_TRAINED),
        f"A model of {size:,} parameters",
        "make config.model.hidden_size, intermediate_size or num_layers smaller",
    )
    decoder = setting.decoder(architecture)

    def init() -> Params:
        nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return decoder.init(jax.random.key(seed), *nothing)["params"]

    params = jax.jit(init, out_shardings=for_parameters(setting.mesh, jax.eval_shape(init)))()
    return Model(architecture, params, None, {}), tokenizer


def split_trainable(setting: Setting, decoder: Decoder, params: Params) -> tuple[Params | None, Params]:
    """`(base, trained)`: these parameters as they are held and a fresh adapter, or None and they themselves."""
    if decoder.adapter is None:
        return None, params
    base = jax.tree.map(lambda leaf: leaf.astype(setting.config.model.frozen_dtype), params)
    return base, init_adapter(decoder, jax.random.key(setting.config.seed))


def fold_adapter(setting: Setting, read: Callable[[], Params], trained: Params) -> Params:
    """The parameters of the plain model that a stage has made, in float32.

    Args:
      setting: of the stage.
      read: reads again what the adapter adapts, as that may be held in fewer digits.
      trained: the parameters, or the adapter alone.
    """
    return trained if setting.adapter is None else fold(join(read(), trained), setting.adapter)


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


def compile_stage(
    setting: Setting,
    learner: LearnerState,
    frozen: Any,
    updates: dict[str, Update],
    examples: Any,
    source: str,
    *,
    batch_size: int,
    total: int,
    watched: str,
    evaluation: Evaluation | None = None,
) -> tuple[Stage, str]:
    """A stage ready to run, with that of the updates, by name, which needs the least memory; and its name.

    Raises:
      ConfigError: the devices cannot hold what it needs.
    """
    clock = time.monotonic()
    rows = over_rows(setting.mesh)
    batch = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), array.dtype, sharding=rows), examples
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, learner)
    with report_waiting("Compiling", "Compiled"):
        programs = {
            name: jax.jit(update, donate_argnums=0, out_shardings=(shardings, None))
            .lower(learner, frozen, batch)
            .compile()
            for name, update in updates.items()
        }
    name = min(programs, key=lambda name: _count_temporary_bytes(programs[name]))
    check_room(
        _count_bytes(programs[name]) * setting.mesh.size, "An update", "take fewer rows at a time or a smaller model"
    )
    stage = Stage(
        total=total,
        learner=learner,
        frozen=frozen,
        update=programs[name],
        examples=examples,
        source=source,
        batch_size=batch_size,
        place=setting.place,
        seed=setting.config.seed,
        compile_seconds=time.monotonic() - clock,
        watched=watched,
        evaluation=evaluation,
    )
    return stage, name


def _count_temporary_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs beside its arguments and results; 0 where the backend does not say."""
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes


def _count_bytes(program: Compiled) -> int:
    """Counts the bytes that a program needs on a device; 0 where the backend does not say."""
    sizes = program.memory_analysis()
    if sizes is None:
        return 0
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return held + sizes.temp_size_in_bytes


def average_over_batches(setting: Setting, function: Callable[[Sequences], jax.Array], examples: Sequences) -> float:
    """Computes the mean of a function of whole batches of held-out examples.

    Args:
      setting: gives the size of the batches, and the devices.
      function: `batch -> mean over its rows`, to which rows without any valid token count nothing.
      examples: N rows. The few that fill no batch are left out; fewer than one batch are filled up with such rows.
    """
    count, devices = len(examples.tokens), setting.mesh.size
    size = min(setting.held_out_rows, -(-count // devices) * devices)
    if count < size:
        examples = jax.tree.map(
            lambda array: np.pad(array, [(0, size - count)] + [(0, 0)] * (array.ndim - 1)), examples
        )
    starts = range(0, len(examples.tokens) - size + 1, size)
    values = [function(setting.place(Sequences(*(array[at : at + size] for array in examples)))) for at in starts]
    return float(np.mean([np.asarray(value) for value in values]))
