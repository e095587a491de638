"""The default is one setting for every task, the same wherever it is asked for, and no choice beside it fails."""

import pytest

from experiments.cli import arguments, command_line
from experiments.studies.methods import STATED
from haepo_jax.config import (
    ALGORITHMS,
    ExperimentConfig,
    HaepoConfig,
    count_segment_steps,
    default_config,
    from_config_dict,
)
from haepo_jax.config.meanings import settings_of
from haepo_jax.config.reads import set_and_unread, unread
from haepo_jax.config.settings import FIELDS
from haepo_jax.errors import ConfigError
from haepo_jax.fields import leaves
from haepo_jax.language import config as language

ONE_SETTING = {
    "num_trajectories": 4,
    "min_batch_steps": 512,
    "exploration.persistences": (1, 4, 8, 16, 32),
    "optimizer.learning_rate": 3e-3,
    "optimizer.schedule": "linear",
    "haepo.score": "log_ratio",
    "haepo.normalization": "zscore",
    "haepo.temperature": 4.0,
    "haepo.projection": "forward",
    "haepo.target": "linear",
    "haepo.adapt": "ess",
    "haepo.target_effective_sample_size": 0.5,
    "haepo.kl_coef": 0.0,
    "haepo.num_epochs": 4,
    "haepo.reference": "none",
    "haepo.history": 7,
}


def test_the_default_is_the_one_setting_for_every_task():
    values = {name: value for name, value, _ in leaves(ExperimentConfig())}
    assert {name: values[name] for name in ONE_SETTING} == ONE_SETTING


def test_the_default_is_the_same_wherever_it_is_asked_for():
    assert from_config_dict(default_config()) == from_config_dict({}) == ExperimentConfig()
    assert ExperimentConfig().haepo == HaepoConfig()
    held = {name: value for name, value, field in leaves(ExperimentConfig()) if not field.metadata.get("group")}
    assert held == {name: FIELDS[name].default for name in held}
    assert {setting.name: setting.default for setting in settings_of(ExperimentConfig())}.items() >= held.items()


def test_studies_state_all_of_it_but_what_each_of_their_methods_and_tasks_says():
    said = {"num_trajectories", "haepo.score", "haepo.target_effective_sample_size"}
    assert ONE_SETTING.keys() - said <= STATED.keys()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_method_reads_or_leaves_every_default(algorithm):
    config = from_config_dict({"algorithm": algorithm})
    assert set_and_unread(config, unread(config)) == {}


@pytest.mark.parametrize(
    "haepo",
    [
        *({"adapt": "fixed"}, {"adapt": "dual"}, {"adapt": "meta"}, {"projection": "reverse"}, {"history": 0}),
        *({"score": "sum"}, {"score": "mean"}, {"num_epochs": 1}, {"reference": "previous", "kl_coef": 0.1}),
    ],
    ids=str,
)
def test_a_choice_of_haepo_goes_with_the_other_defaults(haepo):
    made = from_config_dict({"haepo": haepo})
    assert made == ExperimentConfig(haepo=HaepoConfig(**haepo))
    assert set_and_unread(made, unread(made)) == {}


def test_ppo_begins_with_four_environments_of_128_steps():
    config = from_config_dict({"algorithm": "ppo"})
    assert (config.num_trajectories, count_segment_steps(config)) == (4, 128)


def test_a_length_of_segments_that_the_batch_makes_void_is_refused_as_a_flag(monkeypatch):
    override = arguments.Override("ppo.num_steps", "64", 64)
    monkeypatch.setattr(command_line, "_given", arguments.Arguments((override,), asks_for_help=False))
    values = {"algorithm": "ppo", "ppo": {"num_steps": 64}}
    with pytest.raises(ConfigError) as raised:
        command_line.check_read([from_config_dict(values)])
    sentence = (
        "--config.ppo.num_steps=64 has no effect, as config.min_batch_steps 512, which may be none, makes segments "
        "128 steps long;"
    )
    assert sentence in str(raised.value)
    command_line.check_read([from_config_dict(values | {"min_batch_steps": 1})])


def test_a_memory_that_keeps_no_steps_asks_for_no_earlier_episodes():
    with pytest.raises(ConfigError) as raised:
        from_config_dict({"memory": "recompute"})
    assert str(raised.value) == (
        "config.memory recompute keeps no steps, which config.haepo.history learns from; choose auto, store or remat, "
        "or config.haepo.history 0."
    )
    assert from_config_dict({"memory": "recompute", "haepo": {"history": 0}}).memory == "recompute"


def test_language_models_learn_as_before():
    haepo = language.from_config_dict({}).haepo
    assert (haepo.adapt, haepo.projection, haepo.temperature, haepo.kl_coef) == ("fixed", "reverse", 1.0, 5e-3)
