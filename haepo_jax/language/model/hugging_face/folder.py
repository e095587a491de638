"""Models as Hugging Face folders: `config.json` and safetensors, read and written without the network.

Both ways go one leaf of the parameters at a time, so that never two whole copies of a model exist. A folder is whole
once its `config.json`, which is written last, is there; a folder that we wrote has checksums (`sealed.py`).
"""

import contextlib
import functools
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.typing import DTypeLike

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.json_text import read_object
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Adapter
from haepo_jax.language.model.hugging_face.adapters import read_adapter, read_score
from haepo_jax.language.model.hugging_face.bases import find_parts
from haepo_jax.language.model.hugging_face.checksums import SEAL, check, is_plain_name, seal
from haepo_jax.language.model.hugging_face.config import TokenIds, make_config, read_architecture
from haepo_jax.language.model.hugging_face.tensors import (
    DTYPES,
    SCORE,
    Leaf,
    count_tensor_bytes,
    flatten_by_path,
    iterate_tensors,
    list_leaves,
    make_leaf,
)
from haepo_jax.language.model.lora import fold
from haepo_jax.runs.folder import write_file, write_json
from haepo_jax.text import visible
from haepo_jax.types import Params

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HEADS = ("lm_head.weight", "embed_out.weight")
# Constants that older versions of transformers stored beside the weights.
_CONSTANTS = re.compile(r"\.rotary_emb\.inv_freq$|\.attention\.(masked_)?bias$")


class Model(NamedTuple):
    """The content of a folder."""

    architecture: Architecture
    params: Params
    """Of a `Decoder` of this architecture."""
    score: jax.Array | None
    """`[D]`, the reward head, if it is a classifier with one label."""
    facts: Mapping[str, Any]
    """Notes for later stages that were written with it, by name; nothing in a folder from elsewhere."""


def read_model(
    folder: str | Path, *, dtype: DTypeLike = jnp.float32, shardings: Callable[[Any], Any] | None = None
) -> Model:
    """Reads a model of one of the supported families, or an adapter with the model that it adapts.

    Args:
      folder: holds `config.json` and `model.safetensors`, or its shards with `model.safetensors.index.json`; or else
        `adapter_config.json` and `adapter_model.safetensors`, whose product is added to the kernels of the model that
        `base_model_name_or_path` names, in float32. A reward head beside an adapter is the model's.
      dtype: of the parameters; float32 holds exactly what is stored as bfloat16 or float16.
      shardings: makes of a tree of `jax.ShapeDtypeStruct` (a dictionary by path) that of their shardings, such as
        `functools.partial(for_parameters, mesh)`; each leaf goes to its devices before the next is read. When None,
        all go to the first device.

    Raises:
      ConfigError: a file is missing, damaged or not the one that was written, the config asks for what is not
        supported, or a tensor is missing, unknown, or of another shape or dtype than the config says; or as of
        `find_parts` and `read_adapter`.
    """
    (folder, adapters), dtype = find_parts(folder), jnp.dtype(dtype)
    architecture, facts = read_architecture(folder), check(folder)
    changes = [_Change.read(adapter, architecture) for adapter in adapters]
    with contextlib.ExitStack() as stack:
        tensors, stored = _Tensors(folder, stack), list_leaves(architecture)
        _check_names(tensors, architecture, stored)
        if SCORE in tensors.names:
            stored["score"] = Leaf(SCORE, (architecture.hidden_size,))
        for leaf in stored.values():  # before anything is allocated by what the config says
            for name in leaf.tensor_names:
                tensors.check(name, leaf.tensor_shape)
        shapes = {path: jax.ShapeDtypeStruct(leaf.shape, dtype) for path, leaf in stored.items()}
        places = dict.fromkeys(shapes) if shardings is None else shardings(shapes)
        params = {}
        for path, leaf in stored.items():
            array = make_leaf(leaf, tensors.read, jnp.dtype(jnp.float32) if changes else dtype)
            for change in changes:
                array = change.add(path, array)
            params[path] = _on_devices(array.astype(dtype), places[path])
    score = params.pop("score", None)
    heads = [head for adapter in adapters if (head := read_score(adapter, architecture)) is not None]
    if heads:
        score = jnp.asarray(heads[-1], dtype)
    return Model(architecture, unflatten_dict(params, sep="/"), score, facts)


