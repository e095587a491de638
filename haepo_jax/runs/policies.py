"""A trained policy of a run, ready to act: for a program that plays, deploys or looks into it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax.config import with_settings
from haepo_jax.config.members import Member
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError
from haepo_jax.networks import Policy
from haepo_jax.networks.recurrent import Carry
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.states import LAST, Checkpoint, load_member
from haepo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class LoadedPolicy:
    """The policy of one member of a run."""

    params: Params
    """What `apply` takes, NumPy arrays: parameters, with what observations are normalised by as `NormalizedParams`."""
    apply: Callable[[Params, jax.Array], Any]
    """Pure: `(params, observations [..., *observation_shape]) -> distribution` of distrax, of batch shape `[...]`; of
    a policy that remembers, at the first step of an episode. Several agents are the last axis of a batch."""
    member: Member
    """Its index, seed and swept settings."""
    update: int
    """Updates done by this policy."""
    environment: Environment
    """Where it was trained."""
    env_params: Mapping[str, float]
    """The numbers of that environment that are not its defaults, for `environment.reset` and `step`."""
    horizon: int
    """T, the steps at which its episodes were cut."""
    _policy: Policy = dataclasses.field(repr=False)

    @property
    def remembers(self) -> bool:
        """Whether its actions follow from more than the observation, and `step` takes the place of `act`."""
        return self._policy.recurrence is not None

    def start(self, *shape: int) -> Carry:
        """Makes the memory before an episode's first step, `[*shape, *C]`; empty for a policy that does not remember.

        Args:
          shape: axes of a batch of episodes; none by default.
        """
        return self._policy.start(*shape)

    def step(
        self, carry: Carry, observation: ArrayLike, key: jax.Array | None = None, *, greedy: bool = False
    ) -> tuple[Carry, jax.Array]:
        """Chooses the next actions of episodes, for policies of both kinds; it may be called inside `jax.jit`.

        Args:
          carry: what it remembers of each episode, from `start` or from the step before.
          observation: as of `act`.
          key: as of `act`.
          greedy: as of `act`.

        Returns:
          What it remembers after the step, and actions as of `act`.

        Raises:
          ConfigError: as of `act`; or a carry that is of another policy or batch.

        Example::

            carry = policy.start()
            while not done:
                carry, action = policy.step(carry, observation, greedy=True)
        """
        observations = _as_observations(self.environment, observation)
        if key is None and not greedy:
            raise ConfigError("to sample an action needs a key; give one, or greedy=True.")
        batch = observations.shape[: observations.ndim - len(self.environment.observation_shape)]
        expected, given = (jax.tree.map(np.shape, tree) for tree in (self.start(*batch), carry))
        if expected != given:
            raise ConfigError(
                f"the carry of these observations is of shape {expected}, as start({', '.join(map(str, batch))}) "
                f"makes it; got one of shape {given}."
            )
        return _step(self._policy, greedy, self.params, carry, observations, key)

    def act(self, observation: ArrayLike, key: jax.Array | None = None, *, greedy: bool = False) -> jax.Array:
        """Chooses actions; it may be called inside `jax.jit`.

        Args:
          observation: one, or a batch `[..., *observation_shape]`, as the environment gives them: images may be whole
            numbers, and where observations are choices, their numbers `[...]` will do.
          key: typed PRNG key of the sample; not needed for greedy actions.
          greedy: whether to take the mode of each distribution instead of a sample.

        Returns:
          Actions as `environment.step` takes them: `[...]` whole numbers, or `[..., A]` real ones, where -1 and 1 are
          the bounds of the environment.

        Raises:
          ConfigError: an observation of another shape, or a sample without a key; or a policy that remembers.
        """
        if self.remembers:
            raise ConfigError(
                "this policy remembers the episode, which act cannot; call carry, action = policy.step(carry, "
                "observation, key), with the carry of policy.start() before an episode's first step."
            )
        return self.step((), observation, key, greedy=greedy)[1]


def load_policy(workdir: StrPath, member: int = 0, checkpoint: Checkpoint = LAST) -> LoadedPolicy:
    """Loads the policy of a member of a run, of any method; changes nothing in the folder.

    Args:
      workdir: a run folder, of a run that is complete, stopped or under way.
      member: its index, as in `members.json`.
      checkpoint: `last`; `best`, the policy of the best evaluation in training (`config.evaluate_every`); or the
        number of updates of a checkpoint that is there.

    Returns:
      The `LoadedPolicy`.

    Raises:
      ConfigError: the folder holds no run, or no such member or good checkpoint; or a component of the run cannot be
        imported.
    """
    loaded = load_member(workdir, member, checkpoint)
    population, functions = loaded.population, loaded.population.functions
    own = population.members[loaded.row]
    policy = functions.algorithm.policy
    return LoadedPolicy(
        params=loaded.params,
        apply=policy.apply,
        member=own,
        update=loaded.update,
        environment=functions.environment,
        env_params=with_settings(population.config, own.settings).env_params,
        horizon=functions.horizon,
        _policy=policy,
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(
    policy: Policy, greedy: bool, params: Params, carry: Carry, observations: jax.Array, key: jax.Array | None
) -> tuple[Carry, jax.Array]:
    carry, distribution = policy.step(params, carry, observations)
    if greedy:
        return carry, distribution.mode()
    assert key is not None
    return carry, policy.act(distribution, policy.noise(key, distribution.batch_shape))


def _as_observations(environment: Environment, given: ArrayLike) -> jax.Array:
    """Converts observations to what a policy takes, as `Environment.reset` and `step` give it."""
    array, shape = jnp.asarray(given), environment.observation_shape
    if environment.observes_choices and jnp.issubdtype(array.dtype, jnp.integer):
        return jax.nn.one_hot(array, *shape, dtype=jnp.float32)
    axes = array.ndim - len(shape)
    if axes < 0 or array.shape[axes:] != shape:
        raise ConfigError(
            f"an observation of {environment.name} has shape {shape}, with any axes of a batch before it; got one of "
            f"shape {array.shape}."
        )
    return array.astype(jnp.float32)
