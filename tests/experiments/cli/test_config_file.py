"""Config files: what they may do, and in which words they are refused."""

import os
import sys

import pytest

from experiments.cli import config_file
from experiments.cli.arguments import Override
from haepo_jax.config import from_config_dict
from haepo_jax.config.sweep import from_values, sweep_settings
from haepo_jax.errors import ConfigError

SETTINGS = {setting.name: setting for setting in sweep_settings()}
HEAD = "from haepo_jax.config import default_config\nimport ml_collections\n"


@pytest.fixture
def load(tmp_path):
    """`text of a file -> settings`, with overrides by name."""

    def loaded(text, *, argument="", **overrides):
        path = tmp_path / "mine.py"
        path.write_bytes(text if isinstance(text, bytes) else (HEAD + text).encode())
        given = [Override(name.replace("__", "."), "", value) for name, value in overrides.items()]
        return config_file.load(f"{path}{argument}", given, SETTINGS)

    return loaded


def returning(expression):
    return f"def get_config():\n    return {expression}\n"


def test_a_config_is_given_back_as_plain_dictionaries(load):
    values = load("def get_config():\n    c = default_config()\n    c.haepo.score = 'mean'\n    return c\n")
    assert type(values) is type(values["haepo"]) is dict and values["haepo"]["score"] == "mean"


def test_overrides_are_put_in_place(load):
    text = "def get_config():\n    c = default_config()\n    c.env_params = {'g': 1.0}\n    return c\n"
    values = load(text, haepo__score="sum", num_seeds=3, env_params__h=2.0, search__num_samples=4)
    assert (values["haepo"]["score"], values["num_seeds"]) == ("sum", 3)
    assert values["env_params"] == {"g": 1.0, "h": 2.0} and values["search"] == {"num_samples": 4}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("haepo.entropy_coef", (0.3,)),
        ("haepo.entropy_coef", {"uniform": (0.3, 0.4)}),
        ("haepo.entropy_coef.uniform", (0.3, 0.4)),
        ("haepo", {"entropy_coef": (0.3,)}),
    ],
)
@pytest.mark.parametrize("swept", ["(0.1, 0.2)", "{'log_uniform': (0.1, 0.2)}"])
def test_an_override_takes_the_place_of_all_that_the_file_tries_for_its_setting(load, name, value, swept):
    text = f"def get_config():\n    c = default_config()\n    c.sweep = {{'haepo': {{'entropy_coef': {swept}}}}}\n"
    values = load(f"{text}    return c\n", **{f"sweep.{name}": value, "search.num_samples": 2})
    assert values["sweep"] == {name: value}
    from_values(values if "uniform" in f"{name}{value}" else values | {"search": {}})


def test_two_overrides_of_one_swept_setting_are_refused(load):
    values = load(
        returning("default_config()"), sweep__haepo__entropy_coef=(0.1,), sweep__haepo={"entropy_coef": (0.2,)}
    )
    with pytest.raises(ConfigError, match=r"config\.sweep\.haepo\.entropy_coef is given twice"):
        from_values(values)


def test_references_to_a_setting_follow_its_override(load):
    text = (
        "def get_config():\n    c = default_config()\n    c.num_updates = c.get_ref('num_seeds') * 2\n    return c\n"
    )
    assert load(text, num_seeds=5)["num_updates"] == 10


@pytest.mark.parametrize("name", ["min_batch_steps", "haepo.segment_length"])
def test_a_setting_that_the_file_leaves_unset_takes_an_override(load, name):
    text = f"def get_config():\n    c = default_config()\n    c.{name} = 4\n    c.{name} = None\n    return c\n"
    plain = returning("ml_collections.ConfigDict({'min_batch_steps': None, 'haepo': {'segment_length': None}})")
    for file in (text, plain):
        values = load(file, **{name: 7})
        for section in name.split("."):
            values = values[section]
        assert values == 7


def test_get_config_may_take_an_argument(load):
    text = "def get_config(seed='1'):\n    c = default_config()\n    c.seed = int(seed)\n    return c\n"
    assert load(text)["seed"] == 1 and load(text, argument=":7")["seed"] == 7


