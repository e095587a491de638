"""The configuration of an experiment: one frozen, validated dataclass, and its way in from flags and files.

To add a setting, add a field with its bounds below; flags, validation, `config.json` and sweeps follow.
A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from ml_collections import config_dict

from haepo_jax.errors import ConfigError, choose, nearest
from haepo_jax.losses import NORMALIZATIONS, SCORES

ALGORITHMS = ("haepo", "reinforce")
REFERENCES = ("none", "frozen", "periodic", "ema", "previous")
SCHEDULES = ("constant", "linear", "cosine")
ACTIVATIONS = ("tanh", "relu", "silu")

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_SEED = 2**32 - 1  # a PRNG key holds 32 bits of its seed; beyond, seeds would repeat


def _number(
    default: float, *, low: float = -math.inf, above: float = -math.inf, high: float = math.inf, traced: bool = True
) -> Any:
    """A real number with low <= x <= high and x > above."""
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high, "traced": traced})


def _count(default: int | None, *, low: int, high: int = 2**31 - 1, traced: bool = False) -> Any:
    """A whole number with low <= n <= high; int32 holds no more than the default `high`."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "traced": traced})


def _choice(default: str, choices: tuple[str, ...]) -> Any:
    return dataclasses.field(default=default, metadata={"choices": choices})


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """The network."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = _choice("tanh", ACTIVATIONS)
    initial_log_std: float = _number(0.0, traced=False)
    """Real actions only: log of the first standard deviation, in units of half the action range."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, after clipping the gradient by its global norm."""

    learning_rate: float = _number(3e-3, above=0.0)
    schedule: str = _choice("constant", SCHEDULES)
    """How the learning rate falls from its value to 0 over the run; `constant` does not."""
    max_grad_norm: float = _number(0.5, above=0.0)


@dataclasses.dataclass(frozen=True)
class HaepoConfig:
    """The HAEPO loss and what surrounds it."""

    score: str = _choice("log_ratio", SCORES)
    normalization: str = _choice("zscore", NORMALIZATIONS)
    temperature: float = _number(1.0, above=0.0)
    entropy_coef: float = _number(5e-3, low=0.0)
    kl_coef: float = _number(5e-3, low=0.0)
    num_epochs: int = _count(4, low=1)
    """Gradient steps on each batch of trajectories."""
    reference: str = _choice("previous", REFERENCES)
    """`frozen` the first policy, `periodic` a copy every `reference_period` updates, `ema` a running mean,
    `previous` the policy of the update before, `none`."""
    reference_period: int = _count(5, low=1, traced=True)
    reference_decay: float = _number(0.9, low=0.0, high=1.0)
    """Share of the old reference that `ema` keeps at each update."""


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE with the group's returns as its baseline."""

    normalization: str = _choice("zscore", NORMALIZATIONS)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the numbers of an experiment. Two equal configs give equal runs."""

    env: str = "CartPole-v1"
    algorithm: str = _choice("haepo", ALGORITHMS)
    seed: int = _count(0, low=0, high=_MAX_SEED)
    """Seed of the first member; the next has `seed + 1`, and so on."""
    num_seeds: int = _count(32, low=1)
    num_updates: int = _count(40, low=1)
    num_trajectories: int = _count(16, low=2)
    """M, the episodes of an update, which compete with one another."""
    horizon: int | None = _count(None, low=1)
    """T, the steps at which an episode is cut; the environment's own limit when unset."""
    discount: float = _number(1.0, low=0.0, high=1.0)
    policy: PolicyConfig = PolicyConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    haepo: HaepoConfig = HaepoConfig()
    reinforce: ReinforceConfig = ReinforceConfig()
    sweep: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Traced settings by dotted name (in a ConfigDict: nested by section), each with its values: every combination
    is run with every seed."""


def default_config() -> ml_collections.ConfigDict:
    """The default configuration as a ConfigDict, for a `get_config` to change and flags to override."""
    return _to_config_dict(ExperimentConfig())


def from_config_dict(values: Mapping[str, Any]) -> ExperimentConfig:
    """Makes and validates the frozen configuration.

    Args:
      values: a ConfigDict, or nested dictionaries as in `config.json`; missing fields take their defaults.

    Returns:
      The `ExperimentConfig`.

    Raises:
      ConfigError: an unknown field, or a value of the wrong kind or out of its bounds.

    Example:
      >>> from_config_dict({"num_seeds": 4, "haepo": {"score": "mean"}}).haepo.score
      'mean'
    """
    config = _from_mapping(ExperimentConfig, dict(values), "")
    _check_combinations(config)
    return config


def to_json(config: ExperimentConfig) -> dict[str, Any]:
    """The configuration as nested dictionaries that JSON can hold."""
    return dataclasses.asdict(config) | {"sweep": {name: list(values) for name, values in config.sweep.items()}}


def setting_names() -> list[str]:
    """Every setting by its dotted name.

    Example:
      >>> "haepo.score" in setting_names()
      True
    """
    return [name for name, _, _ in _leaves(ExperimentConfig())]


def traced_settings(config: ExperimentConfig) -> dict[str, float | int]:
    """The settings that are traced leaves of the program, by dotted name.

    Example:
      >>> traced_settings(ExperimentConfig())["haepo.kl_coef"]
      0.005
    """
    return {name: value for name, value, field in _leaves(config) if field.metadata.get("traced")}


def with_settings(config: ExperimentConfig, settings: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration with these traced settings in place; their values may be tracers.

    Args:
      config: the configuration.
      settings: values by dotted name, names as in `traced_settings`.

    Returns:
      A configuration for use inside the program; it is not validated again.
    """
    for name, value in settings.items():
        section, _, leaf = name.rpartition(".")
        if section:
            inner = dataclasses.replace(getattr(config, section), **{leaf: value})
            config = dataclasses.replace(config, **{section: inner})
        else:
            config = dataclasses.replace(config, **{leaf: value})
    return config


