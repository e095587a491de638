"""Schedules of coefficients: which settings they have, the factors that they give, and what they are refused for."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import own_methods
from helpers.settings import fixed_config

from haepo_jax.config import HaepoConfig, HaepoLossConfig, PpoConfig, from_config_dict
from haepo_jax.config.reads import list_scheduled
from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice, is_coefficient, number
from haepo_jax.language import config as language
from haepo_jax.methods import METHODS, LanguageMethodSettings, Method, MethodSettings, Sees
from haepo_jax.methods.schedules import make_schedule, of_coefficient, with_schedules

HERE = f"{__name__}:"
SECTIONS = [
    *(getattr(MethodSettings(), field.name) for field in dataclasses.fields(MethodSettings)),
    *(getattr(LanguageMethodSettings(), field.name) for field in dataclasses.fields(LanguageMethodSettings)),
    *(method.settings for method in METHODS.values()),
    *(method.language.settings for method in METHODS.values() if method.language is not None),
    own_methods.PLAIN.settings,
    own_methods.ON_LANGUAGE.language.settings,
]


def test_every_traced_real_number_of_every_method_has_a_schedule_that_is_constant():
    seen = set()
    for settings in SECTIONS:
        for field in dataclasses.fields(settings):
            if is_coefficient(field):
                seen.add(field.name)
                assert getattr(settings, f"{field.name}_schedule") == "constant"
                assert getattr(settings, f"{field.name}_schedule_kwargs") == {}
    assert {"entropy_coef", "kl_coef", "temperature", "clip_epsilon", "value_clip_epsilon", "beta", "weight"} <= seen


def test_other_settings_have_none():
    names = {field.name for settings in SECTIONS for field in dataclasses.fields(settings)}
    assert names.isdisjoint({"num_epochs_schedule", "reference_period_schedule", "window_schedule", "score_schedule"})
    assert {of_coefficient(field) for field in dataclasses.fields(HaepoLossConfig())} == {
        *(field.name for field in dataclasses.fields(HaepoLossConfig) if is_coefficient(field)),
        None,
    }


def test_a_class_keeps_its_name_its_text_and_its_one_set_of_schedules():
    assert with_schedules(HaepoConfig) is HaepoConfig
    assert (PpoConfig.__module__, PpoConfig.__qualname__) == ("haepo_jax.methods.ppo", "PpoConfig")
    assert PpoConfig.__doc__.startswith("PPO: actor-critic")
    again = Method(lambda *_: None, Sees.SUMS, own_methods.OwnConfig(width=7)).settings
    assert type(again) is type(own_methods.PLAIN.settings) and again.width == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.width = 8


def test_a_setting_of_the_same_name_in_a_method_from_outside_stays_its_own():
    @dataclasses.dataclass(frozen=True)
    class Own:
        weight: float = number(1.0)
        weight_schedule: str = choice("slow", ("slow", "fast"))
        decay: float = number(1.0)

    settings = Method(lambda *_: None, Sees.SUMS, Own()).settings
    assert settings.weight_schedule == "slow" and not hasattr(settings, "weight_schedule_kwargs")
    assert settings.decay_schedule == "constant"


@pytest.mark.parametrize("end", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_factors_are_those_of_optax(name, end):
    steps = jnp.arange(12)
    expected = {
        "linear": optax.linear_schedule(1.0, end, 10),
        "cosine": optax.cosine_decay_schedule(1.0, 10, alpha=end),
    }[name]
    factor = make_schedule("a", name, 10, kwargs={"end": end})
    np.testing.assert_array_equal(jax.vmap(factor)(steps), jax.vmap(expected)(steps))
    assert float(factor(jnp.int32(10))) == pytest.approx(end)


def power(done, updates, *, exponent=1.0, start=1.0):
    return start * (1 - done / updates) ** exponent


def below(done, updates):
    return 1 - 2 * done / updates


def pair(done, updates):
    return jnp.stack([done, updates])


def endless(done, updates):
    return 1 / jnp.abs(done - updates // 2)


def test_a_schedule_from_outside_gets_the_updates_done_those_of_the_run_and_its_arguments():
    factor = make_schedule("a", f"{HERE}power", 4, kwargs={"exponent": 2})
    assert [float(factor(jnp.int32(done))) for done in range(4)] == [1.0, 0.5625, 0.25, 0.0625]
    by_object = make_schedule("a", power, 4, kwargs={"exponent": 2})
    assert by_object(jnp.int32(1)).dtype == jnp.float32 and float(by_object(jnp.int32(1))) == 0.5625


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"haepo": {"kl_coef_schedule": "liner"}},
            "config.haepo.kl_coef_schedule 'liner' is not known; allowed: constant, linear, cosine, or one of your",
        ),
        (
            {"haepo": {"kl_coef_schedule": "cosine", "kl_coef_schedule_kwargs": {"stop": 0.1}}},
            "config.haepo.kl_coef_schedule_kwargs.stop is not an argument of cosine; allowed: end.",
        ),
        (
            {"haepo": {"kl_coef_schedule": "linear", "kl_coef_schedule_kwargs": {"end": -1}}},
            "config.haepo.kl_coef_schedule_kwargs.end must be a number of at least 0, got -1.",
        ),
        (
            {"haepo": {"kl_coef_schedule": "linear", "kl_coef_schedule_kwargs": {"end": "half"}}},
            "config.haepo.kl_coef_schedule_kwargs.end must be a number of at least 0, got 'half'.",
        ),
        (
            {"haepo": {"temperature": 2.0, "temperature_schedule": "linear"}},
            "config.haepo.temperature_schedule linear takes config.haepo.temperature from 2.0 to 0, and it must be "
            "above 0.0; give config.haepo.temperature_schedule_kwargs.end, the share of it that is left at the end of "
            "the run.",
        ),
        (
            {
                "algorithm": "ppo",
                "ppo": {"gae_lambda_schedule": "linear", "gae_lambda_schedule_kwargs": {"end": 1.1}},
                "sweep": {"ppo.gae_lambda": (0.5, 0.95)},
            },
            "config.ppo.gae_lambda_schedule linear takes config.ppo.gae_lambda from 0.95 to 1.045, and it must be at "
            "least 0.0 and at most 1.0;",
        ),
        (
            {
                "algorithm": "helpers.own_methods:PLAIN",
                "algorithm_kwargs": {"weight_schedule": "cosine"},
            },
            "config.algorithm_kwargs.weight_schedule cosine takes config.algorithm_params.weight from 1.0 to 0, and "
            "it must be above 0.0 and at most 10.0; give config.algorithm_kwargs.weight_schedule_kwargs.end,",
        ),
        (
            {"algorithm": "helpers.own_methods:PLAIN", "algorithm_kwargs": {"weight_schedule_kwargs": 0.5}},
            "config.algorithm_kwargs.weight_schedule_kwargs is a group of settings, got 0.5.",
        ),
        (
            {"sweep": {"haepo.kl_coef_schedule": ("linear",)}},
            "config.sweep.haepo.kl_coef_schedule cannot be swept in one program",
        ),
    ],
    ids=lambda case: str(case)[:60],
)
def test_what_cannot_be_is_refused_in_one_sentence_when_the_config_is_read(values, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        from_config_dict(values)


@pytest.mark.parametrize(
    ("kl_coef", "sentence"),
    [
        (
            {"kl_coef_schedule": f"{HERE}below"},
            f"config.haepo.kl_coef_schedule {HERE}below gives the factor -0.2 after 6 of 10 updates, which takes "
            "config.haepo.kl_coef from 0.5 to -0.1; it must be at least 0.0.",
        ),
        ({"kl_coef_schedule": f"{HERE}endless"}, "gives the factor inf after 5 of 10 updates, which takes"),
        ({"kl_coef_schedule": f"{HERE}pair"}, "gives int32[2]; it must give one number."),
        ({"kl_coef_schedule": f"{HERE}power", "kl_coef_schedule_kwargs": {"exponnt": 1}}, "did you mean exponent?"),
        ({"kl_coef_schedule": f"{HERE}powr"}, "has no powr; did you mean power?"),
    ],
    ids=lambda case: str(case)[:60],
)
def test_one_from_outside_that_cannot_be_used_is_refused_before_anything_is_trained(kl_coef, sentence):
    (scheduled,) = list_scheduled(fixed_config({"num_updates": 10, "haepo": {"kl_coef": 0.5} | kl_coef}))
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        scheduled.make_factor(10)


def test_one_from_outside_is_looked_at_with_every_value_of_a_sweep_and_over_long_runs():
    values = {
        "algorithm": "ppo",
        "ppo": {"gae_lambda_schedule": f"{HERE}power", "gae_lambda_schedule_kwargs": {"start": 1.05}},
        "sweep": {"ppo.gae_lambda": (0.9, 0.96)},
    }
    (scheduled,) = list_scheduled(from_config_dict(values))
    with pytest.raises(ConfigError, match=r"takes config\.ppo\.gae_lambda from 0\.96 to 1\.008; it must be at least"):
        scheduled.make_factor(2**31 - 1)
    scheduled._replace(values=(0.9,)).make_factor(2**31 - 1)


def test_only_coefficients_that_are_set_and_read_are_scheduled():
    ppo = {"value_clip_epsilon_schedule": f"{HERE}power", "entropy_coef_schedule": "linear"}
    unset = from_config_dict({"algorithm": "ppo", "ppo": ppo})
    assert [scheduled.name for scheduled in list_scheduled(unset)] == ["ppo.entropy_coef"]
    swept = from_config_dict({"algorithm": "ppo", "ppo": ppo, "sweep": {"ppo.value_clip_epsilon": (0.1, 0.2)}})
    assert [scheduled.values for scheduled in list_scheduled(swept)] == [(0.1, 0.2), (0.01,)]
    unread = from_config_dict({"haepo": {"reference": "previous", "reference_decay_schedule": "linear"}})
    assert list_scheduled(unread) == ()


def test_on_language_models_they_are_refused_and_found_alike():
    with pytest.raises(ConfigError, match=r"haepo\.temperature_schedule linear takes config\.haepo\.temperature from"):
        language.from_config_dict({"haepo": {"temperature_schedule": "linear"}})
    config = language.from_config_dict({"algorithm": "dpo", "dpo": {"label_smoothing_schedule": "linear"}})
    assert [scheduled.name for scheduled in language.list_scheduled(config)] == ["dpo.label_smoothing"]
    reasons = language.unread(config)
    assert reasons["haepo.kl_coef_schedule"] == "config.algorithm is dpo"
    assert reasons["dpo.beta_schedule_kwargs"] == (
        "config.dpo.beta_schedule is constant, which takes no such arguments"
    )
    assert "dpo.label_smoothing_schedule_kwargs" not in reasons
