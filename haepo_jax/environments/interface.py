"""What the rest of the package sees of an environment."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.environments.games.interface import Game


class Discrete(NamedTuple):
    """Actions 0, ..., n - 1."""

    n: int


class Box(NamedTuple):
    """Real-valued actions. Policies act in [-1, 1]; the environment scales to its own bounds."""

    size: int


class MultiDiscrete(NamedTuple):
    """Several choices at once: an action is `[A]` whole numbers, of which the k-th is 0, ..., nvec[k] - 1."""

    nvec: tuple[int, ...]


ActionSpace = Discrete | Box | MultiDiscrete
"""What an agent may choose from."""


def action_type(space: ActionSpace) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype of one action of a space.

    Example:
      >>> action_type(MultiDiscrete((3, 2)))
      ShapeDtypeStruct(shape=(2,), dtype=int32)
    """
    if isinstance(space, Box):
        return jax.ShapeDtypeStruct((space.size,), jnp.float32)
    return jax.ShapeDtypeStruct((len(space.nvec),) if isinstance(space, MultiDiscrete) else (), jnp.int32)


def count_choices(space: Discrete | MultiDiscrete) -> int:
    """Counts the entries of an action mask: those of all choices, one choice after the other."""
    return sum(space.nvec) if isinstance(space, MultiDiscrete) else space.n


def name_return(kind: str) -> str:
    """Names the metric that is the mean return of agents of a kind."""
    return f"return_{kind}"


class Step(NamedTuple):
    """One transition of one environment."""

    state: Any
    observation: jax.Array
    """`[*O]` float32, the observation after the step."""
    reward: jax.Array
    """`[]` float32."""
    done: jax.Array
    """`[]` boolean, True when the episode ended, by termination or by the environment's own time limit."""
    terminated: jax.Array
    """`[]` boolean, True when the task itself ended the episode; where that falls on the time limit, it wins."""
    info_metrics: dict[str, jax.Array]
    """`[]` float32 each: what is reported of the step beyond its reward, by `Environment.info_metrics`."""


class ObservationParts(NamedTuple):
    """Of what the observation of one of several agents is made: a vector of all of these, in this order."""

    own_shape: tuple[int, ...]
    """Of what the agent itself sees, flattened."""
    world_size: int = 0
    """Entries that a critic of all agents sees alone."""
    number_size: int = 0
    """Entries that say which agent it is: as many as there are agents, of which one is 1."""
    mask_size: int = 0
    """Entries of the action mask."""
    kinds: tuple[int, ...] = (0,)
    """The number of each agent's kind, from 0."""

    @property
    def own_size(self) -> int:
        """Entries of what the agent itself sees."""
        return math.prod(self.own_shape)

    @property
    def is_vector(self) -> bool:
        """Whether there is more than the agent's own, which else keeps its shape."""
        return bool(self.world_size or self.number_size or self.mask_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the observation."""
        size = self.own_size + self.world_size + self.number_size + self.mask_size
        return (size,) if self.is_vector else self.own_shape

    @property
    def shape_before_mask(self) -> tuple[int, ...] | None:
        """Of what stands before the action mask; None without one."""
        if not self.mask_size:
            return None
        more = self.world_size + self.number_size
        return (self.own_size + more,) if more else self.own_shape

    def take_own(self, observations: jax.Array) -> jax.Array:
        """Takes what the agent sees, `[..., *own_shape]`, from observations `[..., *shape]`."""
        if not self.is_vector:
            return observations
        return observations[..., : self.own_size].reshape(*observations.shape[:-1], *self.own_shape)

    def take_world(self, observations: jax.Array) -> jax.Array:
        """Takes what a critic of all sees alone, `[..., world_size]`."""
        return observations[..., self.own_size : self.own_size + self.world_size]

    def take_number(self, observations: jax.Array) -> jax.Array:
        """Takes what says which agent it is, `[..., number_size]`."""
        start = self.own_size + self.world_size
        return observations[..., start : start + self.number_size]

    def take_mask(self, observations: jax.Array) -> jax.Array:
        """Takes the action mask, `[..., mask_size]`."""
        return observations[..., self.shape[-1] - self.mask_size :]


class Environment(NamedTuple):
    """Pure functions of one environment, to be vmapped, and its shapes.

    `params` as `reset` and `step` take it is a mapping from any of the names in `Environment.params` to
    numbers, traced or not; what it leaves out has its default.
    """

    name: str
    observation_shape: tuple[int, ...]
    """`*O`: of one observation, float32; `()` for a single number."""
    action_space: ActionSpace
    max_steps: int | None
    """The environment's own limit on the length of an episode; None where it has none."""
    params: dict[str, float | int]
    """The numbers of the environment that may vary inside one compiled program, with their defaults."""
    info_metrics: tuple[str, ...]
    """The names in `Step.info_metrics`."""
    reset: Callable[[Mapping[str, ArrayLike], jax.Array], tuple[Any, jax.Array]]
    """`(params, key) -> (state, observation)`."""
    step: Callable[[Mapping[str, ArrayLike], jax.Array, Any, jax.Array], Step]
    """`(params, key, state, action) -> Step`. Does not reset by itself."""
    param_limits: Mapping[str, tuple[float, float]] = {}
    """The least and the greatest value of each parameter that makes no sense beyond them."""
    observes_choices: bool = False
    """True where the environment's own observations are whole numbers 0, ..., O - 1, each given as O entries of which
    one is 1."""
    render: Callable[[Mapping[str, ArrayLike], Sequence[Any]], Iterator[Any]] | None = None
    """`(params, states of an episode) -> a picture of each`: an array `[height, width, 3]`, uint8 or real numbers from
    0 to 1, or a matplotlib figure, alone or with its axes. None where it cannot be drawn."""
    mask_size: int = 0
    """The last entries of an observation that are an action mask, 1 where a choice is allowed and 0 where it is not:
    one for each choice, or of MultiDiscrete actions `nvec[0]` entries, then `nvec[1]`, and so on. Observations are
    then vectors: the features, flattened, and the mask. 0 where all actions are always allowed."""
    masked_shape: tuple[int, ...] | None = None
    """Of the features before they were flattened, which is how a network gets them; where there is a mask, only."""
    num_agents: int = 1
    """N, how many agents act in it at once. Where there are several, the shapes above are those of one of them, and
    observations, actions, rewards, ends and info metrics have a leading axis `[N]` (`environments.agents`)."""
    ends_early: bool = False
    """Whether the task may end for some agents before it does for others."""
    parts: ObservationParts | None = None
    """Of the observations of several agents; None where there is one."""
    kinds: Mapping[str, tuple[int, ...]] = {}
    """The numbers of the agents of each kind, by its name; empty where all are alike."""
    game: Game | None = None
    """The two-player game whose learner it is made for, against random play; None of any other environment."""

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of what a network gets of an observation: all of it but the action mask."""
        return self.observation_shape if self.masked_shape is None else self.masked_shape

    @property
    def num_flags(self) -> int:
        """The last entries of an observation that are 0 or 1 and no features: an agent's number, and the mask."""
        return self.mask_size + (0 if self.parts is None else self.parts.number_size)

    def __hash__(self) -> int:
        """By identity of the functions, for use as the key of a cache: a tuple with a dict in it has no hash."""
        return hash((self.name, self.reset, self.step))
