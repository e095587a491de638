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
from haepo_jax.losses import AGGREGATIONS, NORMALIZATIONS, PAIRS, SCORES

ALGORITHMS = ("haepo", "ppo", "grpo", "rloo", "dpo", "reinforce")
REFERENCES = ("none", "frozen", "periodic", "ema", "previous")
SCHEDULES = ("constant", "linear", "cosine")
ACTIVATIONS = ("tanh", "relu", "silu")
ADVANTAGE_SCALES = ("std", "none")

_ENV_PARAMS = "env_params."
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
class ReferenceConfig:
    """The rule by which a reference policy follows the trained one (`haepo_jax.reference`)."""

    reference: str = _choice("previous", REFERENCES)
    """`frozen` the first policy, `periodic` a copy every `reference_period` updates, `ema` a running mean,
    `previous` the policy of the update before, `none`."""
    reference_period: int = _count(5, low=1, traced=True)
    reference_decay: float = _number(0.9, low=0.0, high=1.0)
    """Share of the old reference that `ema` keeps at each update."""


@dataclasses.dataclass(frozen=True)
class HaepoConfig(ReferenceConfig):
    """The HAEPO loss and what surrounds it."""

    score: str = _choice("log_ratio", SCORES)
    normalization: str = _choice("zscore", NORMALIZATIONS)
    temperature: float = _number(1.0, above=0.0)
    entropy_coef: float = _number(5e-3, low=0.0)
    kl_coef: float = _number(5e-3, low=0.0)
    num_epochs: int = _count(4, low=1)
    """Gradient steps on each batch of trajectories."""


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """PPO: actor-critic on segments of `num_steps` steps in `num_trajectories` environments that go on in between."""

    num_steps: int = _count(128, low=1)
    num_epochs: int = _count(4, low=1)
    num_minibatches: int = _count(4, low=1)
    """Gradient steps of an epoch, each on its own share of the segments' steps."""
    clip_epsilon: float = _number(0.2, above=0.0)
    gae_lambda: float = _number(0.95, low=0.0, high=1.0)
    value_coef: float = _number(0.5, low=0.0)
    entropy_coef: float = _number(0.01, low=0.0)


@dataclasses.dataclass(frozen=True)
class GrpoConfig(ReferenceConfig):
    """GRPO: the batch is one group, its returns are the advantages of all their steps."""

    advantage_scale: str = _choice("std", ADVANTAGE_SCALES)
    """What divides the group's centred returns."""
    aggregation: str = _choice("sequence_mean", AGGREGATIONS)
    clip_epsilon: float = _number(0.2, above=0.0)
    kl_coef: float = _number(5e-3, low=0.0)
    num_epochs: int = _count(4, low=1)


@dataclasses.dataclass(frozen=True)
class DpoConfig(ReferenceConfig):
    """Direct Preference Optimisation on pairs of a batch's trajectories, the one of larger return preferred."""

    beta: float = _number(0.1, above=0.0)
    label_smoothing: float = _number(0.0, low=0.0, high=0.49)
    pairs: str = _choice("all", PAIRS)
    num_epochs: int = _count(4, low=1)


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE with the group's returns as its baseline."""

    normalization: str = _choice("zscore", NORMALIZATIONS)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the numbers of an experiment. Two equal configs give equal runs."""

    env: str = "CartPole-v1"
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the environment's constructor, which decide shapes: `{"size": 12}` for DeepSea-bsuite."""
    env_params: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Numbers of the environment that may vary, and be swept, within one program: fields of its EnvParams."""
    algorithm: str = _choice("haepo", ALGORITHMS)
    seed: int = _count(0, low=0, high=_MAX_SEED)
    """Seed of the first member; the next has `seed + 1`, and so on."""
    num_seeds: int = _count(32, low=1)
    num_updates: int = _count(40, low=1)
    """The most updates of a member."""
    max_env_steps: int | None = _count(None, low=1)
    """A member stops after the update that brings it to this many environment steps; no such limit when unset."""
    num_trajectories: int = _count(16, low=2)
    """M, the episodes of an update, which compete with one another; for PPO the environments stepped side by side."""
    horizon: int | None = _count(None, low=1)
    """T, the steps at which an episode is cut; the environment's own limit when unset."""
    discount: float = _number(1.0, low=0.0, high=1.0)
    policy: PolicyConfig = PolicyConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    haepo: HaepoConfig = HaepoConfig()
    ppo: PpoConfig = PpoConfig()
    grpo: GrpoConfig = GrpoConfig()
    dpo: DpoConfig = DpoConfig()
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
    mappings = {"env_kwargs": dict(config.env_kwargs), "env_params": dict(config.env_params)}
    sweep = {name: list(values) for name, values in config.sweep.items()}
    return dataclasses.asdict(config) | mappings | {"sweep": sweep}


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
    settings = {name: value for name, value, field in _leaves(config) if field.metadata.get("traced")}
    settings |= {_ENV_PARAMS + name: value for name, value in config.env_params.items()}
    # A parameter of the environment that is swept need not be set besides.
    return settings | {name: values[0] for name, values in config.sweep.items() if name.startswith(_ENV_PARAMS)}


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
        if name.startswith(_ENV_PARAMS):
            config = dataclasses.replace(config, env_params={**config.env_params, leaf: value})
        elif section:
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
        elif name in ("env_kwargs", "env_params"):
            made[name] = _check_environment(name, value)
        elif dataclasses.is_dataclass(field.type):
            if not isinstance(value, Mapping | ml_collections.ConfigDict):
                raise ConfigError(f"config.{path} is a group of settings, got {value!r}.")
            made[name] = _from_mapping(field.type, dict(value), f"{path}.")  # type: ignore[arg-type]
        else:
            made[name] = _check_value(path, value, field)
    return cls(**made)


