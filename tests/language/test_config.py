import dataclasses
import json

import pytest
from helpers import own_methods

from haepo_jax.config import differing_fields
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import (
    LanguageConfig,
    default_config,
    from_config_dict,
    get_method_settings,
    name_run,
    stage_settings,
    unread,
)
from haepo_jax.language.prompt_settings import PromptSettings
from haepo_jax.language.reward_settings import ResponseSettings, RewardFunctionSettings
from haepo_jax.methods.schedules import add_schedules


def test_the_default_config_is_the_default():
    assert from_config_dict(default_config()) == LanguageConfig()


def test_a_section_that_is_given_in_part_keeps_its_own_defaults():
    config = from_config_dict({"sft": {"optimizer": {"learning_rate": 1e-4}}})
    assert config.sft.optimizer.learning_rate == 1e-4
    assert config.sft.optimizer.schedule == LanguageConfig().sft.optimizer.schedule == "cosine"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"algorithm": "ppo"},
            "config.algorithm 'ppo' is not known; did you mean dpo or ipo, or one of your own",
        ),
        (
            {"haepo": {"projection": "forward", "entropy_coef": 0.0, "kl_coef": 0.0}},
            "config.haepo.entropy_coef 0 with kl_coef 0 leaves the target of projection forward without a temperature",
        ),
        (
            {"rl": {"importance": {"level": "token"}}},
            "config.rl.importance.level token weighs tokens, which config.algorithm haepo does not learn from one by "
            "one; set it to none, or choose one of grpo, dr_grpo, dapo, gspo, gmpo, cispo, sapo, reinforce_plus_plus, "
            "maxrl.",
        ),
        (
            {"algorithm": "grpo", "rl": {"importance": {"level": "token", "low": 3.0}}},
            "config.rl.importance.low 3.0 is above config.rl.importance.high 2.0; it may be at most that.",
        ),
        (
            {"algorithm": "maxrl"},
            "config.rl.kl_penalty and config.rl.missing_eos_penalty may make returns negative, and config.algorithm "
            "maxrl learns from none that are: set config.rl.kl_penalty and config.rl.missing_eos_penalty to 0.",
        ),
        (
            {"haepo": {"adapt": "dual"}, "rl": {"num_epochs": 1}},
            "config.haepo.adapt dual learns from the weights at the last step on a batch, which are all equal with "
            "score log_ratio and config.rl.num_epochs 1; take at least 2 epochs, or another score.",
        ),
        (
            {"haepo": {"adapt": "dual", "kl_coef": 0.0}},
            "config.haepo.adapt dual begins with config.haepo.kl_coef and multiplies it, so that 0 would stay 0; set "
            "it above 0.",
        ),
        (
            {"algorithm": "vmpo", "vmpo": {"temperature_schedule": "linear"}},
            "config.vmpo.temperature is moved by its dual, so that it takes no schedule; set "
            "config.vmpo.temperature_schedule to constant.",
        ),
        ({"haepo": {"adapt": "meta"}}, "config.haepo.adapt 'meta' is not known; allowed: fixed, ess, dual."),
        ({"reward": {"microbatch": 33}}, "config.reward.microbatch 33 is more than the 32 rows of a step."),
        ({"rl": {"num_sample": 3}}, "config.rl.num_sample is not a setting; did you mean num_samples?"),
        ({"rl": {"num_samples": 1}}, "config.rl.num_samples must be at least 2, got 1."),
        ({"algorithm": "listwise", "listwise": {"beta": 0.0}}, "config.listwise.beta must be above 0.0, got 0.0."),
        ({"rl": {"top_p": 0.0}}, "config.rl.top_p must be above 0.0 and at most 1.0, got 0.0."),
        ({"model": {"remat": 1}}, "config.model.remat must be True or False, got 1."),
        ({"model": {"hidden_size": 10**9}}, "config.model.hidden_size must be at least 2 and at most 16777216"),
        ({"model": {"num_layers": 10**9}}, "config.model.num_layers must be at least 1 and at most 10000"),
        (
            {"model": {"rope_theta": 1e300}},
            "config.model.rope_theta must be finite in float32 and above 0.0 and at most 1e+30",
        ),
        ({"model": {"num_heads": 3}}, "must be an even multiple of num_heads, 3"),
        ({"model": {"num_kv_heads": 3}}, "config.model.num_kv_heads 3 does not divide num_heads 4."),
        *(
            ({"name": name}, f"config.name {name!r} cannot be used; it names a folder and may hold no slash, ")
            for name in (
                "a/b",
                "/a",
                "..",
                ".",
                ".x",
                "..\\x",
                "a\\b",
                "C:\\x",
                "a\nb",
                "\x1b[2J",
                "a\0",
                " a",
                "a ",
                "\ud800",
            )
        ),
        ({"name": "é" * 101}, "config.name 'éééééééééééééééééééé'... has 202 bytes, and at most 200."),
        ({"name": "sft"}, "config.name 'sft' is how the fine-tuned policy is called where policies are compared."),
        ({"rl": {"top_p": 0.5}}, "config.rl.top_p 0.5 does not go with config.rl.kl_penalty: samples from a part"),
        (
            {"algorithm": "grpo", "rl": {"top_p": 0.5, "kl_penalty": 0.0}},
            "set config.grpo.kl_coef to 0, or top_p to 1.",
        ),
        ({"data": {"comparisons": "x"}}, "config.data.demonstrations and config.data.held_out_demonstrations and"),
        (
            {"rl": {"rewards": ("exact",)}},
            "config.rl.rewards 'exact' is not known; allowed: exact_match, regular_expr",
        ),
        ({"rl": {"rewards": 3}}, "config.rl.rewards must be text, got 3."),
        (
            {"rl": {"rewards": ("a:judge", "b.c:judge")}},
            "config.rl.rewards has two functions judge, and metrics and arguments go by that name; give one of them",
        ),
        (
            {"rl": {"rewards": ("a:reward_model",)}},
            "config.rl.rewards has a function reward_model, and metrics and samples have what the reward model gives",
        ),
        (
            {"rl": {"rewards": "format", "reward_weights": (1.0, 2.0)}},
            "config.rl.reward_weights has 2 numbers, and config.rl.rewards 1 functions; give a number for each",
        ),
        ({"rl": {"reward_weights": ("x",)}}, "config.rl.reward_weights must be a number, got 'x'."),
        (
            {"rl": {"rewards": "format", "reward_kwargs": {"formt": {"pattern": "x"}}}},
            "config.rl.reward_kwargs.formt is of no function of config.rl.rewards; did you mean format?",
        ),
        (
            {"rl": {"rewards": "format", "reward_kwargs": {"format": "x"}}},
            "config.rl.reward_kwargs.format is a group of arguments of that function, got 'x'.",
        ),
        ({"rl": {"sampling_parts": 3}}, "config.rl.sampling_parts 3 does not divide config.rl.num_prompts 8."),
        (
            {"data": {"prompts": "a", "demonstrations": "b"}},
            "config.data.demonstrations and prompts of your own (config.data.prompts and its like) are two sources of",
        ),
        (
            {"data": {"prompts": "a", "comparisons": "b"}},
            "config.data.comparisons needs config.data.held_out_comparisons too.",
        ),
        (
            {"data": {"prompts": "a", "comparisons": "b", "held_out_comparisons": "c"}},
            "config.data.comparisons_schema openai_comparisons is of posts; comparisons beside prompts of your own",
        ),
        (
            {"data": {"prompts": "a", "prompt_column": ""}},
            "config.data.prompt_column is empty; give the name of a column.",
        ),
        ({"data": {"prompt_length": 0}}, "config.data.prompt_length must be at least 1, got 0."),
        ({"evaluation": {"temperature": -1.0}}, "config.evaluation.temperature must be at least 0.0, got -1.0."),
        ({"name": "model.path"}, "config.name 'model.path' is how the first model is called where policies are"),
        (
            {"rl": {"gradient": "two_pass", "microbatch": 65}},
            "config.rl.microbatch 65 is more than the 64 responses of an update.",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(values, sentence):
    with pytest.raises(ConfigError) as error:
        from_config_dict(values)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "run 1+2=3"},
        {"name": "a..b"},
        {"rl": {"top_p": 0.5, "kl_penalty": 0.0}},
        {"algorithm": "grpo", "rl": {"top_p": 0.5, "kl_penalty": 0.0}, "grpo": {"kl_coef": 0.0}},
        {"algorithm": "dpo", "rl": {"top_p": 0.5}},
    ],
)
def test_what_harms_nothing_is_allowed(values):
    from_config_dict(values)


