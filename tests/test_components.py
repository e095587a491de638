"""What a config names beside the built-ins: how it is found, and in which words it is refused."""

import functools
import hashlib
import math
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import components
from haepo_jax.errors import ConfigError


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`text -> name of a module` that can be imported from a folder of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def written(text, name="mine"):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    yield written
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(function, *args, **kwargs):
    with pytest.raises(ConfigError) as raised:
        function(*args, **kwargs)
    sentence = str(raised.value)
    assert sentence.endswith((".", "?")) and "\n" not in sentence
    return sentence


def test_a_function_is_found_by_its_module_and_its_name():
    assert components.load("policy.activation", "math:tanh") is math.tanh


def test_a_method_of_a_class_is_found_by_its_dotted_name(write):
    write("class Maze:\n    @classmethod\n    def small(cls): return 3\n")
    assert components.load("env", "mine:Maze.small")() == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "no_such_module:Maze",
            "config.env no_such_module:Maze cannot be imported: there is no module no_such",
        ),
        ("math.rooms:Maze", "config.env math.rooms:Maze cannot be imported: there is no module math.rooms;"),
        ("textwrap:dedentt", "config.env textwrap:dedentt: textwrap ("),
        ("math:pi", "config.env math:pi is 3.141592653589793; it must be a function or a class."),
        ("math:", "config.env 'math:' names nothing that can be imported; it is written as package.module:attribute"),
        (":tanh", "config.env ':tanh' names nothing that can be imported"),
        ("math:tanh:more", "config.env 'math:tanh:more' names nothing that can be imported"),
        ("../math:tanh", "config.env '../math:tanh' names nothing that can be imported"),
        ("math", "config.env 'math' names nothing that can be imported"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(name, sentence):
    assert refusal(components.load, "env", name).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("raise ValueError('no maze\\ntoday')", "mine ends with ValueError: no maze today."),
        (
            "import no_such_module_too",
            "mine ends with ModuleNotFoundError: No module named 'no_such_module_too'.",
        ),
        ("x = (", "mine ends at line 1 with SyntaxError: '(' was never closed."),
        ("raise SystemExit", "mine ends with SystemExit."),
    ],
)
def test_a_module_that_fails_is_refused_with_its_reason(write, text, end):
    write(text)
    assert refusal(components.load, "env", "mine:Maze") == f"config.env mine:Maze cannot be imported: {end}"


def test_an_attribute_that_is_not_there_is_refused_with_the_nearest_one(write):
    write("def maze(): return 1\n")
    assert refusal(components.load, "env", "mine:mazes").endswith("mine.py) has no mazes; did you mean maze?")


def test_a_name_is_checked_without_an_import():
    assert components.check_name("env", "no_such_module:Maze") == "no_such_module:Maze"
    assert components.check_name("policy.network", "mlp", ("mlp", "cnn")) == "mlp"
    sentence = refusal(components.check_name, "policy.network", "mpl", ("mlp", "cnn"))
    own = "or one of your own as package.module:attribute."
    assert sentence == f"config.policy.network 'mpl' is not known; allowed: mlp, cnn, {own}"
    many = tuple(f"function_{k}" for k in range(20))
    assert "; did you mean function_1" in refusal(components.check_name, "policy.activation", "functon_1", many)


def test_an_object_in_the_place_of_a_name_is_refused_with_the_name_it_has():
    assert refusal(components.check_name, "env", textwrap.dedent).endswith("; write 'textwrap:dedent'.")
    assert "give it a name in a module" in refusal(components.check_name, "env", lambda: 1)


def net(size, *, depth=2):
    return size, depth


def test_a_component_gets_its_arguments_by_name():
    assert components.call("policy.network", net, kwargs={"size": 3}) == (3, 2)
    assert components.call("optimizer.transform", net, kwargs={"size": 3}, params={"depth": 0.5}) == (3, 0.5)
    assert components.call("haepo.score", net, 7, kwargs={"depth": 1}) == (7, 1)


@pytest.mark.parametrize(
    ("arguments", "kwargs", "params", "sentence"),
    [
        ((), {"sizee": 3}, {}, "config.a.b_kwargs.sizee is not an argument of net; did you mean size?"),
        ((), {"size": 3}, {"x": 1}, "config.a.b_params.x is not an argument of net; allowed: size, depth."),
        ((7,), {"size": 3}, {}, "config.a.b_kwargs.size is not an argument of net; allowed: depth."),
        ((), {"size": 3}, {"size": 1}, "config.a.b_kwargs.size and config.a.b_params.size are one argument; give it"),
        ((), {}, {"depth": 1}, "net needs the argument size: give config.a.b_kwargs.size or config.a.b_params.size."),
    ],
)
def test_arguments_that_a_component_does_not_have_are_refused(arguments, kwargs, params, sentence):
    assert refusal(components.call, "a.b", net, *arguments, kwargs=kwargs, params=params).startswith(sentence)
    partial = functools.partial(net)
    assert refusal(components.call, "a.b", partial, *arguments, kwargs=kwargs, params=params).startswith(sentence)


