"""Members (seeds x settings) in one compiled program, over devices of any number of processes."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.stages import Compiled, Wrapped

from haepo_jax.algorithms.agents import count_lanes
from haepo_jax.config import (
    ExperimentConfig,
    get_method,
    get_method_settings,
    name_setting,
    traced_settings,
    with_components,
)
from haepo_jax.config.checks import ENV_PARAMS, check_config
from haepo_jax.config.members import Member, checked_seeds, checked_settings_list, list_members, make_members
from haepo_jax.config.pbt import arrange, changing_settings, is_population_based
from haepo_jax.environments import check_param
from haepo_jax.errors import ConfigError
from haepo_jax.methods import Sees, get_history
from haepo_jax.networks import Policy
from haepo_jax.parallel import MEMBERS
from haepo_jax.population.exchange import DIVERGED, Exchange, make_exchange
from haepo_jax.population.fingerprint import fingerprint
from haepo_jax.population.held_out import EVAL_RETURN, BestPolicy
from haepo_jax.population.layout import EVERYWHERE, OVER_MEMBERS, Layout, check_placement, make_layout, rows_here
from haepo_jax.population.member import MemberFunctions, MemberState, make_environment, make_member
from haepo_jax.population.memory import with_memory
from haepo_jax.population.self_play import takes_visitors
from haepo_jax.population.sizes import batch_steps, lane_steps
from haepo_jax.population.standing import Standing, no_standing
from haepo_jax.population.traced_update import TracedUpdate, TraceUpdate, make_trace_update, one_member
from haepo_jax.population.trained import Trained
from haepo_jax.population.updates import make_advance
from haepo_jax.population.visitors import make_visit
from haepo_jax.runtime.precision import with_precision
from haepo_jax.types import Metrics, Params

_MAX_ROWS = 2**20  # updates x members in a chunk; bounds the buffers of metrics, 4 MiB each

Arrays = Any
"""A `MemberState` whose keys are their data, so that all its leaves are plain arrays."""


@dataclasses.dataclass(frozen=True)
class Population:
    """A population as functions on its state, whose leaves have a leading axis of `capacity` members.

    Rows beyond the members are padding: copies of the last one that never run.
    """

    config: ExperimentConfig
    members: tuple[Member, ...]
    functions: MemberFunctions
    layout: Layout
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
    trace_update: TraceUpdate

    def run(self, settings: Iterable[Mapping[str, float]], seeds: Iterable[int]) -> Trained:
        """Trains each setting with each seed from the first update to the last, and writes nothing.

        It compiles at its first call alone. More members than `capacity`, which `make_population` decides, are run
        one wave after the other.

        Args:
          settings: traced settings by dotted name, one or more; what is left out is as in the config.
          seeds: whole numbers, one or more.

        Returns:
          Each metric by name, `[settings, seeds, updates]`; NaN, or 0 for whole numbers, once a member has stopped.
          Its `params` are the trained parameters, `[settings, seeds, ...]`, its `best` those of the best evaluation.

        Raises:
          ConfigError: settings or seeds that are no list, a setting that is no traced leaf of this program, or a
            value or seed that is not allowed.
        """
        checked, seeds = checked_settings_list(self.config, settings), checked_seeds(seeds)
        for name, value in itertools.chain.from_iterable(values.items() for values in checked):
            if name.startswith(ENV_PARAMS):
                check_param(self.functions.environment, name, (value,))
        members = list_members(self.config, checked, seeds)
        at_once = self.members_at_once(members)
        waves = [
            self.with_members(members[first : first + at_once])._run_all() for first in range(0, len(members), at_once)
        ]
        shape = (len(checked), len(seeds))
        places = [point * len(seeds) + seed for point, seed, _ in arrange(self.config, *shape)]

        def by_setting(*rows: np.ndarray) -> np.ndarray:
            """Joins waves of `[members, ...]` to `[settings, seeds, ...]`."""
            joined = np.concatenate(rows)
            joined[places] = joined.copy()
            return joined.reshape(*shape, *joined.shape[1:])

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
        return metrics, *jax.tree.map(self.here, (self.policy_params(state), state.best))

    @property
    def policy(self) -> Policy:
        """The policy of any member: `policy.apply(params, observations)` gives the distribution of its actions."""
        return self.functions.algorithm.policy

    def policy_params(self, state: MemberState) -> Params:
        """Computes what `policy` takes of each member, `[capacity, ...]`."""
        return jax.vmap(self.functions.algorithm.policy_params)(state.learner)

    @property
    def mesh(self) -> Mesh:
        """Of devices, with the axes of `haepo_jax.parallel`."""
        return self.layout.mesh

    @property
    def members_per_device(self) -> int:
        """Members of each device, padding included."""
        return self.layout.members_per_device

    @property
    def capacity(self) -> int:
        """The most members that run at once, padding included."""
        return self.layout.capacity

    def members_at_once(self, members: Sequence[Member]) -> int:
        """Counts how many of these members one wave takes: whole populations, where members copy one another.

        Raises:
          ConfigError: the devices do not hold a population.
        """
        if not is_population_based(self.config):
            return self.capacity
        largest = max(Counter((member.group, member.population) for member in members).values())
        if largest > self.capacity:
            raise ConfigError(
                f"A population of {largest:,} members trains all at once, and the devices hold {self.capacity:,}; "
                "raise config.pbt.populations or --members_per_device, or take fewer seeds or settings."
            )
        return self.capacity // largest * largest

    def with_members(self, members: Sequence[Member]) -> "Population":
        """Puts other members in the same programs, at most `capacity` of them."""
        if len(members) > self.capacity:
            raise ValueError(
                f"{len(members)} members do not fit {self.mesh.size} devices of {self.members_per_device} each."
            )
        return dataclasses.replace(self, members=tuple(members))

    def init(self) -> MemberState:
        """Makes the state before the first update."""
        table = {
            name: self.layout.place(np.asarray([m.settings.get(name, value) for m in self.members], _dtype(value)))
            for name, value in traced_settings(self.config).items()
        }
        seeds = self.layout.place(np.asarray([member.seed for member in self.members], np.uint32))
        state = self.start(seeds, table, self.layout.is_member(len(self.members)))
        standing = jax.tree.map(self.layout.place, self._first_standing())
        return dataclasses.replace(state, standing=standing)

    def _first_standing(self) -> Standing | None:
        """`[capacity]`, before the first update; None without population-based training."""
        if not is_population_based(self.config):
            return None
        members, populations = np.full((2, self.capacity), -1)
        members[: len(self.members)] = [member.index for member in self.members]
        populations[: len(self.members)] = [member.population for member in self.members]
        return no_standing(members, populations)

    def to_arrays(self, state: MemberState) -> Arrays:
        """Writes the keys of a state as data, also those that an optimiser's transform keeps."""
        return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)

    def from_arrays(self, arrays: Arrays) -> MemberState:
        """Does the reverse of `to_arrays`."""
        return jax.tree.map(
            lambda leaf, kind: jax.random.wrap_key_data(leaf) if _is_key(kind) else leaf, arrays, self.abstract_state()
        )

    def resumed(self, arrays: Arrays) -> MemberState:
        """Makes the state from arrays of a checkpoint, whose rows beyond the members may be anything."""
        state = self.from_arrays(arrays)
        is_member = self.layout.is_member(len(self.members))
        return jax.jit(_with_padding)(state, is_member)

    def to_host(self, state: MemberState) -> Arrays:
        """Copies the arrays of the members, without padding, as NumPy arrays; in a run of one process."""
        arrays = jax.device_get(self.to_arrays(state))
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(self.members)], arrays)

    def from_host(self, arrays: Arrays) -> MemberState:
        """Does the reverse of `to_host`."""
        return self.resumed(jax.tree.map(self.layout.place, arrays))

    def abstract_state(self) -> MemberState:
        """Computes shapes, dtypes and places of a state, for which `advance` is traced as for a real one."""
        rows = (self.capacity,)
        table = {
            name: jax.ShapeDtypeStruct(rows, _dtype(value)) for name, value in traced_settings(self.config).items()
        }
        seeds, is_member = jax.ShapeDtypeStruct(rows, np.uint32), jax.ShapeDtypeStruct(rows, bool)
        state = jax.eval_shape(self.start, seeds, table, is_member)
        standing = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, self._first_standing()))
        return self.layout.with_places(dataclasses.replace(state, standing=standing))

    def template(self) -> Arrays:
        """Computes shapes, dtypes and places of the arrays of a state."""
        return self.layout.with_places(jax.eval_shape(self.to_arrays, self.abstract_state()))

    def metrics_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Computes shape and dtype of each metric, by name, but of those that are other columns of a run."""
        metrics = jax.eval_shape(self.advance, self.abstract_state(), jnp.int32(1))[1]
        return {name: leaf for name, leaf in metrics.items() if name not in ("env_steps", DIVERGED, *self.changing)}

    @property
    def changing(self) -> tuple[str, ...]:
        """The settings of the members that change while they train, which are metrics too."""
        return changing_settings(self.config, tuple(self.members[0].settings))

    def traced_update(self) -> TracedUpdate:
        """Traces the update of one member; `advance` is made of the same trace."""
        return self.trace_update(self.abstract_state())

    def compiled(self) -> Compiled:
        """Compiles `advance` for any state of this population."""
        return self.advance.lower(self.abstract_state(), jnp.int32(1)).compile()

    def fingerprint(self) -> str:
        """Computes a text that is another one where the update of a member is: by loss, environment or constants."""
        traced = self.traced_update()
        exchange = _make_exchange(self.config, self.members, self.functions, num_devices=1)
        if exchange is None and self.config.evaluate_every is None:
            return fingerprint(traced.program)
        state = self.abstract_state()
        member = one_member(state)

        def update(state: MemberState) -> Any:
            learned = self.functions.learn(state, self.functions.collect(state))
            return learned if state.best is None else (learned, self.functions.evaluate(state))

        if exchange is None:
            return fingerprint(jax.make_jaxpr(update)(member))
        learned: dict[str, Any] = dict(traced.metrics)
        if member.best is not None:
            learned[EVAL_RETURN] = jax.ShapeDtypeStruct((), jnp.float32)
        pair, learned = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), (member, learned)
        )
        return fingerprint(
            jax.make_jaxpr(lambda one, two, metrics: (update(one), exchange(two, metrics, jnp.int32(1))))(
                member, pair, learned
            )
        )

    @property
    def members_here(self) -> tuple[Member, ...]:
        """The members whose first copy is on a device of this process."""
        return tuple(itertools.compress(self.members, self.layout.is_here))

    def here(self, values: jax.Array, axis: int = 0) -> np.ndarray:
        """Copies the part of an array that belongs to the members of this process, padding left out."""
        number = np.count_nonzero(self.layout.is_here[: len(self.members)])
        return np.take(rows_here(values, axis), np.arange(number), axis=axis)

    def running(self, state: MemberState) -> np.ndarray:
        """Says which of the members of this process have not stopped."""
        return self.here(self.still_runs(state))

    def map_members(self, function: Callable[[MemberState], Any], state: MemberState) -> Any:
        """Computes a function of one member's state for each member of this process."""
        of_all = with_precision(self.config.precision, jax.vmap(function))
        return jax.tree.map(self.here, self.layout.over_devices(of_all, OVER_MEMBERS, OVER_MEMBERS)(state))


