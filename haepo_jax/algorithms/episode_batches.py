"""How the episodes of an update are held, by `config.memory`, and what a loss can ask of them.

`store` keeps every step and, for the gradient, what the policy made of it; `remat` keeps the steps and computes the
rest again, piece by piece; `recompute` keeps nothing but sums and plays the episodes again. `auto`, which populations
resolve, is `remat` here.

A batch is M episodes or, where `config.min_batch_steps` counts it in steps, rounds of M.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.algorithms import recompute, replay
from haepo_jax.algorithms.agents import count_lanes, group_agents
from haepo_jax.algorithms.base import LearnerState, horizon_of, round_bounds_of
from haepo_jax.algorithms.history import Episodes, History, join, join_log_likelihoods, no_history, remember
from haepo_jax.algorithms.normalization import Normalizer
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import ExperimentConfig, TracedConfig, count_steps_of_update, get_method, get_method_settings
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.methods import Group, Packed, StepGroup, get_history
from haepo_jax.networks import Policy
from haepo_jax.rollouts.episode_stats import episode_metrics, episode_stats_of
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories, collect
from haepo_jax.rollouts.packed import PackedEpisodes, collect_rounds
from haepo_jax.rollouts.persistence import draw_persistences
from haepo_jax.rollouts.rounds import RoundBounds, Rounds
from haepo_jax.types import Metrics, Params

Batch = Any
"""`Trajectories`, `PackedEpisodes` or `recompute.RecomputedBatch`."""


class OpenBatch(NamedTuple):
    """A batch, ready to be learnt from."""

    group: Group | StepGroup
    """What the method's objective sees of it."""
    reference: jax.Array | None
    """What the objective takes, as of the reference policy; None without one."""
    evaluate: Callable[[Params, jax.Array | bool], jax.Array]
    """`(params, fresh) -> what the objective takes`; `fresh` where these are the parameters that played the batch."""


class Batches(NamedTuple):
    """The batches of one member, as functions."""

    collect: Callable[[TracedConfig, LearnerState, jax.Array], Batch]
    """`(traced, learner, key) -> batch`, played by the learner's policy."""
    open: Callable[[TracedConfig, LearnerState, Batch], OpenBatch]
    """`(traced, learner, batch) -> the same, to be learnt from`; of the learner it takes the reference and the
    normalisation."""
    measure: Callable[[Batch], Metrics]
    """`batch -> metrics` of its episodes."""
    returns: Callable[[TracedConfig, Batch], jax.Array]
    """`(traced, batch) -> the discounted returns that are learnt from`, `[M]` or `[R, M]`, not normalised."""
    no_history: Callable[[TracedConfig, LearnerState, jax.Array], History | None] = lambda *_: None
    """`(traced, learner, key) -> history` before the first update; None where earlier batches are not kept."""
    remember: Callable[[TracedConfig, LearnerState, Batch], History | None] = lambda *_: None
    """`(traced, learner, batch) -> history` with this batch as the newest."""


def make_batches(
    config: ExperimentConfig, environment: Environment, policy: Policy, normalizer: Normalizer
) -> Batches:
    """Makes the batches of the config's method, which sees episodes as wholes or step by step.

    Args:
      config: the experiment.
      environment: where it plays.
      policy: who plays, as `normalizer` wraps it.
      normalizer: of what learns.
    """
    if get_history(get_method_settings(config)):
        make = _with_history
    elif config.memory == "recompute":
        make = _recomputed
    else:
        make = _kept if config.min_batch_steps is None else _packed
    batches = make(config, environment, policy, normalizer)

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: Batch) -> OpenBatch:
        opened = batches.open(traced, learner, batch)
        group, regroup = group_agents(config, environment, opened.group)
        return OpenBatch(
            group,
            None if opened.reference is None else regroup(opened.reference),
            lambda params, fresh: regroup(opened.evaluate(params, fresh)),
        )

    return batches if environment.num_agents == 1 else batches._replace(open=open_batch)


