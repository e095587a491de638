"""Self-play: the opponents of a learner in a two-player game are its earlier selves, in a pool of its own state.

The game is an environment of one learner (`haepo_jax.environments.games.against`), whose opponents come with its
numbers. So rollouts, methods and checkpoints know nothing of it. All that is drawn follows from the keys of the
episodes.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import ExperimentConfig, SelfPlayConfig, TracedConfig
from haepo_jax.environments import Environment
from haepo_jax.environments.games.against import (
    RANDOM,
    Lineup,
    Player,
    name_games,
    name_points,
    play_against,
)
from haepo_jax.errors import ConfigError
from haepo_jax.networks import Policy
from haepo_jax.types import Metrics, Params

NEWEST, POOL, FIXED = "newest", "pool", "fixed"
"""Kinds of opponents in the metrics, beside random play."""
POPULATION = "population"
_POINTS_RATE = 0.3
"""How far an update moves the points that the learner is known to make against one of the pool."""
_LEAST_WEIGHT = 1e-3
"""Of one that the learner always beats."""


@flax.struct.dataclass
class OpponentPool:
    """Earlier policies of a member, K of them. Places that have had none yet are not drawn."""

    params: Params
    """`[K, ...]`, what the policy takes."""
    update: jax.Array
    """`[K]` int32, the updates done by each; -1 for an empty place."""
    points: jax.Array
    """`[K]` float32, the points that the learner makes in a game against each, as far as known: 1 for a win, a half
    for a draw, 0 for a loss; a half before the first game."""


@dataclasses.dataclass(frozen=True)
class SelfPlay:
    """The opponents of one member, as pure functions."""

    settings: SelfPlayConfig
    environment: Environment
    """The game against these opponents."""

    @property
    def has_pool(self) -> bool:
        """Whether there are earlier policies among them."""
        return self.settings.opponents == POOL

    def init(self, params: Params) -> OpponentPool | None:
        """Makes the pool of the first policy alone; None where there is none."""
        if not self.has_pool:
            return None
        size = self.settings.pool_size
        return OpponentPool(
            jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], size, axis=0), params),
            jnp.full(size, -1, jnp.int32).at[0].set(0),
            jnp.full(size, 0.5, jnp.float32),
        )

    def line_up(self, traced: TracedConfig, newest: Params, pool: OpponentPool | None) -> Lineup:
        """Lines up the opponents of an update.

        Args:
          traced: the config of the member.
          newest: what the policy takes, as it is now.
          pool: of the member, as of `init`.
        """
        random = jnp.asarray(traced.self_play.random_share, jnp.float32)
        if self.settings.opponents not in (NEWEST, POOL):
            return Lineup(jnp.zeros(1), jnp.log(jnp.stack([random, 1 - random])))  # whose player takes none
        own = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], newest)
        if pool is None:
            return Lineup(own, jnp.log(jnp.stack([random, 1 - random])))
        share = jnp.asarray(traced.self_play.newest_share, jnp.float32)
        of_pool = (1 - random) * (1 - share) * weigh_pool(pool, self.settings.draw)
        chances = jnp.concatenate([random[None], of_pool, ((1 - random) * share)[None]])
        params = jax.tree.map(lambda earlier, now: jnp.concatenate([earlier, now]), pool.params, own)
        return Lineup(params, jnp.log(chances))

    def measure(self, metrics: Metrics) -> tuple[Metrics, jax.Array | None]:
        """Computes the points against each kind of opponents.

        Args:
          metrics: of an update's episodes, with all info metrics of the environment.

        Returns:
          The metrics with `points_KIND`, the mean points of a game against this kind, NaN where there was none, in the
          place of what they were computed from; and the points `[K]` against each of the pool, None where they are
          not needed.
        """
        kinds = dict.fromkeys((RANDOM, *_list_kinds(self.settings)))
        each = range(self.settings.pool_size + 1) if _counts_each(self.settings) else ()
        points = {name: metrics[name_points(name)] / metrics[name_games(name)] for name in (*kinds, *each)}
        counted = {name(kind) for kind in points for name in (name_games, name_points)}
        rest = {name: value for name, value in metrics.items() if name not in counted}
        measured = rest | {name_points(kind): points[kind] for kind in kinds}
        return measured, jnp.stack([points[number] for number in each[:-1]]) if each else None

    def remember(
        self, pool: OpponentPool | None, newest: Params, points: jax.Array | None, updates_done: jax.Array
    ) -> OpponentPool | None:
        """Remembers an update: the points that were made, and the newest policy, if it enters the pool.

        Args:
          pool: as of `line_up`.
          newest: what the policy takes, after the update.
          points: as of `measure`.
          updates_done: int32, with this update.
        """
        if pool is None:
            return None
        if points is not None:
            known = jnp.isfinite(points)
            moved = pool.points + _POINTS_RATE * (jnp.where(known, points, 0) - pool.points)
            pool = dataclasses.replace(pool, points=jnp.where(known, moved, pool.points))
        return pool if takes_visitors(self.settings) else let_in(self.settings, pool, newest, updates_done)


def takes_visitors(settings: SelfPlayConfig) -> bool:
    """Returns whether policies of other members enter the pool, and none of its own."""
    return settings.opponents == POOL and settings.snapshots == POPULATION


def let_in(settings: SelfPlayConfig, pool: OpponentPool, params: Params, updates_done: jax.Array) -> OpponentPool:
    """Lets a policy into the pool, if it is time, in the place of the oldest."""
    every = settings.snapshot_every
    place, enters = updates_done // every % settings.pool_size, updates_done % every == 0
    fresh = OpponentPool(params, updates_done, jnp.float32(0.5))
    return jax.tree.map(lambda kept, new: kept.at[place].set(jnp.where(enters, new, kept[place])), pool, fresh)


def weigh_pool(pool: OpponentPool, draw: str) -> jax.Array:
    """Computes how often each policy of the pool is drawn, `[K]`, of sum 1; never one of an empty place.

    By `win_rate` a policy against which the learner makes p points has the weight (1 - p)^2, as of AlphaStar's league
    (Vinyals et al. 2019), and a little more, so that none is forgotten.
    """
    is_there = pool.update >= 0
    if draw == "newest":
        weights = pool.update == jnp.max(pool.update)
    elif draw == "win_rate":
        weights = is_there * (jnp.square(1 - pool.points) + _LEAST_WEIGHT)
    else:
        weights = is_there
    weights = weights.astype(jnp.float32)
    return weights / weights.sum()


def make_self_play(config: ExperimentConfig, environment: Environment) -> SelfPlay | None:
    """Makes the opponents of a config; None where they move at random, as they do without it.

    Args:
      config: the experiment.
      environment: a game against random play, or any other.

    Raises:
      ConfigError: the environment is no game, or opponents from outside cannot be made.
    """
    settings = config.self_play
    if settings.opponents == RANDOM:
        return None
    if environment.game is None:
        raise ConfigError(
            f"config.self_play.opponents {components.show_name(settings.opponents)} belongs to a two-player game, "
            f"such as TicTacToe-haepo, and env {environment.name} is none; leave it at random."
        )
    policy = make_algorithm(config, environment).policy  # which sees the same whoever the opponents are
    return SelfPlay(settings, play_against(environment.game, _make_player(settings, policy)))


def _list_kinds(settings: SelfPlayConfig) -> tuple[str, ...]:
    """The kind of each opponent but random play."""
    if settings.opponents == POOL:
        return (*(POOL,) * settings.pool_size, NEWEST)
    return (NEWEST if settings.opponents == NEWEST else FIXED,)


def _counts_each(settings: SelfPlayConfig) -> bool:
    return settings.opponents == POOL and settings.draw == "win_rate"


def _make_player(settings: SelfPlayConfig, policy: Policy) -> Player:
    kinds = _list_kinds(settings)
    if not components.is_outside(settings.opponents):

        def play(params: Params, carry: Any, key: jax.Array, observation: jax.Array) -> tuple[Any, jax.Array]:
            carry, distribution = policy.step(params, carry, observation)
            return carry, policy.act(distribution, policy.noise(key, ()))

        return Player(policy.start, play, kinds, _counts_each(settings))
    path = "self_play.opponents"
    act = components.call(path, components.load(path, settings.opponents), kwargs=settings.opponents_kwargs)
    who = f"config.{path} {components.show_name(settings.opponents)}"
    if not callable(act):
        raise ConfigError(f"{who} makes {components.describe(act)}; it must make (observation, key) -> action.")

    def choose(params: Params, carry: Any, key: jax.Array, observation: jax.Array) -> tuple[Any, jax.Array]:
        with components.failures_named(who, act):
            action = act(observation, key)
        return carry, components.checked_numbers(who, action, (), "one action").astype(jnp.int32)

    return Player(lambda: (), choose, kinds)