def raises():
    raise RuntimeError("no maze\nof all")


def exits():
    sys.exit("no more")


def decides(*, wide):
    return 2.0 if wide > 0 else 1.0


def counts(*, wide):
    return np.zeros(int(wide))


def converts(*, wide):
    return np.asarray(wide)


def test_what_a_component_raises_is_one_sentence_with_its_line():
    line = raises.__code__.co_firstlineno + 1
    assert refusal(components.call, "a.b", raises, kwargs={}) == (
        f"config.a.b raises fails at line {line} of {__file__}: RuntimeError: no maze."
    )
    assert refusal(components.call, "a.b", exits, kwargs={}).endswith(": SystemExit: no more.")


@pytest.mark.parametrize("component", [decides, counts, converts])
def test_a_traced_argument_that_python_needs_is_refused_with_the_way_out(component):
    def traced(wide):
        return components.call("a.b", component, kwargs={}, params={"wide": wide})

    sentence = refusal(jax.eval_shape, traced, 1.0)
    assert "fails at line" in sentence and sentence.endswith(
        ": it asks for the value of a traced array, as Python's if does; a choice by such a value is made by "
        "jnp.where, and arguments that decide in Python belong in config.a.b_kwargs."
    )


def test_a_sentence_from_within_a_component_stays_as_it_is():
    def inner():
        raise ConfigError("Just this.")

    assert refusal(components.call, "a.b", inner, kwargs={}) == "Just this."


@pytest.mark.parametrize("found", [2, True, 2.0, np.float32(2.0), np.ones((), np.int8)])
def test_numbers_of_any_real_kind_are_taken(found):
    assert float(components.checked_numbers("mine", found, (), "one number")) == float(found)


@pytest.mark.parametrize(
    ("found", "given"),
    [
        (None, "None"),
        ("a", "'a'"),
        (1j, "1j"),
        ([1.0], "[1.0]"),
        (np.ones(2), "float64[2]"),
        (jnp.ones(2), "float32[2]"),
    ],
)
def test_what_is_no_such_array_is_refused_with_what_it_is(found, given):
    sentence = refusal(components.checked_numbers, "mine", found, (), "one number")
    assert sentence == f"mine gives {given}; it must give one number."


def test_where_a_gradient_is_needed_whole_numbers_will_not_do():
    array = np.ones(2, np.int32)
    assert "gives int32[2]" in refusal(components.checked_numbers, "mine", array, (2,), "real numbers", real=True)


def test_a_component_that_fails_is_refused_with_the_line_and_the_reason(write, tmp_path):
    write("import math\n\ndef reward(steps):\n    return math.tanh(steps)\n")
    sentence = refusal(components.call, "returns", components.load("returns", "mine:reward"), "steps", kwargs={})
    where = f"at line 4 of {tmp_path / 'mine.py'}"
    assert sentence == f"config.returns reward fails {where}: TypeError: must be real number, not str."
    of_python = refusal(components.call, "returns", math.tanh, "s", kwargs={})
    assert of_python.startswith("config.returns tanh fails: TypeError")


def test_the_source_of_a_component_is_the_file_that_defines_it(write, tmp_path):
    write("def maze(): return 1\n", "rooms.inner")
    write("from rooms.inner import maze\nwalls = 3\n", "rooms.outer")
    for name, file in (("rooms.outer:maze", "inner.py"), ("rooms.outer:walls", "outer.py")):
        source = components.source("env", name)
        assert source.file == str(tmp_path / "rooms" / file) and source.folder == str(tmp_path)
        assert source.sha256 == hashlib.sha256((tmp_path / "rooms" / file).read_bytes()).hexdigest()
    assert components.source("env", "math:tanh").file is None or components.source("env", "math:tanh").sha256


def test_a_folder_is_importable_after_all_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "json.py").write_text("raise RuntimeError")
    (tmp_path / "only_here.py").write_text("value = 3")
    components.make_importable(tmp_path)
    components.make_importable(tmp_path)
    assert sys.path[-1] == str(tmp_path) and sys.path.count(str(tmp_path)) == 1
    assert components.load("env", "only_here:value", lambda _: True) == 3
    del sys.modules["only_here"]
