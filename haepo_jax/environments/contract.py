"""What an environment must keep to, so that a loop can carry its state and no number changes on the way.

A loop carries one state from the reset through every step. Arrays of another dtype or shape would have to be cast,
which can change what the environment computes: a position that starts as the integer 0 would stand still under steps
of 0.5. So an environment that does not keep to it is refused before it is played.
"""

import contextlib
import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from haepo_jax.components import failures_named
from haepo_jax.config.settings import ExperimentConfig
from haepo_jax.environments.gymnax_library import environment, spaces
from haepo_jax.environments.interface import (
    ActionSpace,
    Box,
    Discrete,
    Environment,
    MultiDiscrete,
    Step,
    action_type,
    count_choices,
)
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods import METHODS

_SETTINGS = frozenset(field.name for field in dataclasses.fields(ExperimentConfig))  # a swept one is a column

AT_FIRST = " at its first step"
"""When an environment fails that is tried before it is played, in the words of `failures_named`."""
BY_EVERY_RUN = frozenset(
    (
        *("member", "seed", "update", "env_steps", "num_episodes", "diverged"),
        *("episode_return", "episode_length", "policy_entropy", "loss", "grad_norm", "eval_return"),
        *("exploration_share", "plain_return"),
        *("pbt_parent", "pbt_score"),
    )
)
"""Columns of every run, whichever its method."""
REPORTED = BY_EVERY_RUN.union(*(method.metrics for method in METHODS.values()))
"""What a run reports by itself: no measure may take the place of one of these."""


def names_a_setting(metric: str) -> bool:
    """Returns whether a metric has the name of a setting, which is a column where it is swept."""
    return metric.partition(".")[0] in _SETTINGS


def checked_info_metrics(name: str, info_metrics: Any) -> tuple[str, ...]:
    """Checks the names of an environment's info metrics.

    Args:
      name: the environment's id.
      info_metrics: its attribute of this name.

    Returns:
      The names.

    Raises:
      ConfigError: these are no names, or one is that of something else which a run reports.
    """
    if not isinstance(info_metrics, list | tuple) or not all(isinstance(measure, str) for measure in info_metrics):
        raise ConfigError(f"env {name} has info_metrics = {quoted(info_metrics)}; it must be a tuple of names.")
    for measure in info_metrics:
        check_reported_name(f"env {name}", measure)
    return tuple(info_metrics)


def check_reported_name(who: str, measure: str) -> None:
    """Refuses the name of a measure that is that of something else which a run reports, or that no file holds.

    Args:
      who: reports it, in words.
      measure: its name.

    Raises:
      ConfigError: it is a column or a setting of a run, or cannot be written.
    """
    check_written_name(who, measure)
    if measure in REPORTED or names_a_setting(measure):
        raise ConfigError(
            f"{who} has a measure {quoted(measure)}, which is what a run itself reports under that name; "
            "give it another one."
        )


def check_written_name(who: str, measure: str) -> None:
    """Refuses the name of a measure that cannot be the name of a column, as it is no Unicode text.

    Arguments as of `check_reported_name`.

    Raises:
      ConfigError: so it is.
    """
    try:
        measure.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{who} has a measure {quoted(measure)}, which cannot be written as UTF-8; give it another name."
        ) from error


def check_observation_shape(name: str, shape: Any) -> None:
    """Refuses what is no shape of an array.

    Args:
      name: the environment's id.
      shape: its attribute `observation_shape`.

    Raises:
      ConfigError: it is no tuple of whole numbers.
    """
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 1 for size in shape):
        raise ConfigError(
            f"env {name} has observation_shape {quoted(shape)}; it must be a tuple of whole numbers, such as (4,) or "
            "(10, 10, 3)."
        )


