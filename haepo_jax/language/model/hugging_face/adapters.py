"""Adapters as PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, written and read back.

PEFT adapts a module of a Hugging Face model, which may hold several of our projections (fused queries, keys and
values). Their adapters become one of as many times the rank, which is block-diagonal; `rank_pattern` and
`alpha_pattern` say so.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.json_text import read_object
from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Adapter
from haepo_jax.language.model.hugging_face.bases import ADAPTER_CONFIG
from haepo_jax.language.model.hugging_face.fields import Fields
from haepo_jax.language.model.hugging_face.tensors import (
    DTYPES,
    SCORE,
    Leaf,
    flatten_by_path,
    iterate_tensors,
    list_leaves,
    make_leaf,
)
from haepo_jax.runs.folder import write_file
from haepo_jax.text import visible
from haepo_jax.types import Params

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
_NOT_ADAPTED = ("layers/mlp/router/kernel",)
_PREFIX = "base_model.model."
_KERNEL, _IN, _OUT = "kernel", "adapter_in", "adapter_out"
_CHANGED_BY = (
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)
"""What makes an adapter another thing than a product of two matrices that is added to every token."""


def write_adapter(
    folder: str | Path,
    architecture: Architecture,
    params: Params,
    adapter: Adapter,
    *,
    base: str,
    score: Any = None,
) -> None:
    """Writes an adapter for PEFT, and for `read_adapter`.

    Args:
      folder: is made if needed; another adapter in it is replaced.
      architecture: of the model that is adapted.
      params: of the adapter alone, as `split_adapter` gives them.
      adapter: how they are applied.
      base: the folder, or the name, of the model that is adapted.
      score: `[D]`, a reward head that was trained beside the adapter.
    """
    folder, flat = Path(folder), flatten_by_path(params)
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    kernels = _list_kernels(architecture)
    for name, paths in _list_modules(kernels).items():
        inward, outward = (
            [np.asarray(flat[f"{path}/{which}"], np.float32) for path in paths] for which in (_IN, _OUT)
        )
        tensors |= _make_inward(name, inward)
        tensors |= _make_outward(kernels, paths, outward)
        ranks[_last(name)] = len(paths) * adapter.rank
    if score is not None:
        tensors[f"{_PREFIX}{SCORE}"] = np.asarray(score, np.float32)[None]
    fused = {name: rank for name, rank in ranks.items() if rank != adapter.rank}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if score is None else "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": _plain(adapter.alpha),
        "target_modules": sorted(ranks),
        "rank_pattern": fused,
        "alpha_pattern": {name: _plain(adapter.alpha * rank / adapter.rank) for name, rank in fused.items()},
        "modules_to_save": None if score is None else ["score"],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    write_file(folder / WEIGHTS, lambda path: _save(tensors, path))
    write_file(folder / CONFIG, lambda path: path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8"))


def read_adapter(folder: str | Path, architecture: Architecture) -> tuple[Adapter, Params]:
    """Reads an adapter of PEFT's LoRA, of a model of this architecture.

    All modules get the largest rank that there is: what a smaller one lacks is 0, as is all of a module that has no
    adapter. A head that was saved beside it is left to `read_score`.

    Args:
      folder: holds `adapter_config.json` and `adapter_model.safetensors`.
      architecture: of the model that is adapted.

    Returns:
      How the adapter is applied, and its parameters, float32.

    Raises:
      ConfigError: a file is missing or damaged, the adapter is of another kind, adapts what ours do not, or a tensor
        is missing, or has another dtype than those that are read or another shape than what it adapts.
    """
    folder = Path(folder)
    tensors = _read_tensors(folder)
    scale_of, kernels = _read_scales(folder), _list_kernels(architecture)
    modules = _list_modules(kernels)
    scales: dict[str, np.ndarray] = {}
    found = {name: tensor for name, tensor in tensors.items() if name != f"{_PREFIX}{SCORE}"}
    adapted: dict[str, dict[str, np.ndarray]] = {}
    for name, paths in modules.items():
        pair = [_stack(folder, found, name, which, architecture.num_layers) for which in ("A", "B")]
        if pair[0] is None and pair[1] is None:
            continue
        if pair[0] is None or pair[1] is None:
            raise ConfigError(f"{folder / WEIGHTS} holds one matrix of two of {visible(name)}.")
        adapted[name] = _take_apart(folder, kernels, name, paths, pair[0], pair[1])
        scales[name] = np.array(
            [scale_of(name.format(layer), pair[0].shape[1]) for layer in range(architecture.num_layers)]
        )
    if found:
        raise ConfigError(f"{folder / WEIGHTS} holds {visible(min(found))}, which this model has no place for.")
    if not adapted:
        raise ConfigError(f"{folder / WEIGHTS} holds no adapter of a module of this model.")
    rank = max(leaf.shape[-1] for of in adapted.values() for path, leaf in of.items() if path.endswith(_IN))
    every = {float(scale) for of_layers in scales.values() for scale in of_layers}
    scale = every.pop() if len(every) == 1 else 1.0
    params: dict[str, Any] = {}
    for name, paths in modules.items():
        for path in paths:
            layers, size, features = kernels[path].shape
            inward, outward = (
                np.zeros((layers, size, rank), np.float32),
                np.zeros((layers, rank, features), np.float32),
            )
            if name in adapted:
                given_in, given_out = (adapted[name][f"{path}/{which}"] for which in (_IN, _OUT))
                inward[..., : given_in.shape[-1]] = given_in
                share = (scales[name] / scale).astype(np.float32)[:, None, None]
                outward[:, : given_out.shape[1]] = given_out * share
            params |= {f"{path}/{_IN}": jnp.asarray(inward), f"{path}/{_OUT}": jnp.asarray(outward)}
    return Adapter(rank, scale * rank), unflatten_dict(params, sep="/")


def read_score(folder: str | Path, architecture: Architecture) -> np.ndarray | None:
    """Reads the reward head `[D]`, float32, that was saved beside an adapter; None where there is none.

    Raises:
      ConfigError: as of `read_adapter`, or it has another shape than a head with one label.
    """
    folder = Path(folder)
    score = _read_tensors(folder).get(f"{_PREFIX}{SCORE}")
    if score is None:
        return None
    if score.shape != (1, architecture.hidden_size):
        raise ConfigError(
            f"{folder / WEIGHTS}: tensor {SCORE} has shape {list(score.shape)}; that of a reward model has "
            f"{[1, architecture.hidden_size]}."
        )
    return score[0].astype(np.float32)


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    import safetensors

    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}, which an adapter has.")
    tensors = {}
    try:
        with safetensors.safe_open(folder / WEIGHTS, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                if (dtype := file.get_slice(name).get_dtype()) not in DTYPES:
                    raise ConfigError(
                        f"{folder / WEIGHTS}: tensor {visible(name)} has dtype {dtype}; supported: "
                        f"{', '.join(DTYPES)}."
                    )
                tensors[name] = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError(f"{folder / WEIGHTS} is damaged: {error}.") from error
    return tensors


def _list_modules(kernels: Mapping[str, Leaf]) -> dict[str, list[str]]:
    """Lists the modules that an adapter adapts, by name with `{}` for the layer, each with the paths of ours in it."""
    modules: dict[str, list[str]] = {}
    for path, leaf in kernels.items():
        modules.setdefault(leaf.name.removesuffix(".weight"), []).append(path)
    return modules


def _list_kernels(architecture: Architecture) -> dict[str, Leaf]:
    """Lists how the kernels of the layers' projections are stored, by the paths of the projections, parts in order."""
    kernels = {
        path.removesuffix(f"/{_KERNEL}"): leaf
        for path, leaf in list_leaves(architecture).items()
        if path.startswith("layers/")
        and path.endswith(f"/{_KERNEL}")
        and leaf.name.count("{}") == 1
        and path not in _NOT_ADAPTED
    }
    return dict(sorted(kernels.items(), key=lambda item: (item[1].name, _place(item[1]))))


