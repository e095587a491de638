"""A sweep: which settings of an experiment are tried, and how their members fall into compiled programs.

The settings to try are `config.sweep`, the way to choose among them `config.search`:

- a grid: `sweep.haepo.kl_coef = (0.0, 0.01)`, every combination of such values;
- a random search: `search.num_samples = 64`, each setting drawn from its values, or from a distribution such as
  `sweep.optimizer.learning_rate = {"log_uniform": (1e-4, 1e-2)}`; the first sample is the config as it stands, as far
  as that may be drawn;
- a list: `search.points = ({"haepo.kl_coef": 0.1}, ...)`.

Every point is run with every seed. Numbers that are traced leaves of the program share one; points that differ in
anything else (environment, score, M, width) fall into groups, each a program of its own.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from haepo_jax.components import check_name
from haepo_jax.config import (
    ExperimentConfig,
    default_config,
    from_config_dict,
    from_mapping,
    setting_names,
    to_config_dict,
    to_json,
    traced_settings,
)
from haepo_jax.config.checks import DISTRIBUTIONS, check_argument, check_value, flatten
from haepo_jax.config.distribution import Distribution
from haepo_jax.config.meanings import Setting, settings_of
from haepo_jax.config.members import Member, check_number, list_members, make_members
from haepo_jax.config.method import components_of
from haepo_jax.config.plain_values import plain
from haepo_jax.config.reads import unread, why_unread
from haepo_jax.config.settings import FIELDS, is_traced
from haepo_jax.errors import ConfigError, nearest, quoted
from haepo_jax.fields import count, group_of
from haepo_jax.text import format_setting

Point = Mapping[str, Any]
"""Settings by dotted name."""

_NOT_SWEPT = ("seed", "num_seeds", "sweep")
_NUMBERS = (int, float, int | None, float | None)


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How points are chosen; a grid when nothing is set."""

    num_samples: int | None = count(None, low=1)
    """Points of a random search, drawn from the choices of `sweep`."""
    seed: int = count(0, low=0)
    """Seed of the random search."""
    points: tuple[Point, ...] = ()
    """The points themselves, such as ({"haepo.kl_coef": 0.1}, {"haepo.kl_coef": 0.2}), in place of `sweep`."""


class Group(NamedTuple):
    """Members that share one compiled program."""

    name: str
    """`all`, or the settings that set it apart, such as `haepo.score=mean`."""
    config: ExperimentConfig
    """With the settings of the group that are no traced leaves in place."""
    members: tuple[Member, ...]
    """Their indices follow one another, and go on from group to group."""