def check_choices(name: str, what: str, space: spaces.Discrete) -> None:
    """Refuses a discrete space that is not one of so many choices.

    Args:
      name: the environment's id.
      what: its "actions" or "observations".
      space: of them.

    Raises:
      ConfigError: the number of choices is not a whole one from 1 on.
    """
    n: Any = space.n
    is_number = isinstance(n, numbers.Real) or (isinstance(n, np.ndarray | jax.Array) and n.ndim == 0)
    if not is_number or not 1 <= n < 2**31 or n != int(n):
        raise ConfigError(f"env {name} has {what} in Discrete({quoted(n)}); it must be a whole number from 1 on.")


def check_real_actions(name: str, space: spaces.Box) -> None:
    """Refuses a box that actions of a real-valued policy cannot be scaled to.

    Args:
      name: the environment's id.
      space: of its actions.

    Raises:
      ConfigError: it does not hold real numbers, or has no numbers between its bounds.
    """
    where = f"env {name} has actions in {quoted(space)}"
    if not jnp.issubdtype(jnp.dtype(space.dtype), jnp.floating):
        raise ConfigError(f"{where}; its dtype must be a real one, as a policy acts in real numbers in a Box.")
    try:
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))
    except (TypeError, ValueError):
        raise ConfigError(f"{where}; its bounds must be numbers that fit its shape.") from None
    if not np.all((low <= high) & (low < np.inf) & (high > -np.inf)):  # False for NaN too
        raise ConfigError(f"{where}; its bounds must be numbers, and each low at most its high.")


def checked_state(
    name: str,
    env: Any,
    defaults: Any,
    act: Callable[[Any, Any], Any],
    action_space: ActionSpace,
    info_metrics: Sequence[str],
) -> Any:
    """Checks what a reset and a step return, without computing them.

    Args:
      name: the environment's id.
      env: an instance of `gymnax.environments.environment.Environment`.
      defaults: its `EnvParams`.
      act: `(policy's action, EnvParams) -> environment's action`.
      action_space: of the policy.
      info_metrics: entries of `info` that are metrics.

    Returns:
      The state as shapes and dtypes: those of the reset, a plain Python number with the dtype that the step gives it
      (no other difference is harmless).

    Raises:
      ConfigError: reset or step fails, the state changes its fields, a dtype or a shape, a number that it begins
        with is beyond the dtype of the step, or an observation, a reward, a flag or a measure is not what the
        interface takes.
    """
    begins: list[Any] = []  # the state of the reset, whose plain Python numbers have their value here

    def play(key: jax.Array, action: jax.Array) -> tuple:
        observation, state = env.reset_env(key, defaults)
        begins.append(state)
        following, after, reward, terminated, info = env.step_env(key, state, act(action, defaults), defaults)
        taken = {measure: info[measure] for measure in info_metrics}
        return observation, state, following, after, reward, terminated, env.is_truncated(after, defaults), taken

    action = action_type(action_space)
    space = env.observation_space(defaults)
    for what, count in (("actions", _count(action_space)), ("observations", _count(space))):
        if not count:
            raise ConfigError(f"env {name} has {what} without a number in them; there must be one at least.")
    with failures_named(f"env {name}", type(env), when=AT_FIRST):
        shapes = jax.eval_shape(play, jax.eval_shape(lambda: jax.random.key(0)), action)
    first, state, following, after, reward, terminated, truncated, taken = shapes
    for what, observation in (("reset", first), ("step", following)):
        _check_observation(name, what, observation, space)
    for what, number in (("reward", reward), *((f"measure {measure}", value) for measure, value in taken.items())):
        if not _is_array(number) or number.shape or not _is_real(number):
            raise ConfigError(f"env {name} gives its {what} as {words_of(number)}; it must be one real number.")
    check_flags(name, {"terminated": terminated, "truncated": truncated})
    check_elements(name, state)
    if not _same_fields(state, after):
        check_state(name, state, after)
    types = jax.tree.map(_as_after, state, after)
    check_state(name, types, after)
    for (path, value), before, kind in zip(
        tree_leaves_with_path(begins[-1]), jax.tree.leaves(state), jax.tree.leaves(types), strict=True
    ):
        _check_fits(f"env {name}: state{keystr(path)}", value, before.dtype, kind.dtype)
    return types


