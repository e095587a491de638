"""Population-based training: every few updates the worst members of a population copy its best ones.

Truncation selection and perturbation, as of Jaderberg et al. 2017 (arXiv 1711.09846). A member that copies takes over
all that its parent has learned (parameters, optimiser, reference), the pool of its opponents and the settings, and
changes those that `config.pbt.perturb` names. Its key, its environment steps and its best policy stay its own. All of
it follows from the number of updates done and from keys that fold in purpose and time, so that neither the chunks of a
run nor the devices of its members decide a bit.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.config import ExperimentConfig
from haepo_jax.config.pbt import bounds_of
from haepo_jax.errors import ConfigError, quoted, suggestion
from haepo_jax.parallel import MEMBERS
from haepo_jax.population.member import CHANGE, CHOOSE, MemberState
from haepo_jax.population.standing import Standing
from haepo_jax.types import Metrics

PARENT, SCORE, DIVERGED = "pbt_parent", "pbt_score", "diverged"
"""The metrics: the member that was copied after an update, -1 for none; the score that it had then, NaN at updates
without an exchange; and whether the member has diverged, which no other run reports as a metric."""


Exchange = Callable[[MemberState, Metrics, jax.Array], tuple[MemberState, Metrics]]
"""`(MemberState of a device's members, metrics of their update, int32 updates done) -> (state, more metrics)`."""


def make_exchange(
    config: ExperimentConfig,
    can_learn: Callable[[MemberState], jax.Array],
    settings: tuple[str, ...],
    *,
    num_devices: int,
) -> Exchange:
    """Makes the function that counts an update in the members' scores, and lets them copy when it is time.

    Args:
      config: the experiment, with `pbt.every` set.
      can_learn: `state of a member -> boolean`, whether it has not stopped.
      settings: those of the members, by dotted name, that are reported as metrics.
      num_devices: devices that hold members, along the axis `MEMBERS` of the mesh.
    """
    every = config.pbt.every
    assert every is not None

    def after_update(state: MemberState, metrics: Metrics, done: jax.Array) -> tuple[MemberState, Metrics]:
        reported = {name: state.settings[name] for name in settings} | {DIVERGED: state.diverged}
        state = dataclasses.replace(state, standing=_count(_standing(state), metrics, config.pbt.metric))
        due = (done % every == 0) & (done < config.num_updates)
        state, parents, scores = jax.lax.cond(due, exchange, skip, state)
        return state, reported | {PARENT: parents, SCORE: scores}

    def skip(state: MemberState) -> tuple[MemberState, jax.Array, jax.Array]:
        rows = state.diverged.shape
        return state, jnp.full(rows, -1, jnp.int32), jnp.full(rows, jnp.nan, jnp.float32)

    def exchange(state: MemberState) -> tuple[MemberState, jax.Array, jax.Array]:
        standing = _standing(state)
        score = jnp.where(standing.count > 0, standing.total / jnp.maximum(standing.count, 1), standing.score)
        could_learn = jax.vmap(can_learn)(dataclasses.replace(state, diverged=jnp.zeros_like(state.diverged)))
        own = (score, state.diverged, could_learn, standing.population, draw_bits(state, CHOOSE), standing.member)
        *known, members = own if num_devices == 1 else jax.lax.all_gather(own, MEMBERS, tiled=True)
        is_open, parents = choose_parents(*known, fraction=config.pbt.fraction)
        rows = state.diverged.shape[0]
        first = 0 if num_devices == 1 else jax.lax.axis_index(MEMBERS) * rows
        here = first + jnp.arange(rows)
        copies, is_open = parents[here] != here, is_open[here]
        inherited = (state.learner, state.opponents, state.settings, score)
        learner, opponents, copied, of_parent = fetch_rows(inherited, parents, first, num_devices=num_devices)
        changed = jax.vmap(lambda member, values: change_settings(config, member, values))(state, copied)
        fresh = Standing(
            standing.member,
            standing.population,
            jnp.zeros_like(standing.total),
            jnp.zeros_like(standing.count),
            of_parent,
        )
        after = dataclasses.replace(
            state,
            learner=learner,
            opponents=opponents,
            settings={name: _choose(copies, changed[name], value) for name, value in state.settings.items()},
            diverged=state.diverged & ~copies,
            diverged_at=jnp.where(copies, -1, state.diverged_at),
            standing=jax.tree.map(lambda new, old: jnp.where(is_open, new, old), fresh, standing),
        )
        parent_members = jnp.where(copies, members[parents[here]], -1)
        return after, parent_members, jnp.where(is_open, score, jnp.nan)

    return after_update


def _standing(state: MemberState) -> Standing:
    assert state.standing is not None  # `Population.init` gives it
    return state.standing


def _count(standing: Standing, metrics: Metrics, name: str) -> Standing:
    if name not in metrics:
        raise ConfigError(
            f"config.pbt.metric {quoted(name)} is no metric of this run{suggestion(name, list(metrics))}"
        )
    values = metrics[name].astype(jnp.float32)
    counts = jnp.isfinite(values)
    return dataclasses.replace(
        standing,
        total=standing.total + jnp.where(counts, values, 0),
        count=standing.count + counts,
    )


def draw_bits(state: MemberState, purpose: int) -> jax.Array:
    """Draws `[members]` uint32 for one purpose, by which members choose one another after this update."""

    def draw(key: jax.Array, done: jax.Array) -> jax.Array:
        return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, purpose), done), (), jnp.uint32)

    return jax.vmap(draw)(state.key, state.updates_done)


def choose_parents(
    score: jax.Array,
    diverged: jax.Array,
    could_learn: jax.Array,
    population: jax.Array,
    bits: jax.Array,
    *,
    fraction: float,
) -> tuple[jax.Array, jax.Array]:
    """Chooses whom each member copies: the worst of a population each one of its best, those that diverged too.

    A population of n members copies and is copied by `floor(fraction n)` of them, one at least. A member never copies
    one whose score is not larger, nor does it copy once it has used up its environment steps, though others may still
    copy it. One without a score neither copies nor is copied. Where no member of a population is left that runs,
    nobody copies.

    Args:
      score: `[members]` float32, the larger the better; NaN where there is none.
      diverged: `[members]` boolean, whether it has diverged; its score does not count then.
      could_learn: `[members]` boolean, whether it would train further if it had not diverged.
      population: `[members]` int32; negative for padding.
      bits: `[members]` uint32, random.
      fraction: of a population, in [0, 0.5].

    Returns:
      `[members]` boolean, whether a member of its population still runs; and `[members]` int32, the row of the member
      that it copies, its own where it copies nobody.
    """
    rows = jnp.arange(score.shape[0])
    known = jnp.isfinite(score) & ~diverged & (population >= 0)
    # By population, those with a score first, the larger score first; of two that tie the first member.
    order = jnp.lexsort((jnp.where(known, -score, 0), ~known, population))
    sorted_population = population[order]
    begin = jnp.searchsorted(sorted_population, population, side="left")
    end = jnp.searchsorted(sorted_population, population, side="right")

    def count(flags: jax.Array) -> jax.Array:
        """How many members of each one's population have the flag."""
        sums = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(flags[order].astype(jnp.int32))])
        return sums[end] - sums[begin]

    num_known = count(known)
    is_open = (population >= 0) & (count(could_learn & ~diverged) > 0)
    if fraction == 0.0:
        return is_open, rows
    share = jnp.maximum(1, jnp.floor(fraction * (end - begin) + 1e-4).astype(jnp.int32))
    worst = jnp.minimum(share, num_known // 2)
    best = jnp.maximum(1, worst)
    place = jnp.zeros_like(order).at[order].set(rows) - begin
    chosen = order[begin + (bits % best.astype(jnp.uint32)).astype(begin.dtype)]
    is_worst = known & (place >= num_known - worst) & (score < score[chosen])
    copies = is_open & could_learn & (num_known > 0) & (diverged | is_worst)
    return is_open, jnp.where(copies, chosen, rows)


def fetch_rows(tree: Any, parents: jax.Array, first: jax.Array | int, *, num_devices: int) -> Any:
    """Copies rows from one member to another, bit for bit, wherever they lie.

    Between devices only the rows that are copied travel, and so many at a time as a device has members: each is sent
    by the device that holds it, all others add zeros to its bits. No device ever holds all members.

    Args:
      tree: arrays `[members of this device, ...]`.
      parents: `[members of all devices]` the row that each member copies; its own where it copies none.
      first: row of this device's first member.
      num_devices: along the axis `MEMBERS`.

    Returns:
      The tree with the copied rows in place.
    """
    if num_devices == 1:
        return jax.tree.map(lambda leaf: leaf[parents], tree)
    rows = jax.tree.leaves(tree)[0].shape[0]
    everyone = jnp.arange(parents.shape[0])
    is_source = (
        jnp.zeros(parents.shape, bool).at[jnp.where(parents != everyone, parents, parents.size)].set(True, mode="drop")
    )
    number = jnp.cumsum(is_source) - 1  # of each source among all
    sources = jnp.nonzero(is_source, size=parents.shape[0], fill_value=parents.shape[0])[0]
    here = first + jnp.arange(rows)
    copies, wanted = parents[here] != here, number[parents[here]]

    def move(block: jax.Array, tree: Any) -> Any:
        those = jax.lax.dynamic_slice_in_dim(sources, block * rows, rows)
        owned = (those >= first) & (those < first + rows)
        local = jnp.clip(those - first, 0, rows - 1)
        sent = jax.tree.map(lambda leaf: _choose(owned, _to_bits(leaf)[local], jnp.uint32(0)), tree)
        arrived = jax.lax.psum(sent, MEMBERS)
        takes = copies & (wanted // rows == block)
        slot = jnp.where(takes, wanted % rows, 0)
        return jax.tree.map(lambda leaf, bits: _choose(takes, _from_bits(bits[slot], leaf), leaf), tree, arrived)

    return jax.lax.fori_loop(0, -(-is_source.sum() // rows), move, tree)


def _to_bits(leaf: jax.Array) -> jax.Array:
    """The bits of an array as uint32, which add up to themselves with zeros; -0.0 and NaN would not."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint32)
    size = leaf.dtype.itemsize
    if size < 4:
        return jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * size}")).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, jnp.uint32)


def _from_bits(bits: jax.Array, like: jax.Array) -> jax.Array:
    """Does the reverse of `_to_bits`."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(like))
    if like.dtype == bool:
        return bits.astype(bool)
    size = like.dtype.itemsize
    if size < 4:
        bits = bits.astype(jnp.dtype(f"uint{8 * size}"))
    return jax.lax.bitcast_convert_type(bits, like.dtype)


def _choose(condition: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """`where` over the leading axis."""
    return jnp.where(condition.reshape(condition.shape + (1,) * (yes.ndim - condition.ndim)), yes, no)


def change_settings(
    config: ExperimentConfig, state: MemberState, settings: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Changes the settings that a member has copied: each is multiplied or divided by a factor, within its bounds.

    A whole number changes by 1 at least.

    Args:
      config: the experiment.
      state: `MemberState` of the member, for its key and time.
      settings: that were copied, scalars by dotted name.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, CHANGE), state.updates_done)
    changed = dict(settings)
    for number, (name, (low, high)) in enumerate(bounds_of(config).items()):
        value = settings[name]
        up = jax.random.bernoulli(jax.random.fold_in(key, number))
        factor = jnp.where(up, config.pbt.factor, 1 / config.pbt.factor)
        moved = value * factor
        if jnp.issubdtype(value.dtype, jnp.integer):
            least = jnp.where(up, value + 1, value - 1)
            rounded = jnp.round(moved).astype(value.dtype)
            moved = jnp.where(up, jnp.maximum(rounded, least), jnp.minimum(rounded, least))
        changed[name] = jnp.clip(moved.astype(value.dtype), *np.asarray((low, high), value.dtype))
    return changed
