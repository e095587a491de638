"""Rewards of puzzles: right answers, and every way that was thought of to earn one without."""

import random
from fractions import Fraction

import pytest

from haepo_jax.language.rewards.puzzles import arithmetic, countdown, evaluate_expression, puzzle

NUMBERS = [3, 5, 8]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("(3+5)*8", 64),
        ("3+5*8", 43),
        ("8-5-3", 0),  # from the left
        ("8-(5-3)", 6),
        ("8/(5-3)", 4),
        ("3*(8/(3+5))", None),  # 3 twice
        ("5*3", 15),  # a number is left over
        ("8", 8),
        ("((8))", 8),
        (" ( 3 + 5 ) * 8 ", 64),
        ("5-8", -3),
    ],
)
def test_an_expression_is_worth_its_value_where_it_uses_each_number_at_most_once(text, target):
    assert evaluate_expression(text, NUMBERS) == target


def test_division_is_exact_and_may_pass_through_fractions():
    assert evaluate_expression("8/3", NUMBERS) == Fraction(8, 3)
    assert countdown([""], ["8/(3-8/3)"], [[3, 3, 8, 8]], [24]) == [1.0]
    assert countdown([""], ["8/3"], [NUMBERS], [2]) == [0.0]  # it is not rounded


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "()", "(", ")", "8)", "(8", "8(", ")8(", "(8)(5)", "8(5)"),
        *("+", "-8", "+8", "8+", "*8", "8//5", "8**5", "8+-5", "(-8)", "8 5", "85", "3 + + 5"),
        *(
            "8/(8-8)",
            "5/(3-3)",
            "8/0",
            "0",
            "4",
            "08",
            "8.0",
            "8e0",
            "8_",
            "8\n",
            "8\t+5",
            "\uff13",
            "8\u00b2",
            "\u00bd",
        ),
        *("3+5=8", "x", "abs(8)", "__import__('os').getcwd()", "8 if 8 else 5", "8#", "8\x00"),
    ],
)
def test_what_is_no_expression_of_the_numbers_has_no_value_and_earns_nothing(text):
    assert evaluate_expression(text, NUMBERS) is None
    assert countdown([""], [text], [NUMBERS], [8]) == [0.0]


def test_division_by_what_comes_to_nothing_has_no_value():
    assert evaluate_expression("8/(8-3-5)", [8, 8, 3, 5]) is None


def test_a_number_that_is_given_twice_may_be_used_twice_and_no_third_time():
    assert evaluate_expression("7+7", [7, 7]) == 14
    assert evaluate_expression("7+7+7", [7, 7]) is None


def test_depth_and_length_are_no_trouble():
    deep = 100_000
    assert evaluate_expression("(" * deep + "8" + ")" * deep, NUMBERS) == 8
    assert evaluate_expression("(" * deep, NUMBERS) is None
    assert evaluate_expression("9" * deep, NUMBERS) is None


def test_values_are_those_of_python_on_random_expressions():
    rng = random.Random(0)

    def draw(numbers):
        if len(numbers) == 1:
            return str(numbers[0])
        cut = rng.randint(1, len(numbers) - 1)
        text = draw(numbers[:cut]) + rng.choice("+-*/") + draw(numbers[cut:])
        return f"({text})" if rng.random() < 0.5 else text

    for _ in range(300):
        numbers = [rng.randint(1, 9) for _ in range(rng.randint(1, 6))]
        text = draw(numbers)
        try:
            value = eval("".join(f"Fraction({c})" if c.isdigit() else c for c in text), {"Fraction": Fraction})
        except ZeroDivisionError:
            value = None
        assert evaluate_expression(text, numbers) == value, text


def test_an_answer_of_arithmetic_is_right_to_the_character():
    texts = ["-7", "7", "-07", " -7", "-7 ", "-7.0", "", "-7-7"]
    assert arithmetic([""] * 8, texts, ["-7"] * 8) == [1.0] + [0.0] * 7


def test_each_row_is_judged_by_the_puzzle_that_it_is_of():
    columns = {"answer": ["64", None], "numbers": [None, NUMBERS], "target": [None, 64]}
    assert puzzle(["", ""], ["64", "(3+5)*8"], **columns) == [1.0, 1.0]
    assert puzzle(["", ""], ["(3+5)*8", "64"], **columns) == [0.0, 0.0]


def test_a_row_of_neither_puzzle_is_refused():
    with pytest.raises(ValueError, match="neither numbers with a target nor an answer"):
        puzzle([""], ["8"], [None], [NUMBERS], [None])
