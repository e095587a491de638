"""The configuration: what is refused and in which words, round trips, traced settings and sweeps."""

import copy
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from haepo_jax import config as config_module
from haepo_jax.config import (
    ExperimentConfig,
    HaepoConfig,
    OptimizerConfig,
    PolicyConfig,
    default_config,
    differing_fields,
    from_config_dict,
    setting_names,
    sweep_points,
    to_json,
    traced_settings,
    with_settings,
)
from haepo_jax.errors import ConfigError

OTHER = ExperimentConfig(
    env="Pendulum-v1",
    seed=3,
    num_seeds=2,
    horizon=50,
    discount=0.9,
    policy=PolicyConfig(hidden_sizes=(8, 4), activation="relu", initial_log_std=-1.0),
    optimizer=OptimizerConfig(learning_rate=0.1, schedule="cosine", max_grad_norm=1.5),
    haepo=HaepoConfig(score="mean", normalization="sum", reference="ema", num_epochs=1),
    sweep={"haepo.kl_coef": (0.0, 0.1), "haepo.reference_decay": (0.5, 0.9), "optimizer.learning_rate": (0.1,)},
)
CHOICES = {
    "algorithm": config_module.ALGORITHMS,
    "policy.activation": config_module.ACTIVATIONS,
    "optimizer.schedule": config_module.SCHEDULES,
    "haepo.score": config_module.SCORES,
    "haepo.normalization": config_module.NORMALIZATIONS,
    "haepo.reference": config_module.REFERENCES,
    "grpo.advantage_scale": config_module.ADVANTAGE_SCALES,
    "grpo.aggregation": config_module.AGGREGATIONS,
    "grpo.reference": config_module.REFERENCES,
    "dpo.pairs": config_module.PAIRS,
    "dpo.reference": config_module.REFERENCES,
    "reinforce.normalization": config_module.NORMALIZATIONS,
}


