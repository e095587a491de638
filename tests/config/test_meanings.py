import pytest

from haepo_jax.config import setting_names
from haepo_jax.config.meanings import settings_of
from haepo_jax.config.settings import ExperimentConfig
from haepo_jax.config.sweep import sweep_settings
from haepo_jax.language.config import settings as language_settings

EVERY = {setting.name: setting for setting in (*sweep_settings(), *language_settings())}


def test_there_is_one_for_every_setting():
    assert [setting.name for setting in settings_of(ExperimentConfig())] == setting_names()


def test_every_setting_has_a_sentence():
    assert [name for name, setting in EVERY.items() if not setting.meaning.endswith(".")] == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("num_trajectories", "whole number at least 2"),
        ("min_batch_steps", "whole number at least 1, or none"),
        ("optimizer.learning_rate", "number above 0"),
        ("haepo.reference_decay", "number at least 0 and at most 1"),
        ("haepo.score", "one of sum, mean, log_ratio, or package.module:attribute"),
        ("env_params", "group of settings"),
        ("policy.hidden_sizes", "whole numbers"),
        ("model.remat", "true or false"),
    ],
)
def test_what_a_setting_may_be_is_said_in_words(name, allowed):
    assert EVERY[name].allowed == allowed


def test_a_section_inherits_the_sentences_of_its_parts():
    assert EVERY["grpo.reference_period"].meaning == EVERY["haepo.reference_period"].meaning != ""


def test_settings_of_environments_alone_can_be_swept():
    swept = {setting.name for setting in sweep_settings() if setting.is_swept}
    assert swept > {"haepo.kl_coef", "optimizer.learning_rate"}
    assert not any(setting.is_swept for setting in language_settings())
