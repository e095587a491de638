"""Segments that compete: sums, lengths and returns of pieces of rows, their groups, and the loss made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import Mesh, PartitionSpec

from haepo_jax import (
    GROUPINGS,
    generalized_advantages,
    group_segments,
    haepo_loss,
    haepo_segment_loss,
    label_states,
    segment_lengths,
    segment_log_likelihoods,
    segment_returns,
    take_starts,
    trajectory_log_likelihood,
    trajectory_returns,
)

PROPERTY = settings(deadline=None, max_examples=30, derandomize=True, database=None)
NUMBERS = {"entropy_coef": 0.3, "kl_coef": 0.0, "temperature": 0.7}
M, T = 4, 10
STATIC = ("segment_length", "kl_coef", "kind", "group_by", "projection", "normalization", "axis_name", "reduce_fn")

sums = jax.jit(segment_log_likelihoods, static_argnames="segment_length")
lengths_of = jax.jit(segment_lengths, static_argnames="segment_length")
returns_of = jax.jit(segment_returns, static_argnames="segment_length")
loss_of = jax.jit(haepo_segment_loss, static_argnames=STATIC)
value_and_slopes = jax.jit(
    lambda log_probs, *arrays, **options: jax.value_and_grad(
        lambda x: haepo_segment_loss(x, *arrays, **options), has_aux=True
    )(log_probs),
    static_argnames=STATIC,
)


def rows(seed=0, garbage=None, shape=(M, T)):
    """Rows in which episodes follow one another, with steps that do not count; float64."""
    rng = np.random.default_rng(seed)
    where = rng.random(shape) < 0.85
    done = rng.random(shape) < 0.25
    steps = {
        "log_probs": -rng.uniform(0.1, 2, size=shape),
        "behaviour_log_probs": -rng.uniform(0.1, 2, size=shape),
        "rewards": rng.normal(size=shape),
        "values": rng.normal(size=shape),
        "next_values": rng.normal(size=shape),
    }
    if garbage is not None:
        steps = {name: np.where(where, array, garbage) for name, array in steps.items()}
    return {**steps, "terminated": done & (rng.random(shape) < 0.5), "done": done, "where": where}


def one_episode(seed=0, shape=(M, T)):
    """Rows of one episode each, whose valid steps come first; some ended by themselves, others were cut."""
    batch, lengths = rows(seed, shape=shape), np.random.default_rng(seed).integers(1, shape[1] + 1, shape[0])
    where = np.arange(shape[1]) < lengths[:, None]
    last = np.arange(shape[1]) == lengths[:, None] - 1
    ends = last & (np.arange(shape[0]) % 2 == 0)[:, None]
    return {**batch, "where": where, "terminated": ends, "done": None}


def cut_by_hand(batch, h):
    """Lists the steps of every segment as `(row, block, first step, [steps])`, from the definition, step by step."""
    where, done = batch["where"], batch["done"]
    found = []
    for m in range(where.shape[0]):
        open_segment = None
        for t in range(where.shape[1]):
            if t % h == 0 or not where[m, t]:
                open_segment = None
            if not where[m, t]:
                continue
            if open_segment is None:
                open_segment = (m, t // h, t, [])
                found.append(open_segment)
            open_segment[3].append(t)
            if done is not None and done[m, t]:
                open_segment = None
    return found


def returns_by_hand(batch, h, discount, gae_lambda, with_values=True):
    """Each segment's return as the sum that defines it, in float64."""
    where, terminated = batch["where"], batch["terminated"]
    horizon = where.shape[1]

    def ends(m, t):
        done = batch["done"] is not None and batch["done"][m, t]
        return done or terminated[m, t] or t + 1 == horizon or not where[m, t + 1]

    def advantage(m, t):
        after = 0 if terminated[m, t] else batch["next_values"][m, t]
        found = batch["rewards"][m, t] + discount * after - batch["values"][m, t]
        return found if ends(m, t) else found + discount * gae_lambda * advantage(m, t + 1)

    out = []
    for m, _, _, steps in cut_by_hand(batch, h):
        total = sum(discount**i * batch["rewards"][m, t] for i, t in enumerate(steps))
        if with_values:
            last = steps[-1]
            after = 0 if terminated[m, last] else batch["next_values"][m, last]
            if not ends(m, last):
                after += gae_lambda * advantage(m, last + 1)
            total += discount ** len(steps) * after - batch["values"][m, steps[0]]
        out.append(total)
    return np.array(out)