def _place(leaf: Leaf) -> int:
    return 0 if leaf.part is None else leaf.part.place


def _make_inward(name: str, inward: list[np.ndarray]) -> dict[str, np.ndarray]:
    """`lora_A` `[ranks, in]` of each layer: those of the parts one below the other."""
    together = np.concatenate(inward, axis=-1)
    return {_named(name, layer, "A"): np.ascontiguousarray(each.T) for layer, each in enumerate(together)}


def _make_outward(kernels: Mapping[str, Leaf], paths: list[str], outward: list[np.ndarray]) -> dict[str, np.ndarray]:
    """`lora_B` `[out, ranks]` of each layer: stored as a kernel of so many inputs, of which a part has its own."""
    rank, total = outward[0].shape[1], sum(part.shape[1] for part in outward)
    stored, params = {}, {}
    for index, (path, part) in enumerate(zip(paths, outward, strict=True)):
        layers, _, features = part.shape
        wide = np.zeros((layers, total, features), np.float32)
        wide[:, index * rank : (index + 1) * rank] = part
        stored[path] = kernels[path]._replace(shape=wide.shape)
        params[path] = wide
    return {_of_weight(name, "B"): tensor for name, tensor in iterate_tensors(stored, params, np.dtype(np.float32))}


def _take_apart(
    folder: Path,
    kernels: Mapping[str, Leaf],
    name: str,
    paths: list[str],
    inward: np.ndarray,
    outward: np.ndarray,
) -> dict[str, np.ndarray]:
    """Makes the leaves of the projections of a module of its matrices `[layers, rank, in]`, `[layers, out, rank]`."""
    rank, result = inward.shape[1] if inward.ndim > 1 else 0, {}
    wanted = kernels[paths[0]].tensor_shape
    if not rank or inward.shape[1:] != (rank, wanted[1]) or outward.shape[1:] != (wanted[0], rank):
        raise ConfigError(
            f"{folder / WEIGHTS}: the matrices of {visible(name)} have shapes {inward.shape[1:]} and "
            f"{outward.shape[1:]}; what they adapt has {wanted}."
        )
    by_name = dict(zip((kernels[paths[0]].name.format(layer) for layer in range(len(outward))), outward, strict=True))
    for path in paths:
        leaf = kernels[path]
        narrow = leaf._replace(shape=(leaf.shape[0], rank, leaf.shape[2]))
        result[f"{path}/{_OUT}"] = make_leaf(narrow, by_name.__getitem__, np.dtype(np.float32))
        result[f"{path}/{_IN}"] = np.moveaxis(inward, 1, 2)
    return result


