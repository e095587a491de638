"""Rounds of whole episodes: which are played, and where their steps lie."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.counting_environments import counter, params_for, policy_for
from helpers.tolerances import assert_allclose, assert_same_products
from helpers.updates import assert_identical

from haepo_jax.rollouts import episodes
from haepo_jax.rollouts.episode_stats import episode_stats_of, measure_stats
from haepo_jax.rollouts.episodes import EpisodeUnroll, collect
from haepo_jax.rollouts.packed import collect_rounds
from haepo_jax.rollouts.rounds import RoundBounds, Rounds
from haepo_jax.rollouts.steps import steps_of

M, T, LEAST = 3, 7, 40  # chunks of 4 steps; episodes have 1 to 5
ENVIRONMENT = counter()
POLICY = policy_for(ENVIRONMENT)
PARAMS = params_for(POLICY)
BOUNDS = RoundBounds(M, T, LEAST, None)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    """Chunks that end within an episode, and beyond the horizon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "_MOST_STEPS", 4)
        yield


def rounds_of(key, bounds=BOUNDS):
    return Rounds(EpisodeUnroll(ENVIRONMENT, POLICY, PARAMS, key, bounds.num_trajectories, bounds.horizon, {}), bounds)


@functools.cache
def programs():
    """Packed batches of several keys, played together; and the rounds of one of them, each by itself."""
    keys = jax.random.split(jax.random.key(3), 4)
    play_round = jax.jit(lambda key: collect(ENVIRONMENT, POLICY, PARAMS, key, num_trajectories=M, horizon=T))
    packed = jax.jit(jax.vmap(lambda key: collect_rounds(rounds_of(key))))(keys)
    return keys, packed, play_round


def batch_of(member):
    return jax.tree.map(lambda leaf: leaf[member], programs()[1])


def rounds_by_themselves(member):
    """Every round that a member has played, `Trajectories` `[M, T]` each."""
    keys, _, play_round = programs()
    num_rounds = int((batch_of(member).starts < batch_of(member).steps.mask.shape[1]).sum())
    true = jnp.bool_(True)
    return [play_round(rounds_of(keys[member]).unroll(jnp.int32(number), true).key) for number in range(num_rounds)]


@pytest.mark.parametrize("member", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_batch_holds_the_steps_of_its_rounds_one_after_the_other(member):
    batch, begin = batch_of(member), 0
    for number, alone in enumerate(rounds_by_themselves(member)):
        lengths = np.asarray(alone.mask.sum(axis=1))
        assert batch.starts[number] == begin
        for lane in range(M):
            span = slice(begin, begin + lengths[lane])
            of_lane = jax.tree.map(lambda leaf, lane=lane, span=span: leaf[lane, span], batch.steps)
            expected = jax.tree.map(lambda leaf, lane=lane: leaf[lane, : lengths[lane]], alone)  # noqa: B023
            assert_same_products(of_lane, expected)
            assert not batch.steps.mask[lane, span.stop : begin + lengths.max()].any()
        begin += lengths.max()
    assert batch.time == begin
    assert not batch.steps.mask[:, begin:].any()


def test_the_first_round_is_the_batch_that_is_not_counted_in_steps():
    keys, _, play_round = programs()
    assert_same_products(rounds_by_themselves(0)[0], play_round(keys[0]))


def test_no_two_rounds_are_alike():
    lengths = [tuple(np.asarray(alone.mask.sum(axis=1))) for alone in rounds_by_themselves(0)]
    assert len(lengths) > 3
    assert len(set(lengths)) > 1
    keys = [
        np.asarray(jax.random.key_data(rounds_of(jax.random.key(3)).unroll(jnp.int32(k), jnp.bool_(True)).key))
        for k in range(4)
    ]
    inside = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(3))))  # what the first round plays with
    assert len({tuple(key) for key in (*keys, *inside)}) == 6


def test_rounds_end_with_the_one_that_brings_enough_steps():
    for member in range(4):
        steps = np.cumsum([int(alone.mask.sum()) for alone in rounds_by_themselves(member)])
        assert steps[-1] >= LEAST > steps[-2]
        assert batch_of(member).steps.mask.sum() == steps[-1]


def test_members_that_play_together_have_the_bits_of_each_alone():
    keys, packed, _ = programs()
    numbers = np.asarray((packed.starts < packed.steps.mask.shape[-1]).sum(axis=1))
    assert len(set(numbers)) > 1  # some wait for others
    member = int(numbers.argmin())
    alone = jax.jit(lambda key: collect_rounds(rounds_of(key)))(keys[member])
    together = batch_of(member)
    np.testing.assert_array_equal(alone.starts, together.starts)
    mask = np.asarray(alone.steps.mask)
    np.testing.assert_array_equal(mask, together.steps.mask)
    for name in ("observations", "actions", "rewards"):
        left, right = getattr(alone.steps, name), getattr(together.steps, name)
        np.testing.assert_array_equal(np.asarray(left)[mask], np.asarray(right)[mask])