def spread(batch, h, numbers):
    """Numbers of the segments of `cut_by_hand` at their places `[M, n, p]`."""
    places = 1 if batch["done"] is None else h
    out = np.zeros((batch["where"].shape[0], -(-batch["where"].shape[1] // h), places))
    for (m, block, first, _), number in zip(cut_by_hand(batch, h), numbers, strict=True):
        out[m, block, 0 if places == 1 else first % h] = number
    return out


def cut_of(batch):
    return {name: batch[name] for name in ("done", "where")}


MANY = pytest.mark.parametrize("make", [rows, one_episode])


@MANY
@pytest.mark.parametrize("h", [3, *(pytest.param(h, marks=pytest.mark.slow) for h in (1, T))])
def test_sums_lengths_and_starts_match_the_reference(make, h, x64):
    batch = make()
    segments = cut_by_hand(batch, h)
    options = {"segment_length": h, **cut_of(batch)}
    expected = spread(batch, h, [sum(batch["log_probs"][m, t] for t in steps) for m, _, _, steps in segments])
    np.testing.assert_allclose(sums(batch["log_probs"], **options), expected, rtol=1e-12)
    expected = spread(batch, h, [len(steps) for *_, steps in segments])
    np.testing.assert_array_equal(lengths_of(batch["rewards"], **options), expected)
    numbers = np.arange(M * T).reshape(M, T)
    expected = spread(batch, h, [numbers[m, first] for m, _, first, _ in segments])
    np.testing.assert_array_equal(take_starts(numbers, **options), expected)


@MANY
@pytest.mark.parametrize(
    ("h", "gae_lambda"),
    [(3, 0.8), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((1, 0.8), (3, 0.0), (T, 0.8), (4, 1.0)))],
)
def test_returns_match_the_reference(make, h, gae_lambda, x64):
    batch = make()
    numbers = {"discount": 0.9, "gae_lambda": gae_lambda}
    arguments = {name: batch[name] for name in ("rewards", "values", "next_values", "terminated")}
    got = returns_of(**arguments, segment_length=h, **numbers, **cut_of(batch))
    np.testing.assert_allclose(got, spread(batch, h, returns_by_hand(batch, h, **numbers)), rtol=1e-11, atol=1e-12)
    got = returns_of(batch["rewards"], segment_length=h, **numbers, **cut_of(batch))
    expected = spread(batch, h, returns_by_hand(batch, h, **numbers, with_values=False))
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_segments_of_one_step_have_generalised_advantages():
    batch = rows()
    batch["where"] = np.ones((M, T), bool)
    steps = [batch[name] for name in ("rewards", "values", "next_values")]
    options = {"terminated": batch["terminated"], "done": batch["done"], "discount": 0.9, "gae_lambda": 0.8}
    expected = generalized_advantages(*steps, **options)
    got = segment_returns(*steps, segment_length=1, **options)[..., 0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_time_limit_counts_what_would_have_come_and_an_end_does_not():
    options = {"segment_length": 4, "done": jnp.array([False, True, False, False]), "discount": 0.5}
    values = jnp.array([1.0, 2.0, 3.0, 4.0])
    arguments = jnp.ones(4), values, jnp.array([2.0, 100.0, 4.0, 8.0])
    cut = segment_returns(*arguments, terminated=jnp.zeros(4, bool), **options)[0]
    np.testing.assert_allclose(cut, [1.5 + 25 - 1, 0, 1.5 + 2 - 3, 0])
    ended = segment_returns(*arguments, terminated=options["done"], **options)[0]
    np.testing.assert_allclose(ended, [1.5 - 1, 0, 1.5 + 2 - 3, 0])


@pytest.mark.parametrize(("length", "normalization"), [(T, "zscore"), (T + 7, "none")])
def test_one_segment_a_row_without_values_is_haepo_to_the_last_bit(normalization, length):
    batch = one_episode(shape=(7, T))
    log_probs, behaviour, rewards = (
        jnp.asarray(batch[name], jnp.float32) for name in ("log_probs", "behaviour_log_probs", "rewards")
    )
    options = {"normalization": normalization, "entropy_coef": 0.3, "kl_coef": 0.2, "temperature": 0.7}

    def whole(log_probs):
        scores, reference = (trajectory_log_likelihood(x, where=batch["where"]) for x in (log_probs, behaviour))
        returns = trajectory_returns(rewards, discount=0.9, where=batch["where"])
        return haepo_loss(scores, returns, reference, where=jnp.ones(7, bool), **options)

    def in_segments(log_probs):
        more = {"segment_length": length, "where": batch["where"], "discount": 0.9}
        return haepo_segment_loss(log_probs, rewards, reference_log_probs=behaviour, **more, **options)

    expected, got = (
        jax.jit(jax.value_and_grad(function, has_aux=True))(log_probs) for function in (whole, in_segments)
    )
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def loss_by_hand(reference, batch, h, group_by, kind, states):
    """Groups listed from the definition, each given to the reference of `haepo_loss`; and the sizes of the groups."""
    segments = cut_by_hand(batch, h)
    keys = [
        {"minibatch": 0, "time": block, "start_state": states[m, first]}[group_by] for m, block, first, _ in segments
    ]
    scores, behaviour = (
        np.array([sum(batch[name][m, t] for t in steps) for m, _, _, steps in segments])
        for name in ("log_probs", "behaviour_log_probs")
    )
    scores = reference.scores(kind, scores, np.array([len(steps) for *_, steps in segments]), behaviour)
    returns = returns_by_hand(batch, h, 0.9, 0.8)
    losses, sizes = [], []
    for key in sorted(set(keys)):
        mine = np.array([other == key for other in keys])
        options = {**NUMBERS, "normalization": "zscore", "where": np.ones(mine.sum(), bool)}
        losses.append(reference.haepo(scores[mine], returns[mine], None, **options).loss)
        sizes.append(mine.sum())
    return np.array(losses), np.array(sizes)


@pytest.mark.parametrize("group_by", GROUPINGS)
@pytest.mark.parametrize(
    ("h", "kind", "make"),
    [
        (3, "log_ratio", rows),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in ((1, "sum", rows), (4, "mean", one_episode))),
    ],
)
def test_losses_match_the_reference(reference, group_by, h, kind, make, x64):
    batch, states = make(), np.random.default_rng(1).integers(0, 3, (M, T))
    losses, sizes = loss_by_hand(reference, batch, h, group_by, kind, states)
    expected = np.average(losses, weights=sizes if group_by == "start_state" else None)
    more = {"discount": 0.9, "gae_lambda": 0.8, "start_states": states if group_by == "start_state" else None}
    got, _ = loss_of(**batch, segment_length=h, kind=kind, group_by=group_by, **more, **NUMBERS)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("group_by", GROUPINGS)
@pytest.mark.parametrize("garbage", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_garbage_in_steps_that_do_not_count_changes_neither_value_nor_slope(group_by, garbage):
    states = np.random.default_rng(1).integers(0, 3, (M, T)) if group_by == "start_state" else None
    options = {"segment_length": 3, "kind": "log_ratio", "group_by": group_by, "start_states": states, **NUMBERS}

    def evaluate(batch):
        arrays = [batch.pop(name) for name in ("log_probs", "rewards", "values", "next_values")]
        return value_and_slopes(*(jnp.asarray(array, jnp.float32) for array in arrays), **batch, **options)

    (clean, _), slopes = evaluate(rows())
    (spoilt, _), with_garbage = evaluate(rows(garbage=garbage))
    assert spoilt == clean and np.isfinite(clean)
    np.testing.assert_array_equal(with_garbage, slopes)
    assert (slopes[~rows()["where"]] == 0).all() and np.abs(slopes).max() > 1e-3


def test_slopes_are_those_of_finite_differences_and_equal_within_a_segment(x64):
    batch = rows()
    arrays = [batch.pop(name) for name in ("log_probs", "rewards", "values", "next_values")]
    options = {**batch, "segment_length": 3, "kind": "log_ratio", **NUMBERS}
    _, slopes = value_and_slopes(*arrays, **options)
    for m, t in ((0, 0), (1, 4), (3, 9)):
        step = np.zeros((M, T))
        step[m, t] = 1e-6
        up, down = (loss_of(arrays[0] + sign * step, *arrays[1:], **options)[0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[m, t], (up - down) / 2e-6, rtol=1e-5, atol=1e-9)
    for m, _, first, steps in cut_by_hand(batch, 3):
        np.testing.assert_array_equal(slopes[m, steps], slopes[m, first])


def test_groups_of_one_segment_have_no_slope():
    batch = rows()
    arrays = [jnp.asarray(batch.pop(name), jnp.float32) for name in ("log_probs", "rewards", "values", "next_values")]
    states = np.arange(M * T).reshape(M, T)
    _, slopes = value_and_slopes(
        *arrays, **batch, segment_length=3, group_by="start_state", start_states=states, **NUMBERS
    )
    assert (slopes == 0).all()


@pytest.mark.parametrize("group_by", GROUPINGS)
def test_no_rows_have_a_loss_of_0(group_by):
    nothing = jnp.zeros((0, 4))
    states = jnp.zeros((0, 4), int) if group_by == "start_state" else None
    loss, metrics = loss_of(nothing, nothing, segment_length=3, group_by=group_by, start_states=states, **NUMBERS)
    assert loss == 0 and not metrics.num_valid.any()


def test_half_precision_is_summed_in_float32():
    log_probs = jnp.full((2, 400), -2.0, jnp.bfloat16).at[0, 7].set(-1.5)
    found = sums(log_probs, segment_length=400)
    assert found.dtype == jnp.float32 and found[0, 0, 0] - found[1, 0, 0] == 0.5
    cut = sums(log_probs, segment_length=400, done=jnp.zeros((2, 400), bool))
    assert cut.dtype == jnp.float32 and cut[0, 0, 0] - cut[1, 0, 0] == 0.5


@pytest.mark.slow
@MANY
def test_eager_vmapped_and_leading_axes_agree(make):
    batches = [make(seed, shape=(M, T)) for seed in (0, 1)]
    both = {name: None if batches[0][name] is None else np.stack([b[name] for b in batches]) for name in batches[0]}
    options = {"segment_length": 3, "kind": "log_ratio", "group_by": "time", "reduce_fn": None, **NUMBERS}
    eager = [haepo_segment_loss(**batch, **options)[0] for batch in batches]
    given = {name: array for name, array in both.items() if array is not None}
    mapped = jax.jit(jax.vmap(lambda batch: haepo_segment_loss(**batch, **options)[0]))(given)
    np.testing.assert_allclose(mapped, eager, rtol=1e-5, atol=1e-6)
    together, metrics = loss_of(**both, **options)
    np.testing.assert_allclose(together, eager, rtol=1e-5, atol=1e-6)
    assert metrics.effective_sample_size.shape == (2, 4)


@pytest.mark.parametrize("group_by", [pytest.param("minibatch", marks=pytest.mark.slow), "time"])
def test_rows_spread_over_devices_give_the_numbers_of_one(group_by):
    batch = {
        name: np.asarray(array, np.float32 if array.dtype == float else bool)
        for name, array in rows(shape=(8, T)).items()
    }
    options = {"segment_length": 3, "kind": "log_ratio", "group_by": group_by, **NUMBERS}
    expected, metrics = loss_of(**batch, **options)
    mesh = Mesh(np.array(some_devices(4)), ("rows",))

    def local(batch):
        loss, found = haepo_segment_loss(**batch, **options, axis_name="rows")
        return loss, found.effective_sample_size

    spread_out = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec("rows"), out_specs=PartitionSpec()))
    loss, sizes = spread_out(batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(sizes, metrics.effective_sample_size, rtol=1e-5)


WHOLE = arrays(np.float32, (2, 6), elements=st.integers(-100, 100))
FLAGS = arrays(bool, (2, 6))


@pytest.mark.slow
@PROPERTY
@given(steps=WHOLE, done=FLAGS, where=FLAGS, h=st.integers(1, 8))
def test_segments_share_out_all_steps_that_count(steps, done, where, h):
    total = np.where(where, steps, 0).sum()
    for flags in (done, None):
        options = {"segment_length": h, "done": flags, "where": where}
        assert sums(steps, **options).sum() == total
        found = lengths_of(steps, **options)
        assert found.sum() == where.sum() and found.max(initial=0) <= h
    alone = segment_returns(steps, segment_length=h, done=done, where=where)
    np.testing.assert_array_equal(alone, sums(steps, segment_length=h, done=done, where=where))


@PROPERTY
@given(states=arrays(np.int32, (9, 2), elements=st.integers(0, 2)))
def test_states_have_equal_labels_where_they_are_equal_and_nowhere_else(states):
    labels = jax.jit(label_states)(states)
    expected = (states[:, None] == states[None]).all(-1)
    np.testing.assert_array_equal(labels[:, None] == labels[None], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_states_of_many_numbers_are_told_apart_by_any_of_them(dtype):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (4, 37)).astype(dtype)
    rows = np.concatenate([rows, rows, rows])[rng.permutation(12)]
    rows[3, -1] = ~rows[3, -1] if dtype is bool else 2 - rows[3, -1]
    labels = np.asarray(jax.jit(label_states)(rows))
    _, expected = np.unique(rows, axis=0, return_inverse=True)
    np.testing.assert_array_equal(labels, expected.ravel())


def test_states_are_compared_in_their_own_dtype_and_by_value():
    large = np.array([2**24, 2**24 + 1, 2**24], np.int32)  # which float32 does not tell apart
    assert label_states(large).tolist() == [0, 1, 0]
    assert label_states(jnp.array([[0.0, 1.0], [jnp.nan, 1.0], [-0.0, 1.0], [jnp.nan, 1.0]])).tolist() == [0, 1, 0, 1]
    assert label_states(jnp.zeros((3, 0))).tolist() == [0, 0, 0] and label_states(jnp.zeros((0, 2))).shape == (0,)


def test_the_program_that_labels_states_is_no_larger_for_images():
    small, large = (len(str(jax.make_jaxpr(label_states)(jnp.zeros((4, *shape))))) for shape in ((16,), (64, 64, 3)))
    assert large < 1.2 * small


def test_groups_hold_each_segment_once():
    numbers = np.arange(1, M * 4 * 3 + 1, dtype=np.float32).reshape(M, 4, 3)
    valid, states = numbers % 5 > 0, (numbers % 4).astype(np.int32)
    for group_by in GROUPINGS:
        grouped, where = group_segments(numbers, valid, group_by=group_by, start_states=states)
        assert sorted(grouped[where].tolist()) == sorted(numbers[valid].tolist())
    for row, competes in zip(grouped, where, strict=True):
        assert len(set((row[competes] % 4).tolist())) <= 1
    blocks, _ = group_segments(numbers, valid, group_by="time")
    np.testing.assert_array_equal(np.sort(blocks[1]), np.sort(numbers[:, 1].ravel()))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"segment_length": 0}, "segment_length must be a whole number of at least 1, got 0"),
        ({"segment_length": 2.0}, "segment_length must be a whole number of at least 1, got 2.0"),
        ({"segment_length": True}, "segment_length must be a whole number of at least 1, got True"),
        ({"terminated": None}, "go together, and there is no terminated"),
        ({"values": None}, "go together, and there is no values"),
        ({"group_by": "states"}, "group_by must be one of minibatch, time, start_state, got 'states'"),
        ({"group_by": "start_state"}, "group_by 'start_state' needs start_states"),
        ({"group_by": "start_state", "axis_name": "rows"}, "axis_name must be None"),
        ({"kind": "log_ratio", "behaviour_log_probs": None}, "kind 'log_ratio' needs behaviour_log_probs"),
        ({"kl_coef": 0.1, "reference_log_probs": None}, "kl_coef 0.1 needs reference_log_probs; give them, or set"),
        ({"log_probs": jnp.ones(T), "behaviour_log_probs": None, "rewards": jnp.ones(T)}, "an axis of rows and one"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        haepo_segment_loss(**rows() | {"segment_length": 3} | NUMBERS | changes)


@pytest.mark.parametrize(
    "name", ["rewards", "values", "next_values", "terminated", "done", "where", "start_states", "behaviour_log_probs"]
)
def test_an_array_of_another_shape_is_refused(name):
    batch = {"start_states": jnp.zeros((4, T), int)} | rows()
    with pytest.raises(AssertionError, match=rf"{name} \(4, 1\)"):
        haepo_segment_loss(**batch | {name: batch[name][:, :1]}, segment_length=3, **NUMBERS)
