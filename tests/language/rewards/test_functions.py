"""Reward functions of a config: what they get, and one sentence for all that can be wrong with them."""

import asyncio
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.language.reward_settings import RewardFunctionSettings
from haepo_jax.language.rewards.functions import Asked, load_functions

ASKED = Asked(
    "data.jsonl, line 3", "What is 2 + 2? " * 9, {"answer": "4", "level": 2}, ["4", "5"], [2, 3], [True, False]
)
ROW = "data.jsonl, line 3 ('What is 2 + 2? What is 2 + 2? What is 2 '...)"


def load(*names, columns=("answer", "level"), **settings):
    return load_functions(RewardFunctionSettings(rewards=names, **settings), columns, "data.jsonl")


def own(monkeypatch, function, **settings):
    """The function as one that a module of the user's has."""
    monkeypatch.setattr("helpers.own_model.judge", function, raising=False)
    return load("helpers.own_model:judge", **settings)[0]


def test_a_function_gets_prompts_completions_and_the_columns_that_it_names_as_lists(monkeypatch):
    seen = []

    def judge(prompts, completions, level, num_tokens, ended, answer="none", absent=7):
        seen.append((prompts, completions, level, num_tokens, ended, answer, absent))
        return [1, True]

    assert own(monkeypatch, judge).compute(ASKED) == [1.0, 1.0]
    assert seen == [([ASKED.prompt] * 2, ["4", "5"], [2, 2], [2, 3], [True, False], ["4", "4"], 7)]


def test_a_function_that_takes_any_column_gets_all_and_an_argument_of_the_config_comes_first(monkeypatch):
    seen = []

    def judge(prompts, completions, **columns):
        seen.append(columns)
        return np.array([0.5, -1.0], np.float32)

    function = own(monkeypatch, judge, reward_kwargs={"judge": {"level": 9, "more": "x"}})
    assert function.compute(ASKED) == [0.5, -1.0]
    assert seen == [{"answer": ["4", "4"], "level": 9, "more": "x"}]


def test_columns_that_are_called_as_settings_or_as_what_comes_first_do_not_take_their_place(monkeypatch):
    row = {"answer": "4", "after": "x", "column": "y", "free": 3, "limit": 9, "prompt": "other"}
    asked = dataclasses.replace(ASKED, columns=row)
    (exact,) = load("exact_match", columns=tuple(row))
    assert exact.compute(asked) == [1.0, 0.0]
    settings = {"length": {"free": 0, "limit": 4}}
    (length,) = load("length", columns=tuple(row), reward_kwargs=settings)
    assert length.compute(asked) == [-0.5, -0.75]
    with pytest.raises(ConfigError, match=r"^config.rl.rewards length needs free; give it as"):
        load("length", columns=tuple(row))

    def judge(prompt, completion, **columns):
        assert prompt == [ASKED.prompt] * 2
        return [float("prompt" in columns)] * len(completion)

    assert own(monkeypatch, judge, columns=tuple(row)).compute(asked) == [0.0, 0.0]


def test_an_argument_that_nothing_gives_is_asked_for(monkeypatch):
    with pytest.raises(ConfigError) as error:
        own(monkeypatch, lambda prompts, completions, hint: [0.0])
    assert str(error.value) == (
        "config.rl.rewards helpers.own_model:judge takes hint, which is no column of data.jsonl (answer, level); give "
        "it as config.rl.reward_kwargs.judge.hint, or add the column."
    )


def test_a_row_without_a_column_that_others_have_gives_none(monkeypatch):
    function = own(monkeypatch, lambda prompts, completions, level: [float(one is None) for one in level])
    assert function.compute(dataclasses.replace(ASKED, columns={})) == [1.0, 1.0]


def test_weights_are_1_or_those_of_the_config():
    assert [one.weight for one in load("exact_match", "format")] == [1.0, 1.0]
    assert [one.weight for one in load("exact_match", "format", reward_weights=(1.0, 0.2))] == [1.0, 0.2]


FINITE = "; a reward is a finite number of float32."
NUMBERS = "; it must give a list of 2 numbers, one for each completion."


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([1.0], f"gives 1 values{NUMBERS}"),
        ([1.0, 2.0, 3.0], f"gives 3 values{NUMBERS}"),
        (None, f"gives None{NUMBERS}"),
        (1.0, f"gives 1.0{NUMBERS}"),
        ("ab", f"gives 'ab'{NUMBERS}"),
        ({0.0, 1.0}, f"gives {{0.0, 1.0}}{NUMBERS}"),
        ([1.0, float("nan")], f"gives nan for completion 1, '5'{FINITE}"),
        ([1.0, float("inf")], f"gives inf for completion 1, '5'{FINITE}"),
        ([1.0, 1e39], f"gives 1e+39 for completion 1, '5'{FINITE}"),
        ([10**400, 1.0], f"gives 1{'0' * 59}... for completion 0, '4'{FINITE}"),
        ([None, 1.0], f"gives None for completion 0, '4'{FINITE}"),
        (["1", 1.0], f"gives '1' for completion 0, '4'{FINITE}"),
        ([1 + 1j, 1.0], f"gives (1+1j) for completion 0, '4'{FINITE}"),
        ([[1.0], 1.0], f"gives [1.0] for completion 0, '4'{FINITE}"),
    ],
)
def test_what_is_no_reward_is_refused_with_the_row(found, sentence, monkeypatch):
    function = own(monkeypatch, lambda prompts, completions: found)
    with pytest.raises(ConfigError) as error:
        function.compute(ASKED)
    assert str(error.value) == f"config.rl.rewards helpers.own_model:judge on {ROW} {sentence}"