class Sweep(NamedTuple):
    """A population that may need several programs."""

    record: dict[str, Any]
    """What `config.json` holds."""
    groups: tuple[Group, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of all groups, in order."""
        return tuple(member for group in self.groups for member in group.members)


def of_experiment(config: ExperimentConfig) -> Sweep:
    """Makes the sweep of an experiment whose swept settings are all traced: one group.

    Raises:
      ConfigError: a component that `config.json` cannot name.
    """
    for name, value in components_of(config).items():
        check_name(name, value)
    return Sweep(to_json(config), (Group("all", config, make_members(config)),))


def from_record(record: Mapping[str, Any]) -> Sweep:
    """The sweep of a run folder, from its `config.json`.

    Raises:
      ConfigError: it is not one.
    """
    return from_values(record) if "search" in record else of_experiment(from_config_dict(record))


def default_sweep_config() -> ml_collections.ConfigDict:
    """The default configuration of an experiment and of the search, for a `get_config` to change."""
    return with_search(default_config())


def with_search(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The configuration of an experiment with a `search` to set beside it."""
    config.search = to_config_dict(SearchConfig())
    return config


def sweep_setting_names() -> list[str]:
    """Every setting of a sweep's config by its dotted name."""
    return [setting.name for setting in sweep_settings()]


def sweep_settings() -> list[Setting]:
    """Lists every setting of a sweep's config with its meaning."""
    return [*settings_of(ExperimentConfig()), *settings_of(SearchConfig(), "search.")]


def from_values(values: Mapping[str, Any]) -> Sweep:
    """Makes and validates a sweep.

    Args:
      values: the settings of an experiment, where `sweep` may name any of them, and `search`.

    Raises:
      ConfigError: a setting that does not exist, that may not be swept, or a value that is not allowed; no point
        at all.

    Example:
      >>> choices = {"haepo": {"score": ("sum", "mean"), "temperature": (0.5, 1.0)}}
      >>> sweep = from_values({"num_seeds": 2, "sweep": choices})
      >>> [(group.name, len(group.members)) for group in sweep.groups]
      [('haepo.score=sum', 4), ('haepo.score=mean', 4)]
    """
    rest = plain(values)
    search = _search(rest.pop("search", {}))
    choices = _choices(rest.pop("sweep", {}))
    base = from_config_dict(rest)
    points = _points(base, search, choices)
    groups: dict[tuple, list[Point]] = {}
    fixed_names = [name for name in points[0] if not is_traced(name)]
    for point in points:
        groups.setdefault(tuple(point[name] for name in fixed_names), []).append(point)
    made: list[Group] = []
    where = "search.points" if search.points else "sweep"
    first = 0
    for values_inside, inside in groups.items():
        fixed = dict(zip(fixed_names, values_inside, strict=True))
        name = ",".join(format_setting(name, value, digits=None) for name, value in fixed.items()) or "all"
        if name in (group.name for group in made):
            raise ConfigError(
                f"config.{where} makes two groups with the name {name}, as values of different types read alike; give "
                "each value in one way."
            )
        made.append(_group(name, rest, fixed, inside, first))
        reasons = unread(made[-1].config)
        for setting in fixed:
            if (reason := why_unread(setting, reasons)) is not None:
                raise ConfigError(f"config.{where}.{setting} has no effect, as {reason}.")
        first += len(made[-1].members)
    record = to_json(base) | {
        "sweep": {name: _plain(choice) for name, choice in choices.items()},
        "search": {"num_samples": search.num_samples, "seed": search.seed, "points": [dict(p) for p in search.points]},
    }
    return Sweep(record, tuple(made))


def unread_of_search(sweep: Sweep) -> dict[str, str]:
    """Finds the settings of the search that nothing reads, as `config_reads.unread` does those of an experiment."""
    drawn = sweep.record.get("search", {}).get("num_samples") is not None
    return {} if drawn else {"search.seed": "config.search.num_samples is not set, so that nothing is drawn"}


def _group(name: str, base: Mapping[str, Any], fixed: Point, points: Sequence[Point], first: int) -> Group:
    """The group of these points, whose members are counted from `first`."""
    traced = [setting for setting in points[0] if is_traced(setting)]
    values = {setting: tuple(dict.fromkeys(point[setting] for point in points)) for setting in traced}
    config = from_config_dict(_merged(base, fixed) | {"sweep": values})
    # As the config holds them: a whole number given for a real one is a real one.
    kinds = {setting: type(value) for setting, value in traced_settings(config).items()}
    kept = [{s: kinds[s](value) if s in kinds else value for s, value in point.items()} for point in points]
    return Group(name, config, list_members(config, kept, group=name, first=first))


def _search(values: Any) -> SearchConfig:
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.search is a group of settings, got {quoted(values)}.")
    rest = dict(values)
    points = rest.pop("points", ())
    if not isinstance(points, list | tuple) or not all(isinstance(point, Mapping) for point in points):
        raise ConfigError(
            f"config.search.points must be a tuple of points such as {{'haepo.kl_coef': 0.1}}, got {quoted(points)}."
        )
    search = from_mapping(SearchConfig(), rest, "search.")
    flat = tuple(_flat_point(f"search.points[{number}].", point) for number, point in enumerate(points))
    for point in flat:
        if point.keys() != flat[0].keys():
            other = sorted(point.keys() ^ flat[0].keys())[0]
            raise ConfigError(f"config.search.points must all set the same settings; {other} is not in every one.")
    return dataclasses.replace(search, points=tuple({name: point[name] for name in flat[0]} for point in flat))


def _flat_point(path: str, point: Mapping[str, Any]) -> Point:
    """A point by dotted names, its values checked."""
    values = flatten(point, where=f"config.{path}")
    return {name: _checked(path + name, name, value) for name, value in values.items()}


def _choices(values: Any) -> dict[str, tuple | Distribution]:
    """What each swept setting is chosen from."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.sweep must map settings to their values, got {quoted(values)}.")
    choices: dict[str, tuple | Distribution] = {}
    for path, value in flatten(values, where="config.sweep.").items():
        if isinstance(value, Mapping) and not value:
            continue
        parent, _, last = path.rpartition(".")
        name = parent if last in DISTRIBUTIONS else path
        if name in choices:
            raise ConfigError(f"config.sweep.{name} is given two sets of values to choose from; give it one.")
        if last in DISTRIBUTIONS:
            choices[name] = _distribution(f"sweep.{path}", name, last, value)
            continue
        _check_name(f"sweep.{path}", path)
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(
                f"config.sweep.{path} must be a tuple of values, or one of {', '.join(DISTRIBUTIONS)} with its "
                f"bounds, got {quoted(value)}."
            )
        choices[path] = tuple(_checked(f"sweep.{path}", path, item) for item in value)
    return choices


def _distribution(path: str, name: str, kind: str, bounds: Any) -> Distribution:
    _check_name(path.rpartition(".")[0], name)
    if not (
        isinstance(bounds, list | tuple)
        and len(bounds) == 2
        and all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds)
        and bounds[0] < bounds[1]
    ):
        raise ConfigError(f"config.{path} must be two numbers, the lower first, got {quoted(bounds)}.")
    if kind == "log_uniform" and bounds[0] <= 0:
        raise ConfigError(f"config.{path} must have bounds above 0, got {quoted(bounds)}.")
    if kind == "integer" and not all(isinstance(bound, int) for bound in bounds):
        raise ConfigError(f"config.{path} must have whole numbers as its bounds, got {quoted(bounds)}.")
    field = FIELDS.get(name)
    if field is not None and field.type not in _NUMBERS:
        raise ConfigError(f"config.{path} draws numbers, and config.{name} is none; give a tuple of its values.")
    if kind != "integer" and field is not None and field.type in (int, int | None):
        raise ConfigError(
            f"config.{path} draws real numbers, and config.{name} is a whole one; use config.sweep.{name}.integer."
        )
    for bound in bounds:
        # A bound that is not allowed itself, such as a learning rate of 0, is never drawn.
        if field is None or bound != field.metadata.get("above"):
            _checked(path, name, bound)
    if kind == "integer" and not all(-(2**63) <= bound < 2**63 for bound in bounds):
        raise ConfigError(f"config.{path} must have bounds of 64 bits, got {quoted(bounds)}.")
    return Distribution(kind, *bounds)


def _points(base: ExperimentConfig, search: SearchConfig, choices: Mapping[str, tuple | Distribution]) -> list[Point]:
    """The points in order, without repetitions."""
    if search.points and (choices or search.num_samples is not None):
        raise ConfigError("config.search.points names every point; leave config.sweep and search.num_samples unset.")
    check_number(
        len(search.points)
        or search.num_samples
        or math.prod(_number_of_values(choice) for choice in choices.values()),
        base.num_seeds,
    )
    if search.points:
        points: list[Point] = list(search.points)
    elif search.num_samples is not None:
        if not choices:
            raise ConfigError("config.search.num_samples needs config.sweep, which says what to draw from.")
        points = list(_samples(base, search, choices))
    else:
        for name, choice in choices.items():
            if isinstance(choice, Distribution):
                raise ConfigError(
                    f"config.sweep.{name}.{choice.kind} belongs to a random search: set config.search.num_samples."
                )
        points = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    # Two ways to write a value, such as the layers 8 and (8,), are one value, written as it was first.
    written: dict[tuple[str, Any], Any] = {}
    points = [
        {name: written.setdefault((name, _held(name, value)), value) for name, value in point.items()}
        for point in points
    ]
    return list({tuple(point.items()): point for point in points}.values())


def _held(name: str, value: Any) -> Any:
    """A checked value as the config holds it."""
    return check_value(name, value, FIELDS[name]) if name in FIELDS else value


def _number_of_values(choice: tuple | Distribution) -> int:
    return 1 if isinstance(choice, Distribution) else len(choice)


def _samples(
    base: ExperimentConfig, search: SearchConfig, choices: Mapping[str, tuple | Distribution]
) -> Iterator[Point]:
    """The config's own settings where they may be drawn, then drawn ones; more samples begin with those of fewer."""
    generator = np.random.default_rng(search.seed)
    yield {name: _first_value(base, name, choice) for name, choice in choices.items()}
    for _ in range((search.num_samples or 1) - 1):
        yield {
            name: choice.draw(generator)
            if isinstance(choice, Distribution)
            else choice[int(generator.integers(len(choice)))]
            for name, choice in choices.items()
        }


def _first_value(base: ExperimentConfig, name: str, choice: tuple | Distribution) -> Any:
    """The config's own value, or the first one to draw from where that is not among them."""
    own: Any = base
    for part in name.split("."):
        own = own.get(part) if isinstance(own, Mapping) else getattr(own, part)
    if not isinstance(choice, Distribution):
        return own if own in choice else choice[0]
    if own is None:
        raise ConfigError(f"config.{name} must be set, as it is the first sample of config.sweep.{name}.")
    return own


def _check_name(path: str, name: str) -> None:
    if group_of(name, FIELDS) is not None:
        return
    known = [known for known in setting_names() if known not in _NOT_SWEPT and "group" not in FIELDS[known].metadata]
    if name not in known:
        raise ConfigError(f"config.{path} is not a setting that can be swept{nearest(name, known) or '.'}")


def _checked(path: str, name: str, value: Any) -> Any:
    """A value of the setting `name`, in its own type."""
    _check_name(path, name)
    group = group_of(name, FIELDS)
    if group is not None:
        return check_argument(path, value, FIELDS[group])
    checked = check_value(path, value, FIELDS[name])
    return value if checked == (value,) else checked  # a layer's width alone is written as it was given


def _merged(base: Mapping[str, Any], fixed: Point) -> dict[str, Any]:
    """The nested settings with these in place."""
    merged = dict(base)
    for name, value in fixed.items():
        *sections, leaf = name.split(".")
        holder = merged
        for section in sections:
            holder[section] = dict(holder.get(section, {}))
            holder = holder[section]
        holder[leaf] = value
    return merged


def _plain(choice: tuple | Distribution) -> Any:
    """As JSON holds it."""
    return {choice.kind: [choice.low, choice.high]} if isinstance(choice, Distribution) else list(choice)
