"""Schedules: the settings that hold those of a method's coefficients, and the factors that they give.

A coefficient is a traced real number of a method's settings. In an update it is its own value, which a sweep may vary,
times the factor of its schedule.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from haepo_jax import components
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.fields import component, is_coefficient, static_arguments

CONSTANT = "constant"
SCHEDULES = (CONSTANT, "linear", "cosine")
"""How the learning rate or a coefficient goes from its value over a run."""
ARGUMENTS = "_kwargs"
"""Ends the name of the arguments of a schedule."""
SCHEDULE = "_schedule"
"""Ends the name of the schedule of a coefficient."""
WITH_END = SCHEDULES[1:]
"""Those that take the argument `end`."""

Factor = Callable[[jax.Array], jax.Array | float]
"""`steps done, int32 -> factor`, float32."""

_OF = "schedule_of"
_MOST_LOOKED_AT = 2**16  # updates of a run at which a schedule from outside is tried


def linear(step: jax.Array, num_steps: int, *, end: jax.Array | float = 0.0) -> jax.Array:
    """Computes a factor that falls from 1 to `end` by the same amount in each step."""
    return optax.linear_schedule(1.0, end, num_steps)(step)


def cosine(step: jax.Array, num_steps: int, *, end: jax.Array | float = 0.0) -> jax.Array:
    """Computes a factor that falls from 1 to `end` along half a cosine."""
    return optax.cosine_decay_schedule(1.0, num_steps, alpha=end)(step)


_FUNCTIONS = {"linear": linear, "cosine": cosine}


def with_schedules[Settings](settings: type[Settings]) -> type[Settings]:
    """Gives each coefficient X of a dataclass its `X_schedule` and `X_schedule_kwargs`; a decorator.

    One that has a field of such a name already, by this decorator or of its own, is left as it is.

    Example:
      >>> from haepo_jax.fields import number
      >>> @with_schedules
      ... @dataclasses.dataclass(frozen=True)
      ... class Config:
      ...     weight: float = number(1.0)
      >>> [field.name for field in dataclasses.fields(Config)]
      ['weight', 'weight_schedule', 'weight_schedule_kwargs']
    """
    return _make_with_schedules(settings)


def _make(settings: Any) -> Any:
    fields = dataclasses.fields(settings)
    taken = {field.name for field in fields}
    added: list[tuple[str, Any, Any]] = []
    for field in fields:
        schedule = field.name + SCHEDULE
        if is_coefficient(field) and taken.isdisjoint((schedule, schedule + ARGUMENTS)):
            chosen = component(CONSTANT, SCHEDULES, takes_arguments=WITH_END)
            added.append((schedule, str, _companion(chosen, field.name, _MEANING)))
            arguments = _companion(static_arguments(), field.name, _MEANING_OF_ARGUMENTS)
            added.append((schedule + ARGUMENTS, Mapping[str, Any], arguments))
    if not added:
        return settings
    made = dataclasses.make_dataclass(
        settings.__name__,
        added,
        bases=(settings,),
        frozen=settings.__dataclass_params__.frozen,
        module=settings.__module__,
    )
    made.__doc__, made.__qualname__ = settings.__doc__, settings.__qualname__
    return made


_make_with_schedules: Callable[[Any], Any] = functools.cache(_make)  # one class for all records of these settings
_MEANING = (
    "What {} is multiplied by in each update: `constant` 1; `linear` and `cosine` a factor that changes from 1 to the "
    "argument `end` (0 unless given) over the run, be it ended by `num_updates` or `max_env_steps`. Or "
    "`package.module:attribute`, a function of the updates done and of those of the run that gives a factor."
)
_MEANING_OF_ARGUMENTS = (
    "Arguments of the schedule of {}: `end`, or those of one from outside; they decide the program."
)


def _companion(field: Any, of: str, meaning: str) -> Any:
    return dataclasses.field(
        default=field.default,
        default_factory=field.default_factory,
        metadata={**field.metadata, _OF: of, "meaning": meaning.format(of)},
    )


def add_schedules(settings: Any) -> Any:
    """Returns these settings of a method with those of schedules besides, all constant."""
    given = type(settings)
    made = with_schedules(given)
    if made is given:
        return settings
    return made(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(given) if field.init})


def of_coefficient(field: dataclasses.Field) -> str | None:
    """Returns the name of the coefficient whose schedule, or arguments of it, a setting is; None for any other."""
    return field.metadata.get(_OF)


def find_unread_schedules(
    settings: Any, name_of: Callable[[str], str], swept: Container[str], reasons: Mapping[str, str]
) -> dict[str, str]:
    """Finds the schedules, and arguments of such, that nothing reads.

    Args:
      settings: of a method.
      name_of: gives the dotted name of each in the config.
      swept: dotted names of those that the members have besides.
      reasons: the other settings that nothing reads, by dotted name, each with the reason.

    Returns:
      Reasons likewise.
    """
    found: dict[str, str] = {}
    for field in dataclasses.fields(settings):
        of = of_coefficient(field)
        if of is None:
            continue
        name = name_of(of)
        if name in reasons:
            found[name_of(field.name)] = reasons[name]
        elif getattr(settings, of) is None and name not in swept:
            found[name_of(field.name)] = f"config.{name} is unset"
        elif field.name.endswith(ARGUMENTS) and getattr(settings, of + SCHEDULE) == CONSTANT:
            found[name_of(field.name)] = f"config.{name}{SCHEDULE} is {CONSTANT}, which takes no such arguments"
    return found


class Scheduled(NamedTuple):
    """A coefficient whose schedule is not constant."""

    leaf: str
    """Its name among the settings of the method."""
    name: str
    """Its dotted name in the config."""
    path: str
    """The dotted name of its schedule."""
    schedule: Any
    kwargs: Mapping[str, Any]
    values: tuple[float, ...]
    """All that it has among the members, at the start of the run."""
    bounds: Mapping[str, Any]
    """`low`, `above` and `high`, of its field."""

    @property
    def column(self) -> str:
        """The metric that reports its value in each update; no other may be named so, as it begins as a setting."""
        return f"{self.name}_scheduled"

    def check(self) -> None:
        """Refuses arguments that a built-in schedule does not have, and an end at which the coefficient cannot be.

        Raises:
          ConfigError: see above. One from outside is looked at where its factors are made.
        """
        if components.is_outside(self.schedule):
            return
        check_built_in(self.path, self.schedule, self.kwargs)
        end = self.kwargs.get("end", 0.0)
        for value in self.values:
            if not self._allows(np.float32(value) * np.float32(end)):
                raise ConfigError(
                    f"config.{self.path} {self.schedule} takes config.{self.name} from {value} to {value * end:g}, "
                    f"and it must be {self._bounds_in_words()}; give config.{self.path}{ARGUMENTS}.end, the share of "
                    "it that is left at the end of the run."
                )

    def make_factor(self, num_updates: int) -> Factor:
        """Makes the factor by the updates done.

        Args:
          num_updates: of the run.

        Raises:
          ConfigError: a schedule from outside that cannot be used, or with which the coefficient leaves its bounds.
        """
        factor = make_schedule(self.path, self.schedule, num_updates, kwargs=self.kwargs)
        if components.is_outside(self.schedule):
            self._check_all(factor, num_updates)
        return factor

    def _check_all(self, factor: Factor, num_updates: int) -> None:
        looked_at = np.unique(np.linspace(0, num_updates - 1, min(num_updates, _MOST_LOOKED_AT)).astype(np.int32))
        factors = np.asarray(jax.vmap(factor)(jnp.asarray(looked_at)))
        for value in self.values:
            products = np.float32(value) * factors
            allowed = self._allows(products)
            if not allowed.all():
                at = int(np.argmin(allowed))
                raise ConfigError(
                    f"config.{self.path} {components.show_name(self.schedule)} gives the factor {factors[at]:g} after "
                    f"{looked_at[at]} of {num_updates} updates, which takes config.{self.name} from {value} to "
                    f"{products[at]:g}; it must be {self._bounds_in_words()}."
                )

    def _allows(self, values: Any) -> Any:
        low, above, high = (np.float32(self.bounds[name]) for name in ("low", "above", "high"))
        return np.isfinite(values) & (values >= low) & (values > above) & (values <= high)

    def _bounds_in_words(self) -> str:
        words = {"low": "at least", "above": "above", "high": "at most"}
        given = [f"{word} {self.bounds[name]}" for name, word in words.items() if math.isfinite(self.bounds[name])]
        return " and ".join(given) or "finite"


def find_scheduled(
    settings: Any,
    name_of: Callable[[str], str],
    values_of: Callable[[str], tuple[Any, ...]],
    reasons: Mapping[str, str],
) -> tuple[Scheduled, ...]:
    """Finds the coefficients whose schedule is not constant, as far as they are set and anything reads them.

    Args:
      settings: of a method.
      name_of: gives the dotted name of each in the config.
      values_of: gives all values of each among the members.
      reasons: the settings that nothing reads, by dotted name.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    found = []
    for schedule, field in fields.items():
        leaf = of_coefficient(field)
        if leaf is None or not schedule.endswith(SCHEDULE) or getattr(settings, schedule) == CONSTANT:
            continue
        name, values = name_of(leaf), tuple(values_of(leaf))
        if name not in reasons and None not in values:
            kwargs = getattr(settings, schedule + ARGUMENTS)
            chosen, bounds = getattr(settings, schedule), fields[leaf].metadata
            found.append(Scheduled(leaf, name, name_of(schedule), chosen, kwargs, values, bounds))
    return tuple(found)


