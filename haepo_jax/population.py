"""The outermost axis: a population of members (seeds x settings) in one compiled program, over all local devices.

How members lie on a device is decided here alone; the code of a member never sees it. Each device holds an
equal block of members and runs it without a word to the others. Within a block rollouts are vmapped. Learning
is vmapped too on accelerators, and on CPU where batches are small; on CPU large batches go one member at a time,
which runs the gradient three times as fast there, as each then stops at its own longest episode and fits a cache.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from haepo_jax.config import ExperimentConfig, traced_settings
from haepo_jax.members import Member, make_members
from haepo_jax.objectives import Metrics
from haepo_jax.training import MemberState, Train, make_train, missing

_AXIS = "members"
_MIN_BLOCK = 2  # a block of one would be another, smaller program, whose bits and compile time stand apart
_LARGE_BATCH = 2048  # steps; measured on CPU: 512 ran faster vmapped, 8000 one by one
_MAX_ROWS = 2**20  # updates x members in a chunk; bounds the buffers of metrics, 4 MiB each


class Population(NamedTuple):
    """A population as functions on its state, whose leaves have a leading axis of members, padding included."""

    members: tuple[Member, ...]
    train: Train
    mesh: Mesh
    max_chunk: int
    """Most updates that one call of `advance` does."""
    init: Callable[[], MemberState]
    """The state before the first update."""
    advance: Wrapped
    """`(state, int32 number of updates) -> (state, metrics)`. Jitted; the state is donated. Metrics are
    `[max_chunk, padded members]`, and only the rows of the updates done mean anything. A device whose members
    have all stopped does no more work."""
    map_members: Callable[[Callable[[MemberState], Any], MemberState], Any]
    """`(function of one member's state, state) -> its results`, padding left out."""
    to_host: Callable[[MemberState], MemberState]
    """The members' state as NumPy arrays, without padding, PRNG keys as their data."""
    from_host: Callable[[MemberState], MemberState]
    """The way back, onto the devices."""