def make_population(
    config: ExperimentConfig,
    *,
    members: Sequence[Member] | None = None,
    devices: Sequence[jax.Device] | None = None,
    members_per_device: int | None = None,
    trajectory_devices: int = 1,
    functions: MemberFunctions | None = None,
    **components: Any,
) -> Population:
    """Makes the population of an experiment; nothing is compiled before it runs.

    Args:
      config: the experiment.
      members: who takes part, by default those of the config: each of its swept settings with `num_seeds` seeds. Of
        more than run at once, the first.
      devices: where they live; all devices of all processes by default.
      members_per_device: members of each device, which decides the bits of all; by default as many as let all
        members run at once.
      trajectory_devices: devices that share each device's members, every one with its part of the M trajectories.
      functions: the functions of one member; those that the config describes by default, of the fastest `memory` that
        fits where that is left open.
      components: your own, in the place of those that the config names: `environment`, `network`, `transform` and
        others (docs/components.md).

    Returns:
      The `Population`, whose config has the `memory` that was chosen.

    Raises:
      ConfigError: an environment that does not exist; no members or devices; devices or trajectories that cannot be
        divided so.

    Example:
      >>> from haepo_jax.config import from_config_dict
      >>> config = from_config_dict({"env": "Catch-bsuite", "num_updates": 2, "num_trajectories": 4})
      >>> trained = make_population(config).run([{"discount": 0.9}, {"discount": 1.0}], seeds=range(3))
      >>> trained["episode_return"].shape  # settings, seeds, updates
      (2, 3, 2)
    """
    check_config(config)
    check_placement(members_per_device, trajectory_devices)
    config = with_components(config, components)
    members = make_members(config) if members is None else tuple(members)
    if not members:
        raise ConfigError("members must hold at least one member; leave it out for those of the config.")
    environment = make_environment(config) if functions is None else functions.environment
    steps = batch_steps(config, environment)
    layout = make_layout(
        len(members),
        jax.devices() if devices is None else devices,
        members_per_device=members_per_device,
        trajectory_devices=trajectory_devices,
        num_trajectories=config.num_trajectories,
        batch_steps=steps // trajectory_devices,
    )
    if functions is None:
        slots = count_lanes(config, environment) // trajectory_devices * lane_steps(config, environment)
        config = with_memory(
            config,
            environment,
            layout.played_together * slots,
            members=layout.played_together,
            platform=layout.mesh.devices.flat[0].platform,
        )
        functions = make_member(config)
    if trajectory_devices > 1 and config.min_batch_steps is not None and get_method(config).sees is not Sees.SEGMENTS:
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} spreads the episodes of one round, and config.min_batch_steps "
            "plays several, whose number all devices would have to agree on; set it to None, or leave the flag out."
        )
    if trajectory_devices > 1 and config.memory == "recompute":
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} spreads trajectories that are kept, and config.memory "
            "recompute keeps none; choose store or remat."
        )
    if trajectory_devices > 1 and get_history(get_method_settings(config)):
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} spreads the trajectories of one batch, and config."
            f"{name_setting(config, 'history')} keeps several; set it to 0."
        )
    population = _assemble(config, members[: layout.capacity], functions, layout)
    return population.with_members(members[: population.members_at_once(members)])


