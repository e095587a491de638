"""The method of an experiment: its record, and its settings as the config has them.

Those of a built-in method are its own section of the config; those of one from outside are in `algorithm_kwargs`,
which decide the program, and in `algorithm_params`, which are traced.
"""

import copy
import dataclasses
import math
import typing
from typing import Any

from haepo_jax.components import is_outside, load
from haepo_jax.config.libraries import split_name
from haepo_jax.config.settings import ExperimentConfig
from haepo_jax.fields import leaves
from haepo_jax.methods import (
    ALL,
    LANGUAGE_METHODS,
    METHODS,
    Chosen,
    Method,
    Sees,
    SegmentConfig,
    count_gradient_steps,
    get_history,
    get_segment_plan,
)
from haepo_jax.methods.schedules import CONSTANT, of_coefficient

STATIC_GROUP, TRACED_GROUP = "algorithm_kwargs", "algorithm_params"
"""Where the settings of a method from outside are."""


def load_method(name: Any) -> Method[Any]:
    """Returns the record of a method by its name, or the record itself where a program gives that.

    Raises:
      ConfigError: it is from outside and cannot be imported, or is no record.
    """
    if not is_outside(name):
        return METHODS[name] if name in METHODS else LANGUAGE_METHODS[name]
    return load("algorithm", name, lambda found: isinstance(found, Method), "a haepo_jax.methods.Method")


def get_method(config: ExperimentConfig) -> Method[Any]:
    """Returns the record of the method that learns, as it is with its settings.

    Raises:
      ConfigError: as of `load_method`.
    """
    method = load_method(config.algorithm)
    return method if method.variant is None else method.variant(get_own_settings(config, method.settings))


def get_method_settings(config: ExperimentConfig) -> Any:
    """Returns the method's settings; of a traced config with tracers in their places."""
    return get_own_settings(config, load_method(config.algorithm).settings)


def get_own_settings(config: Any, defaults: Any) -> Any:
    """Returns a method's settings as a config has them.

    Args:
      config: of an experiment or of language models; it may be traced.
      defaults: the method's settings there, with their defaults.
    """
    if not is_outside(config.algorithm):
        return getattr(config, config.algorithm)
    fields = list_fields(defaults)
    given = {**config.algorithm_kwargs, **config.algorithm_params}
    return dataclasses.replace(
        defaults, **{name: _held(value, fields[name]) for name, value in given.items() if name in fields}
    )


def _held(value: Any, field: dataclasses.Field) -> Any:
    """A setting in the type of its field: a traced whole number comes as a float32 one."""
    if field.type in (int, int | None) and not isinstance(value, bool):
        return value.astype("int32") if hasattr(value, "astype") else int(value)
    return value


def list_fields(settings: Any) -> dict[str, dataclasses.Field]:
    """Lists the settings of a method, their types resolved where a module has them as text."""
    types = typing.get_type_hints(type(settings))
    fields = {field.name: copy.copy(field) for field in dataclasses.fields(settings)}
    for name, field in fields.items():
        field.type = types[name]
    return fields


def name_method(config: Any) -> str:
    """Returns what a sentence calls the method that learns; a program may give one that has no name."""
    return config.algorithm if isinstance(config.algorithm, str) else "the Method that is given"


def name_setting(config: ExperimentConfig, leaf: str) -> str:
    """Returns the dotted name in the config of one of the method's settings."""
    return name_own_setting(config, load_method(config.algorithm).settings, leaf)


def name_own_setting(config: Any, defaults: Any, leaf: str) -> str:
    """Returns the dotted name of one of a method's settings; arguments as of `get_own_settings`."""
    if not is_outside(config.algorithm):
        return f"{config.algorithm}.{leaf}"
    fields = list_fields(defaults)
    is_traced = leaf in fields and fields[leaf].metadata.get("traced")
    return f"{TRACED_GROUP if is_traced else STATIC_GROUP}.{leaf}"


def describe_settings_place(config: ExperimentConfig) -> str:
    """Returns where a config has the method's settings, in words."""
    if not is_outside(config.algorithm):
        return f"config.{config.algorithm}"
    return f"config.{STATIC_GROUP} and config.{TRACED_GROUP}"


def count_steps_of_update(config: ExperimentConfig) -> int:
    """Counts the gradient steps of an update."""
    return count_gradient_steps(get_method_settings(config))


