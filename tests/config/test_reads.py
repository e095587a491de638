"""Which settings are read by which experiments, and what a command says of those that are not."""

import pytest

from experiments.cli import arguments, command_line, config_file
from experiments.cli.shipped_configs import list_configs
from haepo_jax.config import ALGORITHMS, from_config_dict, setting_names
from haepo_jax.config.reads import set_and_unread, unread, unread_by_all
from haepo_jax.config.settings import FIELDS
from haepo_jax.config.sweep import from_values, unread_of_search
from haepo_jax.errors import ConfigError
from haepo_jax.language import config as language
from haepo_jax.methods import HaepoConfig, haepo_segments
from haepo_jax.methods.schedules import of_coefficient

ARGUMENTS = {"haepo.score_kwargs", "haepo.score_params"}  # of a score from outside
REFERENCES = {"haepo.reference_period", "haepo.reference_decay"}
OF_SCHEDULES = {name for name, field in FIELDS.items() if of_coefficient(field)}
OF_SEGMENTS = {f"haepo.{name}" for name in haepo_segments.find_unread(HaepoConfig())}
OF_LANGUAGE = list_configs(of_language=True)  # they serve several methods
assert OF_LANGUAGE == ["puzzles", "tldr_generated", "tldr_pythia", "tldr_qwen3"]
OF_A_CHOICE = {name for name, field in FIELDS.items() if field.metadata.get("only_with")}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_reads_its_own_section_and_no_other(algorithm):
    names = set(unread(from_config_dict({"algorithm": algorithm})))
    for name in setting_names():
        section = name.partition(".")[0]
        if section in ALGORITHMS and section != algorithm:
            assert name in names
    own = {name for name in names if name.startswith(f"{algorithm}.")}
    assert own - OF_SCHEDULES <= ARGUMENTS | OF_A_CHOICE | OF_SEGMENTS


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("previous", REFERENCES),
        ("frozen", REFERENCES),
        ("periodic", {"haepo.reference_decay"}),
        ("ema", {"haepo.reference_period"}),
    ],
)
def test_numbers_of_a_reference_belong_to_their_rule(reference, expected):
    names = unread(from_config_dict({"haepo": {"reference": reference}}))
    own = {name for name in names if name.startswith("haepo.reference")} - {"haepo.reference_decay_schedule_kwargs"}
    assert own == expected | {f"{name}_schedule" for name in expected & {"haepo.reference_decay"}}


def test_a_schedule_belongs_to_a_number_that_is_read_and_set_and_its_arguments_to_one_that_takes_some():
    reasons = unread(from_config_dict({"algorithm": "ppo", "ppo": {"clip_epsilon_schedule": "my_project:slow"}}))
    assert reasons["haepo.kl_coef_schedule"] == "config.algorithm is ppo"
    assert reasons["ppo.value_clip_epsilon_schedule"] == "config.ppo.value_clip_epsilon is unset"
    assert "ppo.clip_epsilon_schedule_kwargs" not in reasons and "ppo.entropy_coef_schedule" not in reasons
    why = "config.ppo.entropy_coef_schedule is constant, which takes no such arguments"
    assert reasons["ppo.entropy_coef_schedule_kwargs"] == why
    swept = {"algorithm": "ppo", "sweep": {"ppo.value_clip_epsilon": (0.1, 0.2)}}
    assert "ppo.value_clip_epsilon_schedule" not in unread(from_config_dict(swept))


def test_arguments_of_the_schedule_of_the_learning_rate_belong_to_those_that_take_some():
    reasons = [unread(from_config_dict({"optimizer": {"schedule": name}})) for name in ("constant", "cosine")]
    assert ["optimizer.schedule_kwargs" in of_each for of_each in reasons] == [True, False]


def test_deviations_belong_to_real_actions_and_activations_to_hidden_layers():
    config = from_config_dict({"policy": {"hidden_sizes": ()}})
    assert unread(config)["policy.activation"] == "config.policy.hidden_sizes is empty"
    assert "policy.initial_log_std" not in unread(config)
    reason = unread(config, discrete_actions=True)["policy.initial_log_std"]
    assert reason == "the actions of CartPole-v1 are discrete"


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        ("mlp", (), {"network_kwargs"}),
        ("cnn", (), {"hidden_sizes"}),
        ("gru", (), {"network_kwargs"}),
        ("my_project.nets:Net", ("size", "activation"), {"hidden_sizes"}),
        ("my_project.nets:Net", ("hidden_sizes",), {"activation"}),
    ],
)
def test_a_network_reads_the_settings_that_it_takes(network, arguments, expected):
    config = from_config_dict({"policy": {"network": network}})
    reasons = unread(config, network_arguments=arguments)
    assert {name.partition(".")[2] for name in reasons if name.startswith("policy.")} == expected
    assert all(f"config.policy.network is {network}, wh" in reasons[f"policy.{name}"] for name in expected)