def test_a_member_that_has_used_all_its_room_waits_for_others_and_loses_no_step():
    """One lane: batches of (2, 5) steps are the longest there are, and those of (1, 1, any) have more rounds."""
    bounds = RoundBounds(1, 5, 3, None)
    keys = jax.random.split(jax.random.key(0), 40)
    batch = jax.jit(jax.vmap(lambda key: collect_rounds(rounds_of(key, bounds))))(keys)
    waits = (batch.time == bounds.max_time) & (batch.starts[:, 2] >= bounds.max_time)
    assert waits.any() and (batch.starts[:, 2] < bounds.max_time).any()
    np.testing.assert_array_equal(batch.steps.mask[:, 0], jnp.arange(bounds.max_time + 4) < batch.time[:, None])
    (done,) = np.asarray(batch.steps.observations[waits, 0, :, 0])[:1, : bounds.max_time]
    np.testing.assert_array_equal(done, [0, 1, 0, 1, 2, 3, 4])


def test_sums_over_steps_are_those_of_each_round():
    batch = batch_of(1)
    stats, alone = batch.stats(), [episode_stats_of(one) for one in rounds_by_themselves(1)]
    expected = jax.tree.map(lambda *rows: np.stack(rows), *alone)
    played = len(alone)
    for name in ("returns", "lengths", "log_likelihoods", "entropies"):
        assert_allclose(getattr(stats, name)[:played], getattr(expected, name), rtol=1e-6)
        assert not getattr(stats, name)[played:].any()
    np.testing.assert_allclose(stats.info_metrics["double"], 2 * stats.returns)
    discounted = np.stack([episode_stats_of(one, 0.5).discounted_returns for one in rounds_by_themselves(1)])
    np.testing.assert_allclose(batch.discounted_returns(batch.rewards, 0.5)[:played], discounted, rtol=1e-6)


def test_the_slope_of_a_sum_is_that_of_its_episode_at_each_of_its_steps():
    batch = batch_of(1)
    weights = 1.0 + jnp.arange(batch.is_valid.size).reshape(batch.is_valid.shape)
    slopes = jax.grad(lambda values: (weights * batch.sum_over_steps(values)).sum())(batch.steps.rewards)
    expected = np.where(batch.steps.mask, 1 + np.asarray(batch.episode_of_step), 0)
    np.testing.assert_array_equal(slopes, expected)
    counted = np.bincount(np.asarray(batch.episode_of_step)[batch.steps.mask], minlength=batch.is_valid.size)
    np.testing.assert_array_equal(counted, batch.stats().lengths.reshape(-1))


def test_sums_are_kept_without_the_steps_and_found_again():
    keys, _, _ = programs()

    @jax.jit
    @jax.vmap
    def play(key):
        rounds = rounds_of(key)
        num_rounds, stats, _ = rounds.sum_over_steps(measure_stats(1.0))
        return num_rounds, stats, rounds.sum_again(num_rounds, measure_stats(1.0))

    num_rounds, stats, again = play(keys)
    assert_identical(stats, again)
    for member in range(4):
        expected = batch_of(member).stats()
        assert num_rounds[member] == len(rounds_by_themselves(member))
        np.testing.assert_array_equal(stats.lengths[member], expected.lengths)
        np.testing.assert_allclose(stats.returns[member], expected.returns, rtol=1e-6)


def test_components_see_lanes_whose_episodes_follow_one_another():
    batch = batch_of(2)
    steps = steps_of(batch)
    assert steps.ends.sum() == batch.is_valid.sum()
    np.testing.assert_array_equal(steps.mask, batch.steps.mask)
    # An observation is (steps done, length of the episode): the next one is a step later, but for the last.
    observations, following = (np.asarray(part)[steps.mask] for part in (steps.observations, steps.next_observations))
    is_last = np.asarray(steps.ends)[steps.mask]
    np.testing.assert_array_equal(is_last, observations[:, 0] + 1 == observations[:, 1])
    np.testing.assert_array_equal(following[:, 0], observations[:, 0] + ~is_last)


@pytest.mark.parametrize("most", [None, 30, 60, 100])
@pytest.mark.parametrize(("lanes", "horizon", "least"), [(4, 6, 20), (2, 10, 25), (4, 6, 4), (1, 5, 7), (3, 1, 10)])
def test_no_lengths_of_episodes_go_beyond_the_bounds(lanes, horizon, least, most):
    bounds, rng = RoundBounds(lanes, horizon, least, most), np.random.default_rng(0)
    reached = []
    for trial in range(300):
        rounds, steps, time = 0, 0, 0
        while rounds == 0 or bounds.wants_more(steps, time):
            lengths = (
                rng.integers(1, horizon + 1, lanes) if trial % 3 else rng.choice([1, horizon], lanes, p=[0.9, 0.1])
            )
            if trial == 0:
                lengths = np.ones(lanes, int)
            if trial == 3:
                lengths = np.array([horizon] + [1] * (lanes - 1)) if rounds == 0 else np.full(lanes, horizon)
            rounds, steps, time = rounds + 1, steps + lengths.sum(), time + lengths.max()
        assert steps >= least or (most is not None and lanes * (time + horizon) > most)
        assert most is None or rounds == 1 or lanes * time <= most
        reached.append((rounds, time, steps))
    largest = np.max(reached, axis=0)
    assert (largest <= (bounds.max_rounds, bounds.max_time, bounds.most_env_steps)).all()
    if most is None:
        assert largest[0] == bounds.max_rounds
