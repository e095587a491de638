"""Reward functions as a config names them: loaded, held to what the data have, and asked for the rewards of a prompt.

A function is `(prompts, completions, **columns) -> numbers`, plain Python. A call holds the completions of one prompt,
so that whatever goes wrong is of one row of the data, which the sentence names.
"""

import copy
import inspect
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from haepo_jax import components
from haepo_jax.errors import ConfigError, quoted, suggestion
from haepo_jax.language.reward_settings import RewardFunctionSettings
from haepo_jax.language.rewards.built_in import BUILT_IN

SETTING = "rl.rewards"
GIVEN = ("num_tokens", "ended")
"""What a function may ask for besides the columns of the data: how many tokens each completion has, the one that ends
it included, and whether it ended by itself."""
_RESERVED = ("prompts", "completions", *GIVEN)
_LONGEST = 40  # characters of a prompt or a completion in a sentence
_LARGEST = float(np.finfo(np.float32).max)  # devices compute in float32


@dataclass(frozen=True)
class Asked:
    """The completions of one prompt."""

    where: str
    """File and row of the prompt."""
    prompt: str
    columns: Mapping[str, Any]
    """Those of the row."""
    completions: Sequence[str]
    num_tokens: Sequence[int]
    ended: Sequence[bool]


@dataclass(frozen=True)
class RewardFunction:
    """One of the functions whose weighted sum is the reward."""

    name: str
    """As the config names it."""
    short: str
    """Under which metrics and arguments have it."""
    function: Callable[..., Any]
    weight: float
    arguments: Mapping[str, Any]
    """From the config."""
    columns: tuple[str, ...]
    """Those that it gets, of the data and of `GIVEN`."""

    def compute(self, asked: Asked) -> list[float]:
        """Computes the rewards of the completions of one prompt.

        Raises:
          ConfigError: the function fails, or gives anything but one finite number for each.
        """
        count = len(asked.completions)
        given = {"num_tokens": list(asked.num_tokens), "ended": list(asked.ended)}
        component = None if self.name in BUILT_IN else self.function
        who = f"{self.describe()} on {describe_row(asked)}"
        with components.failures_named(who, component, in_thread=True):
            # A copy for each completion: rows are asked about again, and a function may change what it gets.
            columns = {
                name: given[name] if name in given else [copy.deepcopy(asked.columns.get(name)) for _ in range(count)]
                for name in self.columns
            }
            found = self.function([asked.prompt] * count, list(asked.completions), **columns, **self.arguments)
            return _check_numbers(who, found, asked.completions)

    def describe(self) -> str:
        """Names the function as a sentence begins."""
        return f"config.{SETTING} {self.name}"


def describe_row(asked: Asked) -> str:
    """Names a row with the beginning of its prompt."""
    return f"{asked.where} ({_begin(asked.prompt)})"


def name_short(name: str) -> str:
    """Returns the last part of the name of a function.

    Example:
      >>> name_short("my_package.rewards:exact_answer"), name_short("format")
      ('exact_answer', 'format')
    """
    return name.rpartition(":")[2].rpartition(".")[2]


def load_functions(settings: RewardFunctionSettings, columns: Collection[str], source: str) -> list[RewardFunction]:
    """Loads the functions that a config names, and holds them to the columns of the data.

    Args:
      settings: of the stage `rl`.
      columns: those of the data.
      source: where the data are from.

    Raises:
      ConfigError: one cannot be imported, is async, takes other arguments, or needs a column that there is not; the
        data have a column under a name that is taken.
    """
    if taken := [name for name in _RESERVED if name in columns]:
        raise ConfigError(
            f"{source} has a column {taken[0]}, under which reward functions get something else; rename it."
        )
    weights = settings.reward_weights or (1.0,) * len(settings.rewards)
    return [
        _load(name, weight, settings.reward_kwargs.get(name_short(name), {}), columns, source)
        for name, weight in zip(settings.rewards, weights, strict=True)
    ]


def _load(
    name: str, weight: float, arguments: Mapping[str, Any], columns: Collection[str], source: str
) -> RewardFunction:
    function: Callable[..., Any] = BUILT_IN[name] if name in BUILT_IN else components.load(SETTING, name)
    short = name_short(name)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise ConfigError(
            f"config.{SETTING} {name} is async; a reward function gives its numbers when it is called, and may use "
            "asyncio.run for that."
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a built-in of Python; calling it will show
        return RewardFunction(name, short, function, weight, arguments, ())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise ConfigError(
            f"config.{SETTING} {name} takes {', '.join(p.name for p in parameters) or 'nothing'}; a reward function "
            "is (prompts, completions, **columns) -> list of numbers."
        )
    named = [p for p in parameters if p not in positional[:2] and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in named]
    for argument in arguments:
        if argument not in known and (name in BUILT_IN or not takes_any):  # columns are all that ours take besides
            raise ConfigError(
                f"config.rl.reward_kwargs.{short}.{argument} is not an argument of {name}{suggestion(argument, known)}"
            )
    # Whatever columns are called: settings of ours are given by the config alone, and two arguments by their places.
    settings = [p.name for p in named if name in BUILT_IN and p.kind is p.KEYWORD_ONLY]
    placed = [p.name for p in positional[:2] if p.kind is p.POSITIONAL_OR_KEYWORD]
    there = [column for column in (*columns, *GIVEN) if column not in settings]
    for p in named:
        if p.default is p.empty and p.name not in arguments and p.name not in there:
            setting = f"give it as config.rl.reward_kwargs.{short}.{p.name}"
            if p.name in settings:
                raise ConfigError(f"config.{SETTING} {name} needs {p.name}; {setting}.")
            raise ConfigError(
                f"config.{SETTING} {name} takes {p.name}, which is no column of {source} "
                f"({', '.join(columns) or 'it has none beside the prompts'}); {setting}, or add the column."
            )
    wanted = [column for column in there if column in known or (takes_any and column not in (*GIVEN, *placed))]
    return RewardFunction(
        name, short, function, weight, arguments, tuple(column for column in wanted if column not in arguments)
    )


def _check_numbers(who: str, found: Any, completions: Sequence[str]) -> list[float]:
    count = len(completions)
    wanted = f"it must give a list of {count} numbers, one for each completion"
    is_list = hasattr(found, "__len__") and hasattr(found, "__iter__")
    if isinstance(found, str | bytes | Mapping | Set) or not is_list:
        raise ConfigError(f"{who} gives {quoted(found, 60)}; {wanted}.")
    if len(found) != count:
        raise ConfigError(f"{who} gives {len(found)} values; {wanted}.")
    values = []
    for number, (value, completion) in enumerate(zip(found, completions, strict=True)):
        plain = value.item() if getattr(value, "shape", None) == () else value
        if not isinstance(plain, numbers.Real | np.bool_) or not _is_finite(plain):
            raise ConfigError(
                f"{who} gives {quoted(plain, 60)} for completion {number}, {_begin(completion)}; a reward is a finite "
                "number of float32."
            )
        values.append(float(plain))
    return values


def _is_finite(value: Any) -> bool:
    """Returns whether float32 holds a number, which NaN, infinities and those beyond its range are not."""
    try:
        return abs(float(value)) <= _LARGEST
    except OverflowError:  # an int or a fraction beyond float64
        return False


def _begin(text: str) -> str:
    """The beginning of a text, as a sentence holds it."""
    return quoted(text[:_LONGEST]) + ("..." if len(text) > _LONGEST else "")
