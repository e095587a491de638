"""A method from outside: its settings in the config, their checks and their names."""

import json

import jax.numpy as jnp
import pytest
from helpers import own_methods

from haepo_jax.config import (
    ExperimentConfig,
    checked_settings,
    count_steps_of_update,
    describe_settings_place,
    from_config_dict,
    get_method,
    get_method_settings,
    name_setting,
    to_json,
    traced_settings,
    with_settings,
)
from haepo_jax.config.conversion import with_components
from haepo_jax.config.method import components_of
from haepo_jax.config.reads import unread
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.language import config as language
from haepo_jax.methods.schedules import add_schedules

PLAIN = "helpers.own_methods:PLAIN"


def config_of(name=PLAIN, **changes):
    return from_config_dict({"algorithm": name} | changes)


def refusal(**changes):
    with pytest.raises(ConfigError) as caught:
        config_of(**changes)
    return str(caught.value)


def test_its_settings_are_its_defaults_with_those_of_the_config_in_place():
    config = config_of(algorithm_kwargs={"width": 5, "reference": "ema"}, algorithm_params={"weight": 2})
    assert get_method(config) == own_methods.PLAIN
    expected = own_methods.OwnConfig(width=5, reference="ema", weight=2.0)
    assert get_method_settings(config) == add_schedules(expected)
    assert count_steps_of_update(config) == 4


def test_all_its_settings_are_written_out_and_read_back():
    record = json.loads(json.dumps(to_json(config_of(algorithm_params={"weight": 2}))))
    assert record["algorithm_params"] == {"reference_period": 5, "reference_decay": 0.9, "weight": 2, "window": 3}
    expected = {"num_epochs": 4, "reference": "previous", "width": 2, "power": 0.5, "kind": "plain"}
    assert record["algorithm_kwargs"] == expected
    assert from_config_dict(record) == config_of(algorithm_params={"weight": 2})


def test_its_numbers_are_traced_in_the_type_of_their_setting():
    config = config_of()
    name = "algorithm_params.window"
    assert traced_settings(config)[name] == 3.0
    held = get_method_settings(
        with_settings(config, {name: jnp.float32(4), "algorithm_params.weight": jnp.float32(2)})
    )
    assert held.window == 4 and held.window.dtype == jnp.int32 and held.weight.dtype == jnp.float32
    assert checked_settings(config, {"algorithm_params.weight": 3}) == {"algorithm_params.weight": 3.0}
    with pytest.raises(
        ConfigError, match=r"config\.sweep\.algorithm_params\.weight must be above 0\.0 and at most 10"
    ):
        checked_settings(config, {"algorithm_params.weight": 11})


def test_its_settings_have_names_and_a_place():
    config = config_of()
    assert [name_setting(config, leaf) for leaf in ("weight", "width")] == [
        "algorithm_params.weight",
        "algorithm_kwargs.width",
    ]
    assert describe_settings_place(config) == "config.algorithm_kwargs and config.algorithm_params"
    assert describe_settings_place(ExperimentConfig()) == "config.haepo"


def test_the_settings_of_built_in_methods_are_then_not_read():
    reasons = unread(config_of())
    assert reasons["haepo.kl_coef"] == f"config.algorithm is {PLAIN}"
    assert reasons["algorithm_params.reference_decay"] == (
        "config.algorithm_kwargs.reference is previous; it belongs to ema"
    )
    assert refusal(sweep={"haepo.kl_coef": (0.0, 0.1)}) == (
        f"config.sweep.haepo.kl_coef has no effect, as config.algorithm is {PLAIN}."
    )


