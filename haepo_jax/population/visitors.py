"""Other members as opponents: every few updates each member takes the policy of another one into its pool.

The members of one population visit one another, as in population-based training. Who visits whom follows from the
members' keys and the number of updates done, so that neither the chunks of a run nor the devices decide a bit.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from haepo_jax.config import SelfPlayConfig
from haepo_jax.parallel import MEMBERS
from haepo_jax.population.exchange import draw_bits, fetch_rows
from haepo_jax.population.member import VISIT, MemberFunctions, MemberState
from haepo_jax.population.self_play import OpponentPool, let_in
from haepo_jax.types import Params

Visit = Callable[[MemberState, jax.Array], MemberState]
"""`(MemberState of a device's members, int32 updates done) -> state`."""


def make_visit(settings: SelfPlayConfig, functions: MemberFunctions, *, num_devices: int) -> Visit:
    """Makes the function that lets members visit one another when it is time.

    Args:
      settings: with a pool that other members enter.
      functions: of one member.
      num_devices: devices that hold members, along the axis `MEMBERS` of the mesh.
    """

    def visit(state: MemberState, done: jax.Array) -> MemberState:
        return jax.lax.cond(done % settings.snapshot_every == 0, meet, lambda state, done: state, state, done)

    def meet(state: MemberState, done: jax.Array) -> MemberState:
        assert state.standing is not None  # `Population.init` gives it
        assert state.opponents is not None  # and `init` of a member this
        own = (state.standing.population, draw_bits(state, VISIT))
        populations, bits = own if num_devices == 1 else jax.lax.all_gather(own, MEMBERS, tiled=True)
        first = 0 if num_devices == 1 else jax.lax.axis_index(MEMBERS) * state.diverged.shape[0]
        policies = jax.vmap(functions.algorithm.policy_params)(state.learner)
        visitors = fetch_rows(policies, choose_visitors(populations, bits), first, num_devices=num_devices)
        runs = jax.vmap(functions.runs)(state)

        def enter(runs: jax.Array, pool: OpponentPool, params: Params) -> OpponentPool:
            entered = let_in(settings, pool, params, done)
            return jax.tree.map(lambda new, old: jnp.where(runs, new, old), entered, pool)

        return dataclasses.replace(state, opponents=jax.vmap(enter)(runs, state.opponents, visitors))

    return visit


def choose_visitors(population: jax.Array, bits: jax.Array) -> jax.Array:
    """Chooses the visitor of each member, evenly among the other ones of its population.

    Args:
      population: `[members]` int32; negative for padding.
      bits: `[members]` uint32, random.

    Returns:
      `[members]` int32, the row of the visitor; of padding, and of a member alone in its population, its own.
    """
    rows = jnp.arange(population.shape[0])
    order = jnp.argsort(population, stable=True)
    begin = jnp.searchsorted(population[order], population, side="left")
    size = jnp.searchsorted(population[order], population, side="right") - begin
    place = jnp.zeros_like(order).at[order].set(rows) - begin
    ahead = 1 + (bits % jnp.maximum(size - 1, 1).astype(jnp.uint32)).astype(place.dtype)
    visitors = order[begin + (place + ahead) % size]
    return jnp.where(population >= 0, visitors, rows)