def _assemble(
    config: ExperimentConfig, members: tuple[Member, ...], functions: MemberFunctions, layout: Layout
) -> Population:
    max_chunk = max(1, min(config.num_updates, _MAX_ROWS // layout.capacity))

    exchange = _make_exchange(config, members, functions, num_devices=layout.mesh.shape[MEMBERS])
    trace_update = make_trace_update(functions)

    def advance(state: MemberState, num_updates: jax.Array) -> tuple[MemberState, Metrics]:
        on_device = make_advance(functions, trace_update(state), layout, max_chunk, config.evaluate_every, exchange)
        spread = layout.spread(on_device, (OVER_MEMBERS, EVERYWHERE), (OVER_MEMBERS, PartitionSpec(None, MEMBERS)))
        return spread(state, num_updates)

    def start(seeds: jax.Array, settings: dict[str, jax.Array], is_member: jax.Array) -> MemberState:
        state = jax.vmap(functions.init)(jax.vmap(jax.random.key)(seeds), settings)
        return dataclasses.replace(state, diverged=_or_padding(state.diverged, is_member))

    return Population(
        config,
        members,
        functions,
        layout,
        max_chunk,
        advance=jax.jit(advance, donate_argnums=0),
        start=layout.over_devices(start, OVER_MEMBERS, OVER_MEMBERS),
        still_runs=layout.over_devices(jax.vmap(functions.runs), OVER_MEMBERS, OVER_MEMBERS),
        trace_update=trace_update,
    )


def _make_exchange(
    config: ExperimentConfig, members: tuple[Member, ...], functions: MemberFunctions, *, num_devices: int
) -> Exchange | None:
    if not is_population_based(config):
        return None
    settings = changing_settings(config, tuple(members[0].settings))
    exchange = make_exchange(config, functions.runs, settings, num_devices=num_devices)
    if not takes_visitors(config.self_play):
        return exchange
    visit = make_visit(config.self_play, functions, num_devices=num_devices)
    return lambda state, metrics, done: exchange(visit(state, done), metrics, done)


def _is_key(leaf: Any) -> bool:
    """Returns whether it is a typed PRNG key, or the shape of one."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _with_padding(state: MemberState, is_member: jax.Array) -> MemberState:
    """Makes the rows beyond the members padding, whatever they hold."""
    if state.standing is not None:
        population = jnp.where(is_member, state.standing.population, -1)
        state = dataclasses.replace(state, standing=dataclasses.replace(state.standing, population=population))
    return dataclasses.replace(state, diverged=_or_padding(state.diverged, is_member))


def _or_padding(diverged: jax.Array, is_member: jax.Array) -> jax.Array:
    """Counts padding as diverged, so that it never runs."""
    return diverged | ~is_member


def _dtype(value: float | int) -> type:
    return np.int32 if isinstance(value, int) else np.float32
