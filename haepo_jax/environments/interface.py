"""What the rest of the package sees of an environment."""

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
    game: Game | None = None
    """The two-player game whose learner it is made for, against random play; None of any other environment."""

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of what a network gets of an observation: all of it but the action mask."""
        return self.observation_shape if self.masked_shape is None else self.masked_shape

    def __hash__(self) -> int:
        """By identity of the functions, for use as the key of a cache: a tuple with a dict in it has no hash."""
        return hash((self.name, self.reset, self.step))
