"""The context of a stage: settings, places of the data, devices."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, ModelConfig, RewardConfig, is_generated
from haepo_jax.language.data.corpus import locate_data
from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.folder import Model, read_model
from haepo_jax.language.model.sharding import make_mesh, shard_parameters, shard_rows
from haepo_jax.language.stages.run import StageResult
from haepo_jax.runs.folder import storage_errors

_HELD_OUT_ROWS = 64
"""Of a batch of held-out posts or comparisons, where the devices can share that many."""

Finish = Callable[[StageResult, Path], dict[str, Any]]
"""Writes what the stage has made into a folder, and gives what its summary says of it."""


class StageContext(NamedTuple):
    """Settings, places of the data and devices, which every stage begins with."""

    config: LanguageConfig
    """Its data have paths."""
    workdir: Path
    mesh: Mesh
    generated: bool
    """Whether the data are the generated task, which has a gold reward."""

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that is trained instead of all parameters, if any."""
        return make_adapter(self.config.model)

    def decoder(self, architecture: Architecture, adapter: Adapter | None = None) -> Decoder:
        """Makes a decoder that computes as the config says."""
        return Decoder(architecture, np.dtype(self.config.model.dtype), adapter, self.config.model.remat)

    def read(self, folder: str | Path, dtype: str = "float32") -> Model:
        """Reads the model of a Hugging Face folder onto the devices."""
        return read_model(folder, dtype=dtype, shardings=functools.partial(shard_parameters, self.mesh))

    @property
    def held_out_rows(self) -> int:
        """Rows of a batch of held-out posts or comparisons, a multiple of the devices."""
        return max(_HELD_OUT_ROWS // self.mesh.size, 1) * self.mesh.size

    def place(self, examples: Any) -> Any:
        """Places examples as a batch on the devices."""
        return jax.device_put(examples, shard_rows(self.mesh))


def make_adapter(settings: ModelConfig | RewardConfig) -> Adapter | None:
    """Makes the adapter that these settings ask for; None where they ask for none."""
    return Adapter(settings.adapter_rank, settings.adapter_alpha) if settings.adapter_rank else None


def make_context(config: LanguageConfig, workdir: Path, *, batch_size: int = _HELD_OUT_ROWS) -> StageContext:
    """Makes the context of a stage: finds or generates the data, and finds the devices.

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
        data = locate_data(config.data, workdir / "data")
    return StageContext(dataclasses.replace(config, data=data), workdir, mesh, is_generated(config.data))


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
