"""The outermost axis: members (seeds x settings) in one compiled program, over devices of any number of processes.

How members lie on devices is decided here alone; the code of a member never sees it. Each device holds a block of
members and runs it without a word to the others, so that the bits of a member depend on the size of its block and
not on how many devices or processes there are. Within a block members are vmapped. On CPU those with large batches go
in tiles instead: a few members play together and then learn one by one, which runs the gradient three times as fast
there, as each then stops at its own longest episode and fits a cache, and a tile's batch is all that is kept.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled, Wrapped

from haepo_jax.config import ExperimentConfig, checked_settings, traced_settings
from haepo_jax.config.checks import ENV_PARAMS, check_config, check_count
from haepo_jax.config.members import Member, make_members
from haepo_jax.config.plain_values import plain
from haepo_jax.config.settings import MAX_SEED
from haepo_jax.environments import check_param
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.parallel import MEMBERS, TRAJECTORIES
from haepo_jax.population.empty_constants import with_empty_constants_inside
from haepo_jax.population.fingerprint import fingerprint
from haepo_jax.population.held_out import EVAL_RETURN, BestPolicy, evaluate_block
from haepo_jax.population.member import MemberFunctions, MemberState, make_member, missing
from haepo_jax.population.memory import with_memory
from haepo_jax.types import Metrics

_MIN_BLOCK = 2  # a block of one would be another, smaller program, whose bits and compile time stand apart
_LARGE_BATCH = 2048  # steps; measured on CPU: 512 ran faster vmapped, 8000 one by one
_TILE_ROWS = 256  # episodes that play together in a tile; measured on CPU: with fewer, play slows down
_MAX_ROWS = 2**20  # updates x members in a chunk; bounds the buffers of metrics, 4 MiB each

Arrays = Any
"""A `MemberState` whose keys are their data, so that all its leaves are plain arrays."""


class Trained(dict[str, np.ndarray]):
    """What `Population.run` returns: each metric by name, `[settings, seeds, updates]`, `params` and `best`.

    `params` are the parameters at the end, a tree of arrays `[settings, seeds, ...]`; of a member that diverged, the
    last finite ones. Those of one member go into `population.functions.algorithm.policy`. `best` is a `BestPolicy` of
    such arrays, None where `config.evaluate_every` is unset.
    """

    def __init__(self, metrics: Mapping[str, np.ndarray], params: Any, best: BestPolicy | None = None) -> None:
        """Holds all three."""
        super().__init__(metrics)
        self.params, self.best = params, best


@dataclasses.dataclass(frozen=True)
class Population:
    """A population as functions on its state, whose leaves have a leading axis of `capacity` members.

    Rows beyond the members are padding: copies of the last one that never run.
    """

    config: ExperimentConfig
    members: tuple[Member, ...]
    functions: MemberFunctions
    mesh: Mesh
    members_per_device: int
    """Members of each device."""
    max_chunk: int
    """Most updates that one call of `advance` does."""
    advance: Wrapped
    """`(state, int32 number of updates) -> (state, metrics)`. Jitted; the state is donated. Metrics are
    `[max_chunk, capacity]`, and only the rows of the updates done mean anything. A device whose members
    have all stopped does no more work."""
    start: Wrapped
    """`(seeds, settings, whether a member) -> state`. Jitted."""
    still_runs: Wrapped
    """`state -> [capacity] boolean`, False once a member has stopped. Jitted."""

    @property
    def capacity(self) -> int:
        """The most members that run at once, padding included."""
        return self.members_per_device * self.mesh.shape[MEMBERS]

    def with_members(self, members: Sequence[Member]) -> "Population":
        """The same programs for other members, at most `capacity` of them."""
        if len(members) > self.capacity:
            raise ValueError(
                f"{len(members)} members do not fit {self.mesh.size} devices of {self.members_per_device} each."
            )
        return dataclasses.replace(self, members=tuple(members))

    def init(self) -> MemberState:
        """The state before the first update."""
        table = {
            name: self._placed(np.asarray([m.settings.get(name, value) for m in self.members], _dtype(value)))
            for name, value in traced_settings(self.config).items()
        }
        seeds = self._placed(np.asarray([member.seed for member in self.members], np.uint32))
        return self.start(seeds, table, self._is_member())

    def to_arrays(self, state: MemberState) -> Arrays:
        """The state with its keys as data."""
        return dataclasses.replace(state, key=jax.random.key_data(state.key))

    def from_arrays(self, arrays: Arrays) -> MemberState:
        """The way back."""
        return dataclasses.replace(arrays, key=jax.random.wrap_key_data(arrays.key))

    def abstract_state(self) -> MemberState:
        """Shapes, dtypes and places of a state, for which `advance` is traced as for a real one."""
        rows = (self.capacity,)
        table = {
            name: jax.ShapeDtypeStruct(rows, _dtype(value)) for name, value in traced_settings(self.config).items()
        }
        seeds, is_member = jax.ShapeDtypeStruct(rows, np.uint32), jax.ShapeDtypeStruct(rows, bool)
        return self._on_devices(jax.eval_shape(self.start, seeds, table, is_member))

    def compiled(self) -> Compiled:
        """`advance`, compiled for any state of this population."""
        return self.advance.lower(self.abstract_state(), jnp.int32(1)).compile()

    def template(self) -> Arrays:
        """Shapes, dtypes and places of the arrays of a state."""
        return self._on_devices(jax.eval_shape(self.to_arrays, self.abstract_state()))

    def resumed(self, arrays: Arrays) -> MemberState:
        """The state from arrays of a checkpoint, whose rows beyond the members may be anything."""
        state = self.from_arrays(arrays)
        return dataclasses.replace(state, diverged=jax.jit(_or_padding)(state.diverged, self._is_member()))

    def metrics_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of each metric but `env_steps`, by name."""
        metrics = jax.eval_shape(self.advance, self.abstract_state(), jnp.int32(1))[1]
        return {name: leaf for name, leaf in metrics.items() if name != "env_steps"}

    def fingerprint(self) -> str:
        """Computes what tells the update of a member from any other: by its loss, its environment or its constants."""
        member = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.abstract_state())

        def update(state: MemberState) -> Any:
            learned = self.functions.learn(state, self.functions.collect(state))
            return learned if state.best is None else (learned, self.functions.evaluate(state))

        return fingerprint(jax.make_jaxpr(update)(member))

    def to_host(self, state: MemberState) -> Arrays:
        """The arrays of the members, without padding, as NumPy arrays; in a run of one process."""
        arrays = jax.device_get(self.to_arrays(state))
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(self.members)], arrays)

    def from_host(self, arrays: Arrays) -> MemberState:
        """The way back, onto the devices."""
        return self.resumed(jax.tree.map(self._placed, arrays))

    def here(self, values: jax.Array, axis: int = 0) -> np.ndarray:
        """The part of an array that belongs to the members of this process, padding left out."""
        shards = sorted(
            (shard for shard in values.addressable_shards if shard.replica_id == 0),
            key=lambda shard: shard.index[axis].start or 0,
        )
        if not shards:
            return np.empty(tuple(0 if k == axis else size for k, size in enumerate(values.shape)), values.dtype)
        rows = np.concatenate([np.asarray(shard.data) for shard in shards], axis=axis)
        return np.take(rows, np.arange(len(self.members_here)), axis=axis)

    @property
    def members_here(self) -> tuple[Member, ...]:
        """The members whose first copy is on a device of this process."""
        first = [row[0] for row in self.mesh.devices.reshape(self.mesh.shape[MEMBERS], -1)]
        return tuple(
            member
            for k, member in enumerate(self.members)
            if first[k // self.members_per_device].process_index == jax.process_index()
        )

    def running(self, state: MemberState) -> np.ndarray:
        """Which of the members of this process have not stopped."""
        return self.here(self.still_runs(state))

    def map_members(self, function: Callable[[MemberState], Any], state: MemberState) -> Any:
        """The results of a function of one member's state, for the members of this process."""
        over_members = PartitionSpec(MEMBERS)
        return jax.tree.map(self.here, _on_blocks(self.mesh, jax.vmap(function), over_members, over_members)(state))

    def run(self, settings: Sequence[Mapping[str, float]], seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """Trains each setting with each seed from the first update to the last, and writes nothing.

        It compiles at its first call alone. More members than `capacity` are run one wave after the other.

        Args:
          settings: traced settings by dotted name, one or more; what is left out is as in the config.
          seeds: whole numbers, one or more.

        Returns:
          Each metric by name, `[settings, seeds, updates]`; NaN, or 0 for whole numbers, once a member has stopped.
          Its `params` are the trained parameters, `[settings, seeds, ...]`, and its `best` those of the best
          evaluation.

        Raises:
          ConfigError: settings or seeds that are no list, a setting that is no traced leaf of this program, or a
            value or seed that is not allowed.
        """
        checked = [checked_settings(self.config, values) for values in _listed_settings(settings)]
        seeds = _checked_seeds(seeds)
        for name, value in itertools.chain.from_iterable(values.items() for values in checked):
            if name.startswith(ENV_PARAMS):
                check_param(self.functions.environment, name, (value,))
        pairs = itertools.product(checked, seeds)
        members = [Member(k, seed, values) for k, (values, seed) in enumerate(pairs)]
        waves = [
            self.with_members(members[first : first + self.capacity])._run_all()
            for first in range(0, len(members), self.capacity)
        ]
        shape = (len(checked), len(seeds))

        def by_setting(*rows: np.ndarray) -> np.ndarray:
            """Waves of `[members, ...]` as `[settings, seeds, ...]`."""
            members = np.concatenate(rows)
            return members.reshape(*shape, *members.shape[1:])

        return Trained(*jax.tree.map(by_setting, *waves))

    def _run_all(self) -> tuple[dict[str, np.ndarray], Any, BestPolicy | None]:
        """Every metric `[members, updates]` of all updates, and the parameters `[members, ...]`, last and best."""
        state, chunks, done = self.init(), [], 0
        while done < self.config.num_updates:
            size = min(self.max_chunk, self.config.num_updates - done)
            state, metrics = self.advance(state, np.int32(size))
            chunks.append({name: self.here(values, axis=1)[:size] for name, values in metrics.items()})
            done += size
        metrics = {name: np.concatenate([chunk[name] for chunk in chunks]).T for name in chunks[0]}
        return metrics, *jax.tree.map(self.here, (state.learner.params, state.best))

    @property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(MEMBERS))

    def _on_devices(self, shapes: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._sharding), shapes)

    def _placed(self, rows: np.ndarray) -> jax.Array:
        """Rows of the members on their devices, the last one repeated as padding."""
        padded = np.concatenate([rows, np.repeat(rows[-1:], self.capacity - len(rows), axis=0)])
        return jax.make_array_from_callback(padded.shape, self._sharding, lambda index: padded[index])

    def _is_member(self) -> jax.Array:
        rows = np.arange(self.capacity) < len(self.members)
        return jax.make_array_from_callback(rows.shape, self._sharding, lambda index: rows[index])