def test_an_activation_belongs_to_layers_before_a_recurrent_one():
    reasons = unread(from_config_dict({"policy": {"network": "lstm", "hidden_sizes": (8,)}}))
    assert reasons["policy.activation"] == "config.policy.hidden_sizes has no layer before the recurrent one"


def test_a_recurrent_cell_from_outside_takes_hidden_sizes_as_an_argument(monkeypatch):
    given(monkeypatch, policy__hidden_sizes="(8,)")
    command_line.check_read([from_config_dict({"policy": {"network": "flax.linen:MGUCell", "hidden_sizes": (8,)}})])


def test_what_a_network_from_outside_does_not_take_is_refused_as_an_argument(monkeypatch):
    given(monkeypatch, policy__hidden_sizes="(8,)")
    config = from_config_dict({"policy": {"network": "flax.linen:Dense", "network_kwargs": {"features": 3}}})
    sentence = r"has no effect, as config.policy.network is flax.linen:Dense, which does not take it; leave it out"
    with pytest.raises(ConfigError, match=sentence):
        command_line.check_read([config])


def test_episodes_of_evaluations_belong_to_training_that_has_any():
    assert unread(from_config_dict({}))["evaluate_episodes"] == "config.evaluate_every is unset"
    assert "evaluate_episodes" not in unread(from_config_dict({"evaluate_every": 5}))


def test_exploration_belongs_to_persistences_above_1_and_to_whole_episodes():
    alone = unread(from_config_dict({"exploration": {"persistences": (1,)}}))
    assert alone["exploration.rate"] == "config.exploration.persistences has none above 1"
    assert "exploration.persistences" not in alone and "exploration.floor" in alone
    several = {"exploration": {"persistences": (1, 4)}}
    assert not [name for name in unread(from_config_dict(several)) if name.startswith("exploration.")]
    of_ppo = unread(from_config_dict(several | {"algorithm": "ppo"}))
    reason = "whose environments go on from update to update; exploration belongs to whole episodes"
    for name in ("persistences", "rate"):
        assert of_ppo[f"exploration.{name}"] == f"config.algorithm is ppo, {reason}"


def test_what_belongs_to_several_agents_is_not_read_where_there_is_one():
    one = unread(from_config_dict({}), one_agent=True)
    of_agents = ("agents.networks", "agents.sees_number", "haepo.joint")
    assert [one[name] for name in of_agents] == ["CartPole-v1 has one agent"] * 3
    several = unread(from_config_dict({}))
    assert not any(name in several for name in of_agents)
    each = unread(from_config_dict({"agents": {"networks": "each"}}))
    assert each["agents.sees_number"] == "config.agents.networks is each, so that no network has two agents"
    segments = unread(from_config_dict({"haepo": {"segment_length": 4}}))
    assert segments["haepo.joint"].endswith("the segments that compete are each agent's own")
    assert "ppo.critic_sees" not in unread(from_config_dict({"algorithm": "ppo"}))
    assert unread(from_config_dict({"algorithm": "ppo"}), one_agent=True)["ppo.critic_sees"]


def test_what_belongs_to_several_agents_is_refused_as_an_argument_where_there_is_one(monkeypatch):
    given(monkeypatch, haepo__joint="own")
    with pytest.raises(ConfigError, match=r"--config.haepo.joint=own has no effect, as CartPole-v1 has one agent"):
        command_line.check_read([from_config_dict({"haepo": {"joint": "own"}})])
    command_line.check_read([from_config_dict({"haepo": {"joint": "own"}, "env": "Signals-haepo"})])


def test_what_one_of_several_experiments_reads_is_read():
    haepo, ppo = (unread(from_config_dict({"algorithm": name})) for name in ("haepo", "ppo"))
    together = unread_by_all([haepo, ppo])
    assert "haepo.score" not in together and "ppo.num_steps" not in together and "dpo.beta" in together


def test_what_is_set_in_vain_is_found_by_its_reason():
    config = from_config_dict(
        {"algorithm": "rloo", "haepo": {"score": "sum", "temperature": HaepoConfig().temperature}}
    )
    assert set_and_unread(config, unread(config)) == {"config.algorithm is rloo": ["haepo.score"]}


def given(monkeypatch, **settings):
    overrides = tuple(
        arguments.Override(name.replace("__", "."), str(value), value) for name, value in settings.items()
    )
    monkeypatch.setattr(command_line, "_given", arguments.Arguments(overrides, asks_for_help=False))


