"""Rewards of puzzles: 1 for an answer that is right, 0 for any other. Texts are parsed, and never run."""

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

_TOKEN = re.compile(r" *([0-9]+|[-+*/()])")
_OPERATIONS: dict[str, tuple[int, Callable[[Fraction, Fraction], Fraction]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
}
"""By their signs, each with how tightly it binds."""


def arithmetic(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Gives 1 to a completion that is the answer to the character, and 0 to others.

    Args:
      prompts: not looked at.
      completions: the texts.
      answer: the column of the value, as it is written: `-7`, and not `-07`.

    Example:
      >>> arithmetic(["12-19="] * 3, ["-7", "-07", ""], ["-7"] * 3)
      [1.0, 0.0, 0.0]
    """
    del prompts
    return [float(text == right) for text, right in zip(completions, answer, strict=True)]


def countdown(
    prompts: Sequence[str], completions: Sequence[str], numbers: Sequence[Sequence[int]], target: Sequence[int]
) -> list[float]:
    """Gives 1 to a completion that is an expression of the target, and 0 to others.

    An expression is made of the given numbers, each at most once, of `+ - * /`, parentheses and spaces. Division is
    exact: what comes between may be any fraction, or negative, and nothing may be divided by 0.

    Args:
      prompts: not looked at.
      completions: the texts.
      numbers: the column of the numbers given.
      target: the column of the value asked for.

    Example:
      >>> texts = ["(3+5)*8", "8*8", "3+5*8", "64", ""]
      >>> countdown(["3,5,8>64:"] * 5, texts, [[3, 5, 8]] * 5, [64] * 5)
      [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    del prompts
    return [
        float(evaluate_expression(text, given) == wanted)
        for text, given, wanted in zip(completions, numbers, target, strict=True)
    ]


def puzzle(
    prompts: Sequence[str],
    completions: Sequence[str],
    answer: Sequence[str | None],
    numbers: Sequence[Sequence[int] | None],
    target: Sequence[int | None],
) -> list[float]:
    """Gives what `countdown` does to rows with numbers and a target, and to others what `arithmetic` does.

    Args:
      prompts: not looked at.
      completions: the texts.
      answer: the column of `arithmetic`; None in the rows of the other puzzle.
      numbers: the column of `countdown`; likewise.
      target: the column of `countdown`; likewise.

    Raises:
      ValueError: a row is of neither puzzle.
    """
    rewards = []
    for prompt, text, right, given, wanted in zip(prompts, completions, answer, numbers, target, strict=True):
        if given is not None and wanted is not None:
            rewards += countdown([prompt], [text], [given], [wanted])
        elif right is not None:
            rewards += arithmetic([prompt], [text], [right])
        else:
            raise ValueError("the row has neither numbers with a target nor an answer")
    return rewards


def evaluate_expression(text: str, numbers: Sequence[int]) -> Fraction | None:
    """Computes the value of an expression that uses each of the numbers at most once.

    Args:
      text: as of `countdown`; of any length and depth.
      numbers: none of them negative.

    Returns:
      The value; None where the text is no such expression or divides by 0.

    Example:
      >>> evaluate_expression("(7-3)/8", [3, 7, 8]), evaluate_expression("7-7", [3, 7, 8])
      (Fraction(1, 2), None)
    """
    tokens = _split(text)
    left = Counter(map(str, numbers))
    values: list[Fraction] = []
    waiting: list[str] = []  # operations and opening parentheses whose right side is not read yet
    wants_value = True
    try:
        for token in tokens:
            if wants_value:
                if token == "(":
                    waiting.append(token)
                elif left[token] > 0:
                    left[token] -= 1
                    values.append(Fraction(int(token)))
                    wants_value = False
                else:
                    return None
            elif token == ")":
                _compute(values, waiting, 0)
                if not waiting:
                    return None
                waiting.pop()
            elif token in _OPERATIONS:
                _compute(values, waiting, _OPERATIONS[token][0])
                waiting.append(token)
                wants_value = True
            else:
                return None
        if wants_value:
            return None
        _compute(values, waiting, 0)
    except ZeroDivisionError:
        return None
    return None if waiting else values[0]


def _split(text: str) -> list[str]:
    """Splits an expression into numbers and signs; into nothing where it holds anything else."""
    tokens, at = [], 0
    text = text.rstrip(" ")
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return []
        tokens.append(found[1])
        at = found.end()
    return tokens


def _compute(values: list[Fraction], waiting: list[str], least: int) -> None:
    """Computes what waits since the last opening parenthesis and binds at least so tightly."""
    while waiting and waiting[-1] != "(" and _OPERATIONS[waiting[-1]][0] >= least:
        operation = _OPERATIONS[waiting.pop()][1]
        right, left = values.pop(), values.pop()
        values.append(operation(left, right))