def make_population(
    config: ExperimentConfig,
    *,
    members: Sequence[Member] | None = None,
    devices: Sequence[jax.Device] | None = None,
    members_per_device: int | None = None,
    trajectory_devices: int = 1,
    functions: MemberFunctions | None = None,
) -> Population:
    """The population of an experiment.

    Args:
      config: the experiment.
      members: who takes part, those of the config by default; of more than run at once, the first.
      devices: where they live; all devices of all processes by default.
      members_per_device: members of each device, which decides the bits of all; by default as many as let all
        members run at once.
      trajectory_devices: devices that share each block of members, every one with its part of the M trajectories.
      functions: the functions of one member; those that the config describes by default, of the fastest `memory` that
        fits where that is left open.

    Returns:
      The `Population`, whose config tells the `memory`.

    Raises:
      ConfigError: an environment that does not exist; no members or devices; devices or trajectories that cannot be
        divided so.
    """
    check_config(config)
    check_placement(members_per_device, trajectory_devices)
    members = make_members(config) if members is None else tuple(members)
    if not members:
        raise ConfigError("members must hold at least one member; leave it out for those of the config.")
    devices = jax.devices() if devices is None else devices
    _check_devices(devices)
    mesh = _make_mesh(devices, trajectory_devices, config.num_trajectories)
    blocks = mesh.shape[MEMBERS]
    block = max(_MIN_BLOCK, -(-len(members) // blocks)) if members_per_device is None else members_per_device
    max_chunk = max(1, min(config.num_updates, _MAX_ROWS // (block * blocks)))
    described = make_member(config) if functions is None else functions
    steps = described.algorithm.batch_steps // trajectory_devices
    in_tiles = trajectory_devices == 1 and _goes_in_tiles(devices[0], steps)
    tile = min(block, max(_MIN_BLOCK, _TILE_ROWS // config.num_trajectories)) if in_tiles else block
    if functions is None:
        config = with_memory(config, described.environment, tile * steps)
        functions = make_member(config)
    if trajectory_devices > 1 and config.memory == "recompute":
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} spreads trajectories that are kept, and config.memory "
            "recompute keeps none; choose store or remat."
        )
    over_members, everywhere = PartitionSpec(MEMBERS), PartitionSpec()

    def update_block(state: MemberState, shapes: Metrics) -> tuple[MemberState, Metrics]:
        if in_tiles:
            return _update_in_tiles(functions, state, _no_metrics(shapes, block), tile)
        batch = jax.vmap(functions.collect)(state)
        if trajectory_devices > 1:
            shares = PartitionSpec(None, TRAJECTORIES)
            batch = jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, shares), batch)
        return jax.vmap(functions.learn)(state, batch)

    def advance_block(state: MemberState, num_updates: jax.Array) -> tuple[MemberState, Metrics]:
        shapes = _shapes_of_metrics(functions, state)
        recorded = shapes
        if config.evaluate_every is not None:
            recorded = shapes | {EVAL_RETURN: jax.ShapeDtypeStruct((), jnp.float32)}
        first = state.updates_done

        def goes_on(carry: tuple[jax.Array, MemberState, Metrics]) -> jax.Array:
            i, state, _ = carry
            return (i < num_updates) & jnp.any(jax.vmap(functions.runs)(state))

        def update(carry: tuple[jax.Array, MemberState, Metrics]) -> tuple[jax.Array, MemberState, Metrics]:
            i, state, buffers = carry
            state, metrics = update_block(state, shapes)
            if config.evaluate_every is not None:
                state, metrics = evaluate_block(functions, config.evaluate_every, state, metrics, first[0] + i + 1)
            return i + 1, state, jax.tree.map(lambda buffer, row: buffer.at[i].set(row), buffers, metrics)

        start = (jnp.int32(0), state, _no_metrics(recorded, max_chunk, block))
        _, state, metrics = jax.lax.while_loop(goes_on, update, start)
        # All devices keep one count of updates, also those that had nothing left to do.
        return dataclasses.replace(state, updates_done=first + num_updates), metrics

    def start_block(seeds: jax.Array, settings: dict[str, jax.Array], is_member: jax.Array) -> MemberState:
        state = jax.vmap(functions.init)(jax.vmap(jax.random.key)(seeds), settings)
        return dataclasses.replace(state, diverged=_or_padding(state.diverged, is_member))

    return Population(
        config,
        tuple(members[: block * blocks]),
        functions,
        mesh,
        block,
        max_chunk,
        advance=_on_blocks(
            mesh, advance_block, (over_members, everywhere), (over_members, PartitionSpec(None, MEMBERS)), donate=(0,)
        ),
        start=_on_blocks(mesh, start_block, over_members, over_members),
        still_runs=_on_blocks(mesh, jax.vmap(functions.runs), over_members, over_members),
    )


def _listed_settings(settings: Any) -> list[Mapping[str, Any]]:
    if not _is_list(settings):
        raise ConfigError(
            f"settings must be a list of settings such as [{{'haepo.kl_coef': 0.1}}], got {quoted(settings)}."
        )
    listed = list(settings)
    if not listed:
        raise ConfigError("settings must hold at least one setting; [{}] runs the config as it stands.")
    for k, values in enumerate(listed):
        if not isinstance(values, Mapping | ml_collections.ConfigDict):
            raise ConfigError(f"settings[{k}] must map settings to their values, got {quoted(values)}.")
    return listed


def _checked_seeds(seeds: Any) -> list[int]:
    if not _is_list(seeds):
        raise ConfigError(f"seeds must be a list of whole numbers such as [0, 1], got {quoted(seeds)}.")
    checked = plain(list(seeds), "seeds")
    for seed in checked:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"seeds must be whole numbers from 0 to {MAX_SEED}, got {quoted(seed)}.")
    if not checked:
        raise ConfigError("seeds must hold at least one whole number.")
    return checked


def _is_list(values: Any) -> bool:
    """Whether it holds values in an order, and is no text or mapping."""
    if isinstance(values, str | bytes | Mapping | ml_collections.ConfigDict):
        return False
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0  # an array of no axis is a number


def check_placement(members_per_device: Any, trajectory_devices: Any) -> None:
    """Refuses what is no number of members or devices; None leaves either open.

    Raises:
      ConfigError: it is no whole number of at least 1.
    """
    if members_per_device is not None:
        check_count("members_per_device", members_per_device)
    if trajectory_devices is not None:
        check_count("trajectory_devices", trajectory_devices)


def _check_devices(devices: Any) -> None:
    are_devices = isinstance(devices, Sequence | np.ndarray) and all(isinstance(d, jax.Device) for d in devices)
    if not are_devices or not len(devices):
        raise ConfigError(f"devices must be one device or more, such as jax.devices(), got {quoted(devices)}.")


def _make_mesh(devices: Sequence[jax.Device], trajectory_devices: int, num_trajectories: int) -> Mesh:
    """Blocks of members along the first axis; neighbours, which talk fastest, share a block's trajectories."""
    if len(devices) % trajectory_devices:
        raise ConfigError(f"--trajectory_devices={trajectory_devices} does not divide the {len(devices)} devices.")
    if num_trajectories % trajectory_devices:
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} does not divide config.num_trajectories {num_trajectories}."
        )
    grid = np.asarray(devices).reshape(-1, trajectory_devices)
    return Mesh(grid, (MEMBERS, TRAJECTORIES), axis_types=(AxisType.Auto, AxisType.Auto))