def sweep_points(config: ExperimentConfig) -> Iterator[dict[str, float]]:
    """Every combination of the swept settings, in order; one empty combination when nothing is swept."""
    for values in itertools.product(*config.sweep.values()):
        yield dict(zip(config.sweep, values, strict=True))


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The dotted names of the fields in which two configurations (as `to_json`) differ, with both values."""
    flat_old, flat_new = ({k: v for k, v in _flatten(values).items() if v != {}} for values in (old, new))
    names = sorted(flat_old.keys() | flat_new.keys())
    return [
        f"{name} (was {flat_old.get(name)}, now {flat_new.get(name)})"
        for name in names
        if flat_old.get(name) != flat_new.get(name)
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field


def _to_config_dict(config: Any) -> ml_collections.ConfigDict:
    result = ml_collections.ConfigDict()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = _to_config_dict(value)
        elif value is None:
            value = config_dict.placeholder(int)
        elif isinstance(value, Mapping):
            value = ml_collections.ConfigDict(dict(value))
        result[field.name] = value
    return result


def _from_mapping[Config](cls: type[Config], values: Mapping[str, Any], prefix: str) -> Config:
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ConfigError(f"config.{prefix}{name} is not a setting{nearest(str(name), list(fields)) or '.'}")
    made = {}
    for name, value in values.items():
        field, path = fields[name], f"{prefix}{name}"
        if name == "sweep" and not prefix:
            made[name] = _check_sweep(value)
        elif dataclasses.is_dataclass(field.type):
            if not isinstance(value, Mapping | ml_collections.ConfigDict):
                raise ConfigError(f"config.{path} is a group of settings, got {value!r}.")
            made[name] = _from_mapping(field.type, dict(value), f"{path}.")  # type: ignore[arg-type]
        else:
            made[name] = _check_value(path, value, field)
    return cls(**made)


def _check_value(path: str, value: Any, field: dataclasses.Field) -> Any:
    """The value in the field's own type, or a ConfigError."""
    if "choices" in field.metadata:
        return choose(f"config.{path}", value, field.metadata["choices"])
    if field.type is float:
        return _check_bounds(path, _as_float(path, value), field.metadata)
    if field.type in (int, int | None):
        if value is None and field.type is not int:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config.{path} must be a whole number, got {value!r}.")
        return _check_bounds(path, value, field.metadata)
    if field.type is str:
        if not isinstance(value, str):
            raise ConfigError(f"config.{path} must be text, got {value!r}.")
        return value
    sizes = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ConfigError(f"config.{path} must be whole numbers of at least 1, got {value!r}.")
    return sizes


