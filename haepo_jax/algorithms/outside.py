"""What a method from outside is held to, so that a slip is a sentence that names it."""

from collections.abc import Callable

from haepo_jax.components import is_outside
from haepo_jax.config import ExperimentConfig, get_method, get_method_settings
from haepo_jax.config.method import name_method
from haepo_jax.environments import Environment
from haepo_jax.environments.contract import BY_EVERY_RUN, check_written_name, names_a_setting
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods import Adaptation, Objective
from haepo_jax.methods.outside import find_adaptation, hold_to_record


def check_metrics(config: ExperimentConfig, environment: Environment) -> None:
    """Refuses metrics of a method whose names are taken or cannot be written.

    Raises:
      ConfigError: taken by what every run reports, by the environment or by a setting; or no Unicode text.
    """
    if not is_outside(config.algorithm):
        return
    for name in get_method(config).metrics:
        check_written_name(f"config.algorithm {name_method(config)}", name)
        if name in BY_EVERY_RUN or name in environment.info_metrics or names_a_setting(name):
            whose = environment.name if name in environment.info_metrics else "a run itself"
            raise ConfigError(
                f"config.algorithm {name_method(config)} has a metric {quoted(name)}, which is what {whose} reports "
                "under that name; give it another one."
            )


def get_objective(config: ExperimentConfig) -> Callable[..., Objective]:
    """Returns the objective of the config's method; what one from outside gives is checked while it is traced."""
    method = get_method(config)
    if not is_outside(config.algorithm):
        return method.objective

    return hold_to_record(name_method(config), method, method.objective)


def get_adaptation(config: ExperimentConfig) -> Adaptation | None:
    """Returns how the config's method sets some of its settings while it learns; None where they stay.

    That of a method from outside is checked while it is traced.
    """
    settings = get_method_settings(config)
    return find_adaptation(name_method(config), get_method(config), settings, is_outside=is_outside(config.algorithm))