def nested(name, value):
    """{"a": {"b": value}} for the dotted name a.b."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def message(values):
    """The sentence with which these values are refused."""
    with pytest.raises(ConfigError) as error:
        from_config_dict(values)
    return str(error.value)


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
    def test_are_refused_with_the_nearest_name(self, name, hint):
        assert message(nested(name, 1)) == f"config.{name} is not a setting; {hint}"

    def test_are_refused_without_a_hint_when_none_is_near(self):
        assert message({"zzz": 1}) == "config.zzz is not a setting."

    def test_of_a_field_of_another_section_are_refused(self):
        assert "config.policy.learning_rate is not a setting" in message({"policy": {"learning_rate": 0.1}})

    def test_are_refused_in_a_config_dict_too(self):
        config = default_config()
        config.horizn = 5
        assert "config.horizn is not a setting; did you mean horizon?" in message(config)


class TestChoices:
    @pytest.mark.parametrize("name", CHOICES)
    def test_a_wrong_one_is_refused_with_all_that_are_allowed(self, name):
        expected = f"config.{name} 'wrong' is not known; allowed: {', '.join(CHOICES[name])}."
        assert message(nested(name, "wrong")) == expected

    @pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in CHOICES for choice in CHOICES[name]])
    def test_each_allowed_one_is_accepted(self, name, choice):
        values = nested(name, choice)
        if choice == "none" and name == "haepo.reference":
            values["haepo"]["kl_coef"] = 0
        assert value_of(from_config_dict(values), name) == choice

    def test_every_choice_is_tested_here(self):
        assert set(CHOICES) == {
            name for name, _, field in config_module._leaves(ExperimentConfig()) if "choices" in field.metadata
        }


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
            ("sweep", (0.1,), "must map settings to their values, got (0.1,)."),
        ],
    )
    def test_a_wrong_one_is_refused(self, name, value, expected):
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

    @pytest.mark.parametrize("name", ["discount", "optimizer.learning_rate", "haepo.kl_coef", "haepo.temperature"])
    def test_whole_numbers_are_accepted_for_real_ones(self, name):
        value = value_of(from_config_dict(nested(name, 1)), name)
        assert value == 1.0 and type(value) is float

    def test_whole_numbers_are_accepted_for_real_ones_in_a_config_dict(self):
        config = default_config()
        config.optimizer.learning_rate = 1
        assert type(from_config_dict(config).optimizer.learning_rate) is float


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
            ("policy.initial_log_std", math.nan, "must be finite in float32, got nan."),
        ],
    )
    def test_what_is_outside_is_refused_with_what_is_allowed(self, name, value, expected):
        assert message(nested(name, value)) == f"config.{name} {expected}"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", [name for name in setting_names() if name not in {"env", "sweep"}])
    def test_what_is_not_finite_is_refused_everywhere(self, name, value):
        assert message(nested(name, value)).startswith(f"config.{name} ")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("num_trajectories", 2),
            ("horizon", 1),
            ("horizon", None),
            ("seed", 0),
            ("discount", 0.0),
            ("discount", 1.0),
            ("haepo.entropy_coef", 0.0),
            ("haepo.kl_coef", 0.0),
            ("haepo.reference_decay", 1.0),
            ("optimizer.learning_rate", 1e-9),
        ],
    )
    def test_what_is_on_the_edge_is_accepted(self, name, value):
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
    def test_what_the_program_cannot_hold_is_refused(self, name, value):
        assert message(nested(name, value)).startswith(f"config.{name} must be ")


class TestSweep:
    def test_is_kept_as_tuples_in_the_types_of_the_fields(self):
        sweep = {"haepo.kl_coef": [0, 1], "haepo.reference_period": [1, 2]}
        config = from_config_dict({"haepo": {"reference": "periodic"}, "sweep": sweep})
        assert config.sweep == {"haepo.kl_coef": (0.0, 1.0), "haepo.reference_period": (1, 2)}
        assert {type(value) for value in config.sweep["haepo.kl_coef"]} == {float}

    def test_may_be_nested_by_section(self):
        config = default_config()
        config.sweep = ml_collections.ConfigDict({"haepo": {"kl_coef": (0.0, 0.1)}, "discount": (0.9, 1.0)})
        assert from_config_dict(config).sweep == {"haepo.kl_coef": (0.0, 0.1), "discount": (0.9, 1.0)}

    def test_of_an_unknown_setting_is_refused_with_the_nearest(self):
        expected = "config.sweep.haepo.kl_cof cannot be swept in one program; did you mean haepo.kl_coef"
        assert message({"sweep": {"haepo.kl_cof": (0.1,)}}).startswith(expected)

    @pytest.mark.parametrize("name", ["num_trajectories", "horizon", "haepo.score", "policy.hidden_sizes", "seed"])
    def test_of_a_setting_that_changes_the_program_is_refused(self, name):
        assert f"config.sweep.{name} cannot be swept in one program; " in message({"sweep": {name: (1, 2)}})

    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({"algorithm": "reinforce"}, "haepo.kl_coef"),
            ({"haepo": {"reference": "previous"}}, "haepo.reference_period"),
            ({"haepo": {"reference": "periodic"}}, "haepo.reference_decay"),
        ],
    )
    def test_of_a_setting_that_is_not_read_is_refused(self, values, name):
        assert message(values | {"sweep": {name: (1, 1)}}).startswith(f"config.sweep.{name} has no effect, as config.")

    def test_of_an_unlike_name_is_refused_with_all_that_can_be_swept(self):
        expected = f"config.sweep.zzz cannot be swept in one program; allowed: {', '.join(traced_settings(OTHER))}."
        assert message({"sweep": {"zzz": (1,)}}) == expected

    @pytest.mark.parametrize("values", [(), [], 0.1, "0.1", None])
    def test_without_a_list_of_values_is_refused(self, values):
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
    def test_with_a_bad_value_is_refused_though_another_is_good(self, name, value, expected):
        good = traced_settings(ExperimentConfig())[name]
        assert message({"sweep": {name: (good, value)}}) == f"config.sweep.{name} {expected}"

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

    def test_seeds_that_would_repeat_are_refused(self):
        last = 2**32 - 1
        assert from_config_dict({"seed": last, "num_seeds": 1}).seed == last
        assert message({"seed": last, "num_seeds": 2}).endswith(f"goes beyond the last seed, {last}.")

    def test_of_haepo_do_not_matter_to_other_algorithms(self):
        values = {"algorithm": "reinforce", "haepo": {"reference": "none", "kl_coef": 0.1}}
        assert from_config_dict(values).algorithm == "reinforce"


class TestRoundTrips:
    def test_the_default_is_the_default(self):
        assert from_config_dict(default_config()) == ExperimentConfig() == from_config_dict({})

    @pytest.mark.parametrize("config", [ExperimentConfig(), OTHER], ids=["default", "other"])
    def test_through_dictionaries(self, config):
        assert from_config_dict(to_json(config)) == config

    @pytest.mark.parametrize("config", [ExperimentConfig(), OTHER], ids=["default", "other"])
    def test_through_the_text_of_a_file(self, config):
        text = json.dumps(to_json(config), allow_nan=False)
        assert from_config_dict(json.loads(text)) == config

    def test_other_differs_from_the_default_so_that_they_mean_something(self):
        changed = {line.split()[0] for line in differing_fields(to_json(ExperimentConfig()), to_json(OTHER))}
        assert {"env", "horizon", "policy.hidden_sizes", "haepo.score", "sweep.haepo.kl_coef"} <= changed

    def test_missing_fields_take_their_defaults(self):
        config = from_config_dict({"haepo": {"score": "mean"}})
        assert config == ExperimentConfig(haepo=HaepoConfig(score="mean"))

    def test_every_setting_is_in_the_config_dict(self):
        flat = config_module._flatten(default_config().to_dict())
        assert sorted(flat) == sorted(setting_names())

    def test_a_locked_default_can_still_be_changed(self):
        config = default_config().lock()
        config.horizon = 200
        config.haepo.score = "mean"
        assert from_config_dict(config).horizon == 200
        assert from_config_dict(config).haepo.score == "mean"

    def test_an_unset_number_takes_no_text(self):
        config = default_config().lock()
        with pytest.raises(TypeError):
            config.horizon = "200"

    def test_each_default_is_a_fresh_one(self):
        default_config().haepo.score = "mean"
        assert from_config_dict(default_config()) == ExperimentConfig()


class TestDifferingFields:
    def test_equal_configs_have_none(self):
        assert differing_fields(to_json(OTHER), json.loads(json.dumps(to_json(OTHER)))) == []

    def test_are_named_with_both_values(self):
        changed = dataclasses.replace(OTHER, seed=4, policy=dataclasses.replace(OTHER.policy, hidden_sizes=(8,)))
        assert differing_fields(to_json(OTHER), to_json(changed)) == [
            "policy.hidden_sizes (was [8, 4], now [8])",
            "seed (was 3, now 4)",
        ]

    def test_include_the_swept_values(self):
        changed = dataclasses.replace(OTHER, sweep=OTHER.sweep | {"haepo.kl_coef": (0.0, 0.2)})
        assert differing_fields(to_json(OTHER), to_json(changed)) == [
            "sweep.haepo.kl_coef (was [0.0, 0.1], now [0.0, 0.2])"
        ]

    def test_include_a_field_that_only_one_has(self):
        old = to_json(OTHER)
        del old["discount"]
        assert differing_fields(old, to_json(OTHER)) == ["discount (was None, now 0.9)"]


class TestTracedSettings:
    def test_are_the_numbers_that_do_not_change_the_program(self):
        names = set(traced_settings(ExperimentConfig()))
        numbers = {"discount", "optimizer.learning_rate", "optimizer.max_grad_norm", "haepo.temperature"}
        haepo = {"haepo.entropy_coef", "haepo.kl_coef", "haepo.reference_period", "haepo.reference_decay"}
        assert numbers | haepo <= names
        assert names.isdisjoint({"env", "seed", "num_seeds", "num_updates", "num_trajectories", "horizon"})
        assert names.isdisjoint({"haepo.num_epochs", "haepo.score", "policy.hidden_sizes"})

    def test_have_the_values_of_the_config(self):
        for name, value in traced_settings(OTHER).items():
            assert value == value_of(OTHER, name)

    def test_are_all_replaced(self):
        settings = {name: value * 0.5 for name, value in traced_settings(OTHER).items()}
        replaced = with_settings(OTHER, settings)
        assert traced_settings(replaced) == settings

    def test_leave_the_other_settings_as_they_are(self):
        replaced = with_settings(OTHER, {"haepo.kl_coef": 0.7})
        assert replaced == dataclasses.replace(OTHER, haepo=dataclasses.replace(OTHER.haepo, kl_coef=0.7))

    def test_may_be_tracers(self):
        double = jax.jit(lambda kl_coef: 2 * with_settings(OTHER, {"haepo.kl_coef": kl_coef}).haepo.kl_coef)
        assert double(jnp.float32(0.25)) == 0.5


class TestImmutability:
    def test_no_field_can_be_set(self):
        config = ExperimentConfig()
        for part in (config, config.policy, config.optimizer, config.haepo, config.reinforce):
            for field in dataclasses.fields(part):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(part, field.name, getattr(part, field.name))

    def test_with_settings_leaves_its_argument_alone(self):
        config = copy.deepcopy(OTHER)
        with_settings(config, {"haepo.kl_coef": 0.7, "discount": 0.1})
        assert config == OTHER

    def test_validation_leaves_its_argument_alone(self):
        values = {"policy": {"hidden_sizes": [8]}, "discount": 1, "sweep": {"haepo.kl_coef": [0, 1]}}
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
        assert OTHER.haepo.score == "mean" and OTHER.sweep["haepo.kl_coef"] == (0.0, 0.1)