def _kept(config: ExperimentConfig, environment: Environment, policy: Policy, normalizer: Normalizer) -> Batches:
    """Batches of M episodes whose steps are kept."""
    keeps_steps, is_reused = get_method(config).keeps_steps, _is_reused(config)
    rewards_of, replayed = make_rewards(config), _replayed(config)

    def collect_episodes(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> Trajectories:
        return collect(
            environment,
            policy,
            normalizer.policy_params(learner),
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon_of(config, environment),
            env_params=traced.env_params,
            unrolled_steps=config.unrolled_steps or 1,
            persistences=(
                None if learner.exploration is None else _persistences(config, environment, learner.exploration)(key)
            ),
        )

    def returns_of(traced: TracedConfig, batch: Trajectories) -> jax.Array:
        learnt_from = batch._replace(rewards=rewards_of(traced, batch))
        return episode_stats_of(learnt_from, traced.discount).discounted_returns

    def measure(batch: Trajectories) -> Metrics:
        return episode_metrics(episode_stats_of(batch), persistences=batch.persistences, environment=environment)

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: Trajectories) -> OpenBatch:
        returns = normalizer.scale_returns(learner.normalization, returns_of(traced, batch))
        group = StepGroup(returns, batch.mask, batch.log_probs, is_reused)

        def judge(params: Params, fresh: jax.Array | bool = False) -> jax.Array:
            log_probs = replayed(policy, params, batch, fresh=fresh)
            return log_probs if keeps_steps else trajectory_log_likelihood(log_probs, where=batch.mask)

        return _opened(normalizer, learner, group if keeps_steps else group.sum_over_steps(), judge)

    return Batches(collect_episodes, open_batch, measure, returns_of)


def _packed(config: ExperimentConfig, environment: Environment, policy: Policy, normalizer: Normalizer) -> Batches:
    """Batches of rounds whose steps are kept."""
    keeps_steps, is_reused = get_method(config).keeps_steps, _is_reused(config)
    rewards_of, replayed, group_rounds = make_rewards(config), _replayed(config), _make_grouping(config)
    make_rounds, horizon = _make_rounds(config, environment, policy), horizon_of(config, environment)

    def collect_batch(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> PackedEpisodes:
        return collect_rounds(
            make_rounds(normalizer.policy_params(learner), key, traced.env_params, learner.exploration)
        )

    def returns_of(traced: TracedConfig, batch: PackedEpisodes) -> jax.Array:
        return batch.discounted_returns(rewards_of(traced, batch), traced.discount)

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: PackedEpisodes) -> OpenBatch:
        def sums(values: jax.Array) -> jax.Array:
            return group_rounds(batch.sum_over_steps(values))

        def judge(params: Params, fresh: jax.Array | bool = False) -> jax.Array:
            log_probs = replayed(policy, params, batch.steps, fresh=fresh, num_steps=batch.time, resets=batch.resets)
            return log_probs if keeps_steps else sums(log_probs)

        returns = normalizer.scale_returns(learner.normalization, returns_of(traced, batch))
        if keeps_steps:
            packed = Packed(batch.episode_of_step, batch.is_valid.reshape(-1), horizon)
            steps = StepGroup(returns.reshape(-1), batch.steps.mask, batch.steps.log_probs, is_reused, packed)
            return _opened(normalizer, learner, steps, judge)
        group = Group(
            group_rounds(returns),
            sums(batch.steps.mask.astype(jnp.int32)),
            sums(batch.steps.log_probs),
            is_reused,
            group_rounds(batch.is_valid),
        )
        return _opened(normalizer, learner, group, judge)

    return Batches(collect_batch, open_batch, _measure_packed(environment), returns_of)


def _measure_packed(environment: Environment) -> Callable[[PackedEpisodes], Metrics]:
    def measure(batch: PackedEpisodes) -> Metrics:
        return episode_metrics(batch.stats(), batch.is_valid, batch.persistences, environment=environment)

    return measure