def test_what_nothing_reads_of_samples_of_weights_and_of_adapters_is_named():
    reasons = unread(from_config_dict({"algorithm": "kto"}))
    for name in ("rl.kl_penalty", "rl.importance.level"):
        assert reasons[name] == "config.algorithm is kto, which learns from comparisons"
    reasons = unread(from_config_dict({"algorithm": "sapo"}))
    assert reasons["rl.importance.high"] == "config.rl.importance.level is none"
    assert reasons["reward.adapter_alpha"] == "config.reward.adapter_rank is 0"
    assert reasons["dapo.clip_high"] == "config.algorithm is sapo" and "sapo.temperature" not in reasons


def test_the_record_of_a_stage_holds_the_settings_that_the_stage_reads():
    config = from_config_dict({"algorithm": "grpo"})
    assert set(stage_settings(config, "sft")) == {"seed", "precision", "model", "data", "sft", "mesh"}
    rl = stage_settings(config, "rl")
    assert "grpo" in rl and "haepo" not in rl and "sft" not in rl


def test_a_folder_of_before_there_were_reward_functions_and_own_tokenizers_stays_valid():
    now = stage_settings(from_config_dict({}), "rl")
    own = [("data", PromptSettings()), ("rl", ResponseSettings()), ("rl", RewardFunctionSettings())]
    old = json.loads(json.dumps(now))
    for section, settings in own:
        for field in dataclasses.fields(settings):
            del old[section][field.name]
    del old["model"]["tokenizer"]
    defaults = dataclasses.asdict(LanguageConfig())
    assert differing_fields(old, now, defaults) == []
    new = stage_settings(from_config_dict({"rl": {"rewards": "format"}, "data": {"prompt_length": 9}}), "rl")
    assert differing_fields(old, new, defaults) == [
        "data.prompt_length (was None, now 9)",
        "rl.rewards (was [], now ['format'])",
    ]


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ({}, "rl.reward_weights", "config.rl.rewards is empty"),
        ({}, "data.prompt_column", "config.data.prompts is empty"),
        ({"rl": {"rewards": "format"}}, "rl.min_reward_accuracy", "config.rl.rewards gives the rewards, and config"),
        ({"rl": {"rewards": "format"}, "reward_path": "x"}, "rl.min_reward_accuracy", None),
        ({"data": {"prompts": "x"}}, "data.prompt", "the prompts are those of config.data.prompts"),
        ({"data": {"prompts": "x"}}, "rl.evaluate_every", "config.data.held_out_prompts is empty"),
        ({"algorithm": "dpo"}, "rl.filter_groups", "config.algorithm is dpo, which learns from comparisons"),
        ({"algorithm": "dpo"}, "rl.rewards", None),
        ({}, "model.tokenizer", "the generated task has a tokenizer of its own"),
        ({"model": {"path": "x"}}, "model.tokenizer", "config.model.path gives the model"),
        ({"data": {"prompts": "x"}}, "model.tokenizer", None),
    ],
)
def test_what_nothing_reads_of_rewards_and_prompts_is_known(values, name, reason):
    found = unread(from_config_dict(values)).get(name)
    assert found is None if reason is None else found.startswith(reason)


