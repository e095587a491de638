"""Training of one member of a population, as pure functions: init, then updates of (collect, learn)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from haepo_jax.algorithms import LearnerState, make_algorithm
from haepo_jax.algorithms.base import Algorithm, horizon_of, round_bounds_of
from haepo_jax.config import (
    ExperimentConfig,
    TracedConfig,
    carries_on,
    count_steps_of_update,
    get_method,
    sees_all,
    with_components,
    with_settings,
)
from haepo_jax.config.checks import check_minibatches_of_episodes, check_rounds, check_update_steps
from haepo_jax.config.reads import list_scheduled
from haepo_jax.environments import Environment, Seen, check_param, make
from haepo_jax.environments.games.against import LINEUP
from haepo_jax.methods import Sees
from haepo_jax.optimizer import at_step
from haepo_jax.population.extra_metrics import make_extra_metrics
from haepo_jax.population.held_out import BestPolicy, no_best
from haepo_jax.population.self_play import OpponentPool, make_self_play
from haepo_jax.population.standing import Standing
from haepo_jax.rollouts.episode_stats import play
from haepo_jax.rollouts.episodes import EpisodeUnroll
from haepo_jax.runtime.precision import with_precision
from haepo_jax.types import Metrics

# What a member's key is folded with, so that no two purposes ever share randomness.
_INIT, _TRAIN, EVALUATE, _LEARN, _HELD_OUT, CHOOSE, CHANGE, VISIT = range(8)


@flax.struct.dataclass
class MemberState:
    """Everything that a member needs to go on: what a checkpoint holds."""

    learner: LearnerState
    key: jax.Array
    """Typed PRNG key of the member, which never changes; each use folds its purpose and time into it."""
    updates_done: jax.Array
    """int32."""
    env_steps: jax.Array
    """`[2]` uint32, environment steps taken: multiples of 2^31, and the rest; `total_steps` adds them up."""
    settings: dict[str, jax.Array]
    """The traced settings by dotted name."""
    diverged: jax.Array
    """boolean, True once loss, parameters, or what is adapted or normalised by were not finite; the learner is then
    the last finite one."""
    diverged_at: jax.Array
    """int32, the update that was not finite; -1 for a member that has not diverged."""
    best: BestPolicy | None = None
    """None where nothing is evaluated in training."""
    standing: Standing | None = None
    """None without population-based training."""
    opponents: OpponentPool | None = None
    """None without a pool of earlier policies to play against."""


class MemberFunctions(NamedTuple):
    """The pure functions of training. An update is `learn(state, collect(state))`."""

    init: Callable[[jax.Array, Mapping[str, jax.Array]], MemberState]
    """`(key, traced settings) -> state`."""
    collect: Callable[[MemberState], Any]
    """`state -> batch` of this update, of the algorithm's own kind."""
    learn: Callable[[MemberState, Any], tuple[MemberState, Metrics]]
    """`(state, batch) -> (state, metrics)`: scalars by name, float32 (NaN for a member that has stopped), and
    `env_steps`, int32 (0 for such a member)."""
    learn_unguarded: Callable[[MemberState, Any], tuple[MemberState, Metrics]]
    """The same without a look at whether numbers are finite or the member has stopped: what `learn` is measured
    against."""
    evaluate: Callable[[MemberState], jax.Array]
    """`state -> the mean greedy return`, float32, of `config.evaluate_episodes` episodes that are never trained on;
    the same ones at each call."""
    runs: Callable[[MemberState], jax.Array]
    """`state -> boolean`, False once the member has stopped: diverged, or at its `max_env_steps`."""
    trace: Callable[[MemberState], TracedConfig]
    """`state -> the config with the member's own settings in place`, each coefficient as its schedule has it in the
    next update, and the opponents of a game among the environment's numbers."""
    algorithm: Algorithm
    environment: Environment
    horizon: int
    """T, the steps at which episodes are cut."""