def test_a_file_that_computes_with_jax_and_knows_the_environments_is_loaded(load):
    text = (
        "import gymnax\nimport jax.numpy as jnp\n"
        "def get_config():\n    c = default_config()\n    c.optimizer.learning_rate = float(jnp.sqrt(1e-6))\n"
        "    c.env_params = {'gravity': jnp.float32(9.5)}\n    return c\n"
    )
    config = from_config_dict(load(text, optimizer__max_grad_norm=1.0))
    assert config.optimizer.learning_rate == pytest.approx(1e-3) and config.env_params == {"gravity": 9.5}


def test_a_file_may_define_classes_that_look_for_their_module(load):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + HEAD
    text += "@dataclass\nclass Sizes:\n    width: int = 8\n" + returning("default_config()")
    assert load(text.encode())["num_seeds"] == 32


def test_files_of_one_stem_length_and_time_each_give_their_own_values_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in (1, 2, 1):
        path = tmp_path / f"exp.{number}"
        path.write_text(HEAD + returning(f"ml_collections.ConfigDict({{'seed': {number}}})"))
        os.utime(path, (10**9, 10**9))
        assert config_file.load(str(path), [], []) == {"seed": number}
    path.write_text(HEAD + returning("ml_collections.ConfigDict({'seed': 3})"))
    os.utime(path, (10**9, 10**9))
    assert config_file.load(str(path), [], []) == {"seed": 3}
    assert sorted(left.name for left in tmp_path.iterdir()) == ["exp.1", "exp.2"]


def test_a_file_knows_its_path(load, tmp_path):
    assert load(returning("ml_collections.ConfigDict({'path': __file__})"))["path"] == str(tmp_path / "mine.py")


def test_a_half_filled_config_takes_defaults_and_overrides(load):
    values = load(returning("ml_collections.ConfigDict({'num_seeds': 3})"), haepo__score="sum")
    assert values == {"num_seeds": 3, "haepo": {"score": "sum"}}
    assert load(returning("ml_collections.FrozenConfigDict({'num_seeds': 3})"), seed=1) == {"num_seeds": 3, "seed": 1}


FAILING = {
    "returns a dictionary": (returning("{'seed': 1}"), r"returns {'seed': 1}; it must return a ConfigDict"),
    "returns a number": (returning("3"), "returns 3; it must return a ConfigDict"),
    "returns text": (returning("'haepo'"), "returns 'haepo'; it must return a ConfigDict"),
    "returns nothing": ("def get_config():\n    pass\n", "returns None; it must return a ConfigDict"),
    "takes two arguments": (
        "def get_config(a, b):\n    return default_config()\n",
        r"get_config\(a, b\) of --config=.* takes other arguments: --config=FILE gives it none; .* gives it one",
    ),
    "has none": ("config = default_config()\n", "has no function get_config; it must return a ConfigDict"),
    "is no function": ("get_config = 3\n", "has a get_config that is 3; it must return a ConfigDict"),
    "raises": ("def get_config():\n    return 1 / 0\n", "ends with ZeroDivisionError: division by zero"),
    "raises in many lines": ("raise ValueError('a\\n\\x1b[31m  b')\n", "ends with ValueError: a \x1b"),
    "reads what is not there": (
        "open('rows.csv')\n",
        r"ends with FileNotFoundError: \[Errno 2\] No such file or directory: 'rows\.csv'\.",
    ),
    "raises without a word": ("raise ValueError\n", r"ends with ValueError\."),
    "exits": ("import sys\nsys.exit(3)\n", "ends with SystemExit: 3"),
    "recurses": ("def get_config():\n    return get_config()\n", "ends with RecursionError: maximum recursion"),
    "imports what is not there": ("import no_such_module\n", "ends with ModuleNotFoundError: No module named"),
    "is no Python": ("def get_config(:\n", "ends at line 3 with SyntaxError: invalid syntax"),
    "is no text": (b"\xff\xfe\x00", "ends .*with SyntaxError"),
    "knows no such class": ("def get_config():\n    return default_config().lock().no\n", "ends with AttributeError"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_file_that_is_no_config_file_is_refused_in_a_sentence(load, case):
    text, sentence = FAILING[case]
    with pytest.raises(ConfigError, match=sentence) as raised:
        load(text)
    assert "\n" not in str(raised.value)


def test_an_argument_that_get_config_does_not_take_is_refused(load):
    with pytest.raises(ConfigError, match=r"get_config\(\) of .*mine.py takes other arguments: FILE:x gives it one\."):
        load(returning("default_config()"), argument=":x")


def test_an_override_below_a_setting_that_is_no_group_is_refused(load):
    with pytest.raises(ConfigError, match=r"config\.haepo is a group of settings, got 3\."):
        load(returning("ml_collections.ConfigDict({'haepo': 3})"), haepo__score="sum")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("no/such.py", "--config=no/such.py is neither a file nor a shipped config; allowed: acrobot, any_task, "),
        ("no/such.py:x", "--config=no/such.py:x is neither a file nor a shipped config"),
        ("", "--config= is neither a file nor a shipped config"),
        ("cartpol", "--config=cartpol is neither a file nor a shipped config; did you mean cartpole?"),
        ("configs/cartpol.py", "is neither a file nor a shipped config; did you mean cartpole?"),
        ("beta_lambda:x", "is neither a file nor a shipped config; did you mean sweeps/beta_lambda?"),
        ("a" * 300, "is no path: File name too long."),
        ("a\0b", "is neither a file nor a shipped config"),
    ],
)
def test_a_path_that_is_no_file_is_refused(given, sentence):
    with pytest.raises(ConfigError) as raised:
        config_file.load(given, [], [])
    assert sentence in str(raised.value)


