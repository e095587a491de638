"""The update of one member, traced once: its shapes, its fingerprint and the program of all members are made of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core

from haepo_jax.population.member import MemberFunctions, MemberState
from haepo_jax.types import Metrics


class TracedUpdate(NamedTuple):
    """What `learn(state, collect(state))` computes for a state of one member."""

    program: core.ClosedJaxpr
    batch: Any
    """Shapes and dtypes of what `collect` gives."""
    result: tuple[MemberState, Metrics]
    """Shapes and dtypes."""

    @property
    def metrics(self) -> Metrics:
        """Shapes and dtypes of the metrics of one member."""
        return self.result[1]

    def update(self, state: MemberState) -> tuple[MemberState, Metrics]:
        """Computes the update by its traced operations; no code of a member runs again."""
        leaves = jax.core.eval_jaxpr(self.program.jaxpr, self.program.consts, *jax.tree.leaves(state))
        return jax.tree.unflatten(jax.tree.structure(self.result), leaves)


TraceUpdate = Callable[[MemberState], TracedUpdate]


def make_trace_update(functions: MemberFunctions) -> TraceUpdate:
    """Makes the function that traces the update at its first call, and gives the same afterwards.

    Args:
      functions: of one member.

    Returns:
      `MemberState [members, ...] -> TracedUpdate`, for states of one population, whose shapes are all alike. It is
      first called outside of `jax.shard_map`: within, operations are traced with the names of the mesh.
    """
    traced: list[TracedUpdate] = []

    def trace_update(state: MemberState) -> TracedUpdate:
        if not traced:
            traced.append(_trace(functions, one_member(state)))
        return traced[0]

    return trace_update


def one_member(state: MemberState) -> MemberState:
    """Computes shapes and dtypes of one member of a state `[members, ...]`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)


def _trace(functions: MemberFunctions, member: MemberState) -> TracedUpdate:
    batches: list[Any] = []

    def update(state: MemberState) -> tuple[MemberState, Metrics]:
        batch = functions.collect(state)
        batches.append(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch))
        return functions.learn(state, batch)

    program, result = jax.make_jaxpr(update, return_shape=True)(member)
    return TracedUpdate(program, batches[0], result)