def test_runs_have_names_of_their_own():
    names = [
        name_run(from_config_dict(values))
        for values in ({}, {"haepo": {"score": "sum"}}, {"algorithm": "dpo"}, {"seed": 1}, {"name": "mine"})
    ]
    assert names == ["haepo-log_ratio-seed0", "haepo-sum-seed0", "dpo-seed0", "haepo-log_ratio-seed1", "mine"]


class TestMethodFromOutside:
    NAME = "helpers.own_methods:ON_LANGUAGE"

    def test_its_settings_are_written_out_and_read_by_the_stage(self):
        config = from_config_dict({"algorithm": self.NAME, "algorithm_params": {"weight": 3}})
        assert get_method_settings(config) == add_schedules(own_methods.OwnLossConfig(weight=3.0))
        rl = stage_settings(config, "rl")
        assert rl["algorithm"] == self.NAME and rl["algorithm_params"] == {"weight": 3.0, "kl_coef": 0.0}
        assert "haepo" not in rl and "algorithm" not in stage_settings(config, "sft")
        assert name_run(config) == "helpers.own_methods.ON_LANGUAGE-seed0"
        assert unread(config)["haepo.kl_coef"] == f"config.algorithm is {self.NAME}"

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"algorithm": "helpers.own_methods:PLAIN"},
                "config.algorithm helpers.own_methods:PLAIN does not learn on language models: its record has no",
            ),
            (
                {"algorithm": NAME, "algorithm_params": {"wight": 1.0}},
                f"config.algorithm_params.wight is not a setting of {NAME}; did you mean weight?",
            ),
            (
                {"algorithm": NAME, "algorithm_params": {"weight": 11.0}},
                "config.algorithm_params.weight must be above 0.0 and at most 10.0, got 11.0.",
            ),
            (
                {
                    "algorithm": NAME,
                    "algorithm_params": {"kl_coef": 0.1},
                    "rl": {"top_p": 0.5, "kl_penalty": 0.0},
                },
                "config.rl.top_p 0.5 does not go with config.algorithm_params.kl_coef: samples from a part of the",
            ),
        ],
    )
    def test_what_cannot_be_is_one_sentence(self, values, sentence):
        with pytest.raises(ConfigError) as caught:
            from_config_dict(values)
        assert str(caught.value).startswith(sentence)