def check_environment(environment: Environment) -> None:
    """Checks that an environment of the package's own interface keeps to it, without computing a step.

    Raises:
      ConfigError: an attribute, or what its reset or step returns, is not what the interface asks for.
    """
    name, space, limit = environment.name, environment.action_space, environment.max_steps
    checked_info_metrics(name, environment.info_metrics)
    check_observation_shape(name, environment.observation_shape)
    check_action_space(name, space)
    _check_mask(environment)
    check_limit(name, limit)
    check_numbers(name, environment.params)

    def play(key: jax.Array, action: jax.Array) -> tuple[Any, Any, Any]:
        state, observation = environment.reset({}, key)
        return jax.tree.map(jnp.asarray, state), observation, environment.step({}, key, state, action)

    with first_step_named(environment if environment.game is None else environment.game, environment.params):
        state, first, step = jax.eval_shape(play, jax.eval_shape(lambda: jax.random.key(0)), action_type(space))
    if not isinstance(step, Step):
        raise ConfigError(f"env {name}: its step gives {words_of(step)}; it must be a haepo_jax.environments.Step.")
    if not isinstance(step.info_metrics, Mapping) or set(step.info_metrics) != set(environment.info_metrics):
        given = sorted(step.info_metrics) if isinstance(step.info_metrics, Mapping) else words_of(step.info_metrics)
        raise ConfigError(
            f"env {name}: its step gives the info_metrics {quoted(given)}, and its attribute names "
            f"{quoted(sorted(environment.info_metrics))}; make them the same."
        )
    for what, observation in (("reset", first), ("step", step.observation)):
        wanted = f"float32[{', '.join(map(str, environment.observation_shape))}]"
        if not _is_array(observation) or type_of(observation) != wanted:
            raise ConfigError(
                f"env {name}: the observation of its {what} is {words_of(observation)}; it must be {wanted}."
            )
    numbers_given = {"reward": step.reward} | {f"measure {key}": value for key, value in step.info_metrics.items()}
    for what, number in numbers_given.items():
        if not _is_array(number) or type_of(number) != "float32[]":
            raise ConfigError(f"env {name} gives its {what} as {words_of(number)}; it must be float32[].")
    check_flags(name, {"done": step.done, "terminated": step.terminated})
    check_elements(name, state)
    check_state(name, state, step.state)


@contextlib.contextmanager
def first_step_named(record: Any, params: Mapping[str, float]) -> Iterator[None]:
    """Turns what a first reset and step without any parameters raise into one sentence.

    Args:
      record: the environment or game, a named tuple of its functions.
      params: its numbers, with their defaults.

    Raises:
      ConfigError: it has raised anything.
    """
    name = record.name
    with failures_named(f"env {name}", tuple(filter(callable, record)), when=AT_FIRST):
        try:
            yield
        except KeyError as error:
            left_out = next((key for key in params if error.args == (key,)), None)
            if left_out is None:
                raise
            raise ConfigError(
                f"env {name} reads params[{left_out!r}], and params hold only what config.env_params sets; where it "
                f"is left out take the default, as params.get({left_out!r}, {params[left_out]}) does."
            ) from error


def check_numbers(name: str, params: Any) -> None:
    """Refuses what does not map names to the numbers that are their defaults."""
    if not isinstance(params, Mapping) or not all(
        isinstance(key, str) and isinstance(value, numbers.Real) for key, value in params.items()
    ):
        raise ConfigError(f"env {name} has params {quoted(params)}; it must map names to numbers.")