@pytest.mark.parametrize(
    ("values", "override", "sentence"),
    [
        ({}, {"ppo__clip_epsilon": 0.1}, "--config.ppo.clip_epsilon=0.1 has no effect, as config.algorithm is haepo;"),
        ({"algorithm": "reinforce"}, {"haepo__score": "sum"}, "has no effect, as config.algorithm is reinforce;"),
        (
            {},
            {"haepo__reference_period": 3},
            "as config.haepo.reference is none; it belongs to periodic; leave it",
        ),
        ({}, {"policy__initial_log_std": -1.0}, "has no effect, as the actions of CartPole-v1 are discrete; leave it"),
        (
            {},
            {"haepo__reference_decay_schedule": "linear"},
            "--config.haepo.reference_decay_schedule=linear has no effect, as config.haepo.reference is none;",
        ),
        ({"algorithm": "ppo", "memory": "store"}, {"memory": "store"}, "which keeps its segments whatever is set;"),
    ],
)
def test_an_argument_that_nothing_reads_is_refused(monkeypatch, values, override, sentence):
    given(monkeypatch, **override)
    with pytest.raises(ConfigError) as raised:
        command_line.check_read([from_config_dict(values)])
    assert sentence in str(raised.value)


def test_arguments_that_are_read_pass_in_silence(monkeypatch, capsys):
    given(monkeypatch, haepo__score="sum", policy__initial_log_std=-1.0, num_seeds=3)
    command_line.check_read([from_config_dict({"env": "Pendulum-v1", "haepo": {"score": "sum"}})])
    assert capsys.readouterr().out == ""


def test_a_config_file_that_serves_several_methods_gets_a_word_of_what_it_sets_in_vain(monkeypatch, capsys):
    given(monkeypatch, algorithm="ppo")
    config = from_config_dict({"algorithm": "ppo", "haepo": {"temperature": 7.0, "kl_coef": 0.1}})
    command_line.check_read([config])
    assert capsys.readouterr().out == (
        "The config file sets haepo.temperature, haepo.kl_coef, which nothing reads, as config.algorithm is ppo.\n"
    )


@pytest.mark.parametrize("name", list_configs(of_language=False))
def test_a_shipped_config_sets_nothing_in_vain(monkeypatch, capsys, name):
    given(monkeypatch)
    values = config_file.load(name, (), {})
    values.pop("search", None)
    config = from_config_dict(values)
    try:
        command_line.check_read([config], config.sweep)
    except ConfigError as error:  # a setting that depends on the environment
        if "which is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    assert capsys.readouterr().out == ""


def test_a_seed_of_a_search_that_draws_nothing_is_refused(monkeypatch):
    given(monkeypatch, search__seed=3)
    grid = from_values({"sweep": {"discount": (0.9, 1.0)}})
    with pytest.raises(ConfigError, match=r"search.seed=3 has no effect, as config.search.num_samples is not"):
        command_line.check_read([from_config_dict({})], besides=unread_of_search(grid))
    drawn = from_values({"sweep": {"discount": (0.9, 1.0)}, "search": {"num_samples": 2}})
    command_line.check_read([from_config_dict({})], besides=unread_of_search(drawn))


def test_a_sweep_over_deviations_of_discrete_actions_is_refused(monkeypatch):
    given(monkeypatch)
    with pytest.raises(ConfigError, match=r"config.sweep.policy.initial_log_std has no effect, as the actions of"):
        command_line.check_read([from_config_dict({})], ["policy.initial_log_std"])


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ({"algorithm": "dpo"}, "haepo.score", "config.algorithm is dpo"),
        ({"algorithm": "dpo"}, "rl.kl_penalty", "config.algorithm is dpo, which learns from comparisons"),
        ({"model": {"path": "folder"}}, "model.hidden_size", "config.model.path gives the model"),
        ({}, "model.adapter_alpha", "config.model.adapter_rank is 0"),
    ],
)
def test_unread_settings_of_language_models_are_found(values, name, reason):
    assert language.unread(language.from_config_dict(values))[name] == reason
    assert (
        language.unread(language.from_config_dict({}))
        .keys()
        .isdisjoint({"haepo.score", "rl.kl_penalty", "model.path"})
    )


def test_the_upper_bound_of_a_batch_belongs_to_the_lower_one():
    assert unread(from_config_dict({"min_batch_steps": None}))["max_batch_steps"] == "config.min_batch_steps is unset"
    assert "max_batch_steps" not in unread(from_config_dict({"min_batch_steps": 8}))