def _on_blocks(mesh: Mesh, function: Callable, in_specs: Any, out_specs: Any, donate: tuple[int, ...] = ()) -> Wrapped:
    """The function of a block, on every block. Where trajectories are spread, the compiler sees to that."""
    names = {MEMBERS} if mesh.shape[TRAJECTORIES] > 1 else {MEMBERS, TRAJECTORIES}
    mapped = jax.shard_map(
        with_empty_constants_inside(function),
        mesh=mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=False,
        axis_names=names,
    )
    return jax.jit(mapped, donate_argnums=donate)


def _shapes_of_metrics(functions: MemberFunctions, state: MemberState) -> Metrics:
    """Those of one member's update."""
    member = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], state))
    return jax.eval_shape(lambda state: functions.learn(state, functions.collect(state)), member)[1]


def _goes_in_tiles(device: jax.Device, steps: int) -> bool:
    """For a member's batch of so many steps."""
    return device.platform == "cpu" and steps >= _LARGE_BATCH


def _update_in_tiles(
    functions: MemberFunctions, state: MemberState, metrics: Metrics, size: int
) -> tuple[MemberState, Metrics]:
    """An update of a block in tiles of at most `size` members; it writes into `metrics`, `[block]` each."""
    block = state.diverged.shape[0]
    tiles = -(-block // size)
    size = -(-block // tiles)

    def update_tile(tile: jax.Array, carry: tuple[MemberState, Metrics]) -> tuple[MemberState, Metrics]:
        first = jnp.minimum(tile * size, block - size)  # the last tile reaches back over members that have had theirs
        members, rows = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size), carry)
        due = first + jnp.arange(size) >= tile * size
        return jax.tree.map(
            lambda leaf, rows: jax.lax.dynamic_update_slice_in_dim(leaf, rows, first, axis=0),
            carry,
            _update_one_by_one(functions, members, rows, due),
        )

    return jax.lax.fori_loop(0, tiles, update_tile, (state, metrics))


def _update_one_by_one(
    functions: MemberFunctions, state: MemberState, metrics: Metrics, due: jax.Array
) -> tuple[MemberState, Metrics]:
    """Members play together, then those that are due and have not stopped learn one after the other."""
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


def _no_metrics(shapes: Metrics, *rows: int) -> Metrics:
    return jax.tree.map(lambda leaf: jnp.full((*rows, *leaf.shape), missing(leaf.dtype), leaf.dtype), shapes)


def _or_padding(diverged: jax.Array, is_member: jax.Array) -> jax.Array:
    """Counts padding as diverged, so that it never runs."""
    return diverged | ~is_member


def _dtype(value: float | int) -> type:
    return np.int32 if isinstance(value, int) else np.float32