def _stack(folder: Path, tensors: dict[str, np.ndarray], name: str, which: str, layers: int) -> np.ndarray | None:
    """Takes the matrices of all layers out of the tensors; None where no layer has one."""
    names = [_named(name, layer, which) for layer in range(layers)]
    given = [tensors.pop(each).astype(np.float32) for each in names if each in tensors]
    if not given:
        return None
    if len(given) < layers or len({matrix.shape for matrix in given}) > 1:
        raise ConfigError(
            f"{folder / WEIGHTS}: the layers of {visible(name)} have adapters of several shapes, or none."
        )
    return np.stack(given)


def _read_scales(folder: Path) -> Callable[[str, int], float]:
    """Reads `(module of a layer, its rank) -> what its product is multiplied by`; refuses other kinds of adapters."""
    values = read_object(folder / CONFIG)
    fields = Fields(folder / CONFIG, values)
    fields.word("peft_type", ("LORA",))
    fields.word("bias", ("none",), "none")
    for name in _CHANGED_BY:
        if values.get(name):
            raise fields.refusal(name, "it must be false or null")
    alpha, patterns = fields.number("lora_alpha"), fields.section("alpha_pattern")
    by_module = {pattern: patterns.number(pattern) for pattern in patterns}
    rooted = fields.flag("use_rslora", False)
    try:
        matching = {re.compile(rf"(?:.*\.)?(?:{pattern})"): own for pattern, own in by_module.items()}
    except re.error as error:
        raise fields.refusal("alpha_pattern", f"its keys must be regular expressions: {error}") from None

    def scale(name: str, rank: int) -> float:
        own = next((own for pattern, own in matching.items() if pattern.fullmatch(name)), alpha)
        return own / (math.sqrt(rank) if rooted else rank)

    return scale


def _named(name: str, layer: int, which: str) -> str:
    return f"{_PREFIX}{name.format(layer)}.lora_{which}.weight"


def _of_weight(name: str, which: str) -> str:
    return f"{_PREFIX}{name.removesuffix('.weight')}.lora_{which}.weight"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _plain(number: float) -> int | float:
    """A whole number as such."""
    return int(number) if float(number).is_integer() else number


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    import safetensors.numpy

    path.touch()
    mode = path.stat().st_mode  # as any file; the library's are readable by their owner alone
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)