def _check_environment(path: str, value: Any) -> dict[str, Any]:
    """Settings of the environment: which there are, and their bounds, it knows itself."""
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"config.{path} is a group of settings, got {value!r}.")
    values = dict(value)
    for name, item in values.items():
        if path == "env_params":
            _check_env_param(f"{path}.{name}", item)
        elif not isinstance(item, int | float | str):
            raise ConfigError(f"config.{path}.{name} must be a number or text, got {item!r}.")
    return values


def _check_env_param(path: str, value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return _check_bounds(path, value, {"low": -(2**31), "high": 2**31 - 1})
    return _check_bounds(path, _as_float(path, value), {"low": -math.inf, "high": math.inf})


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
        if name.startswith(_ENV_PARAMS):
            swept[name] = _check_swept_env_param(name, values)
            continue
        if name not in fields:
            hint = nearest(name, list(fields)) or f"; allowed: {', '.join(fields)}."
            raise ConfigError(f"config.sweep.{name} cannot be swept in one program{hint}")
        _check_is_tuple(name, values)
        swept[name] = tuple(_check_value(f"sweep.{name}", item, fields[name]) for item in values)
    return swept


def _check_is_tuple(name: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"config.sweep.{name} must be a tuple of values, got {values!r}.")


def _check_swept_env_param(name: str, values: Any) -> tuple[float, ...]:
    _check_is_tuple(name, values)
    checked = tuple(_check_env_param(f"sweep.{name}", item) for item in values)
    # All of one kind, as one array holds them.
    return checked if all(isinstance(item, int) for item in checked) else tuple(map(float, checked))


def _check_combinations(config: ExperimentConfig) -> None:
    """Settings that are each allowed but make no sense together."""
    if config.seed + config.num_seeds - 1 > _MAX_SEED:
        raise ConfigError(
            f"config.seed {config.seed} with num_seeds {config.num_seeds} goes beyond the last seed, {_MAX_SEED}."
        )
    _check_swept_are_read(config)
    if config.algorithm == "ppo":
        _check_minibatches(config)
    if config.algorithm in ("haepo", "grpo"):
        section = getattr(config, config.algorithm)
        kl_coefs = config.sweep.get(f"{config.algorithm}.kl_coef", (section.kl_coef,))
        if any(kl_coefs):
            _check_reference_acts(config, section, max(kl_coefs))
    if config.algorithm == "dpo" and config.dpo.reference == "none":
        raise ConfigError(
            f"config.dpo.reference is none, but preferences are measured against a reference policy; "
            f"choose one of {', '.join(REFERENCES[1:])}."
        )


def _check_minibatches(config: ExperimentConfig) -> None:
    steps = config.num_trajectories * config.ppo.num_steps
    if steps % config.ppo.num_minibatches:
        raise ConfigError(
            f"config.ppo.num_minibatches {config.ppo.num_minibatches} does not divide the {steps} steps of an update "
            f"(num_trajectories {config.num_trajectories} times ppo.num_steps {config.ppo.num_steps})."
        )


def _check_reference_acts(config: ExperimentConfig, section: HaepoConfig | GrpoConfig, kl_coef: float) -> None:
    """A KL term needs a reference that differs from the policy it is taken at."""
    name = config.algorithm
    if section.reference == "none":
        raise ConfigError(
            f"config.{name}.kl_coef {kl_coef} needs a reference policy, but config.{name}.reference is none; "
            f"choose one of {', '.join(REFERENCES[1:])}, or set kl_coef to 0."
        )
    if section.num_epochs > 1:
        return
    periods = config.sweep.get(f"{name}.reference_period", (section.reference_period,))
    if section.reference == "periodic" and min(periods) == 1:
        raise ConfigError(
            f"config.{name}.reference_period 1 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use reference=previous, or a period of at least 2."
        )
    decays = config.sweep.get(f"{name}.reference_decay", (section.reference_decay,))
    if section.reference == "ema" and min(decays) == 0:
        raise ConfigError(
            f"config.{name}.reference_decay 0 with num_epochs 1 makes the reference equal to the policy at every "
            "step, where kl_coef has no effect; use a decay above 0."
        )


def _check_swept_are_read(config: ExperimentConfig) -> None:
    """A sweep over a setting that the run does not read would give copies of one run."""
    needs = {"reference_period": "periodic", "reference_decay": "ema"}
    for name in config.sweep:
        section, _, leaf = name.rpartition(".")
        if section in ALGORITHMS and section != config.algorithm:
            raise ConfigError(f"config.sweep.{name} has no effect, as config.algorithm is {config.algorithm}.")
        if leaf in needs and getattr(config, section).reference != needs[leaf]:
            raise ConfigError(
                f"config.sweep.{name} has no effect, as config.{section}.reference is "
                f"{getattr(config, section).reference}; it belongs to {needs[leaf]}."
            )