def _as_float(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"config.{path} must be a number, got {value!r}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf  # which no setting allows


def _check_bounds(path: str, value: Any, bounds: Mapping[str, Any]) -> Any:
    low, above, high = bounds["low"], bounds.get("above", -math.inf), bounds["high"]
    # As the program holds it: what is too large for float32 is infinite there, what is too small is 0.
    held = value if isinstance(value, int) else float(np.float32(value)) if abs(value) <= _FLOAT32_MAX else math.inf
    finite = isinstance(value, int) or math.isfinite(held)
    if not (finite and held >= low and held > above and held <= high):
        allowed = [] if finite else ["finite in float32"]
        allowed += [f"at least {low}"] if math.isfinite(low) else []
        allowed += [f"above {above}"] if math.isfinite(above) else []
        allowed += [f"at most {high}"] if math.isfinite(high) and (held > high or isinstance(high, float)) else []
        shown = value if abs(value) < 10**20 or not finite else f"a number of {len(str(abs(value)))} digits"
        raise ConfigError(f"config.{path} must be {' and '.join(allowed)}, got {shown}.")
    return value


def _check_sweep(value: Any) -> dict[str, tuple[float, ...]]:
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"config.sweep must map settings to their values, got {value!r}.")
    nested = value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value
    fields = {name: field for name, _, field in _leaves(ExperimentConfig()) if field.metadata.get("traced")}
    swept = {}
    for name, values in _flatten(nested).items():
        if name not in fields:
            hint = nearest(name, list(fields)) or f"; allowed: {', '.join(fields)}."
            raise ConfigError(f"config.sweep.{name} cannot be swept in one program{hint}")
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"config.sweep.{name} must be a tuple of values, got {values!r}.")
        swept[name] = tuple(_check_value(f"sweep.{name}", item, fields[name]) for item in values)
    return swept


def _check_combinations(config: ExperimentConfig) -> None:
    """Settings that are each allowed but make no sense together."""
    if config.seed + config.num_seeds - 1 > _MAX_SEED:
        raise ConfigError(
            f"config.seed {config.seed} with num_seeds {config.num_seeds} goes beyond the last seed, {_MAX_SEED}."
        )
    _check_swept_are_read(config)
    if config.algorithm != "haepo":
        return
    haepo = config.haepo
    kl_coefs = config.sweep.get("haepo.kl_coef", (haepo.kl_coef,))
    if haepo.reference == "none" and any(kl_coefs):
        raise ConfigError(
            f"config.haepo.kl_coef {max(kl_coefs)} needs a reference policy, but config.haepo.reference is none; "
            f"choose one of {', '.join(REFERENCES[1:])}, or set kl_coef to 0."
        )
    periods = config.sweep.get("haepo.reference_period", (haepo.reference_period,))
    if haepo.reference == "periodic" and haepo.num_epochs == 1 and min(periods) == 1 and any(kl_coefs):
        raise ConfigError(
            "config.haepo.reference_period 1 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use reference=previous, or a period of at least 2."
        )
    decays = config.sweep.get("haepo.reference_decay", (haepo.reference_decay,))
    if haepo.reference == "ema" and haepo.num_epochs == 1 and min(decays) == 0 and any(kl_coefs):
        raise ConfigError(
            "config.haepo.reference_decay 0 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use a decay above 0."
        )


def _check_swept_are_read(config: ExperimentConfig) -> None:
    """A sweep over a setting that the run does not read would give copies of one run."""
    needs = {"haepo.reference_period": "periodic", "haepo.reference_decay": "ema"}
    for name in config.sweep:
        section = name.partition(".")[0]
        if section in ALGORITHMS and section != config.algorithm:
            raise ConfigError(f"config.sweep.{name} has no effect, as config.algorithm is {config.algorithm}.")
        if name in needs and config.haepo.reference != needs[name]:
            raise ConfigError(
                f"config.sweep.{name} has no effect, as config.haepo.reference is {config.haepo.reference}; "
                f"it belongs to {needs[name]}."
            )