def _with_history(
    config: ExperimentConfig, environment: Environment, policy: Policy, normalizer: Normalizer
) -> Batches:
    """Batches of rounds whose episodes compete with those of earlier batches, for a method that sees wholes."""
    rewards_of, replayed = make_rewards(config), _replayed(config)
    make_rounds = _make_rounds(config, environment, policy)
    num_batches = get_history(get_method_settings(config))

    def collect_batch(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> PackedEpisodes:
        return collect_rounds(
            make_rounds(normalizer.policy_params(learner), key, traced.env_params, learner.exploration)
        )

    def returns_of(traced: TracedConfig, batch: PackedEpisodes) -> jax.Array:
        return batch.discounted_returns(rewards_of(traced, batch), traced.discount)

    def episodes_of(traced: TracedConfig, batch: PackedEpisodes) -> Episodes:
        lengths, behaviour = batch.sum_over_steps((batch.steps.mask.astype(jnp.int32), batch.steps.log_probs))
        episodes = Episodes(returns_of(traced, batch), lengths, behaviour, batch.is_valid, batch.persistences)
        return jax.tree.map(lambda leaf: leaf.reshape(-1), episodes)

    def log_likelihoods(params: Params, batch: PackedEpisodes, fresh: jax.Array | bool = False) -> jax.Array:
        log_probs = replayed(policy, params, batch.steps, fresh=fresh, num_steps=batch.time, resets=batch.resets)
        return batch.sum_over_steps(log_probs).reshape(-1)

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: PackedEpisodes) -> OpenBatch:
        history: History = learner.history

        def judge(params: Params, fresh: jax.Array | bool = False) -> jax.Array:
            newest = log_likelihoods(params, batch, fresh)
            return join_log_likelihoods(newest, history, log_likelihoods, params)

        group = join(episodes_of(traced, batch), history)
        # The history holds returns as they were: all are divided by the newest deviation.
        group = group._replace(returns=normalizer.scale_returns(learner.normalization, group.returns))
        return _opened(normalizer, learner, group, judge)

    def kept_of(traced: TracedConfig, batch: PackedEpisodes) -> tuple[PackedEpisodes, Episodes]:
        return batch.without_reports(), episodes_of(traced, batch)

    def before_all(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> History:
        return no_history(num_batches, *jax.eval_shape(lambda: kept_of(traced, collect_batch(traced, learner, key))))

    return Batches(
        collect_batch,
        open_batch,
        _measure_packed(environment),
        returns_of,
        before_all,
        lambda traced, learner, batch: remember(learner.history, *kept_of(traced, batch)),
    )


def _recomputed(config: ExperimentConfig, environment: Environment, policy: Policy, normalizer: Normalizer) -> Batches:
    """Batches that are played again instead of being kept, for a method that sees episodes as wholes."""
    is_reused, group_rounds = _is_reused(config), _make_grouping(config)
    make_unroll = (
        _make_unroll(config, environment, policy)
        if config.min_batch_steps is None
        else _make_rounds(config, environment, policy)
    )

    def play(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> recompute.RecomputedBatch:
        return recompute.play(
            make_unroll,
            policy,
            normalizer.policy_params(learner),
            key,
            traced.env_params,
            discount=traced.discount,
            reference=learner.reference,
            exploration=learner.exploration,
            watches_observations=config.normalize_observations,
        )

    def returns_of(traced: TracedConfig, batch: recompute.RecomputedBatch) -> jax.Array:
        del traced  # they are those of when the batch was played
        return batch.stats.discounted_returns

    def measure(batch: recompute.RecomputedBatch) -> Metrics:
        return episode_metrics(batch.stats, batch.is_valid, batch.persistences, environment=environment)

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: recompute.RecomputedBatch) -> OpenBatch:
        del traced  # the reference has judged the batch while it was played
        stats, judged, valid = jax.tree.map(
            group_rounds, (batch.stats, batch.reference_log_likelihoods, batch.is_valid)
        )
        group = Group(stats.discounted_returns, stats.lengths, stats.log_likelihoods, is_reused, valid)

        def evaluate(params: Params, fresh: jax.Array | bool) -> jax.Array:
            bound = normalizer.bind(learner.normalization, params)
            return group_rounds(recompute.log_likelihoods(make_unroll, policy, bound, batch, fresh=fresh))

        return OpenBatch(group, judged, evaluate)

    return Batches(play, open_batch, measure, returns_of)


def _opened(
    normalizer: Normalizer,
    learner: LearnerState,
    group: Group | StepGroup,
    judge: Callable[[Params, jax.Array | bool], jax.Array],
) -> OpenBatch:
    """Opens a batch; `judge` is `(what the policy takes, fresh) -> what the objective takes`."""

    def evaluate(params: Params, fresh: jax.Array | bool = False) -> jax.Array:
        return judge(normalizer.bind(learner.normalization, params), fresh)

    reference = None if learner.reference is None else judge(learner.reference, False)
    return OpenBatch(group, reference, evaluate)


def _is_reused(config: ExperimentConfig) -> bool:
    return count_steps_of_update(config) > 1


def _replayed(config: ExperimentConfig) -> Callable[..., jax.Array]:
    if config.memory == "store":
        return replay.log_probs_at_once
    return functools.partial(replay.log_probs, rows=config.piece_rows or replay.ROWS)


def _make_grouping(config: ExperimentConfig) -> Callable[[jax.Array], jax.Array]:
    """Makes the function that brings numbers of episodes, `[M]` or by rounds `[R, M]`, to groups that compete.

    All episodes are one group, unless the objective's memory grows faster than they do: then each round is one.
    """
    if get_method(config).extra_memory is not None:
        return lambda of_rounds: of_rounds
    return lambda of_rounds: of_rounds.reshape(-1)


def _make_unroll(config: ExperimentConfig, environment: Environment, policy: Policy) -> Callable[..., EpisodeUnroll]:
    """Makes `(params, key, environment's numbers, shares of persistences) -> unroll of M episodes`."""
    num_trajectories, horizon = config.num_trajectories, horizon_of(config, environment)

    def make_unroll(
        params: Params, key: jax.Array, env_params: Mapping[str, jax.Array | float], shares: jax.Array | None
    ) -> EpisodeUnroll:
        persistences = None if shares is None else _persistences(config, environment, shares)(key)
        return EpisodeUnroll(
            environment,
            policy,
            params,
            key,
            num_trajectories,
            horizon,
            env_params,
            persistences=persistences,
            unrolled_steps=config.unrolled_steps or 1,
        )

    return make_unroll


def _make_rounds(config: ExperimentConfig, environment: Environment, policy: Policy) -> Callable[..., Rounds]:
    """Makes `(params, key, environment's numbers, shares of persistences) -> rounds of M episodes`."""
    make_unroll, bounds = _make_unroll(config, environment, policy), round_bounds_of(config, environment)
    if bounds is None:  # the batch is not counted in steps
        bounds = RoundBounds(count_lanes(config, environment), horizon_of(config, environment), 1, None)

    def make_rounds(
        params: Params, key: jax.Array, env_params: Mapping[str, jax.Array | float], shares: jax.Array | None
    ) -> Rounds:
        draw = None if shares is None else _persistences(config, environment, shares)
        return Rounds(make_unroll(params, key, env_params, shares), bounds, draw)

    return make_rounds


def _persistences(
    config: ExperimentConfig, environment: Environment, shares: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """Makes `key -> persistences [M]` of a round; all agents of an episode have the same."""

    def draw(key: jax.Array) -> jax.Array:
        choices = config.exploration.persistences
        drawn = draw_persistences(key, choices, shares, config.num_trajectories)
        return jnp.repeat(drawn, environment.num_agents)

    return draw