def make_member(config: ExperimentConfig, **components: Any) -> MemberFunctions:
    """Makes the pure functions that train one member as the config describes; vmap them over members.

    Args:
      config: the experiment. Its traced settings only matter as defaults: members carry their own.
      components: your own, in the place of those that the config names: `environment`, `network`, `transform` and
        others (docs/components.md).

    Returns:
      `MemberFunctions`.

    Raises:
      ConfigError: a component that does not exist or is of another kind; an environment that has no such parameters,
        or whose info metrics have names of what a run reports.
    """
    config = with_components(config, components)
    environment = make_environment(config)
    self_play = make_self_play(config, environment)
    if self_play is not None:
        environment = self_play.environment
    algorithm = make_algorithm(config, environment)
    more_metrics = make_extra_metrics(config)
    scheduled = list_scheduled(config)
    factors = {of.name: of.make_factor(config.num_updates) for of in scheduled}
    horizon = horizon_of(config, environment)

    def init(key: jax.Array, settings: Mapping[str, jax.Array]) -> MemberState:
        learner = algorithm.init(with_settings(config, settings), jax.random.fold_in(key, _INIT))
        return MemberState(
            learner=learner,
            key=key,
            updates_done=jnp.int32(0),
            env_steps=jnp.zeros(2, jnp.uint32),
            settings=dict(settings),
            diverged=jnp.bool_(False),
            diverged_at=jnp.int32(-1),
            best=None if config.evaluate_every is None else no_best(algorithm.policy_params(learner)),
            opponents=None if self_play is None else self_play.init(algorithm.policy_params(learner)),
        )

    def steps_done(state: MemberState, each: int) -> jax.Array:
        """The steps of a schedule that count as done, `each` an update, by the budget that ends the run."""
        if config.max_env_steps is None:
            return state.updates_done * each
        share = jnp.minimum(state.env_steps[1].astype(jnp.float32) / config.max_env_steps, 1)
        by_steps = jnp.floor(share * (config.num_updates * each)).astype(jnp.int32)
        return jnp.maximum(state.updates_done * each, by_steps)

    def compute_scheduled(state: MemberState) -> dict[str, jax.Array]:
        return {name: state.settings[name] * factor(steps_done(state, 1)) for name, factor in factors.items()}

    def trace(state: MemberState) -> TracedConfig:
        traced = with_settings(config, state.settings | compute_scheduled(state))
        if self_play is None:
            return traced
        lineup = self_play.line_up(traced, algorithm.policy_params(state.learner), state.opponents)
        numbers: dict[str, Any] = {**traced.env_params, LINEUP: lineup}
        return TracedConfig(dataclasses.replace(traced, env_params=numbers))

    def collect(state: MemberState) -> Any:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _TRAIN), state.updates_done)
        return algorithm.collect(trace(state), state.learner, key)

    def runs(state: MemberState) -> jax.Array:
        if config.max_env_steps is None:
            return ~state.diverged
        return ~state.diverged & (state.env_steps[0] == 0) & (state.env_steps[1] < config.max_env_steps)

    def with_schedule_of_budget(state: MemberState) -> LearnerState:
        """The learner, its schedule as far as the run has come by the budget that ends it, updates or steps."""
        if config.max_env_steps is None or config.optimizer.schedule == "constant":
            return state.learner
        step = steps_done(state, count_steps_of_update(config))
        return dataclasses.replace(state.learner, optimizer_state=at_step(state.learner.optimizer_state, step))

    def learn_unguarded(state: MemberState, batch: Any) -> tuple[MemberState, Metrics]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _LEARN), state.updates_done)
        traced = trace(state)
        learner, metrics = algorithm.learn(traced, with_schedule_of_budget(state), batch, state.updates_done, key)
        metrics = algorithm.measure(batch) | metrics
        opponents = state.opponents
        if self_play is not None:
            metrics, points = self_play.measure(metrics)
            newest = algorithm.policy_params(learner)
            opponents = self_play.remember(opponents, newest, points, state.updates_done + 1)
        metrics |= more_metrics(traced, batch, metrics)
        metrics |= {of.column: value for of, value in zip(scheduled, compute_scheduled(state).values(), strict=True)}
        return dataclasses.replace(
            state,
            learner=learner,
            updates_done=state.updates_done + 1,
            env_steps=_add_steps(state.env_steps, metrics["env_steps"]),
            opponents=opponents,
        ), metrics

    def learn(state: MemberState, batch: Any) -> tuple[MemberState, Metrics]:
        after, metrics = learn_unguarded(state, batch)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.sum(after.learner.params))
        for leaf in jax.tree.leaves((after.learner.adaptation, after.learner.normalization)):
            finite &= jnp.all(jnp.isfinite(leaf))
        running = runs(state)
        keep, diverges = running & finite, running & ~finite
        learner, opponents = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old),
            (after.learner, after.opponents),
            (state.learner, state.opponents),
        )
        return dataclasses.replace(
            after,
            learner=learner,
            opponents=opponents,
            env_steps=jnp.where(running, after.env_steps, state.env_steps),
            diverged=state.diverged | diverges,
            diverged_at=jnp.where(diverges, state.updates_done, state.diverged_at),
        ), {name: jnp.where(running, value, missing(value.dtype)) for name, value in metrics.items()}

    def evaluate(state: MemberState) -> jax.Array:
        key = jax.random.fold_in(state.key, _HELD_OUT)
        env_params = with_settings(config, state.settings).env_params
        params, episodes = algorithm.policy_params(state.learner), config.evaluate_episodes
        unroll = EpisodeUnroll(
            environment,
            algorithm.policy,
            params,
            key,
            episodes,
            horizon,
            env_params,
            greedy=True,
            unrolled_steps=config.unrolled_steps or 1,
        )
        return play(unroll).returns.mean()

    precision = config.precision
    return MemberFunctions(
        with_precision(precision, init),
        with_precision(precision, collect),
        with_precision(precision, learn),
        with_precision(precision, learn_unguarded),
        with_precision(precision, evaluate),
        runs,
        trace,
        algorithm,
        environment,
        horizon,
    )


