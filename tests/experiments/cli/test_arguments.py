"""The arguments of a command: what is read from them, and what is refused in which words."""

import pytest
from absl import flags

from experiments.cli import arguments
from haepo_jax.config.sweep import sweep_settings
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import settings as language_settings

SETTINGS = {setting.name: setting for setting in (*sweep_settings(), *language_settings())}


def parse(*given, config=True):
    """The arguments, and the flags that they set."""
    values = flags.FlagValues()
    if config:
        flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_float("stall_seconds", 300.0, "", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("episodes", 100, "", lower_bound=1, flag_values=values)
    flags.DEFINE_boolean("quick", False, "", flag_values=values)
    flags.DEFINE_multi_string("peer", [], "", flag_values=values)
    flags.DEFINE_enum("stage", None, ["sft", "rl"], "", flag_values=values)
    return arguments.parse(["train", *given], values, SETTINGS if config else {}), values


def overrides(*given):
    return {override.name: override.value for override in parse(*given)[0].overrides}


def refusal(*given, **options):
    with pytest.raises(ConfigError) as raised:
        parse(*given, **options)
    return str(raised.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--config.seed=3"], {"seed": 3}),
        (["-config.seed", "-3"], {"seed": -3}),
        (["--config.discount=1e-3"], {"discount": 0.001}),
        (["--config.min_batch_steps=none"], {"min_batch_steps": None}),
        (["--config.haepo.segment_length", "None"], {"haepo.segment_length": None}),
        (["--config.ppo.value_clip_epsilon=none"], {"ppo.value_clip_epsilon": None}),
        (["--config.env=a=b"], {"env": "a=b"}),
        (["--config.policy.hidden_sizes=(8,)"], {"policy.hidden_sizes": (8,)}),
        (["--config.policy.hidden_sizes=8,4"], {"policy.hidden_sizes": (8, 4)}),
        (["--config.model.remat"], {"model.remat": True}),
        (["--noconfig.model.remat"], {"model.remat": False}),
        (["--config.model.remat=FALSE"], {"model.remat": False}),
        (["--config.env_params.slip", "0.1"], {"env_params.slip": 0.1}),
        (["--config.env_kwargs.kind=a_1"], {"env_kwargs.kind": "a_1"}),
        (["--config.env_params={'a': 1}"], {"env_params": {"a": 1}}),
        (["--config.sweep.haepo.kl_coef=(0, 1)"], {"sweep.haepo.kl_coef": (0, 1)}),
        (["--config.search.points=({'discount': 1},)"], {"search.points": ({"discount": 1},)}),
    ],
)
def test_settings_are_read_by_their_types(given, expected):
    assert overrides(*given) == expected


def test_flags_are_read_wherever_they_stand():
    given, values = parse("--quick", "--config.seed=1", "--peer=a=b", "--peer", "c", "--workdir", "-w", "--stage=rl")
    assert (values.quick, values.peer, values.workdir, values.stage) == (True, ["a=b", "c"], "-w", "rl")
    assert [override.name for override in given.overrides] == ["seed"]


def test_a_flag_file_stands_for_its_lines(tmp_path):
    file = tmp_path / "flags"
    file.write_text("# those of every run\n--config.seed=4\n--noquick\n")
    given, values = parse(f"--flagfile={file}", "--workdir=w")
    assert given.overrides[0].value == 4 and values.quick is False and values.workdir == "w"
    assert refusal(f"--flagfile={file}", "--config.seed=5") == "--config.seed is given twice; give it once."


