"""Which settings an experiment reads: the one place that knows.

A setting that nothing reads may not be swept, as all its members would be copies of one, nor be given on a command
line. A config file may set it, so that one file serves several algorithms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from haepo_jax.components import is_outside
from haepo_jax.config.method import (
    carries_on,
    count_segment_steps,
    explores,
    get_method,
    get_own_settings,
    load_method,
    make_chosen,
    name_method,
    name_own_setting,
    name_setting,
    normalizes_rewards,
    why_unit_free,
)
from haepo_jax.config.settings import RECURRENT, ExperimentConfig, PolicyConfig, SelfPlayConfig
from haepo_jax.fields import find_unread, leaves
from haepo_jax.methods import METHODS, Sees
from haepo_jax.methods.schedules import Scheduled, find_scheduled, find_unread_schedules

OFFERED = ("hidden_sizes", "activation")
"""The settings of the policy that a network from outside is given where it names them."""


def unread(
    config: ExperimentConfig,
    *,
    discrete_actions: bool = False,
    one_agent: bool = False,
    network_arguments: Sequence[str] = OFFERED,
) -> dict[str, str]:
    """Finds the settings that nothing reads.

    Args:
      config: an experiment.
      discrete_actions: whether its environment has such, as far as the caller knows.
      one_agent: whether its environment has one, likewise.
      network_arguments: of a network from outside, those that it names, as far as the caller knows.

    Returns:
      For each setting by its dotted name, or that of its group of arguments, the reason, which completes "has no
      effect, as ...".

    Example:
      >>> unread(ExperimentConfig(algorithm="rloo"))["ppo.num_steps"]
      'config.algorithm is rloo'
    """
    reasons = {
        name: f"config.algorithm is {name_method(config)}"
        for name, _, _ in leaves(config)
        if name.partition(".")[0] in METHODS and name.partition(".")[0] != config.algorithm
    }
    reasons = unread_arguments(config) | reasons
    chosen = make_chosen(config)
    of_method = _unread_by_method(config)
    reasons |= unread_by_choices(config, load_method(config.algorithm).settings)
    reasons = {name: why for name, why in reasons.items() if of_method.get(name, why) is not None}
    reasons |= {name: why for name, why in of_method.items() if why is not None}
    if get_method(config).sees is Sees.SEGMENTS and config.memory != "auto":
        reasons["memory"] = f"{_why_segments(config)}, which keeps its segments whatever is set"
    if get_method(config).sees is Sees.SEGMENTS:
        reasons["piece_rows"] = f"{_why_segments(config)}, whose gradient goes by minibatches"
    elif config.memory in ("store", "recompute"):
        reasons["piece_rows"] = f"config.memory is {config.memory}; it belongs to remat"
    reasons |= _unread_segment_steps(config)
    if config.min_batch_steps is None:
        reasons["max_batch_steps"] = "config.min_batch_steps is unset"
    if get_method(config).sees is Sees.SEGMENTS and not carries_on(config):
        why = f"{_why_segments(config)}, whose updates play num_trajectories whole episodes"
        reasons |= {"min_batch_steps": why, "max_batch_steps": why}
    if config.evaluate_every is None:
        reasons["evaluate_episodes"] = "config.evaluate_every is unset"
    reasons |= find_unread_schedules(chosen.settings, chosen.names.__getitem__, config.sweep, reasons)
    if config.pbt.every is None:
        unset = (name for name, _, _ in leaves(config.pbt, "pbt.") if name != "pbt.every")
        reasons |= dict.fromkeys(unset, "config.pbt.every is unset")
    elif config.pbt.fraction == 0.0:
        reasons["pbt.factor"] = "config.pbt.fraction is 0, so that nobody copies"
    reasons |= (
        _unread_normalization(config)
        | _unread_exploration(config)
        | _unread_self_play(config.self_play)
        | _unread_by_network(config.policy, network_arguments)
    )
    if discrete_actions:
        reasons["policy.initial_log_std"] = f"the actions of {config.env} are discrete"
    if config.agents.networks == "each":
        reasons["agents.sees_number"] = "config.agents.networks is each, so that no network has two agents"
    if one_agent:
        reasons |= dict.fromkeys(list_of_agents(config), f"{config.env} has one agent")
    return reasons


def list_of_agents(config: ExperimentConfig) -> list[str]:
    """Lists the settings that nothing reads where one agent plays, by dotted name."""
    own = [chosen for leaf, chosen in make_chosen(config).names.items() if leaf in ("joint", "critic_sees")]
    return [*(f"agents.{name}" for name, _, _ in leaves(config.agents)), *own]


def _unread_by_method(config: ExperimentConfig) -> dict[str, str | None]:
    """Finds the settings of the method that it says are not read; None of those that it says are read."""
    find, chosen = get_method(config).unread, make_chosen(config)
    if find is None:
        return {}
    return {chosen.names[leaf]: why and why.format_map(chosen.names) for leaf, why in find(chosen.settings).items()}


def _why_segments(config: ExperimentConfig) -> str:
    """Says why an experiment learns from segments, as the beginning of a reason."""
    if load_method(config.algorithm).sees is Sees.SEGMENTS:
        return f"config.algorithm is {name_method(config)}"
    return f"config.{name_setting(config, 'segment_length')} is set for {name_method(config)}"


def _unread_segment_steps(config: ExperimentConfig) -> dict[str, str]:
    """Finds the length of segments where a batch counted in steps makes them longer."""
    if not carries_on(config):
        return {}
    steps = count_segment_steps(config)
    if steps == make_chosen(config).settings.num_steps:
        return {}
    least = f"config.min_batch_steps {config.min_batch_steps:,}, which may be none,"
    why = f"{least} makes segments {steps:,} steps long"
    return {name_setting(config, "num_steps"): why}


def _unread_normalization(config: ExperimentConfig) -> dict[str, str]:
    """Finds the settings of normalisation that nothing reads."""
    reasons = {}
    unit_free = why_unit_free(config)
    if unit_free is not None:
        reasons["normalize_rewards"] = unit_free
    if not config.normalize_observations:
        reasons["normalization.clip_observations"] = "config.normalize_observations is False"
    if not normalizes_rewards(config):
        reasons["normalization.clip_rewards"] = unit_free or "config.normalize_rewards is False"
        if not config.normalize_observations:
            reasons["normalization.epsilon"] = "nothing is normalised"
    elif get_method(config).sees is not Sees.SEGMENTS:
        reasons["normalization.clip_rewards"] = f"config.algorithm is {name_method(config)}, which sees whole returns"
    return reasons


def _unread_exploration(config: ExperimentConfig) -> dict[str, str]:
    """Finds the settings of exploration that nothing reads."""
    every = [f"exploration.{name}" for name, _, _ in leaves(config.exploration)]
    if get_method(config).sees is Sees.SEGMENTS:
        goes_on = carries_on(config)
        why = "whose environments go on from update to update" if goes_on else "which learns from parts of episodes"
        return dict.fromkeys(every, f"{_why_segments(config)}, {why}; exploration belongs to whole episodes")
    if explores(config):
        return {}
    others = (name for name in every if name != "exploration.persistences")
    return dict.fromkeys(others, "config.exploration.persistences has none above 1")


def _unread_self_play(self_play: SelfPlayConfig) -> dict[str, str]:
    """Finds the settings of self-play that belong to other opponents."""
    is_the = f"config.self_play.opponents is {self_play.opponents}"
    reasons = {
        f"self_play.{leaf}": f"{is_the}; it belongs to {' or '.join(values)}"
        for leaf, (_, values) in find_unread(self_play).items()
    }
    if self_play.opponents == "random":
        reasons["self_play.random_share"] = f"{is_the}, in all episodes"
    return reasons


def _unread_by_network(policy: PolicyConfig, arguments: Sequence[str]) -> dict[str, str]:
    """Finds the settings of the policy that its network does not take. Arguments as of `unread`."""
    is_the = f"config.policy.network is {policy.network}"
    if is_outside(policy.network):
        return {f"policy.{name}": f"{is_the}, which does not take it" for name in OFFERED if name not in arguments}
    if policy.network == "cnn":
        return {"policy.hidden_sizes": f"{is_the}, whose sizes are in config.policy.network_kwargs"}
    reasons = {"policy.network_kwargs": f"{is_the}, which takes no such arguments"}
    if policy.network in RECURRENT:
        if len(policy.hidden_sizes) < 2:
            reasons["policy.activation"] = "config.policy.hidden_sizes has no layer before the recurrent one"
    elif not policy.hidden_sizes:
        reasons["policy.activation"] = "config.policy.hidden_sizes is empty"
    return reasons


def list_scheduled(config: ExperimentConfig) -> tuple[Scheduled, ...]:
    """Lists the coefficients of the method whose schedule is not constant, as far as anything reads them.

    Example:
      >>> from haepo_jax.config import HaepoConfig
      >>> config = dataclasses.replace(HaepoConfig(), **{"kl_coef_schedule": "linear"})
      >>> [scheduled.name for scheduled in list_scheduled(ExperimentConfig(haepo=config))]
      ['haepo.kl_coef']
    """
    chosen = make_chosen(config)
    return find_scheduled(chosen.settings, chosen.names.__getitem__, chosen.values, unread(config))


def unread_by_choices(config: Any, defaults: Any) -> dict[str, str]:
    """Finds the method's settings that belong to other values of a choice beside them.

    Args:
      config: an experiment's or a language model's.
      defaults: the method's settings there, with their defaults.

    Returns:
      Reasons, as of `unread`.
    """
    settings = get_own_settings(config, defaults)
    return {
        name_own_setting(config, defaults, leaf): (
            f"config.{name_own_setting(config, defaults, chooser)} is {getattr(settings, chooser)}; it belongs to "
            f"{' or '.join(values)}"
        )
        for leaf, (chooser, values) in find_unread(settings).items()
    }


def unread_arguments(config: Any) -> dict[str, str]:
    """Finds the groups of arguments that nothing reads, as their component is built in and takes none.

    Args:
      config: an experiment's or a language model's.

    Returns:
      Reasons, as of `unread`.
    """
    every = list(leaves(config))
    names = {name for name, _, _ in every}
    return {
        group: f"config.{name} is {value}, which takes no such arguments"
        for name, value, field in every
        if field.metadata.get("component") and not is_outside(value) and not _takes_arguments(field, value)
        for group in (f"{name}_kwargs", f"{name}_params")
        if group in names
    }


def _takes_arguments(field: dataclasses.Field, built_in: str) -> bool:
    takes: bool | tuple[str, ...] = field.metadata["takes_arguments"]
    return takes if isinstance(takes, bool) else built_in in takes


def why_unread(name: str, reasons: Mapping[str, str]) -> str | None:
    """Finds the reason why nothing reads a setting; None where something does.

    Args:
      name: of the setting, dotted; it may be one of a group of arguments.
      reasons: as `unread` gives them.

    Example:
      >>> why_unread("algorithm_params.beta", unread(ExperimentConfig()))
      'config.algorithm is haepo, which takes no such arguments'
    """
    return reasons.get(name, reasons.get(name.rpartition(".")[0]))


def unread_by_all(of_each: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Keeps of what each of several experiments does not read what none of them reads.

    Args:
      of_each: as `unread` gives it.
    """
    first, *others = of_each
    return {name: reason for name, reason in first.items() if all(name in other for other in others)}


def set_and_unread(config: Any, reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Finds the settings that differ from their defaults though nothing reads them.

    Args:
      config: an experiment's or a language model's.
      reasons: the settings that nothing reads, as `unread` gives them.

    Returns:
      Their names by reason.

    Example:
      >>> from haepo_jax.config import HaepoConfig
      >>> config = ExperimentConfig(algorithm="ppo", haepo=HaepoConfig(score="sum"))
      >>> set_and_unread(config, unread(config))
      {'config.algorithm is ppo': ['haepo.score']}
    """
    defaults = {name: value for name, value, _ in leaves(type(config)())}
    found: dict[str, list[str]] = {}
    for name, value, _ in leaves(config):
        if name in reasons and value != defaults[name]:
            found.setdefault(reasons[name], []).append(name)
    return found