def write_model(
    folder: str | Path,
    architecture: Architecture,
    params: Params,
    *,
    token_ids: TokenIds,
    score: jax.Array | None = None,
    dtype: DTypeLike = jnp.float32,
    tokenizer: Tokenizer | None = None,
    facts: Mapping[str, Any] | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a model for transformers, and for `read_model`; another model in the folder is replaced.

    Args:
      folder: is made if needed; other files in it stay.
      architecture: the model's.
      params: of a `Decoder` of this architecture without adapter, all of them within reach of this process.
      token_ids: its special tokens, for `config.json`.
      score: `[D]`, a reward head. With one the folder holds a `...ForSequenceClassification` with one label, which
        has no head over the vocabulary; transformers scores the last token that is not padding.
      dtype: float32 or bfloat16, of what is stored.
      tokenizer: is saved beside the model.
      facts: what later stages must know of the model, by name; `read_model` gives them back.
      max_shard_bytes: where the weights take more, they are cut into files of at most this size, or of one tensor.

    Raises:
      ValueError: the family cannot store this architecture, or the parameters are not of it.
    """
    folder, dtype = Path(folder), jnp.dtype(dtype)
    config = make_config(architecture, token_ids=token_ids, dtype=dtype.name, classifier=score is not None)
    stored, flat = list_leaves(architecture), flatten_by_path(params)
    if score is not None:
        stored.pop("head", None)
        flat.pop("head", None)
        stored["score"], flat["score"] = Leaf(SCORE, (architecture.hidden_size,)), score
    wrong = {path for path in stored if path not in flat or flat[path].shape != stored[path].shape}
    wrong |= flat.keys() - stored.keys()
    if wrong:
        raise ValueError(f"The parameters are not of this architecture: {', '.join(sorted(wrong))}.")

    folder.mkdir(parents=True, exist_ok=True)
    shards = (path.name for path in folder.glob("model-*-of-*.safetensors"))
    for old in ("config.json", SEAL, _INDEX, _WEIGHTS, *shards):
        (folder / old).unlink(missing_ok=True)
    tensors = iterate_tensors(stored, flat, dtype)
    files = _write_weights(folder, tensors, count_tensor_bytes(stored, dtype), max_shard_bytes)
    if tokenizer is not None:
        files += tokenizer.save(folder)
    text = json.dumps(config, indent=1) + "\n"
    seal(folder, files, {"config.json": zlib.crc32(text.encode())}, facts or {})
    write_file(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


class _Change(NamedTuple):
    """What an adapter changes in a model, which is done leaf by leaf as the model is read."""

    adapter: Adapter
    leaves: Mapping[str, Any]
    """Its parameters by path."""

    @classmethod
    def read(cls, folder: Path, architecture: Architecture) -> "_Change":
        adapter, params = read_adapter(folder, architecture)
        return cls(adapter, flatten_by_path(params))

    def add(self, path: str, array: np.ndarray) -> np.ndarray:
        """Adds it to the leaf of this path, where it changes that."""
        module, _, kind = path.rpartition("/")
        own = {name: self.leaves.get(f"{module}/{name}") for name in ("adapter_in", "adapter_out")}
        if kind != "kernel" or own["adapter_in"] is None:
            return array
        return np.asarray(fold({kind: array, **own}, self.adapter)[kind])


class _Tensors:
    """The tensors of a folder, in one file or in several."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        """Opens the files for as long as `stack` is open."""
        library = _safetensors()
        self.folder = folder
        self._files: dict[str, Any] = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(library.safe_open(path, framework="np"))
            except (library.SafetensorError, OSError) as error:
                raise ConfigError(f"{path} is damaged: {error}.") from error
            for name in file.keys():  # noqa: SIM118
                if name in self._files:
                    raise ConfigError(f"{folder}: tensor {name!r} is in two files, one of them {path.name}.")
                self._files[name] = file
        self.names = frozenset(self._files)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuses the tensor if it has not this shape, or a dtype that is not supported; nothing is read."""
        header = self._files[name].get_slice(name)
        if tuple(header.get_shape()) != shape:
            raise ConfigError(
                f"{self.folder}: tensor {name} has shape {header.get_shape()}; by config.json it is {list(shape)}."
            )
        if header.get_dtype() not in DTYPES:
            raise ConfigError(
                f"{self.folder}: tensor {name} has dtype {header.get_dtype()}; supported: {', '.join(DTYPES)}."
            )

    def read(self, name: str) -> np.ndarray:
        """Reads the tensor."""
        tensor: np.ndarray = self._files[name].get_tensor(name)
        return tensor


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        hint = "; pytorch_model.bin is not read" if list(folder.glob("pytorch_model*.bin")) else ""
        raise ConfigError(f"{folder} holds neither {_WEIGHTS} nor {_INDEX}{hint}.")
    files = read_object(folder / _INDEX).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise ConfigError(f"{folder / _INDEX}: weight_map must be an object that names the file of each tensor.")
    names = sorted(set(files.values()))
    for name in names:
        if not is_plain_name(name):
            raise ConfigError(f"{folder / _INDEX}: weight_map names {name!r}, which is no file of this folder.")
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{folder} holds no {path.name}, which its {_INDEX} names.")
    return paths


def _check_names(tensors: _Tensors, architecture: Architecture, stored: dict[str, Leaf]) -> None:
    """Refuses missing and unknown tensors, and finds GPT-NeoX's head under its newer name."""
    names = set(tensors.names) - {SCORE}
    if "head" in stored and architecture.family == "gpt_neox" and _HEADS[0] in names:
        stored["head"] = stored["head"]._replace(name=_HEADS[0])
    needed = [name for leaf in stored.values() for name in leaf.tensor_names]
    for name in needed:
        if name not in names:
            raise ConfigError(f"{tensors.folder} holds no tensor {name}, which config.json asks for.")
    if "head" not in stored:
        embedding = stored["embedding"]
        for head in names.intersection(_HEADS):
            for name in (head, embedding.name):
                tensors.check(name, embedding.shape)
            if not np.array_equal(tensors.read(head), tensors.read(embedding.name)):
                raise ConfigError(f"{tensors.folder}: tensor {head} differs from the embedding that it is tied to.")
            names.remove(head)
    unknown = sorted(name for name in names.difference(needed) if not _CONSTANTS.search(name))
    if unknown:
        raise ConfigError(f"{tensors.folder} holds tensor {visible(unknown[0])}, which config.json has no place for.")


def _on_devices(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        return jax.device_put(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _write_weights(
    folder: Path, tensors: Iterator[tuple[str, np.ndarray]], sizes: Sequence[int], max_bytes: int
) -> list[str]:
    """Writes the weights, and gives the names of the files."""
    counts: list[int] = []
    room = 0
    for size in sizes:
        if not counts or size > room:
            counts.append(0)
            room = max_bytes
        counts[-1] += 1
        room -= size
    weight_map: dict[str, str] = {}
    for number, count in enumerate(counts, start=1):
        file = _WEIGHTS if len(counts) == 1 else f"model-{number:05}-of-{len(counts):05}.safetensors"
        shard = dict(itertools.islice(tensors, count))
        write_file(folder / file, functools.partial(_save, shard))
        weight_map |= dict.fromkeys(shard, file)
    if len(counts) > 1:
        write_json(folder / _INDEX, {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map})
    return [*dict.fromkeys(weight_map.values()), *([_INDEX] if len(counts) > 1 else [])]


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    path.touch()
    mode = path.stat().st_mode  # as any file; the library's are readable by their owner alone
    _safetensors().numpy.save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


def _safetensors() -> Any:
    """The library.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Language models need the safetensors library; install it with pip install 'haepo_jax[language]'."
        ) from error
    return safetensors
