"""What a configuration is refused for: single values, sweeps, and settings that make no sense together.

Each refusal is one sentence that names the setting, what it was given and what is allowed.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from haepo_jax.components import check_name, is_outside
from haepo_jax.config.libraries import check_environment_name
from haepo_jax.config.method import (
    STATIC_GROUP,
    TRACED_GROUP,
    carries_on,
    count_segment_steps,
    count_steps_of_update,
    find_need_of_steps,
    get_method,
    get_method_settings,
    list_fields,
    load_method,
    make_chosen,
    name_method,
    name_setting,
)
from haepo_jax.config.reads import list_scheduled, unread, why_unread
from haepo_jax.config.settings import FIELDS, MAX_SEED, ExperimentConfig, is_traced
from haepo_jax.errors import ConfigError, choose, nearest, quoted, suggestion
from haepo_jax.fields import STATIC, TRACED, group_of
from haepo_jax.methods import METHODS, check_minibatches, get_history

ENV_PARAMS = "env_params."
DISTRIBUTIONS = ("uniform", "log_uniform", "integer")
"""What a random search draws from; each is named below its setting."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT32_MAX = 2**31 - 1
_NO_BOUNDS = {"low": -math.inf, "above": -math.inf, "high": math.inf}


def check_combinations(config: ExperimentConfig, swept: str = "config.sweep.") -> None:
    """Refuses settings that are each allowed but make no sense together.

    Args:
      config: the experiment.
      swept: begins the names of its swept settings in the sentence of an error.
    """
    if config.seed + config.num_seeds - 1 > MAX_SEED:
        raise ConfigError(
            f"config.seed {config.seed} with num_seeds {config.num_seeds} goes beyond the last seed, {MAX_SEED}."
        )
    method = get_method(config)
    check_own_settings(config, load_method(config.algorithm).settings, config.sweep)
    _check_swept_are_read(config, swept)
    chosen = make_chosen(config)
    needed_by = find_need_of_steps(config)
    if config.memory == "recompute" and needed_by is not None:
        others = [name for name, other in METHODS.items() if not other.keeps_steps]
        always_keeps = load_method(config.algorithm).keeps_steps
        goes_with = f"it goes with {', '.join(others)}" if always_keeps else "choose auto, store or remat"
        if not method.keeps_steps and get_history(chosen.settings):
            goes_with += f", or {chosen.where('history')} 0"
        raise ConfigError(f"config.memory recompute keeps no steps, which {needed_by} learns from; {goes_with}.")
    _check_counts(config)
    _check_exploration(config)
    _check_self_play(config)
    _check_batch_steps(config)
    if carries_on(config):
        played = dataclasses.replace(chosen.settings, num_steps=count_segment_steps(config))
        check_minibatches(chosen._replace(settings=played))
    for scheduled in list_scheduled(config):
        scheduled.check()
    if method.check is not None:
        method.check(chosen)