def check_built_in(path: str, name: str, kwargs: Mapping[str, Any]) -> None:
    """Refuses arguments that a built-in schedule does not take.

    Args:
      path: the setting that names it.
      name: of the schedule.
      kwargs: its arguments.

    Raises:
      ConfigError: it takes no such argument, or not of such a value.
    """
    if name == CONSTANT:  # which says of any that nothing reads them
        return
    components.check_arguments(path, _FUNCTIONS[name], 2, kwargs=kwargs)
    end = kwargs.get("end", 0.0)
    if isinstance(end, bool) or not isinstance(end, int | float) or end < 0:
        raise ConfigError(f"config.{path}{ARGUMENTS}.end must be a number of at least 0, got {quoted(end)}.")


def make_schedule(
    path: str, name: Any, num_steps: int, *, kwargs: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Factor:
    """Makes the factor that a schedule gives by the steps done.

    Args:
      path: the setting that names it.
      name: `constant`, `linear`, `cosine`, `package.module:attribute`, or the function itself.
      num_steps: those of the whole run.
      kwargs: the setting `{path}_kwargs`.
      params: the setting `{path}_params`, if there is one; its values may be tracers.

    Raises:
      ConfigError: arguments that it does not have, or one from outside that cannot be loaded; where the factor is
        called, one that fails or that gives no number.

    Example:
      >>> float(make_schedule("haepo.kl_coef_schedule", "linear", 4, kwargs={"end": 0.5})(jnp.int32(2)))
      0.75
    """
    if name == CONSTANT:
        return optax.constant_schedule(1.0)
    is_outside = components.is_outside(name)
    if not is_outside:
        check_built_in(path, name, kwargs)
    function = components.load(path, name) if is_outside else _FUNCTIONS[name]

    def factor(step: jax.Array) -> jax.Array:
        found = components.call(path, function, step, num_steps, kwargs=kwargs, params=params)
        if not is_outside:
            return found
        who = f"config.{path} {components.show_name(name)}"
        return components.checked_numbers(who, found, (), "one number").astype(jnp.float32)

    return factor
