"""How a batch moves a policy, for each way in which a method sees its batches.

Complete episodes are learnt from in `episodic`, segments in `actor_critic`. None of these files knows a method: what
they need stands in its record (`haepo_jax.methods`).
"""

from haepo_jax.algorithms import actor_critic, episodic
from haepo_jax.algorithms.base import Algorithm, LearnerState
from haepo_jax.algorithms.outside import check_metrics
from haepo_jax.config import ExperimentConfig, get_method
from haepo_jax.environments import Environment
from haepo_jax.methods import Sees


def make_algorithm(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of the config's method, to play in this environment.

    Raises:
      ConfigError: a method from outside whose metrics have names that are taken.
    """
    check_metrics(config, environment)
    make = actor_critic.make if get_method(config).sees is Sees.SEGMENTS else episodic.make
    return make(config, environment)


__all__ = ["Algorithm", "LearnerState", "make_algorithm"]