@pytest.mark.parametrize("asked", ["--help", "-h", "--helpshort", "--helpfull", "-help"])
def test_help_is_asked_for_whatever_else_is_given(asked):
    given, _ = parse("--wrong", asked)
    assert given.asks_for_help


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["stray"], "'stray' is not a flag: flags begin with --, and take their value after a =."),
        (["--"], "'--' is not a flag: flags begin with --, and take their value after a =."),
        (["--wrkdir=W"], "--wrkdir is not a flag; did you mean workdir?"),
        (["--noworkdir"], "--noworkdir is not a flag; did you mean workdir?"),
        (["--workdir"], "Missing value for flag --workdir."),
        (["--workdir=a", "--workdir=a"], "--workdir is given twice; give it once."),
        (["--workdir=a", "-workdir", "b"], "--workdir is given twice; give it once."),
        (["--quick", "--noquick"], "--quick is given twice; give it once."),
        (["--config=a", "--config=b"], "--config is given twice; give it once."),
        (["--config.seed=1", "--config.seed=1"], "--config.seed is given twice; give it once."),
        (["--config.seed", "1", "-config.seed=2"], "--config.seed is given twice; give it once."),
        (
            ["--config.env_params.a=1", "--config.env_params.a=2"],
            "--config.env_params.a is given twice; give it once.",
        ),
        (["--config.seed=1_0"], "--config.seed=1_0 cannot be used: it must be a whole number."),
        (["--config.seed=none"], "--config.seed=none cannot be used: it must be a whole number."),
        (
            ["--config.min_batch_steps=no"],
            "--config.min_batch_steps=no cannot be used: it must be a whole number, or none.",
        ),
        (["--config.seed=0x10"], "--config.seed=0x10 cannot be used: it must be a whole number."),
        (["--config.seed=\u0661"], "--config.seed=\u0661 cannot be used: it must be a whole number."),
        (["--config.seed=" + "9" * 5000], f"--config.seed={'9' * 100}... cannot be used: it must be a whole number."),
        (["--config.discount=0.1_5"], "--config.discount=0.1_5 cannot be used: it must be a number."),
        (["--config.env_params.a=1_0"], "--config.env_params.a=1_0 cannot be used: numbers have no underscores."),
        (
            ["--config.sweep.haepo.kl_coef=(0.1, 1_0)"],
            "--config.sweep.haepo.kl_coef=(0.1, 1_0) cannot be used: numbers have no underscores.",
        ),
        (
            ["--config.policy.hidden_sizes=(1_0,)"],
            "--config.policy.hidden_sizes=(1_0,) cannot be used: numbers have no underscores.",
        ),
        (["--episodes=1_0"], "--episodes=1_0 cannot be used: it must be a whole number."),
        (["--episodes=1.0"], "--episodes=1.0 cannot be used: it must be a whole number."),
        (["--episodes=0"], "--episodes=0 cannot be used: 0 is not a positive integer."),
        (["--stall_seconds=nan"], "--stall_seconds=nan cannot be used: it must be a finite number."),
        (["--stall_seconds=inf"], "--stall_seconds=inf cannot be used: it must be a finite number."),
        (["--stall_seconds=1e999"], "--stall_seconds=1e999 cannot be used: it must be a finite number."),
        (["--stall_seconds=4_0"], "--stall_seconds=4_0 cannot be used: it must be a number."),
        (["--stall_seconds=long"], "--stall_seconds=long cannot be used: it must be a number."),
        (["--stall_seconds=1e30"], "--stall_seconds=1e30 cannot be used: it must be at most 1,000,000,000 seconds."),
        (["--episodes=2147483648"], "--episodes=2147483648 cannot be used: it must be at most 2147483647."),
        (["--quick=maybe"], "--quick=maybe cannot be used: it must be true or false."),
        (["--noquick=true"], "--noquick is written without a value."),
        (["--stage=evaluation"], "--stage=evaluation cannot be used: value should be one of <sft|rl>."),
        (["--config.model.remat=2"], "--config.model.remat=2 cannot be used: it must be true or false."),
        (["--num_seeds=3"], "--num_seeds is not a flag; did you mean --config.num_seeds?"),
        (["--noconfig.seed"], "--config.seed is not a setting; did you mean seed"),
        (["--config.num_sedes=3"], "--config.num_sedes is not a setting; did you mean num_seeds"),
        (["--config.env_params=3"], "--config.env_params=3 cannot be used: it must be a group of settings, such as"),
        (["--config.seed"], "Missing value for flag --config.seed."),
        (["--flagfile=/nonexistent"], "A --flagfile cannot be read: No such file or directory: '/nonexistent'."),
        (["--flagfile=/"], "A --flagfile cannot be read: Is a directory: '/'."),
        (["--flagfile=a\0b"], "A --flagfile cannot be read: embedded null byte."),
        (["--flagfile"], "A --flagfile cannot be read: --flagfile with no argument."),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_in_one_sentence(given, sentence):
    assert refusal(*given).startswith(sentence)


@pytest.mark.parametrize("text", ["x", "1_0", "-1", "", "0", "2147483648", "9" * 5000, "\u0661"])
def test_a_list_that_holds_no_whole_numbers_is_refused(text):
    assert arguments.parse_whole_numbers("--seeds", ["1", "32"], low=1) == [1, 32]
    with pytest.raises(ConfigError, match="--seeds must be whole numbers with commas between, from 1 to 2147483647"):
        arguments.parse_whole_numbers("--seeds", ["1", text], low=1)


def test_a_command_without_a_config_takes_no_settings():
    expected = "--config.env_params.a needs --config=FILE, the config that it changes."
    assert refusal("--config.env_params.a=3", config=False) == expected


def test_a_flag_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "flags").write_bytes(b"\xff\xfe\x00")
    assert refusal(f"--flagfile={tmp_path / 'flags'}").startswith("A --flagfile cannot be read: 'utf-8' codec can't")