def count_segment_steps(config: ExperimentConfig) -> int:
    """Counts S, the steps of a segment: `num_steps`, or more where `min_batch_steps` asks for more.

    The least that suffices, and that the minibatches divide evenly.
    """
    settings: SegmentConfig = get_method_settings(config)
    lanes, plan = config.num_trajectories, settings.segment_plan
    if config.min_batch_steps is None or lanes * settings.num_steps >= config.min_batch_steps:
        return settings.num_steps
    piece, by_time = (1, False) if plan is None else (plan.length or 1, plan.by_time)
    even = piece * settings.num_minibatches // math.gcd(settings.num_minibatches, 1 if by_time else lanes)
    return -(-config.min_batch_steps // (lanes * even)) * even


def carries_on(config: ExperimentConfig) -> bool:
    """Returns whether environments carry on from update to update, rather than each update playing whole episodes."""
    plan = get_segment_plan(get_method_settings(config))
    return plan is not None and plan.carries_on


def has_critic(config: ExperimentConfig) -> bool:
    """Returns whether a value function learns beside the policy."""
    plan = get_segment_plan(get_method_settings(config))
    return plan is not None and plan.has_critic


def sees_all(config: ExperimentConfig) -> bool:
    """Returns whether the value function of an agent sees what all agents see."""
    return has_critic(config) and get_method_settings(config).critic_sees == ALL


def find_need_of_steps(config: ExperimentConfig) -> str | None:
    """Returns what needs the steps of a batch to be kept until it is learnt from, in words; None if nothing does."""
    if get_method(config).keeps_steps:
        is_variant = not load_method(config.algorithm).keeps_steps
        return f"config.{name_setting(config, 'segment_length')}" if is_variant else name_method(config)
    if get_history(get_method_settings(config)):
        return f"config.{name_setting(config, 'history')}"
    if normalizes_rewards(config):
        return "config.normalize_rewards"
    return next((f"config.{name}" for name in ("returns", "metrics") if is_outside(getattr(config, name))), None)


def explores(config: ExperimentConfig) -> bool:
    """Returns whether some of the episodes that are learnt from have action noise that lasts for several steps."""
    return len(config.exploration.persistences) > 1 and get_method(config).sees is not Sees.SEGMENTS


def why_unit_free(config: ExperimentConfig) -> str | None:
    """Says why rewards in any unit are learnt from alike, to complete "has no effect, as ..."; None where they are
    not.
    """
    reason = get_method(config).why_unit_free
    return None if reason is None else reason(make_chosen(config))


def normalizes_rewards(config: ExperimentConfig) -> bool:
    """Returns whether rewards are learnt from in units of the deviation of returns, where their unit counts at all."""
    return config.normalize_rewards and why_unit_free(config) is None


def list_components(config: Any) -> dict[str, Any]:
    """Lists the settings that name a component, with what they name; None where one of a method has its default.

    One that names several is listed by number, as `rl.rewards[0]`.

    Args:
      config: of an experiment or of language models.

    Raises:
      ConfigError: as of `load_method`.
    """
    named = {name: value for name, value, field in leaves(config) if field.metadata.get("component")}
    several = ((name, value) for name, value, field in leaves(config) if field.metadata.get("components"))
    named |= {f"{name}[{k}]": value for name, values in several for k, value in enumerate(values)}
    if is_outside(config.algorithm):
        method = load_method(config.algorithm)
        parts = [method.settings] if method.language is None else [method.settings, method.language.settings]
        fields = [field for part in parts for field in dataclasses.fields(part) if field.metadata.get("component")]
        named |= {f"{STATIC_GROUP}.{field.name}": config.algorithm_kwargs.get(field.name) for field in fields}
    return named


def components_of(config: Any) -> dict[str, Any]:
    """Finds the components from outside that a config names, by the setting that does.

    Args:
      config: as of `list_components`.

    Raises:
      ConfigError: as of `load_method`.

    Example:
      >>> components_of(ExperimentConfig(env="my_project.maze:Maze"))
      {'env': 'my_project.maze:Maze'}
    """
    return {
        name: value
        for name, value in list_components(config).items()
        if value is not None and is_outside(value) and not (name == "env" and split_name(value))
    }


def make_chosen(config: ExperimentConfig) -> Chosen:
    """Returns the method's settings for its checks."""
    settings = get_method_settings(config)
    names = {leaf: name_setting(config, leaf) for leaf, _, _ in leaves(settings)}
    section = f"{TRACED_GROUP if is_outside(config.algorithm) else config.algorithm}."
    pbt = config.pbt
    perturbed = {} if pbt.every is None else pbt.perturb
    varied = {**config.sweep, **{name: (*config.sweep.get(name, ()), *ends) for name, ends in perturbed.items()}}
    of_method = {name.removeprefix(section): values for name, values in varied.items() if name.startswith(section)}
    changing = () if pbt.every is None or pbt.fraction == 0 else perturbed or config.sweep
    changed = [name for name in of_method if section + name in changing]
    return Chosen(settings, of_method, names, config.num_trajectories, changed)


def with_all_settings[Config](config: Config, defaults: Any = None) -> Config:
    """Writes out all settings of a method from outside, so that a run's config holds what it was begun with.

    Left out are settings that are unset, groups without arguments, and schedules that are constant.

    Args:
      config: as of `get_own_settings`.
      defaults: as of `get_own_settings`; those of the method on environments where there are none.
    """
    given: Any = config
    if not is_outside(given.algorithm):
        return config
    settings = load_method(given.algorithm).settings if defaults is None else defaults
    written: dict[bool, dict[str, Any]] = {False: {}, True: {}}
    for name, field in list_fields(settings).items():
        value = getattr(settings, name)
        if value is not None and value != {} and not (of_coefficient(field) and value == CONSTANT):
            is_traced = bool(field.metadata.get("traced"))
            written[is_traced][name] = float(value) if is_traced else value
    groups = {
        STATIC_GROUP: written[False] | dict(given.algorithm_kwargs),
        TRACED_GROUP: written[True] | dict(given.algorithm_params),
    }
    return dataclasses.replace(given, **groups)
