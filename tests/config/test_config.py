"""The configuration: what is refused and in which words, round trips, traced settings and sweeps."""

import copy
import dataclasses
import inspect
import json
import math

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from haepo_jax import config as config_module
from haepo_jax.config import (
    DpoConfig,
    ExperimentConfig,
    GrpoConfig,
    HaepoConfig,
    OptimizerConfig,
    PolicyConfig,
    PpoConfig,
    count_segment_steps,
    default_config,
    differing_fields,
    from_config_dict,
    setting_names,
    sweep_points,
    to_json,
    traced_settings,
    with_settings,
)
from haepo_jax.config.checks import flatten
from haepo_jax.config.method import components_of
from haepo_jax.config.settings import ACTIVATIONS, FIELDS, NETWORKS, NOTHING, TRANSFORMS
from haepo_jax.errors import ConfigError
from haepo_jax.fields import leaves
from haepo_jax.losses import GROUPINGS
from haepo_jax.methods import haepo, haepo_segments
from haepo_jax.methods.schedules import of_coefficient

OTHER = ExperimentConfig(
    env="Pendulum-v1",
    env_kwargs={"size": 3, "style": "plain"},
    env_params={"g": 9.5, "dt": 0.1, "kind": 2},
    seed=3,
    num_seeds=2,
    max_env_steps=10_000,
    horizon=50,
    discount=0.9,
    policy=PolicyConfig(hidden_sizes=(8, 4), activation="relu", initial_log_std=-1.0),
    optimizer=OptimizerConfig(learning_rate=0.1, schedule="cosine", max_grad_norm=1.5),
    haepo=HaepoConfig(score="mean", normalization="sum", reference="ema", num_epochs=1),
    ppo=PpoConfig(num_steps=32, num_minibatches=2, value_clip_epsilon=0.3, gae_lambda=0.5),
    grpo=GrpoConfig(advantage_scale="none", aggregation="token_mean", reference="frozen"),
    dpo=DpoConfig(beta=0.5, label_smoothing=0.1, pairs="best_worst"),
    sweep={
        "haepo.kl_coef": (0.0, 0.1),
        "haepo.reference_decay": (0.5, 0.9),
        "optimizer.learning_rate": (0.1,),
    },
)
SWEPT_ENVIRONMENT = dataclasses.replace(OTHER, sweep={"env_params.g": (9.5, 10.5), "env_params.other": (1, 2)})
CHOICES = {
    "memory": ("auto", "store", "remat", "recompute"),
    "precision": ("default", "float32"),
    "algorithm": config_module.ALGORITHMS,
    "policy.network": NETWORKS,
    "agents.networks": ("shared", "kind", "each"),
    "self_play.opponents": ("random", "newest", "pool"),
    "self_play.snapshots": ("own", "population"),
    "self_play.draw": ("uniform", "newest", "win_rate"),
    "optimizer.transform": TRANSFORMS,
    "returns": NOTHING,
    "metrics": NOTHING,
    "policy.activation": config_module.ACTIVATIONS,
    "optimizer.schedule": config_module.SCHEDULES,
    "haepo.score": config_module.SCORES,
    "haepo.normalization": config_module.NORMALIZATIONS,
    "haepo.projection": haepo.PROJECTIONS,
    "haepo.target": haepo.TARGETS,
    "haepo.adapt": haepo.OF_BATCH + haepo.OVER_BATCHES,
    "haepo.reference": config_module.REFERENCES,
    "haepo.joint": ("joint", "own"),
    "haepo.critic_sees": ("own", "all"),
    "haepo.bootstrap": haepo_segments.BOOTSTRAPS,
    "haepo.critic": haepo_segments.CRITICS,
    "haepo.group_by": GROUPINGS,
    "haepo.segments_from": haepo_segments.SOURCES,
    "haepo.segment_projection": haepo.PROJECTIONS,
    "haepo.segment_adapt": haepo_segments.ADAPTS,
    "grpo.advantage_scale": config_module.ADVANTAGE_SCALES,
    "grpo.aggregation": config_module.AGGREGATIONS,
    "grpo.joint": ("joint", "own"),
    "grpo.reference": config_module.REFERENCES,
    "dpo.pairs": config_module.PAIRS,
    "dpo.joint": ("joint", "own"),
    "dpo.reference": config_module.REFERENCES,
    "ppo.critic_sees": ("own", "all"),
    "reinforce.joint": ("joint", "own"),
    "reinforce.normalization": config_module.NORMALIZATIONS,
}
COMPONENTS = {name for name, field in FIELDS.items() if field.metadata.get("component")}