def check_own_settings(config: Any, defaults: Any, sweep: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses settings of a method from outside that it does not have, or values that they cannot have.

    Args:
      config: of an experiment or of language models.
      defaults: the method's settings there, with their defaults.
      sweep: swept settings by dotted name, with their values.

    Raises:
      ConfigError: names the first of them.
    """
    if not is_outside(config.algorithm):
        return
    fields = list_fields(defaults)
    given: list[tuple[str, str, tuple[Any, ...]]] = [
        (group, f"{group}.{leaf}", (value,))
        for group in (STATIC_GROUP, TRACED_GROUP)
        for leaf, value in getattr(config, group).items()
    ]
    given += [
        (TRACED_GROUP, f"sweep.{name}", values)
        for name, values in sweep.items()
        if name.startswith(f"{TRACED_GROUP}.")
    ]
    for group, path, values in given:
        leaf = path.rpartition(".")[2]
        if leaf not in fields:
            near = suggestion(leaf, list(fields))
            raise ConfigError(f"config.{path} is not a setting of {name_method(config)}{near}")
        field = fields[leaf]
        right = TRACED_GROUP if field.metadata.get("traced") else STATIC_GROUP
        if group != right:
            why = "is a number that may vary within a program" if right == TRACED_GROUP else "decides the program"
            raise ConfigError(f"config.{path} {why}; give it as config.{right}.{leaf}.")
        for value in values:
            if field.metadata.get("component") and callable(value):  # which a program has given
                continue
            is_whole = field.type in (int, int | None) and isinstance(value, float) and value.is_integer()
            check_value(path, int(value) if is_whole else value, field)


def _check_counts(config: ExperimentConfig) -> None:
    """What the program counts in int32; the steps of episodes depend on the environment, and are checked with it."""
    if config.evaluate_every is not None and config.evaluate_every > config.num_updates:
        raise ConfigError(
            f"config.evaluate_every {config.evaluate_every} is more than config.num_updates {config.num_updates}, so "
            f"that nothing would be evaluated; it may be at most {config.num_updates}."
        )
    each = count_steps_of_update(config)
    steps = config.num_updates * each
    if steps > _INT32_MAX:
        raise ConfigError(
            f"config.num_updates {config.num_updates} with {each:,} gradient steps in each makes {steps:,} steps, and "
            f"a run counts up to {_INT32_MAX:,}; take fewer updates or epochs."
        )
    if carries_on(config):
        num_steps, own = count_segment_steps(config), get_method_settings(config).num_steps
        what = f"config.{name_setting(config, 'num_steps')}" if num_steps == own else "segments of"
        check_update_steps(config.num_trajectories, num_steps, what)


def _check_batch_steps(config: ExperimentConfig) -> None:
    """Refuses bounds of a batch between which there is none; what episodes need depends on the environment."""
    least, most = config.min_batch_steps, config.max_batch_steps
    if least is None or most is None:
        return
    if most < least:
        raise ConfigError(
            f"config.max_batch_steps {most:,} is less than config.min_batch_steps {least:,}; it may be that or more."
        )
    if not carries_on(config):
        return
    steps = config.num_trajectories * count_segment_steps(config)
    if steps > most:
        raise ConfigError(
            f"config.max_batch_steps {most:,} is less than the {steps:,} steps of an update of {name_method(config)} "
            f"(num_trajectories {config.num_trajectories:,} times {count_segment_steps(config):,}); give at least as "
            f"many, or a smaller {name_setting(config, 'num_steps')}."
        )


def _check_self_play(config: ExperimentConfig) -> None:
    if (config.self_play.opponents, config.self_play.snapshots) == ("pool", "population") and config.pbt.every is None:
        raise ConfigError(
            "config.self_play.snapshots population takes policies of other members, whom a member sees in "
            "population-based training alone; set config.pbt.every (config.pbt.fraction=0 copies nobody), or take own."
        )


def _check_exploration(config: ExperimentConfig) -> None:
    persistences = config.exploration.persistences
    in_words = ", ".join(map(str, persistences))
    if persistences[:1] not in ((), (1,)):
        raise ConfigError(
            f"config.exploration.persistences {in_words} must begin with 1, the episodes whose noise is drawn at each "
            "step; or be empty, which is no exploration of this kind."
        )
    if any(later <= before for before, later in itertools.pairwise(persistences)):
        raise ConfigError(f"config.exploration.persistences {in_words} must rise, each above the one before.")
    floor = max(config.sweep.get("exploration.floor", (config.exploration.floor,)))
    if len(persistences) > 1 and floor * len(persistences) > 1:
        raise ConfigError(
            f"config.exploration.floor {floor} for each of {len(persistences)} persistences is more than 1; it "
            f"may be at most {1 / len(persistences):.3g}."
        )


def check_update_steps(num_trajectories: int, num_steps: int, what: str) -> None:
    """Refuses an update of more environment steps than int32 counts."""
    steps = num_trajectories * num_steps
    if steps > _INT32_MAX:
        raise ConfigError(
            f"config.num_trajectories {num_trajectories:,} times {what} {num_steps:,} is {steps:,} environment steps "
            f"in an update, and one counts up to {_INT32_MAX:,}; take fewer trajectories or shorter ones."
        )


def check_minibatches_of_episodes(config: ExperimentConfig, horizon: int) -> None:
    """Refuses minibatches that do not share the segments of whole episodes of at most `horizon` steps evenly."""
    chosen = make_chosen(config)
    check_minibatches(chosen._replace(settings=dataclasses.replace(chosen.settings, num_steps=horizon)))


def check_rounds(config: ExperimentConfig, steps: int) -> None:
    """Refuses an update that may come to so many environment steps in rounds, where int32 does not count them."""
    if steps > _INT32_MAX:
        raise ConfigError(
            f"config.min_batch_steps {config.min_batch_steps:,} lets an update come to {steps:,} environment steps, "
            f"and one counts up to {_INT32_MAX:,}; give a smaller one, or config.max_batch_steps."
        )


def _check_swept_are_read(config: ExperimentConfig, swept: str) -> None:
    """A sweep over a setting that the run does not read would give copies of one run."""
    reasons = unread(config)
    for name in config.sweep:
        if (reason := why_unread(name, reasons)) is not None:
            raise ConfigError(f"{swept}{name} has no effect, as {reason}.")


def check_group(path: str, value: Any, field: dataclasses.Field) -> dict[str, Any]:
    """The arguments of a component: which there are, and their bounds, the component knows itself."""
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"config.{path} is a group of settings, got {quoted(value)}.")
    given = _nest(value, path) if field.metadata.get("hold_groups") else value
    return {name: check_argument(f"{path}.{name}", item, field) for name, item in given.items()}


def _nest(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Groups within a group, whose arguments a flag gives by their dotted names."""
    nested: dict[str, Any] = {}
    flat = flatten(values, where=f"config.{path}.")
    for name, value in flat.items():
        inside = next((other for other in flat if other.startswith(f"{name}.")), None)
        if inside is not None:
            raise ConfigError(
                f"config.{path}.{inside} needs config.{path}.{name} to be a group of settings, got {quoted(value)}."
            )
        *groups, leaf = name.split(".")
        holder = nested
        for group in groups:
            holder = holder.setdefault(group, {})
        holder[leaf] = value
    return nested


def check_argument(path: str, value: Any, group: dataclasses.Field) -> Any:
    """One of a group of arguments, or a ConfigError.

    Args:
      path: its dotted name.
      value: of the argument.
      group: the field that holds it.
    """
    name = path.rpartition(".")[2]
    if not name.isidentifier():
        raise ConfigError(f"config.{path}: {quoted(name)} is no name of an argument.")
    if group.metadata["group"] == STATIC:
        if group.metadata["hold_groups"] and isinstance(value, Mapping | ml_collections.ConfigDict):
            return {inner: check_argument(f"{path}.{inner}", item, group) for inner, item in value.items()}
        return _check_static(path, value)
    return _check_param(path, value, keep_whole=group.metadata["keep_whole"])


def _check_static(path: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_check_static(path, item) for item in value)
    if not isinstance(value, int | float | str):
        raise ConfigError(f"config.{path} must be a number, text or a tuple of such, got {quoted(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"config.{path} must be finite, got {value}.")
    if isinstance(value, int) and abs(value) > _INT32_MAX:
        raise ConfigError(
            f"config.{path} must be at least {-_INT32_MAX} and at most {_INT32_MAX}, got {quoted(value)}."
        )
    return value


def _check_param(path: str, value: Any, *, keep_whole: bool) -> float:
    """A number, as an integer where it is one and that is kept: 3 and 3.0 are one config, so one program."""
    if not keep_whole:
        return _check_bounds(path, _as_float(path, value), {"low": -math.inf, "high": math.inf})
    if isinstance(value, int) and not isinstance(value, bool):
        return _check_bounds(path, value, {"low": -(2**31), "high": 2**31 - 1})
    number = _check_bounds(path, _as_float(path, value), {"low": -math.inf, "high": math.inf})
    return int(number) if number.is_integer() and abs(number) < 2**31 else number


def check_value(path: str, value: Any, field: dataclasses.Field) -> Any:
    """The value in the field's own type, or a ConfigError."""
    if field.metadata.get("group") in (STATIC, TRACED):
        return check_group(path, value, field)
    if field.metadata.get("component"):
        if field.name == "env":
            return check_environment_name(path, value)
        return check_name(path, value, field.metadata.get("choices", ()))
    if field.metadata.get("components"):
        names = tuple(value) if isinstance(value, tuple | list) else (value,)
        return tuple(check_name(path, name, field.metadata["choices"]) for name in names)
    if field.metadata.get("numbers"):
        values = tuple(value) if isinstance(value, tuple | list) else (value,)
        return tuple(_check_bounds(path, _as_float(path, number), _NO_BOUNDS) for number in values)
    if "choices" in field.metadata:
        return choose(f"config.{path}", value, field.metadata["choices"])
    if value is None and field.type in (int | None, float | None):
        return None
    if field.type in (float, float | None):
        return _check_bounds(path, _as_float(path, value), field.metadata)
    if field.type in (int, int | None):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config.{path} must be a whole number, got {quoted(value)}.")
        return _check_bounds(path, value, field.metadata)
    if field.type is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"config.{path} must be True or False, got {quoted(value)}.")
        return value
    if field.type is str:
        if not isinstance(value, str):
            raise ConfigError(f"config.{path} must be text, got {quoted(value)}.")
        return value
    sizes = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ConfigError(f"config.{path} must be whole numbers of at least 1, got {quoted(value)}.")
    if any(size > _INT32_MAX for size in sizes):
        raise ConfigError(f"config.{path} must be whole numbers of at most {_INT32_MAX}, got {quoted(value)}.")
    return sizes


def check_config(value: Any) -> None:
    """Refuses what is no validated configuration, such as a dictionary."""
    if not isinstance(value, ExperimentConfig):
        raise ConfigError(f"config must be an ExperimentConfig, got {quoted(value)}; from_config_dict makes one.")


def is_whole_number(value: Any) -> bool:
    """Returns whether it is an integer of Python or NumPy, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_count(what: str, value: Any) -> None:
    """Refuses what is no whole number of at least 1."""
    if not is_whole_number(value) or value < 1:
        raise ConfigError(f"{what} must be a whole number of at least 1, got {quoted(value)}.")


def check_seconds(what: str, value: Any, *, may_be_0: bool) -> None:
    """Refuses what is no span of time; one without end is allowed."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (is_number and (value > 0 or (may_be_0 and value == 0))):
        allowed = "of at least 0" if may_be_0 else "above 0"
        raise ConfigError(f"{what} must be a number of seconds {allowed}, got {quoted(value)}.")


def _as_float(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"config.{path} must be a number, got {quoted(value)}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf  # which no setting allows


def _check_bounds(path: str, value: Any, bounds: Mapping[str, Any]) -> Any:
    low, above, high = (bounds.get(name, end) for name, end in _NO_BOUNDS.items())
    # As the program holds it: what is too large for float32 is infinite there, what is too small is 0.
    held = value if isinstance(value, int) else float(np.float32(value)) if abs(value) <= _FLOAT32_MAX else math.inf
    finite = isinstance(value, int) or math.isfinite(held)
    most = high if isinstance(value, int) else float(np.float32(high))
    if not (finite and held >= low and held > above and held <= most):
        allowed = [] if finite else ["finite in float32"]
        allowed += [f"at least {low}"] if math.isfinite(low) else []
        allowed += [f"above {above}"] if math.isfinite(above) else []
        allowed += [f"at most {high}"] if math.isfinite(high) and (held > high or isinstance(high, float)) else []
        shown = value if abs(value) < 10**20 or not finite else f"a number of {len(str(abs(value)))} digits"
        raise ConfigError(f"config.{path} must be {' and '.join(allowed)}, got {shown}.")
    return value


def _why_not_swept(name: str) -> str:
    if name in ("seed", "num_seeds"):
        return "; config.seed and config.num_seeds say which seeds there are."
    if name in FIELDS:
        return "; each of its values is a program of its own, which the command sweep takes."
    known = [known for known in FIELDS if is_traced(known)]
    return nearest(name, known) or f"; allowed: {', '.join(known)}."


def check_sweep(value: Any) -> dict[str, tuple[float, ...]]:
    """The swept settings by dotted name, or a ConfigError."""
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"config.sweep must map settings to their values, got {quoted(value)}.")
    nested = value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value
    swept = {}
    for name, values in flatten(nested, where="config.sweep.").items():
        if not is_traced(name):
            raise ConfigError(f"config.sweep.{name} cannot be swept in one program{_why_not_swept(name)}")
        group = group_of(name, FIELDS)
        if group is not None:
            swept[name] = _check_swept_argument(name, values, FIELDS[group])
            continue
        _check_is_tuple(name, values)
        if None in values:
            raise ConfigError(
                f"config.sweep.{name} cannot be unset within a sweep, as that is another program; give numbers alone."
            )
        swept[name] = tuple(check_value(f"sweep.{name}", item, FIELDS[name]) for item in values)
    return swept


def _check_is_tuple(name: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"config.sweep.{name} must be a tuple of values, got {quoted(values)}.")


def _check_swept_argument(name: str, values: Any, group: dataclasses.Field) -> tuple[float, ...]:
    _check_is_tuple(name, values)
    checked = tuple(check_argument(f"sweep.{name}", item, group) for item in values)
    # All of one kind, as one array holds them.
    return checked if all(isinstance(item, int) for item in checked) else tuple(map(float, checked))


def flatten(values: Mapping[str, Any], prefix: str = "", where: str = "config.") -> dict[str, Any]:
    """Nested mappings as one, by dotted name; tuples as lists.

    Args:
      values: the mapping.
      prefix: begins every name.
      where: begins the names in the sentence of an error.

    Raises:
      ConfigError: two ways to write one name are both given.

    Example:
      >>> flatten({"haepo": {"score": "sum"}, "seed": 3})
      {'haepo.score': 'sum', 'seed': 3}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            inside = flatten(value, f"{prefix}{name}.", where)
        else:
            inside = {prefix + name: list(value) if isinstance(value, tuple) else value}
        for twice in flat.keys() & inside.keys():
            raise ConfigError(f"{where}{twice} is given twice, nested and by its dotted name; give it once.")
        flat |= inside
    return flat


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Nested mappings without one setting, whether its dotted name is written nested or not.

    Args:
      values: the mappings.
      name: of a setting, of a group of them, or of a setting's distribution, with which all of its choices go.

    Example:
      >>> without({"haepo": {"kl_coef": (0.1, 0.2), "score": ("sum",)}}, "haepo.kl_coef.uniform")
      {'haepo': {'score': ('sum',)}}
    """
    setting, _, last = name.rpartition(".")
    name = setting if setting and last in DISTRIBUTIONS else name
    rest: dict[str, Any] = {}
    for key, value in values.items():
        if key == name or key.startswith(f"{name}."):
            continue
        below = name.removeprefix(f"{key}.")
        left = without(value, below) if isinstance(value, Mapping) and below != name else value
        if left or not value:  # a group that this has emptied goes with it
            rest[key] = left
    return rest