def check_limit(name: str, limit: Any) -> None:
    """Refuses a limit on the length of an episode that is neither a number of steps nor None."""
    if limit is not None and not (type(limit) is int and 1 <= limit < 2**31):
        raise ConfigError(
            f"env {name} has max_steps {quoted(limit)}; it must be a whole number from 1 to {2**31 - 1}, or None."
        )


def check_action_space(name: str, space: Any) -> None:
    """Refuses what is no action space of the interface."""
    sizes: Any = ()
    if isinstance(space, Discrete | Box):
        sizes = space
    elif isinstance(space, MultiDiscrete) and isinstance(space.nvec, tuple):
        sizes = space.nvec
    if not sizes or not all(type(size) is int and 1 <= size < 2**31 for size in sizes):
        raise ConfigError(
            f"env {name} has the action_space {quoted(space)}; it must be a haepo_jax.environments Discrete or Box of "
            "a whole number from 1 on, or a MultiDiscrete of a tuple of such."
        )


def _check_mask(environment: Environment) -> None:
    """Refuses an action mask that does not fit the actions, or an observation that it does not fit in."""
    name, size, features = environment.name, environment.mask_size, environment.masked_shape
    space, shape = environment.action_space, environment.observation_shape
    if not size and features is None:
        return
    wanted = 0 if isinstance(space, Box) else count_choices(space)
    if size != wanted or not wanted:
        fits = f"it must be {wanted}, one for each choice, or 0" if wanted else "real actions have no mask"
        raise ConfigError(f"env {name} has the mask_size {quoted(size)} and the action_space {quoted(space)}; {fits}.")
    if not isinstance(features, tuple) or not all(type(axis) is int and axis >= 1 for axis in features):
        raise ConfigError(
            f"env {name} has an action mask and the masked_shape {quoted(features)}; it must be the shape of the "
            "features, a tuple of whole numbers from 1 on."
        )
    if shape != (math.prod(features) + size,):
        raise ConfigError(
            f"env {name} has the observation_shape {shape}; with features of shape {features} and a mask of {size} "
            f"entries it must be ({math.prod(features) + size},)."
        )


def check_state(name: str, before: Any, after: Any) -> None:
    """Refuses a step whose state has other fields, dtypes or shapes than the state it began with.

    Raises:
      ConfigError: names the first field that differs, and both types.
    """
    if not _same_fields(before, after):
        old, new = ({keystr(path) for path, _ in tree_leaves_with_path(tree)} for tree in (before, after))
        fields = ", ".join(sorted(f"state{path}" for path in old ^ new)) or "containers"
        raise ConfigError(
            f"env {name}: the state after a step has other fields than after a reset ({fields}); both must have the "
            "same."
        )
    for (path, old), new in zip(tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.dtype, old.shape) != (jnp.result_type(new), jnp.shape(new)):
            raise ConfigError(
                f"env {name}: state{keystr(path)} is {type_of(old)} after a reset and {type_of(new)} after a step; "
                "both must have one dtype and one shape."
            )


def own_limit(name: str, defaults: Any) -> int | None:
    """Finds the environment's own limit on the length of an episode.

    Args:
      name: its id.
      defaults: its `EnvParams`.

    Returns:
      Steps; None where it sets none, as the 1 that every `EnvParams` inherits from gymnax is no limit of its own.

    Raises:
      ConfigError: a limit that is no whole number of steps.
    """
    limit = getattr(defaults, "max_steps_in_episode", None)
    if limit is None or limit == float("inf") or (limit == _INHERITED_LIMIT and _inherits_limit(type(defaults))):
        return None
    if not 1 <= limit < 2**31 or limit != int(limit):
        raise ConfigError(
            f"env {name} sets max_steps_in_episode to {limit}; it must be a whole number from 1 to {2**31 - 1}."
        )
    return int(limit)


_INHERITED_LIMIT = environment.EnvParams().max_steps_in_episode


