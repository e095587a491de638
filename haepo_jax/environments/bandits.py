"""Multi-armed bandits: one pull an episode, scored by how far the arm pulled is from the best one."""

import math
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from haepo_jax.environments.gymnax_library import environment, spaces


@struct.dataclass
class EnvState(environment.EnvState):
    """The arms of the episode."""

    means: jax.Array
    """`[num_arms]` float32 mean reward of each arm."""


@struct.dataclass
class GaussianParams(environment.EnvParams):
    """Numbers of a Gaussian bandit."""

    instance: int = 0
    """Chooses the arms."""
    noise: float = 1.0
    """Standard deviation of a pull around the mean of its arm."""
    max_steps_in_episode: int = 1


@struct.dataclass
class BernoulliParams(environment.EnvParams):
    """Numbers of a Bernoulli bandit."""

    instance: int = 0
    """Chooses the arms."""
    max_steps_in_episode: int = 1


def gaussian_arm_means(instance: ArrayLike, num_arms: int = 10) -> jax.Array:
    """Mean rewards of the arms of `GaussianBandit-haepo`, each drawn from N(0, 1).

    Args:
      instance: which bandit, an integer, traced or not.
      num_arms: how many arms.

    Returns:
      `[num_arms]` float32.

    Example:
      >>> gaussian_arm_means(3, 10).shape
      (10,)
    """
    return jax.random.normal(_instance_key(0, instance), (num_arms,), jnp.float32)


def bernoulli_arm_means(instance: ArrayLike, num_arms: int = 10) -> jax.Array:
    """Chances of reward 1 of the arms of `BernoulliBandit-haepo`, each drawn from U(0, 1).

    Args:
      instance: which bandit, an integer, traced or not.
      num_arms: how many arms.

    Returns:
      `[num_arms]` float32.

    Example:
      >>> bernoulli_arm_means(3, 10).shape
      (10,)
    """
    return jax.random.uniform(_instance_key(1, instance), (num_arms,), jnp.float32)


def _instance_key(stream: int, instance: ArrayLike) -> jax.Array:
    # The generator is named, so that an instance is the same bandit whatever the process's default generator.
    return jax.random.fold_in(jax.random.key(stream, impl="threefry2x32"), jnp.asarray(instance, jnp.int32))


class Bandit(environment.Environment):
    """Common base of the bandits: the state holds the means of the arms, an episode is one pull, which terminates it.

    `info` carries `regret`, the mean of the best arm minus that of the arm pulled, and `optimal`, 1.0 when the
    arm pulled is the best one. Both are free of the noise of the reward.
    """

    info_metrics = ("regret", "optimal")

    def __init__(self, num_arms: int = 10) -> None:
        """A bandit with so many arms."""
        super().__init__()
        if num_arms < 2:
            raise ValueError(f"a bandit has at least 2 arms, got {num_arms}.")
        self.num_arms = num_arms

    def arm_means(self, params: Any) -> jax.Array:
        """`[num_arms]` float32, from `params.instance` alone."""
        raise NotImplementedError

    def pull(self, key: jax.Array, mean: jax.Array, params: Any) -> jax.Array:
        """`[]` float32, a reward of the arm with this mean."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, EnvState]:
        """The arms of the instance, whatever the key."""
        # Drawn here once and carried, so that a step costs a look-up.
        state = EnvState(time=jnp.int32(0), means=self.arm_means(params))
        return self.observe(key, state, None, params), state

    def step_env(
        self, key: jax.Array, state: EnvState, action: Any, params: Any
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, dict[str, jax.Array]]:
        """One pull of arm `action`."""
        mean = state.means[action]
        reward = self.pull(key, mean, params)
        state = state.replace(time=state.time + 1)
        optimal = action == jnp.argmax(state.means)
        info = {
            "discount": self.discount(state, params),
            # Compiled together with the draw of the means, x - x may come out as a rounding error of either sign.
            "regret": jnp.where(optimal, 0.0, jnp.maximum(jnp.max(state.means) - mean, 0.0)),
            "optimal": jnp.asarray(optimal, jnp.float32),
        }
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), info

    def observe(self, key: jax.Array, state: EnvState, action: Any, params: Any) -> jax.Array:
        """The constant `[1.0]`: there is nothing to see."""
        return jnp.ones((1,), jnp.float32)

    def is_terminated(self, state: EnvState, params: Any) -> jax.Array:
        """True after the first pull."""
        return state.time >= 1

    @property
    def num_actions(self) -> int:
        """One action an arm."""
        return self.num_arms

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """The arms."""
        return spaces.Discrete(self.num_arms)

    def observation_space(self, params: Any) -> spaces.Box:
        """The constant 1."""
        return spaces.Box(1, 1, (1,), jnp.float32)

    def state_space(self, params: Any) -> spaces.Dict:
        """Means of any size, and the time."""
        most = jnp.finfo(jnp.float32).max
        return spaces.Dict(
            {
                "means": spaces.Box(-most, most, (self.num_arms,), jnp.float32),
                "time": spaces.Discrete(params.max_steps_in_episode + 1),
            }
        )


class GaussianBandit(Bandit):
    """`GaussianBandit-haepo`: arm means from N(0, 1), rewards mean + noise * N(0, 1).

    With 10 arms the best mean is 1.54 on average over instances, which is the expected regret of the uniform
    policy.
    """

    param_limits = MappingProxyType({"noise": (0, math.inf)})

    @property
    def name(self) -> str:
        """Its id."""
        return "GaussianBandit-haepo"

    @property
    def default_params(self) -> GaussianParams:
        """Instance 0, noise 1."""
        return GaussianParams()

    def arm_means(self, params: GaussianParams) -> jax.Array:
        """`gaussian_arm_means` of the instance."""
        return gaussian_arm_means(params.instance, self.num_arms)

    def pull(self, key: jax.Array, mean: jax.Array, params: GaussianParams) -> jax.Array:
        """The mean with Gaussian noise."""
        return mean + params.noise * jax.random.normal(key, (), jnp.float32)


class BernoulliBandit(Bandit):
    """`BernoulliBandit-haepo`: arm means from U(0, 1), rewards 1 with that chance, else 0.

    With 10 arms the best mean is 10/11 on average over instances, and the expected regret of the uniform policy
    10/11 - 1/2 = 0.41.
    """

    @property
    def name(self) -> str:
        """Its id."""
        return "BernoulliBandit-haepo"

    @property
    def default_params(self) -> BernoulliParams:
        """Instance 0."""
        return BernoulliParams()

    def arm_means(self, params: BernoulliParams) -> jax.Array:
        """`bernoulli_arm_means` of the instance."""
        return bernoulli_arm_means(params.instance, self.num_arms)

    def pull(self, key: jax.Array, mean: jax.Array, params: BernoulliParams) -> jax.Array:
        """1 with chance `mean`, else 0."""
        return jnp.asarray(jax.random.uniform(key, (), jnp.float32) < mean, jnp.float32)