def test_what_a_function_does_to_its_columns_is_seen_by_no_other_completion_and_no_later_call(monkeypatch):
    row = {"level": [3, 1, 2]}

    def judge(prompts, completions, level):
        return [float(one.pop()) for one in level]

    function = own(monkeypatch, judge)
    for _ in range(2):
        assert function.compute(dataclasses.replace(ASKED, columns=row)) == [2.0, 2.0]
    assert row == {"level": [3, 1, 2]}


def test_numbers_of_any_kind_are_rewards(monkeypatch):
    found = [Fraction(1, 2), np.float16(2.0)]
    assert own(monkeypatch, lambda prompts, completions: found).compute(ASKED) == [0.5, 2.0]
    found = (np.bool_(True), np.int64(-3))
    assert own(monkeypatch, lambda prompts, completions: found).compute(ASKED) == [1.0, -3.0]


def test_an_async_function_is_refused_before_anything_is_sampled(monkeypatch):
    async def judge(prompts, completions):
        return [1.0] * len(completions)

    class Judges:
        async def __call__(self, prompts, completions):
            return [1.0] * len(completions)

    for one in (judge, Judges()):
        with pytest.raises(ConfigError, match=r"^config.rl.rewards helpers.own_model:judge is async; a reward "):
            own(monkeypatch, one)


def test_what_a_function_raises_is_one_sentence_with_its_line_and_the_row(monkeypatch):
    def judge(prompts, completions):
        raise ZeroDivisionError("division by zero.\nMore of it")

    with pytest.raises(ConfigError) as error:
        own(monkeypatch, judge).compute(ASKED)
    line = judge.__code__.co_firstlineno + 1
    expected = f"config.rl.rewards helpers.own_model:judge on {ROW} fails at line {line} of {__file__}: "
    assert str(error.value) == f"{expected}ZeroDivisionError: division by zero."
    (built_in,) = load("exact_match", reward_kwargs={"exact_match": {"column": "no"}})
    with pytest.raises(
        ConfigError, match=r"\.\.\.\) fails: ValueError: the data have no column no; there are: answer, "
    ):
        built_in.compute(ASKED)


@pytest.mark.parametrize(
    ("names", "settings", "sentence"),
    [
        (["nowhere:judge"], {}, "config.rl.rewards nowhere:judge cannot be imported: there is no module nowhere; it"),
        (["math:pi"], {}, "config.rl.rewards math:pi is 3.14"),
        (
            ["helpers.own_model:write_rows"],
            {"columns": (), "reward_kwargs": {"write_rows": {"x": 1}}},
            "config.rl.reward_kwargs.write_rows.x is not an argument of helpers.own_model:write_rows, which has none.",
        ),
        (
            ["format"],
            {"reward_kwargs": {"format": {"patern": "x"}}},
            "config.rl.reward_kwargs.format.patern is not an argument of format; did you mean pattern?",
        ),
        (
            ["exact_match"],
            {"reward_kwargs": {"exact_match": {"colum": "answer"}}},
            "config.rl.reward_kwargs.exact_match.colum is not an argument of exact_match; did you mean column?",
        ),
        (
            ["regular_expression"],
            {"reward_kwargs": {"regular_expression": {"pattern": "x", "answer": "4"}}},
            "config.rl.reward_kwargs.regular_expression.answer is not an argument of regular_expression; allowed: ",
        ),
        (
            ["length"],
            {},
            "config.rl.rewards length needs free; give it as config.rl.reward_kwargs.length.free.",
        ),
        (
            ["math:sqrt"],
            {},
            "config.rl.rewards math:sqrt takes x; a reward function is (prompts, completions, **columns) -> list of",
        ),
        (
            ["format"],
            {"columns": ("ended",)},
            "data.jsonl has a column ended, under which reward functions get something else; rename it.",
        ),
    ],
)
def test_what_cannot_judge_is_refused_before_anything_is_sampled(names, settings, sentence):
    with pytest.raises(ConfigError) as error:
        load(*names, **settings)
    assert str(error.value).startswith(sentence)


def test_a_row_that_cannot_be_copied_is_named(monkeypatch):
    nested = []
    for _ in range(10_000):
        nested = [nested]
    function = own(monkeypatch, lambda prompts, completions, answer: [0, 0])
    with pytest.raises(ConfigError, match=r"^config.rl.rewards .* on data.jsonl, line 3 .* fails: RecursionError: "):
        function.compute(dataclasses.replace(ASKED, columns={"answer": nested}))


def test_an_error_that_cannot_say_what_it_is_has_its_name(monkeypatch):
    class Slip(Exception):
        def __str__(self):
            return self.args[1]

    def judge(prompts, completions):
        raise Slip("a")

    with pytest.raises(ConfigError, match=r"^config.rl.rewards .* fails at .*: Slip\.$"):
        own(monkeypatch, judge).compute(ASKED)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, BaseException])
def test_a_function_that_raises_what_ends_programs_is_named_as_any(kind, monkeypatch):
    def judge(prompts, completions):
        raise kind("code that a model has written")

    with pytest.raises(ConfigError, match=rf"^config.rl.rewards .* fails at line .*: {kind.__name__}: code that a m"):
        own(monkeypatch, judge).compute(ASKED)