def _inherits_limit(kind: type) -> bool:
    declared = (base for base in kind.__mro__ if "max_steps_in_episode" in inspect.get_annotations(base))
    return next(declared, None) is environment.EnvParams


def _count(space: Any) -> int:
    """Numbers in an element of a space, or choices of a discrete one."""
    if isinstance(space, MultiDiscrete):
        return sum(space.nvec)
    if isinstance(space, Discrete | spaces.Discrete):
        return int(space.n)
    return space.size if isinstance(space, Box) else math.prod(space.shape)


def _check_observation(name: str, what: str, observation: Any, space: Any) -> None:
    if not _is_array(observation):
        raise ConfigError(
            f"env {name}: the observation of its {what} is {words_of(observation)}; it must be one array."
        )
    shape = () if isinstance(space, spaces.Discrete) else tuple(space.shape)
    if observation.shape != shape:
        raise ConfigError(
            f"env {name}: the observation of its {what} has shape {observation.shape}, and its observation_space "
            f"{shape}; both must be the same."
        )
    whole = isinstance(space, spaces.Discrete)
    if not (jnp.issubdtype(observation.dtype, jnp.integer) if whole else _is_real(observation)):
        kind = "whole" if whole else "real"
        raise ConfigError(
            f"env {name}: the observation of its {what} is {type_of(observation)}; it must hold {kind} numbers."
        )


def check_flags(name: str, given: Mapping[str, Any]) -> None:
    """Refuses what is not one truth value, by its name in the step."""
    for what, flag in given.items():
        if not _is_array(flag) or flag.shape or flag.dtype != bool:
            raise ConfigError(f"env {name} gives {what} as {words_of(flag)}; it must be one boolean.")


def check_elements(name: str, state: Any) -> None:
    """Refuses a state that holds an array without elements."""
    for path, leaf in tree_leaves_with_path(state):
        if 0 in leaf.shape:  # XLA ends the process where such an array is spread over devices
            raise ConfigError(
                f"env {name}: state{keystr(path)} is {type_of(leaf)}, an array without elements; leave it out."
            )


def _same_fields(before: Any, after: Any) -> bool:
    structure: Any = jax.tree.structure(before)  # whose type has no == for mypy
    return bool(structure == jax.tree.structure(after))


def _as_after(before: jax.ShapeDtypeStruct, after: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`before`, with the dtype of `after` where it is a Python number of the same kind, which has no dtype yet."""
    takes = before.weak_type and any(
        jnp.issubdtype(before.dtype, kind) and jnp.issubdtype(after.dtype, kind)
        for kind in (jnp.integer, jnp.floating)
    )
    return jax.ShapeDtypeStruct(before.shape, after.dtype if takes else before.dtype)


def _check_fits(what: str, value: Any, before: np.dtype, after: np.dtype) -> None:
    """Refuses a number of a reset that the dtype of the step does not hold."""
    if before == after:
        return
    if isinstance(value, jax.core.Tracer):  # its value is not known
        fits = not jnp.issubdtype(after, jnp.integer) or np.can_cast(before, after)
        given = str(before)
    elif jnp.issubdtype(after, jnp.integer):
        fits, given = jnp.iinfo(after).min <= value <= jnp.iinfo(after).max, str(value)
    else:
        fits, given = not abs(value) < math.inf or abs(value) <= float(jnp.finfo(after).max), str(value)
    if not fits:
        raise ConfigError(f"{what} is {given} after a reset and {after} after a step, which does not hold it.")


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.ShapeDtypeStruct)


def words_of(value: Any) -> str:
    """Words what an environment has returned."""
    if value is None:
        return "None"
    return type_of(value) if _is_array(value) else f"a {type(value).__name__}"


def _is_real(array: Any) -> bool:
    return array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)


def type_of(array: Any) -> str:
    """Words dtype and shape of an array."""
    shape = ", ".join(map(str, jnp.shape(array)))
    return f"{jnp.result_type(array)}[{shape}]"
