"""Updates of the members of one device, all together or in tiles; `layout` says which."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.population.exchange import Exchange
from haepo_jax.population.held_out import EVAL_RETURN, evaluate_members
from haepo_jax.population.layout import Layout
from haepo_jax.population.member import MemberFunctions, MemberState, missing
from haepo_jax.population.traced_update import TracedUpdate
from haepo_jax.types import Metrics

Advance = Callable[[MemberState, jax.Array], tuple[MemberState, Metrics]]


def make_advance(
    functions: MemberFunctions,
    traced: TracedUpdate,
    layout: Layout,
    max_chunk: int,
    evaluate_every: int | None = None,
    exchange: Exchange | None = None,
) -> Advance:
    """Makes the function that trains the members of one device for a number of updates.

    Args:
      functions: of one member.
      traced: their update.
      layout: how members lie on devices.
      max_chunk: the most updates of a call.
      evaluate_every: updates between two evaluations on held-out episodes; none by default.
      exchange: what lets members copy one another after an update; none by default.

    Returns:
      `(state [members_per_device, ...], int32 number of updates) -> (state, metrics [max_chunk, members_per_device])`.
      It stops early where no member is left that runs; with an exchange, in which all devices take part, updates
      where none runs cost next to nothing.
    """

    def advance(state: MemberState, num_updates: jax.Array) -> tuple[MemberState, Metrics]:
        recorded: dict[str, Any] = dict(traced.metrics)
        if evaluate_every is not None:
            recorded[EVAL_RETURN] = jax.ShapeDtypeStruct((), jnp.float32)
        learned = dict(recorded)
        if exchange is not None:
            recorded |= _exchanged_shapes(exchange, state, learned)
        first = state.updates_done

        def any_runs(state: MemberState) -> jax.Array:
            return jnp.any(jax.vmap(functions.runs)(state))

        def goes_on(carry: tuple[jax.Array, MemberState, Metrics]) -> jax.Array:
            i, state, _ = carry
            return (i < num_updates) & (any_runs(state) if exchange is None else True)

        def learn(state: MemberState, i: jax.Array) -> tuple[MemberState, Metrics]:
            state, metrics = _update(functions, traced, layout, state)
            if evaluate_every is not None:
                state, metrics = evaluate_members(functions, evaluate_every, state, metrics, first[0] + i + 1)
            return state, metrics

        def idle(state: MemberState, i: jax.Array) -> tuple[MemberState, Metrics]:
            return state, _no_metrics(learned, layout.members_per_device)

        def update(carry: tuple[jax.Array, MemberState, Metrics]) -> tuple[jax.Array, MemberState, Metrics]:
            i, state, buffers = carry
            if exchange is None:
                state, metrics = learn(state, i)
            else:
                state, metrics = jax.lax.cond(any_runs(state), learn, idle, state, i)
                # Also of members that stood still, as they may be copies in the next update.
                state = dataclasses.replace(state, updates_done=first + i + 1)
                state, more = exchange(state, metrics, first[0] + i + 1)
                metrics |= more
            return i + 1, state, jax.tree.map(lambda buffer, row: buffer.at[i].set(row), buffers, metrics)

        start = (jnp.int32(0), state, _no_metrics(recorded, max_chunk, layout.members_per_device))
        _, state, metrics = jax.lax.while_loop(goes_on, update, start)
        # All devices keep one count of updates, also those that had nothing left to do.
        return dataclasses.replace(state, updates_done=first + num_updates), metrics

    return advance


def _update(
    functions: MemberFunctions, traced: TracedUpdate, layout: Layout, state: MemberState
) -> tuple[MemberState, Metrics]:
    if layout.tile is not None:
        return _update_in_tiles(functions, state, _no_metrics(traced.metrics, layout.members_per_device), layout.tile)
    if layout.trajectory_devices == 1:
        return jax.vmap(traced.update)(state)
    batch = layout.share_trajectories(jax.vmap(functions.collect)(state))
    return jax.vmap(functions.learn)(state, batch)


def _update_in_tiles(
    functions: MemberFunctions, state: MemberState, metrics: Metrics, tile: int
) -> tuple[MemberState, Metrics]:
    """Updates members in tiles of at most `tile`; it writes into `metrics`, `[members]` each."""
    members = state.diverged.shape[0]
    tiles = -(-members // tile)
    size = -(-members // tiles)

    def update_tile(number: jax.Array, carry: tuple[MemberState, Metrics]) -> tuple[MemberState, Metrics]:
        first = jnp.minimum(number * size, members - size)  # the last tile reaches back over members that are done
        those, rows = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size), carry)
        due = first + jnp.arange(size) >= number * size
        return jax.tree.map(
            lambda leaf, rows: jax.lax.dynamic_update_slice_in_dim(leaf, rows, first, axis=0),
            carry,
            _update_one_by_one(functions, those, rows, due),
        )

    return jax.lax.fori_loop(0, tiles, update_tile, (state, metrics))


def _update_one_by_one(
    functions: MemberFunctions, state: MemberState, metrics: Metrics, due: jax.Array
) -> tuple[MemberState, Metrics]:
    """Lets members play together; then those that are due and have not stopped learn one after the other."""
    batch = jax.vmap(functions.collect)(state)
    works = due & jax.vmap(functions.runs)(state)

    def take(tree: Any, i: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], tree)

    def put(tree: Any, row: Any, i: jax.Array) -> Any:
        return jax.tree.map(lambda leaf, value: leaf.at[i].set(value), tree, row)

    def learn(k: jax.Array, carry: tuple[MemberState, Metrics]) -> tuple[MemberState, Metrics]:
        i, (state, metrics) = order[k], carry
        member, row = functions.learn(take(state, i), take(batch, i))
        return put(state, member, i), put(metrics, row, i)

    # The members that work, in order, come first: the others are never reached.
    order = jnp.argsort(~works, stable=True)
    return jax.lax.fori_loop(0, works.sum(), learn, (state, metrics))


def _exchanged_shapes(exchange: Exchange, state: MemberState, metrics: Metrics) -> Metrics:
    """Computes the shapes of the metrics that an exchange adds for one member."""
    rows = state.diverged.shape[0]
    reported = jax.eval_shape(lambda: exchange(state, _no_metrics(metrics, rows), jnp.int32(1))[1])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), reported)


def _no_metrics(shapes: Metrics, *rows: int) -> Metrics:
    return jax.tree.map(lambda leaf: jnp.full((*rows, *leaf.shape), missing(leaf.dtype), leaf.dtype), shapes)