def make_environment(config: ExperimentConfig) -> Environment:
    """Makes the environment of an experiment, and checks that its episodes and parameters are possible.

    Raises:
      ConfigError: an environment that does not exist, that has no such parameters, or not of such values, or that
        needs a horizon.
    """
    tells_apart = config.agents.sees_number or config.agents.networks != "shared"
    seen = Seen(number=tells_apart, world=sees_all(config))
    environment = make(config.env, tuple(sorted(config.env_kwargs.items())), seen)
    _check_steps(config, environment)
    _check_params(config, environment)
    return environment


def _check_params(config: ExperimentConfig, environment: Environment) -> None:
    """Refuses parameters that the environment does not have, and values that they cannot have."""
    given: dict[str, tuple[float, ...]] = {f"env_params.{name}": (value,) for name, value in config.env_params.items()}
    given |= {f"sweep.{name}": values for name, values in config.sweep.items() if name.startswith("env_params.")}
    for path, values in given.items():
        check_param(environment, path, values)


def _check_steps(config: ExperimentConfig, environment: Environment) -> None:
    """What an update plays must be a number that int32 holds; where environments carry on the config knows itself."""
    horizon = horizon_of(config, environment)
    if carries_on(config):
        return
    check_update_steps(config.num_trajectories, horizon, "a horizon of")
    if get_method(config).sees is Sees.SEGMENTS:
        check_minibatches_of_episodes(config, horizon)
        return
    bounds = round_bounds_of(config, environment)
    if bounds is not None:
        check_rounds(config, bounds.most_env_steps)


def _add_steps(total: jax.Array, steps: jax.Array) -> jax.Array:
    """Adds steps to a count; a single int32 would wrap around in a very long run."""
    rest = total[1] + steps.astype(jnp.uint32)
    return jnp.stack([total[0] + (rest >> 31), rest & (2**31 - 1)])


def total_steps(env_steps: np.ndarray) -> np.ndarray:
    """Adds counts `[..., 2]`, as in `MemberState.env_steps`, up to `[...]` int64."""
    return env_steps[..., 0].astype(np.int64) * 2**31 + env_steps[..., 1]


def missing(dtype: jnp.dtype) -> float | int:
    """Returns the value that a metric of this dtype has where there is none."""
    return jnp.nan if jnp.issubdtype(dtype, jnp.floating) else 0