def make_population(
    config: ExperimentConfig,
    *,
    members: Sequence[Member] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Population:
    """The population of an experiment.

    Args:
      config: the experiment.
      members: who takes part; those of the config by default.
      devices: where they live; all local devices by default. The members are padded to equal blocks with
        copies of the last one, which are never reported.

    Returns:
      The `Population`.

    Raises:
      ConfigError: an environment that does not exist.
    """
    train = make_train(config)
    members = make_members(config) if members is None else tuple(members)
    devices = jax.local_devices() if devices is None else devices
    mesh = jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    block = max(_MIN_BLOCK, -(-len(members) // len(devices)))
    padding = block * len(devices) - len(members)
    max_chunk = max(1, min(config.num_updates, _MAX_ROWS // (block * len(devices))))
    over_members, everywhere = PartitionSpec(_AXIS), PartitionSpec()
    sharding = NamedSharding(mesh, over_members)

    def pad(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[-1:], padding, axis=0)])

    def is_padding() -> jax.Array:
        return jax.lax.axis_index(_AXIS) * block + jnp.arange(block) >= len(members)

    def update_block(state: MemberState) -> tuple[MemberState, Metrics]:
        batch = jax.vmap(train.collect)(state)
        if not _learns_one_by_one(devices[0], batch.log_probs[0].size):
            return jax.vmap(train.learn)(state, batch)
        return _learn_one_by_one(train, state, batch, is_padding())

    def advance_block(state: MemberState, num_updates: jax.Array) -> tuple[MemberState, Metrics]:
        shapes = jax.eval_shape(update_block, state)[1]
        first = state.updates_done

        def goes_on(carry: tuple[jax.Array, MemberState, Metrics]) -> jax.Array:
            i, state, _ = carry
            return (i < num_updates) & jnp.any(jax.vmap(train.runs)(state) & ~is_padding())

        def update(carry: tuple[jax.Array, MemberState, Metrics]) -> tuple[jax.Array, MemberState, Metrics]:
            i, state, buffers = carry
            state, metrics = update_block(state)
            return i + 1, state, jax.tree.map(lambda buffer, row: buffer.at[i].set(row), buffers, metrics)

        start = (jnp.int32(0), state, _no_metrics(shapes, max_chunk))
        _, state, metrics = jax.lax.while_loop(goes_on, update, start)
        # All devices keep one count of updates, also those that had nothing left to do.
        return dataclasses.replace(state, updates_done=first + num_updates), metrics

    def shard(function: Callable, in_specs: tuple, out_specs: Any, donate: tuple[int, ...] = ()) -> Wrapped:
        mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        return jax.jit(mapped, donate_argnums=donate)

    def init() -> MemberState:
        defaults = traced_settings(config)
        table = {
            name: pad(np.asarray([member.settings.get(name, value) for member in members], _dtype(value)))
            for name, value in defaults.items()
        }
        seeds = pad(np.asarray([member.seed for member in members], np.int64))
        keys = jnp.stack([jax.random.key(int(seed)) for seed in seeds])
        return start(jax.device_put(keys, sharding), jax.device_put(table, sharding))

    def map_members(function: Callable[[MemberState], Any], state: MemberState) -> Any:
        result = shard(jax.vmap(function), (over_members,), over_members)(state)
        return jax.tree.map(lambda leaf: leaf[: len(members)], result)

    def to_host(state: MemberState) -> MemberState:
        data = dataclasses.replace(state, key=jax.random.key_data(state.key))
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(members)], jax.device_get(data))

    def from_host(data: MemberState) -> MemberState:
        state = jax.tree.map(lambda leaf: jax.device_put(pad(leaf), sharding), data)
        return dataclasses.replace(state, key=jax.random.wrap_key_data(state.key))

    start = shard(jax.vmap(train.init), (over_members, over_members), over_members)
    advance = shard(advance_block, (over_members, everywhere), (over_members, PartitionSpec(None, _AXIS)), donate=(0,))
    return Population(members, train, mesh, max_chunk, init, advance, map_members, to_host, from_host)


def _learns_one_by_one(device: jax.Device, steps: int) -> bool:
    """For a member's batch of so many steps."""
    return device.platform == "cpu" and steps >= _LARGE_BATCH


def _learn_one_by_one(
    train: Train, state: MemberState, batch: Any, is_padding: jax.Array
) -> tuple[MemberState, Metrics]:
    """`vmap(train.learn)` for a block, one member after the other; those that have stopped, and padding, left out."""
    block = state.alive.shape[0]
    works = jax.vmap(train.runs)(state) & ~is_padding

    def take(tree: Any, i: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], tree)

    def put(tree: Any, row: Any, i: jax.Array) -> Any:
        return jax.tree.map(lambda leaf, value: leaf.at[i].set(value), tree, row)

    def learn(carry: tuple[MemberState, Metrics], i: jax.Array) -> tuple[MemberState, Metrics]:
        state, metrics = carry
        member, row = train.learn(take(state, i), take(batch, i))
        return put(state, member, i), put(metrics, row, i)

    # The members that work, in order, come first: the others are never reached.
    order = jnp.argsort(~works, stable=True)
    shapes = jax.eval_shape(train.learn, *(take(tree, jnp.int32(0)) for tree in (state, batch)))[1]
    return jax.lax.fori_loop(
        0, works.sum(), lambda k, carry: learn(carry, order[k]), (state, _no_metrics(shapes, block))
    )


def _no_metrics(shapes: Metrics, length: int) -> Metrics:
    return jax.tree.map(lambda leaf: jnp.full((length, *leaf.shape), missing(leaf.dtype), leaf.dtype), shapes)


def _dtype(value: float | int) -> type:
    return np.int32 if isinstance(value, int) else np.float32