ODD = ("{1, 2}", "len", "1j", "object()", "b'x'", "[[1]]", "{'a': {'b': 1}}", "range(10**12)", "None", "[None]")
NOT_ODD = {("horizon", "None"), ("env_params", "None")}


@pytest.mark.parametrize("name", ["haepo.entropy_coef", "env", "num_seeds", "policy.hidden_sizes", "horizon", "haepo"])
def test_a_value_of_an_odd_type_is_refused_by_its_name(load, name):
    for value in ODD:
        if (name, value) in NOT_ODD:
            continue
        text = f"def get_config():\n    c = default_config()\n    with c.ignore_type():\n        c.{name} = {value}\n"
        values = load(f"{text}    return c\n")
        for make in (from_config_dict, from_values):
            with pytest.raises(ConfigError, match=f"config.{name}"):
                make(values)


def test_arguments_of_components_in_any_section_are_put_in_place(load):
    text = "def get_config():\n    c = default_config()\n    c.optimizer.transform_params = {'b1': 0.5, 'b2': 0.7}\n"
    over = {
        "optimizer.transform_params.b1": 0.8,
        "policy.network_kwargs.size": 3,
        "sweep.haepo.score_params.x": (1, 2),
    }
    values = load(f"{text}    return c\n", **over)
    assert values["optimizer"]["transform_params"] == {"b1": 0.8, "b2": 0.7}
    assert values["policy"]["network_kwargs"] == {"size": 3} and values["sweep"] == {"haepo.score_params.x": (1, 2)}


def test_a_module_beside_the_file_can_be_imported(load, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_it.py").write_text("SEED = 7\n")
    text = "import beside_it\ndef get_config():\n    c = default_config()\n    c.seed = beside_it.SEED\n    return c\n"
    assert load(text)["seed"] == 7
    del sys.modules["beside_it"]


def test_a_shipped_config_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.load("cartpole", [], [])["env"] == "CartPole-v1"
    assert "sweep" in config_file.load("sweeps/beta_lambda", [], [])


def test_a_file_goes_before_the_shipped_config_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cartpole").write_text(
        "import ml_collections\n\n\ndef get_config(name):\n    return ml_collections.ConfigDict({'env': name})\n"
    )
    assert config_file.load("cartpole:mine", [], []) == {"env": "mine"}
