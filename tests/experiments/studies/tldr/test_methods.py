import dataclasses

import pytest

from experiments.studies.methods import nest_settings
from experiments.studies.tldr.methods import BASELINES, HAEPO, METHODS, SETTINGS_PER_METHOD
from haepo_jax.language.config import from_config_dict


def test_every_method_of_the_issue_is_there():
    assert [method.label for method in METHODS] == [
        "HAEPO, sum", "HAEPO, mean", "HAEPO, log_ratio", "GRPO", "RLOO", "DPO",
    ]  # fmt: skip
    assert set(HAEPO) == {"sum", "mean", "log_ratio"} and len(BASELINES) == 3


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_all_have_the_same_number_of_settings_and_each_is_allowed(method):
    settings = method.settings()
    assert len({tuple(chosen.items()) for chosen in settings}) == SETTINGS_PER_METHOD
    for chosen in settings:
        config = from_config_dict(nest_settings({**method.base, **chosen}))
        assert config.algorithm == method.name.partition("_")[0]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_nothing_is_tuned_but_the_learning_rate_and_the_loss(method):
    tuned = {name.partition(".")[0] for name in method.grid if name != "rl.optimizer.learning_rate"}
    assert tuned <= {from_config_dict(nest_settings(method.base)).algorithm}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_all_learn_from_as_many_responses_an_update(method):
    config = from_config_dict(nest_settings(method.base))
    of_a_prompt = 2 if config.algorithm == "dpo" else config.rl.num_samples
    assert config.rl.num_prompts * of_a_prompt == 64


def test_another_budget_is_refused():
    with pytest.raises(ValueError, match="dpo has 2 settings to choose from, not 4"):
        dataclasses.replace(METHODS[-1], grid={"dpo.beta": (0.1, 0.5)})