def nested(name, value):
    """{"a": {"b": value}} for the dotted name a.b."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def value_of(config, name):
    for part in name.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config


def message(values):
    """The sentence with which these values are refused."""
    with pytest.raises(ConfigError) as error:
        from_config_dict(values)
    return str(error.value)


def test_everything_public_is_importable_from_one_place():
    for name in ("default_config", "from_config_dict", "to_json", "traced_settings", "with_settings", "sweep_points"):
        assert name in config_module.__all__
    for name in config_module.__all__:
        assert hasattr(config_module, name)


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("horizn", "did you mean horizon?"),
            ("haepo.scores", "did you mean score?"),
            ("optimizer.learning_rat", "did you mean learning_rate?"),
            ("haepoo", "did you mean haepo?"),
        ],
    )
    def test_unknown_names_are_refused_with_the_nearest_name(self, name, hint):
        assert message(nested(name, 1)) == f"config.{name} is not a setting; {hint}"

    def test_unknown_names_are_refused_without_a_hint_when_none_is_near(self):
        assert message({"zzz": 1}) == "config.zzz is not a setting."
        assert message({"search": {}}).startswith("config.search belongs to a sweep")

    def test_a_field_of_another_section_is_refused(self):
        assert "config.policy.learning_rate is not a setting" in message({"policy": {"learning_rate": 0.1}})

    def test_unknown_names_in_a_config_dict_are_refused(self):
        config = default_config()
        config.horizn = 5
        assert "config.horizn is not a setting; did you mean horizon?" in message(config)


class TestChoices:
    @pytest.mark.parametrize("name", CHOICES)
    def test_a_wrong_choice_is_refused_with_all_that_are_allowed(self, name):
        own = ", or one of your own as package.module:attribute" if name in COMPONENTS else ""
        expected = f"config.{name} 'wrong' is not known; allowed: {', '.join(CHOICES[name])}{own}."
        assert message(nested(name, "wrong")) == expected

    @pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in CHOICES for choice in CHOICES[name]])
    def test_each_allowed_choice_is_accepted(self, name, choice):
        values = nested(name, choice)
        if choice == "none" and name in ("haepo.reference", "grpo.reference"):
            values[name.split(".")[0]]["kl_coef"] = 0
        if choice == "recompute":
            values["haepo"] = {"history": 0}
        assert value_of(from_config_dict(values), name) == choice

    def test_every_choice_is_tested_here(self):
        names = {name for name, _, field in leaves(ExperimentConfig()) if "choices" in field.metadata}
        assert set(CHOICES) == {name for name in names if not of_coefficient(FIELDS[name])}


class TestTypes:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("num_seeds", True, "must be a whole number, got True."),
            ("num_seeds", 4.0, "must be a whole number, got 4.0."),
            ("num_seeds", "4", "must be a whole number, got '4'."),
            ("num_seeds", None, "must be a whole number, got None."),
            ("horizon", 10.0, "must be a whole number, got 10.0."),
            ("horizon", False, "must be a whole number, got False."),
            ("haepo.num_epochs", 1.5, "must be a whole number, got 1.5."),
            ("haepo.reference_period", 2.0, "must be a whole number, got 2.0."),
            ("discount", "1", "must be a number, got '1'."),
            ("discount", True, "must be a number, got True."),
            ("discount", None, "must be a number, got None."),
            ("optimizer.learning_rate", "3e-3", "must be a number, got '3e-3'."),
            ("haepo.kl_coef", (0.1,), "must be a number, got (0.1,)."),
            ("env", 3, "must be text, got 3."),
            ("policy", 3, "is a group of settings, got 3."),
            ("haepo", None, "is a group of settings, got None."),
            ("ppo", 0.2, "is a group of settings, got 0.2."),
            ("max_env_steps", 1e6, "must be a whole number, got 1000000.0."),
            ("max_env_steps", True, "must be a whole number, got True."),
            ("ppo.num_steps", 8.0, "must be a whole number, got 8.0."),
            ("ppo.gae_lambda", "0.9", "must be a number, got '0.9'."),
            ("dpo.beta", None, "must be a number, got None."),
            ("env_kwargs", 3, "is a group of settings, got 3."),
            ("env_params", (0.1,), "is a group of settings, got (0.1,)."),
            ("env_params", None, "is a group of settings, got None."),
            ("env_kwargs.size", (1, None), "must be a number, text or a tuple of such, got None."),
            ("env_kwargs.size", None, "must be a number, text or a tuple of such, got None."),
            ("env_params.slip", "0.1", "must be a number, got '0.1'."),
            ("env_params.slip", True, "must be a number, got True."),
            ("env_params.slip", (0.1, 0.2), "must be a number, got (0.1, 0.2)."),
            ("env_params.slip", None, "must be a number, got None."),
            ("sweep", (0.1,), "must map settings to their values, got (0.1,)."),
        ],
    )
    def test_a_value_of_a_wrong_type_is_refused(self, name, value, expected):
        assert message(nested(name, value)) == f"config.{name} {expected}"

    @pytest.mark.parametrize(
        "sizes", [(0,), (64, -1), (64, 1.0), (True,), ("64",), "64", None, (8, None), 2.0], ids=repr
    )
    def test_wrong_hidden_sizes_are_refused(self, sizes):
        expected = f"config.policy.hidden_sizes must be whole numbers of at least 1, got {sizes!r}."
        assert message(nested("policy.hidden_sizes", sizes)) == expected

    @pytest.mark.parametrize(("sizes", "expected"), [((8, 4), (8, 4)), ([8, 4], (8, 4)), (8, (8,)), ((), ())])
    def test_hidden_sizes_become_a_tuple(self, sizes, expected):
        assert from_config_dict({"policy": {"hidden_sizes": sizes}}).policy.hidden_sizes == expected

    @pytest.mark.parametrize(
        "name", ["discount", "optimizer.learning_rate", "haepo.entropy_coef", "haepo.temperature"]
    )
    def test_whole_numbers_are_accepted_for_real_ones(self, name):
        value = value_of(from_config_dict(nested(name, 1)), name)
        assert value == 1.0 and type(value) is float

    def test_whole_numbers_are_accepted_for_real_ones_in_a_config_dict(self):
        config = default_config()
        config.optimizer.learning_rate = 1
        assert type(from_config_dict(config).optimizer.learning_rate) is float


NOT_NUMBERS = {"env", "sweep", "env_kwargs", "env_params"}


class TestBounds:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("num_trajectories", 1, "must be at least 2, got 1."),
            ("num_trajectories", -4, "must be at least 2, got -4."),
            ("horizon", 0, "must be at least 1, got 0."),
            ("horizon", -5, "must be at least 1, got -5."),
            ("num_seeds", 0, "must be at least 1, got 0."),
            ("num_updates", 0, "must be at least 1, got 0."),
            ("seed", -1, "must be at least 0, got -1."),
            ("haepo.num_epochs", 0, "must be at least 1, got 0."),
            ("haepo.reference_period", 0, "must be at least 1, got 0."),
            ("optimizer.learning_rate", 0, "must be above 0.0, got 0.0."),
            ("optimizer.learning_rate", -1e-3, "must be above 0.0, got -0.001."),
            ("optimizer.max_grad_norm", 0.0, "must be above 0.0, got 0.0."),
            ("haepo.temperature", 0.0, "must be above 0.0, got 0.0."),
            ("haepo.entropy_coef", -0.1, "must be at least 0.0, got -0.1."),
            ("haepo.kl_coef", -0.1, "must be at least 0.0, got -0.1."),
            ("haepo.reference_decay", 1.1, "must be at least 0.0 and at most 1.0, got 1.1."),
            ("discount", 1.01, "must be at least 0.0 and at most 1.0, got 1.01."),
            ("discount", -0.01, "must be at least 0.0 and at most 1.0, got -0.01."),
            ("max_env_steps", 0, "must be at least 1, got 0."),
            ("max_env_steps", 2**31, "must be at least 1 and at most 2147483647, got 2147483648."),
            ("ppo.num_steps", 0, "must be at least 1, got 0."),
            ("ppo.num_minibatches", 0, "must be at least 1, got 0."),
            ("ppo.num_epochs", -1, "must be at least 1, got -1."),
            ("ppo.clip_epsilon", 0.0, "must be above 0.0, got 0.0."),
            ("ppo.value_clip_epsilon", 0.0, "must be above 0.0, got 0.0."),
            ("ppo.value_clip_epsilon", "off", "must be a number, got 'off'."),
            ("ppo.gae_lambda", 1.5, "must be at least 0.0 and at most 1.0, got 1.5."),
            ("ppo.value_coef", -0.5, "must be at least 0.0, got -0.5."),
            ("ppo.entropy_coef", -0.01, "must be at least 0.0, got -0.01."),
            ("grpo.clip_epsilon", -0.1, "must be above 0.0, got -0.1."),
            ("grpo.kl_coef", -0.1, "must be at least 0.0, got -0.1."),
            ("grpo.num_epochs", 0, "must be at least 1, got 0."),
            ("grpo.reference_decay", -0.1, "must be at least 0.0 and at most 1.0, got -0.1."),
            ("dpo.beta", 0.0, "must be above 0.0, got 0.0."),
            ("dpo.label_smoothing", 0.491, "must be at least 0.0 and at most 0.49, got 0.491."),
            ("dpo.label_smoothing", 0.5, "must be at least 0.0 and at most 0.49, got 0.5."),
            ("dpo.reference_period", 0, "must be at least 1, got 0."),
            ("env_params.slip", math.nan, "must be finite in float32, got nan."),
            ("env_params.slip", 1e39, "must be finite in float32, got 1e+39."),
            ("env_params.length", 2**31, "must be at least -2147483648 and at most 2147483647, got 2147483648."),
            ("env_params.length", -(10**40), "must be at least -2147483648, got a number of 41 digits."),
            ("policy.initial_log_std", math.nan, "must be finite in float32, got nan."),
        ],
    )
    def test_a_number_out_of_bounds_is_refused_with_the_bounds(self, name, value, expected):
        assert message(nested(name, value)) == f"config.{name} {expected}"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", [name for name in setting_names() if name not in NOT_NUMBERS])
    def test_infinities_and_nan_are_refused_everywhere(self, name, value):
        assert message(nested(name, value)).startswith(f"config.{name} ")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("num_trajectories", 2),
            ("horizon", 1),
            ("horizon", None),
            ("max_env_steps", None),
            ("ppo.value_clip_epsilon", None),
            ("ppo.value_clip_epsilon", 10.0),
            ("max_env_steps", 2**31 - 1),
            ("ppo.gae_lambda", 0.0),
            ("ppo.entropy_coef", 0.0),
            ("dpo.label_smoothing", 0.49),
            ("env_params.slip", -1e38),
            ("env_params.instance", -(2**31)),
            ("env_kwargs.flag", True),
            ("seed", 0),
            ("discount", 0.0),
            ("discount", 1.0),
            ("haepo.entropy_coef", 0.0),
            ("haepo.kl_coef", 0.0),
            ("haepo.reference_decay", 1.0),
            ("optimizer.learning_rate", 1e-9),
        ],
    )
    def test_a_number_on_its_bound_is_accepted(self, name, value):
        assert value_of(from_config_dict(nested(name, value)), name) == value

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("seed", 2**32),  # PRNG keys hold 32 bits of it: the key of seed 0
            ("seed", 10**400),
            ("optimizer.learning_rate", 10**400),
            ("optimizer.learning_rate", 1e39),  # infinite in float32
            ("haepo.temperature", 1e-50),  # 0 in float32
            ("haepo.reference_period", 2**31),  # int32
        ],
    )
    def test_a_number_that_the_program_cannot_hold_is_refused(self, name, value):
        assert message(nested(name, value)).startswith(f"config.{name} must be ")


class TestSweep:
    def test_a_sweep_is_kept_as_tuples_in_the_types_of_the_fields(self):
        sweep = {"haepo.kl_coef": [0, 1], "haepo.reference_period": [1, 2]}
        config = from_config_dict({"haepo": {"reference": "periodic"}, "sweep": sweep})
        assert config.sweep == {"haepo.kl_coef": (0.0, 1.0), "haepo.reference_period": (1, 2)}
        assert {type(value) for value in config.sweep["haepo.kl_coef"]} == {float}

    def test_a_sweep_may_be_nested_by_section(self):
        config = default_config()
        config.sweep = ml_collections.ConfigDict({"haepo": {"entropy_coef": (0.0, 0.1)}, "discount": (0.9, 1.0)})
        assert from_config_dict(config).sweep == {"haepo.entropy_coef": (0.0, 0.1), "discount": (0.9, 1.0)}

    def test_a_sweep_of_a_setting_given_twice_is_refused(self):
        twice = {"haepo.kl_coef": (0.1,), "haepo": {"kl_coef": (0.2,)}}
        assert message({"sweep": twice}).startswith("config.sweep.haepo.kl_coef is given twice")

    def test_a_sweep_of_an_unknown_setting_is_refused_with_the_nearest(self):
        expected = "config.sweep.haepo.kl_cof cannot be swept in one program; did you mean haepo.kl_coef"
        assert message({"sweep": {"haepo.kl_cof": (0.1,)}}).startswith(expected)

    @pytest.mark.parametrize("name", ["num_trajectories", "horizon", "haepo.score", "policy.hidden_sizes"])
    def test_a_sweep_of_a_setting_that_changes_the_program_is_refused_with_what_takes_it(self, name):
        expected = (
            "cannot be swept in one program; each of its values is a program of its own, which the command sweep"
        )
        assert message({"sweep": {name: (1, 2)}}) == f"config.sweep.{name} {expected} takes."

    def test_a_sweep_of_seeds_is_refused_with_what_says_them(self):
        expected = "cannot be swept in one program; config.seed and config.num_seeds say which seeds there are."
        assert message({"sweep": {"seed": (1, 2)}}) == f"config.sweep.seed {expected}"

    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({"algorithm": "reinforce"}, "haepo.kl_coef"),
            ({"haepo": {"reference": "previous"}}, "haepo.reference_period"),
            ({"haepo": {"reference": "periodic"}}, "haepo.reference_decay"),
        ],
    )
    def test_a_sweep_of_a_setting_that_is_not_read_is_refused(self, values, name):
        assert message(values | {"sweep": {name: (1, 1)}}).startswith(f"config.sweep.{name} has no effect, as config.")

    def test_a_sweep_to_unset_is_refused(self):
        expected = "config.sweep.ppo.value_clip_epsilon cannot be unset within a sweep, as that is another program"
        swept = {"algorithm": "ppo", "sweep": {"ppo.value_clip_epsilon": (None, 0.2)}}
        assert message(swept) == f"{expected}; give numbers alone."

    def test_a_sweep_of_an_unlike_name_is_refused_with_all_that_can_be_swept(self):
        may_be_unset = {"ppo": {"value_clip_epsilon": 0.2}}
        allowed = ", ".join(traced_settings(from_config_dict(may_be_unset)))
        expected = f"config.sweep.zzz cannot be swept in one program; allowed: {allowed}."
        assert message({"sweep": {"zzz": (1,)}}) == expected

    @pytest.mark.parametrize("values", [(), [], 0.1, "0.1", None])
    def test_a_sweep_without_a_list_of_values_is_refused(self, values):
        expected = "config.sweep.haepo.kl_coef must be a tuple of values, got "
        assert message({"sweep": {"haepo.kl_coef": values}}).startswith(expected)

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("haepo.kl_coef", -0.1, "must be at least 0.0, got -0.1."),
            ("haepo.kl_coef", math.nan, "must be finite in float32 and at least 0.0, got nan."),
            ("haepo.kl_coef", "0.1", "must be a number, got '0.1'."),
            ("haepo.kl_coef", True, "must be a number, got True."),
            ("haepo.reference_period", 1.5, "must be a whole number, got 1.5."),
            ("optimizer.learning_rate", 0.0, "must be above 0.0, got 0.0."),
        ],
    )
    def test_a_sweep_with_a_bad_value_is_refused_though_another_is_good(self, name, value, expected):
        good = traced_settings(ExperimentConfig())[name]
        assert message({"sweep": {name: (good, value)}}) == f"config.sweep.{name} {expected}"

    def test_a_sweep_of_a_parameter_of_the_environment_is_left_to_the_environment(self):
        sweep = {"env_params": {"slip": (0.0, 0.1)}, "discount": (0.9, 1.0)}
        config = from_config_dict({"sweep": sweep})
        assert config.sweep == {"env_params.slip": (0.0, 0.1), "discount": (0.9, 1.0)}
        assert from_config_dict({"sweep": {"env_params.slip": [0.0, 0.1]}}).sweep == {"env_params.slip": (0.0, 0.1)}

    @pytest.mark.parametrize(
        ("values", "kind"), [((1, 2), int), ((1.0, 2), int), ((1, 2.5), float), ((0.5, 1e30), float)], ids=str
    )
    def test_a_sweep_of_a_parameter_of_the_environment_is_of_one_kind(self, values, kind):
        (swept,) = from_config_dict({"sweep": {"env_params.slip": values}}).sweep.values()
        assert swept == values and {type(value) for value in swept} == {kind}

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ((0.1, "0.2"), "must be a number, got '0.2'."),
            ((0.1, math.inf), "must be finite in float32, got inf."),
            ((1, 2**31), "must be at least -2147483648 and at most 2147483647, got 2147483648."),
            (0.1, "must be a tuple of values, got 0.1."),
            ((), "must be a tuple of values, got []."),
        ],
        ids=str,
    )
    def test_a_sweep_of_a_parameter_of_the_environment_with_a_bad_value_is_refused(self, values, expected):
        assert message({"sweep": {"env_params.slip": values}}) == f"config.sweep.env_params.slip {expected}"

    @pytest.mark.parametrize("section", ["haepo", "ppo", "grpo", "dpo"])
    def test_a_sweep_of_another_algorithms_setting_is_refused(self, section):
        name = f"{section}.{'beta' if section == 'dpo' else 'clip_epsilon'}" if section != "haepo" else "haepo.kl_coef"
        expected = f"config.sweep.{name} has no effect, as config.algorithm is rloo."
        assert message({"algorithm": "rloo", "sweep": {name: (0.1, 0.2)}}) == expected
        kl_coef = {"haepo": {"reference": "frozen"}}
        assert name in from_config_dict({"algorithm": section, **kl_coef, "sweep": {name: (0.1, 0.2)}}).sweep

    @pytest.mark.parametrize("section", ["haepo", "grpo", "dpo"])
    @pytest.mark.parametrize(("leaf", "rule"), [("reference_period", "periodic"), ("reference_decay", "ema")])
    def test_a_sweep_of_another_references_setting_is_refused(self, section, leaf, rule):
        name, values = f"{section}.{leaf}", {"algorithm": section, section: {"reference": "frozen"}}
        expected = f"config.sweep.{name} has no effect, as config.{section}.reference is frozen; it belongs to {rule}."
        assert message(values | {"sweep": {name: (1, 1)}}) == expected
        values[section]["reference"] = rule
        assert from_config_dict(values | {"sweep": {name: (1, 1)}}).sweep == {name: (1, 1)}

    def test_points_are_every_combination_with_the_last_setting_fastest(self):
        config = ExperimentConfig(sweep={"haepo.kl_coef": (0.0, 0.1), "discount": (0.9, 1.0)})
        assert list(sweep_points(config)) == [
            {"haepo.kl_coef": 0.0, "discount": 0.9},
            {"haepo.kl_coef": 0.0, "discount": 1.0},
            {"haepo.kl_coef": 0.1, "discount": 0.9},
            {"haepo.kl_coef": 0.1, "discount": 1.0},
        ]

    def test_without_a_sweep_there_is_one_empty_point(self):
        assert list(sweep_points(ExperimentConfig())) == [{}]


class TestExploration:
    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"persistences": (2, 4)},
                "config.exploration.persistences 2, 4 must begin with 1, the episodes whose noise is drawn at each "
                "step; or be empty, which is no exploration of this kind.",
            ),
            (
                {"persistences": (1, 4, 4)},
                "config.exploration.persistences 1, 4, 4 must rise, each above the one before.",
            ),
            ({"persistences": (0, 4)}, "config.exploration.persistences must be whole numbers of at least 1, got "),
            (
                {"persistences": (1, 4, 8), "floor": 0.4},
                "config.exploration.floor 0.4 for each of 3 persistences is more than 1; it may be at most 0.333.",
            ),
            ({"rate": 1.5}, "config.exploration.rate must be at least 0.0 and at most 1.0, got 1.5."),
        ],
        ids=str,
    )
    def test_what_makes_no_shares_of_episodes_is_refused(self, values, sentence):
        assert message({"exploration": values}).startswith(sentence)

    def test_a_swept_floor_that_is_more_than_all_episodes_is_refused(self):
        values = {"exploration": {"persistences": (1, 4, 8)}, "sweep": {"exploration.floor": (0.1, 0.4)}}
        assert message(values).startswith("config.exploration.floor 0.4 for each of 3 persistences")


class TestCombinations:
    def test_kl_coef_without_a_reference_is_refused(self):
        assert message({"haepo": {"reference": "none", "kl_coef": 0.1}}) == (
            "config.haepo.kl_coef 0.1 needs a reference policy, but config.haepo.reference is none; "
            "choose one of frozen, periodic, ema, previous, or set kl_coef to 0."
        )

    def test_a_swept_kl_coef_without_a_reference_is_refused(self):
        values = {"haepo": {"reference": "none", "kl_coef": 0}, "sweep": {"haepo.kl_coef": (0.0, 0.2)}}
        assert message(values).startswith("config.haepo.kl_coef 0.2 needs a reference policy")

    def test_no_reference_is_accepted_with_kl_coef_0(self):
        assert from_config_dict({"haepo": {"reference": "none", "kl_coef": 0}}).haepo.reference == "none"

    PERIODIC = {"reference": "periodic", "reference_period": 1, "num_epochs": 1, "kl_coef": 0.1}  # noqa: RUF012

    def test_a_reference_that_never_lags_is_refused(self):
        assert "config.haepo.reference_period 1 with num_epochs 1" in message({"haepo": self.PERIODIC})

    def test_a_swept_reference_that_never_lags_is_refused(self):
        values = {"haepo": self.PERIODIC | {"reference_period": 3}, "sweep": {"haepo.reference_period": (2, 1)}}
        assert "config.haepo.reference_period 1 with num_epochs 1" in message(values)

    @pytest.mark.parametrize("change", [{"reference_period": 2}, {"num_epochs": 2}, {"kl_coef": 0.0}], ids=str)
    def test_a_periodic_reference_that_lags_or_has_no_weight_is_accepted(self, change):
        assert from_config_dict({"haepo": self.PERIODIC | change}).haepo == HaepoConfig(**self.PERIODIC | change)

    def test_a_running_mean_that_keeps_nothing_of_the_past_is_refused(self):
        values = {"reference": "ema", "reference_decay": 0.0, "num_epochs": 1, "kl_coef": 0.1}
        assert "reference_decay" in message({"haepo": values})

    @pytest.mark.parametrize("algorithm", ["haepo", "grpo"])
    def test_a_reference_that_cannot_act_is_refused_for_each_algorithm_that_has_one(self, algorithm):
        def refused(**settings):
            return message({"algorithm": algorithm, algorithm: {"num_epochs": 1, "kl_coef": 0.1} | settings})

        assert refused(reference="none") == (
            f"config.{algorithm}.kl_coef 0.1 needs a reference policy, but config.{algorithm}.reference is none; "
            "choose one of frozen, periodic, ema, previous, or set kl_coef to 0."
        )
        assert refused(reference="periodic", reference_period=1) == (
            f"config.{algorithm}.reference_period 1 with num_epochs 1 makes the reference equal to the policy at "
            "every step, where kl_coef has no effect; use reference=previous, or a period of at least 2."
        )
        assert refused(reference="ema", reference_decay=0) == (
            f"config.{algorithm}.reference_decay 0 with num_epochs 1 makes the reference equal to the policy at "
            "every step, where kl_coef has no effect; use a decay above 0."
        )

    def test_preferences_without_a_reference_are_refused(self):
        assert message({"algorithm": "dpo", "dpo": {"reference": "none"}}) == (
            "config.dpo.reference is none, but preferences are measured against a reference policy; "
            "choose one of frozen, periodic, ema, previous."
        )
        assert from_config_dict({"dpo": {"reference": "none"}}).dpo.reference == "none"  # haepo does not read it

    def test_minibatches_that_do_not_come_out_even_are_refused(self):
        values = {"algorithm": "ppo", "num_trajectories": 3, "min_batch_steps": None}
        values["ppo"] = {"num_steps": 5, "num_minibatches": 4}
        assert message(values) == (
            "config.ppo.num_minibatches 4 does not divide the 15 steps of an update "
            "(num_trajectories 3 times ppo.num_steps 5)."
        )
        for number in (1, 3, 5):
            values["ppo"]["num_minibatches"] = number
            assert from_config_dict(values).ppo.num_minibatches == number
        values["ppo"]["num_minibatches"] = 4
        assert from_config_dict(values | {"algorithm": "haepo"}).ppo.num_minibatches == 4

    def test_minibatches_of_one_step_are_refused(self):
        values = {"algorithm": "ppo", "num_trajectories": 2, "min_batch_steps": None}
        values["ppo"] = {"num_steps": 8, "num_minibatches": 16}
        assert message(values) == (
            "config.ppo.num_minibatches 16 leaves one step to each, where a normalised advantage is always 0; "
            "it may be at most 8."
        )

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"num_updates": 2**30, "haepo": {"num_epochs": 2}},
                "config.num_updates 1073741824 with 2 gradient steps in each makes 2,147,483,648 steps",
            ),
            ({"haepo": {"num_epochs": 2**31 - 1}}, "config.num_updates 40 with 2,147,483,647 gradient steps in each"),
            (
                {"algorithm": "ppo", "num_trajectories": 2**16, "ppo": {"num_steps": 2**15}},
                "config.num_trajectories 65,536 times config.ppo.num_steps 32,768 is 2,147,483,648 environment steps",
            ),
        ],
    )
    def test_counts_beyond_int32_are_refused(self, values, sentence):
        assert message(values).startswith(sentence)

    def test_counts_up_to_int32_are_accepted(self):
        assert from_config_dict({"num_updates": 2**31 - 1, "algorithm": "reinforce"}).num_updates == 2**31 - 1
        values = {"algorithm": "ppo", "num_trajectories": 2**16, "ppo": {"num_steps": 2**14}}
        assert from_config_dict(values).ppo.num_steps == 2**14

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"min_batch_steps": 2000, "max_batch_steps": 1999},
                "config.max_batch_steps 1,999 is less than config.min_batch_steps 2,000; it may be that or more.",
            ),
            (
                {"algorithm": "ppo", "num_trajectories": 16, "min_batch_steps": 2000, "max_batch_steps": 2047},
                "config.max_batch_steps 2,047 is less than the 2,048 steps of an update of ppo (num_trajectories 16 "
                "times 128); give at least as many, or a smaller ppo.num_steps.",
            ),
            (
                {"algorithm": "ppo", "num_trajectories": 16, "min_batch_steps": 2**31 - 1},
                "config.num_trajectories 16 times segments of 134,217,728 is 2,147,483,648 environment steps in an "
                "update, and one counts up to 2,147,483,647; take fewer trajectories or shorter ones.",
            ),
        ],
    )
    def test_bounds_of_a_batch_that_leave_none_are_refused(self, values, sentence):
        assert message(values) == sentence

    @pytest.mark.parametrize(
        ("lanes", "num_minibatches", "least", "expected"),
        [(16, 4, None, 128), (16, 4, 2048, 128), (16, 4, 2049, 129), (3, 4, 2000, 668), (6, 4, 2000, 334)],
    )
    def test_segments_are_as_long_as_a_batch_counted_in_steps_needs(self, lanes, num_minibatches, least, expected):
        values = {"num_trajectories": lanes, "min_batch_steps": least, "ppo": {"num_minibatches": num_minibatches}}
        assert count_segment_steps(from_config_dict({"algorithm": "ppo"} | values)) == expected

    def test_seeds_that_would_repeat_are_refused(self):
        last = 2**32 - 1
        assert from_config_dict({"seed": last, "num_seeds": 1}).seed == last
        assert message({"seed": last, "num_seeds": 2}).endswith(f"goes beyond the last seed, {last}.")

    def test_combinations_of_haepo_do_not_matter_to_other_algorithms(self):
        values = {"algorithm": "reinforce", "haepo": {"reference": "none", "kl_coef": 0.1}}
        assert from_config_dict(values).algorithm == "reinforce"


class TestRoundTrips:
    def test_the_default_is_the_default(self):
        assert from_config_dict(default_config()) == ExperimentConfig() == from_config_dict({})

    @pytest.mark.parametrize(
        "config", [ExperimentConfig(), OTHER, SWEPT_ENVIRONMENT], ids=["default", "other", "swept"]
    )
    def test_a_config_survives_dictionaries(self, config):
        assert from_config_dict(to_json(config)) == config

    @pytest.mark.parametrize(
        "config", [ExperimentConfig(), OTHER, SWEPT_ENVIRONMENT], ids=["default", "other", "swept"]
    )
    def test_a_config_survives_the_text_of_a_file(self, config):
        text = json.dumps(to_json(config), allow_nan=False)
        assert from_config_dict(json.loads(text)) == config

    def test_other_differs_from_the_default_so_that_they_mean_something(self):
        changed = {line.split()[0] for line in differing_fields(to_json(ExperimentConfig()), to_json(OTHER))}
        assert {"env", "horizon", "policy.hidden_sizes", "haepo.score", "sweep.haepo.kl_coef"} <= changed

    def test_missing_fields_take_their_defaults(self):
        config = from_config_dict({"haepo": {"score": "mean"}})
        assert config == ExperimentConfig(haepo=HaepoConfig(score="mean"))

    def test_every_setting_is_in_the_config_dict(self):
        flat = flatten(default_config().to_dict())
        assert sorted(flat) == sorted(setting_names())

    def test_a_locked_default_can_still_be_changed(self):
        config = default_config().lock()
        config.horizon = 200
        config.haepo.score = "mean"
        assert from_config_dict(config).horizon == 200
        assert from_config_dict(config).haepo.score == "mean"

    def test_an_unset_number_takes_no_text(self):
        config = default_config().lock()
        with pytest.raises(TypeError, match="horizon"):
            config.horizon = "200"

    def test_each_default_is_a_fresh_one(self):
        default_config().haepo.score = "mean"
        assert from_config_dict(default_config()) == ExperimentConfig()


class TestEnvironmentSettings:
    def test_environment_settings_are_kept_under_any_name(self):
        config = from_config_dict({"env_kwargs": {"size": 12, "kind": "big"}, "env_params": {"slip": 0.1}})
        assert config.env_kwargs == {"size": 12, "kind": "big"} and config.env_params == {"slip": 0.1}

    def test_environment_settings_may_come_from_a_config_dict(self):
        config = default_config()
        config.env_params.slip = 0.1
        config.env_kwargs.size = 12
        made = from_config_dict(config)
        assert made.env_params == {"slip": 0.1} and made.env_kwargs == {"size": 12}
        assert type(made.env_params) is type(made.env_kwargs) is dict

    def test_equal_environment_settings_are_one_config_and_one_program(self):
        """3 and 3.0 are equal, so that a run may be resumed with either: both must be an integer to the program."""
        whole, real = (from_config_dict({"env_params": {"length": length, "slip": 0.1}}) for length in (3, 3.0))
        assert whole == real and differing_fields(to_json(whole), to_json(real)) == []
        for config in (whole, real):
            assert {name: type(value) for name, value in config.env_params.items()} == {"length": int, "slip": float}

    def test_differing_environment_settings_are_named(self):
        old, new = (from_config_dict({"env_params": params}) for params in ({"a": 1, "b": 2}, {"a": 1, "c": 3}))
        assert differing_fields(to_json(old), to_json(new)) == [
            "env_params.b (was 2, now None)",
            "env_params.c (was None, now 3)",
        ]

    def test_environment_settings_left_out_of_a_file_are_empty(self):
        """As in the folders of runs from before there were any."""
        old = to_json(ExperimentConfig())
        del old["env_kwargs"], old["env_params"]
        assert differing_fields(old, to_json(ExperimentConfig())) == []


LION = {"transform": "my.rules:lion", "transform_kwargs": {"sizes": [[3, 3], [2, 2]]}, "transform_params": {"b1": 1}}


class TestArgumentsOfComponents:
    def test_arguments_of_components_are_kept_in_any_section(self):
        config = from_config_dict({"optimizer": LION, "algorithm": "examples.custom_algorithm:METHOD"})
        assert config.optimizer.transform_kwargs == {"sizes": ((3, 3), (2, 2))}
        assert traced_settings(config)["optimizer.transform_params.b1"] == 1.0
        assert type(traced_settings(config)["optimizer.transform_params.b1"]) is float
        assert from_config_dict(json.loads(json.dumps(to_json(config)))) == config

    def test_arguments_of_components_are_replaced_one_by_one(self):
        config = from_config_dict({"optimizer": LION | {"transform_params": {"b1": 0.9, "b2": 0.99}}})
        replaced = with_settings(config, {"optimizer.transform_params.b1": 0.5, "optimizer.learning_rate": 0.1})
        assert (
            replaced.optimizer.transform_params == {"b1": 0.5, "b2": 0.99} and replaced.optimizer.learning_rate == 0.1
        )

    def test_arguments_of_components_may_be_swept_without_being_set(self):
        config = from_config_dict({"sweep": {"optimizer.transform_params.b1": (1, 0.5)}})
        assert config.sweep == {"optimizer.transform_params.b1": (1.0, 0.5)}
        assert traced_settings(config)["optimizer.transform_params.b1"] == 1.0
        name = "haepo.score_params.x"
        assert message({"sweep": {name: (1, 2)}}).startswith(
            f"config.sweep.{name} has no effect, as config.haepo.score is"
        )

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"optimizer": {"transform_params": 3}},
                "config.optimizer.transform_params is a group of settings,",
            ),
            (
                {"optimizer": {"transform_params": {"b1": "x"}}},
                "config.optimizer.transform_params.b1 must be a number",
            ),
            (
                {"policy": {"network_kwargs": {"size": {}}}},
                "config.policy.network_kwargs.size must be a number, text",
            ),
            (
                {"optimizer": {"transform_params": {"a b": 1}}},
                "config.optimizer.transform_params.a b: 'a b' is no name",
            ),
            (
                {"sweep": {"policy.network_kwargs.size": (1,)}},
                "config.sweep.policy.network_kwargs.size cannot be swept",
            ),
        ],
    )
    def test_wrong_arguments_of_components_are_refused(self, values, sentence):
        assert message(values).startswith(sentence)

    def test_runs_from_before_components_have_the_built_in_ones(self):
        now = to_json(ExperimentConfig())
        before = {name: value for name, value in now.items() if name not in ("returns", "metrics")}
        before["policy"] = {"hidden_sizes": [64, 64]}
        before["optimizer"] = {"learning_rate": now["optimizer"]["learning_rate"]}
        assert differing_fields(before, now) == [] and from_config_dict(before) == ExperimentConfig()
        assert differing_fields({"rl": {"optimizer": {}}}, {"rl": {"optimizer": {"transform": "adam"}}}) == []

    def test_components_are_found_by_their_settings(self):
        config = from_config_dict({"env": "a:b", "haepo": {"score": "helpers.own_methods:score_of_the_group"}})
        assert components_of(config) == {"env": "a:b", "haepo.score": "helpers.own_methods:score_of_the_group"}

    def test_activations_are_all_functions_of_jax_nn_that_keep_a_shape(self):
        def keeps_shape(name):
            function = getattr(jax.nn, name)
            required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            try:
                shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 3), (3,))]
                batches = [jax.eval_shape(function, batch) for batch in shapes]
            except Exception:
                return False
            return len(required) == 1 and [batch.shape for batch in batches] == [(2, 3), (3,)]

        functions = {name for name in dir(jax.nn) if inspect.isfunction(inspect.unwrap(getattr(jax.nn, name)))}
        no_activations = {"softmax", "log_softmax", "standardize", "log1mexp"}
        found = {name for name in functions if keeps_shape(name)} - no_activations
        assert found <= set(ACTIVATIONS)
        assert all(keeps_shape(name) for name in ACTIVATIONS)


class TestDifferingFields:
    def test_a_setting_of_others_that_came_later_has_the_default_that_is_given(self):
        old, new = {"sft": {"num_steps": 3}}, {"sft": {"num_steps": 3, "microbatch": 0, "names": ["a"]}}
        assert differing_fields(old, new, {"sft": {"microbatch": 0, "names": ("a",)}}) == []
        assert differing_fields(old, new, {"sft": {"microbatch": 4, "names": ("a",)}}) == [
            "sft.microbatch (was 4, now 0)"
        ]

    def test_equal_configs_have_no_differing_fields(self):
        assert differing_fields(to_json(OTHER), json.loads(json.dumps(to_json(OTHER)))) == []

    def test_differing_fields_are_named_with_both_values(self):
        changed = dataclasses.replace(OTHER, seed=4, policy=dataclasses.replace(OTHER.policy, hidden_sizes=(8,)))
        assert differing_fields(to_json(OTHER), to_json(changed)) == [
            "policy.hidden_sizes (was [8, 4], now [8])",
            "seed (was 3, now 4)",
        ]

    def test_a_value_that_every_point_of_a_search_replaces_does_not_differ(self):
        records = [
            {"optimizer": {"learning_rate": rate}, "discount": 0.9, "search": {"points": points}}
            for rate, points in (
                (0.1, [{"optimizer.learning_rate": 0.2}, {"optimizer.learning_rate": 0.3, "discount": 0.8}]),
                (0.5, [{"optimizer.learning_rate": 0.2}, {"optimizer.learning_rate": 0.3, "discount": 0.8}]),
            )
        ]
        assert differing_fields(*records) == []
        assert differing_fields(records[0], records[1] | {"discount": 1.0}) == ["discount (was 0.9, now 1.0)"]
        others = records[1] | {"search": {"points": [{"optimizer.learning_rate": 0.2}, {}]}}
        assert [line.split()[0] for line in differing_fields(records[0], others)] == [
            "optimizer.learning_rate",
            "search.points",
        ]

    def test_differing_fields_include_the_swept_values(self):
        changed = dataclasses.replace(OTHER, sweep=OTHER.sweep | {"haepo.kl_coef": (0.0, 0.2)})
        assert differing_fields(to_json(OTHER), to_json(changed)) == [
            "sweep.haepo.kl_coef (was [0.0, 0.1], now [0.0, 0.2])"
        ]

    def test_a_field_that_only_one_config_has_counts_as_its_default_in_the_other(self):
        old = to_json(OTHER)
        del old["discount"]
        assert differing_fields(old, to_json(OTHER)) == ["discount (was 1.0, now 0.9)"]


class TestTracedSettings:
    def test_traced_settings_are_the_numbers_that_do_not_change_the_program(self):
        names = set(traced_settings(ExperimentConfig()))
        numbers = {"discount", "optimizer.learning_rate", "optimizer.max_grad_norm", "haepo.temperature"}
        haepo = {"haepo.entropy_coef", "haepo.kl_coef", "haepo.reference_period", "haepo.reference_decay"}
        assert numbers | haepo <= names
        assert names.isdisjoint({"env", "seed", "num_seeds", "num_updates", "num_trajectories", "horizon"})
        assert names.isdisjoint({"haepo.num_epochs", "haepo.score", "policy.hidden_sizes"})

    def test_traced_settings_have_the_values_of_the_config(self):
        traced = traced_settings(OTHER)
        assert "optimizer.learning_rate" in traced
        for name, value in traced.items():
            assert value == value_of(OTHER, name)

    def test_traced_settings_include_every_algorithm_and_the_environment(self):
        names = set(traced_settings(OTHER))
        assert {"ppo.clip_epsilon", "ppo.gae_lambda", "ppo.value_coef", "ppo.entropy_coef"} <= names
        assert {"grpo.clip_epsilon", "grpo.kl_coef", "dpo.beta", "dpo.label_smoothing"} <= names
        assert {"env_params.g", "env_params.dt", "env_params.kind"} <= names
        assert names.isdisjoint({"ppo.num_steps", "ppo.num_epochs", "ppo.num_minibatches", "grpo.aggregation"})
        assert names.isdisjoint({"dpo.pairs", "max_env_steps", "env_kwargs.size"})

    def test_traced_settings_hold_a_swept_parameter_of_the_environment_that_is_not_set(self):
        config = from_config_dict({"sweep": {"env_params.slip": (0.3, 0.1)}})
        assert traced_settings(config)["env_params.slip"] == 0.3
        assert with_settings(config, {"env_params.slip": 0.1}).env_params == {"slip": 0.1}
        assert config.env_params == {}

    def test_traced_settings_of_the_environment_are_replaced_one_by_one(self):
        assert with_settings(OTHER, {"env_params.g": 1.0}).env_params == {"g": 1.0, "dt": 0.1, "kind": 2}
        assert OTHER.env_params["g"] == 9.5

    def test_all_traced_settings_are_replaced(self):
        settings = {name: value * 0.5 for name, value in traced_settings(OTHER).items()}
        replaced = with_settings(OTHER, settings)
        assert traced_settings(replaced) == settings

    def test_traced_settings_leave_the_other_settings_unchanged(self):
        replaced = with_settings(OTHER, {"haepo.kl_coef": 0.7})
        assert replaced == dataclasses.replace(OTHER, haepo=dataclasses.replace(OTHER.haepo, kl_coef=0.7))

    def test_traced_settings_may_be_tracers(self):
        double = jax.jit(lambda kl_coef: 2 * with_settings(OTHER, {"haepo.kl_coef": kl_coef}).haepo.kl_coef)
        assert double(jnp.float32(0.25)) == 0.5


class TestImmutability:
    def test_no_field_can_be_set(self):
        config = ExperimentConfig()
        sections = [
            config.policy,
            config.optimizer,
            config.haepo,
            config.ppo,
            config.grpo,
            config.dpo,
            config.reinforce,
        ]
        for part in (config, *sections):
            for field in dataclasses.fields(part):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(part, field.name, getattr(part, field.name))

    def test_with_settings_leaves_its_argument_alone(self):
        config = copy.deepcopy(OTHER)
        with_settings(config, {"haepo.kl_coef": 0.7, "discount": 0.1})
        assert config == OTHER

    def test_validation_leaves_its_argument_alone(self):
        values = {"policy": {"hidden_sizes": [8]}, "discount": 1, "sweep": {"haepo.entropy_coef": [0, 1]}}
        before = copy.deepcopy(values)
        from_config_dict(values)
        assert values == before

    def test_the_result_does_not_follow_its_source(self):
        config = default_config()
        made = from_config_dict(config)
        config.haepo.score = "mean"
        config.num_seeds = 1
        assert made == ExperimentConfig()

    def test_the_result_does_not_follow_its_json(self):
        json_form = to_json(OTHER)
        json_form["haepo"]["score"] = "sum"
        json_form["sweep"]["haepo.kl_coef"].append(9.0)
        json_form["env_params"]["g"] = json_form["env_kwargs"]["size"] = 7
        assert OTHER.env_params["g"] == 9.5 and OTHER.env_kwargs["size"] == 3
        assert OTHER.haepo.score == "mean" and OTHER.sweep["haepo.kl_coef"] == (0.0, 0.1)