def test_a_method_from_outside_and_its_settings_may_be_swept():
    swept = from_values(
        {
            "num_seeds": 1,
            "algorithm": PLAIN,
            "sweep": {"algorithm_params": {"weight": (1.0, 2.0)}, "algorithm_kwargs": {"width": (1, 2)}},
        }
    )
    assert [group.name for group in swept.groups] == ["algorithm_kwargs.width=1", "algorithm_kwargs.width=2"]
    assert [member.settings["algorithm_params.weight"] for member in swept.members] == [1.0, 2.0, 1.0, 2.0]
    both = from_values({"num_seeds": 1, "sweep": {"algorithm": ("rloo", PLAIN)}})
    assert [group.name for group in both.groups] == ["algorithm=rloo", f"algorithm={PLAIN}"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"algorithm_params": {"weigth": 1.0}},
            f"config.algorithm_params.weigth is not a setting of {PLAIN}; did you mean weight?",
        ),
        (
            {"algorithm_params": {"width": 1.0}},
            "config.algorithm_params.width decides the program; give it as config.algorithm_kwargs.width.",
        ),
        (
            {"algorithm_kwargs": {"weight": 1.0}},
            "config.algorithm_kwargs.weight is a number that may vary within a program; give it as "
            "config.algorithm_params.weight.",
        ),
        (
            {"algorithm_params": {"weight": 0.0}},
            "config.algorithm_params.weight must be above 0.0 and at most 10.0, got 0.0.",
        ),
        (
            {"sweep": {"algorithm_params.weight": (1.0, 20.0)}},
            "config.sweep.algorithm_params.weight must be above 0.0 and at most 10.0, got 20.0.",
        ),
        (
            {"algorithm_params": {"window": 2.5}},
            "config.algorithm_params.window must be a whole number, got 2.5.",
        ),
        (
            {"algorithm_kwargs": {"weight_schedule_kwargs": 2, "weight_schedule_kwargs.end": 0.5}},
            "config.algorithm_kwargs.weight_schedule_kwargs.end needs config.algorithm_kwargs.weight_schedule_kwargs "
            "to be a group of settings, got 2.",
        ),
        (
            {"algorithm_kwargs": {"weight_schedule_kwargs": {"end": 0.5}, "weight_schedule_kwargs.end": 0.5}},
            "config.algorithm_kwargs.weight_schedule_kwargs.end is given twice, nested and by its dotted name; give "
            "it once.",
        ),
        ({"algorithm_kwargs": {"power": "high"}}, "config.algorithm_kwargs.power must be a number, got 'high'."),
        ({"algorithm_kwargs": {"kind": 3}}, "config.algorithm_kwargs.kind must be text, got 3."),
        (
            {"algorithm_kwargs": {"reference": "periodc"}},
            "config.algorithm_kwargs.reference 'periodc' is not known; allowed: none, frozen, "
            "periodic, ema, previous.",
        ),
    ],
    ids=lambda case: str(case)[:50],
)
def test_an_unknown_or_wrong_setting_of_a_method_is_refused_in_one_sentence(changes, sentence):
    assert refusal(**changes) == sentence


def test_what_is_no_record_is_refused():
    sentence = refusal(name="helpers.own_methods:score")
    assert sentence.startswith("config.algorithm helpers.own_methods:score is <function score at ")
    assert sentence.endswith("; it must be a haepo_jax.methods.Method.")


@pytest.mark.parametrize("given", [{"weight_schedule_kwargs": {"end": 0.5}}, {"weight_schedule_kwargs.end": 0.5}])
def test_a_schedule_of_its_own_numbers_is_written_out_where_it_is_not_constant(given):
    config = config_of(algorithm_kwargs={"weight_schedule": "linear"} | given)
    record = json.loads(json.dumps(to_json(config)))
    assert record["algorithm_kwargs"]["weight_schedule_kwargs"] == {"end": 0.5}
    assert {name for name in record["algorithm_kwargs"] if "schedule" in name} == {
        "weight_schedule",
        "weight_schedule_kwargs",
    }
    assert from_config_dict(record) == config
    reasons = unread(config)
    assert reasons["algorithm_kwargs.reference_decay_schedule"] == reasons["algorithm_params.reference_decay"]
    assert "algorithm_kwargs.weight_schedule_kwargs" not in reasons


def test_a_method_with_the_settings_of_a_built_in_one_is_read_back():
    config = config_of("helpers.own_methods:LIKE_HAEPO", algorithm_kwargs={"score_kwargs": {"power": 1}})
    record = json.loads(json.dumps(to_json(config)))
    assert record["algorithm_kwargs"]["score_kwargs"] == {"power": 1} and from_config_dict(record) == config


def test_components_among_its_settings_are_found():
    config = config_of(algorithm_kwargs={"weight_schedule": "my_project:slow"})
    assert components_of(config) == {"algorithm": PLAIN, "algorithm_kwargs.weight_schedule": "my_project:slow"}
    on_language = language.from_config_dict(
        {
            "algorithm": "helpers.own_methods:ON_LANGUAGE",
            "algorithm_kwargs": {"kl_coef_schedule": "my_project:slow"},
        }
    )
    assert components_of(on_language)["algorithm_kwargs.kl_coef_schedule"] == "my_project:slow"


def test_its_checks_name_its_settings():
    sentence = refusal(name="examples.custom_algorithm:METHOD", algorithm_kwargs={"reference": "none"})
    assert sentence.startswith(
        "config.algorithm_params.kl_coef 0.1 needs a reference policy, but config.algorithm_kwargs.reference is none;"
    )


def test_segments_must_divide_into_minibatches_whichever_the_method():
    sentence = refusal(
        name="helpers.own_methods:CRITIC",
        algorithm_kwargs={"num_minibatches": 3},
        num_trajectories=16,
        min_batch_steps=None,
    )
    assert sentence == (
        "config.algorithm_kwargs.num_minibatches 3 does not divide the 128 steps of an update (num_trajectories 16 "
        "times algorithm_kwargs.num_steps 8)."
    )


def test_a_program_may_give_the_record_itself():
    config = with_components(ExperimentConfig(), {"algorithm": own_methods.PLAIN})
    assert get_method(config) is own_methods.PLAIN and config.algorithm_params["weight"] == 1.0
    with pytest.raises(
        ConfigError, match=r"algorithm_params\.weigth is not a setting of the Method that is given; did"
    ):
        with_components(ExperimentConfig(algorithm_params={"weigth": 1.0}), {"algorithm": own_methods.PLAIN})
