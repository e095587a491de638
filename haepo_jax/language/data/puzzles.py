"""Puzzles that are generated, whose answers a program checks: arithmetic and countdown, a character a token.

Arithmetic gives an expression and asks for its value; its level is the number of operations::

    7+2*3=13

Countdown gives numbers and a target, and asks for an expression of that value in which each number stands at most
once; its level is the number of numbers::

    3,5,8>64:(3+5)*8

A model learns on easier levels, and is also judged on harder ones that it has never seen. Of the examples that it
imitates, a share is careless: they work from left to right, as if `*` and `/` did not come first, and write no
parentheses. Many of these are wrong. What a model then learns from rewards is above all whom to follow. The rewards
are in `haepo_jax.language.rewards.puzzles`.
"""

import json
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.tokenizer import Tokenizer, make_word_tokenizer

ARITHMETIC, COUNTDOWN = "arithmetic", "countdown"
LEVELS: Mapping[str, tuple[int, ...]] = {ARITHMETIC: (2,), COUNTDOWN: (3,)}
"""Of each puzzle, those that a model learns on."""
HARDER: Mapping[str, tuple[int, ...]] = {ARITHMETIC: (3,), COUNTDOWN: (4,)}
"""Of each puzzle, those that it is judged on alone."""

_LEARNT_FROM, _HARDER_FILE = ("examples", "train"), "test/harder"
_LARGEST_NUMBER, _LARGEST_TARGET = 9, 99
_CHARACTERS = "0123456789+-*/()=,>:"
_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}
_WITHOUT_PARENTHESES = str.maketrans("", "", "()")
_TRIES = 2000  # for a puzzle that is new; more mean that there are hardly any left

Row = dict[str, Any]
"""A puzzle with the columns of the data."""


class _Drawn(NamedTuple):
    """A puzzle, with what it has in common with those that have the same answers."""

    key: str
    row: Row
    careless: str
    """The completion of one who works from left to right."""


def make_tokenizer() -> Tokenizer:
    """Makes the tokenizer of the puzzles: a token a character.

    Raises:
      ConfigError: the tokenizers library is not installed.
    """
    return make_word_tokenizer(_CHARACTERS, r"[\s\S]")


def write(
    folder: str | Path,
    *,
    seed: int = 0,
    num_examples: int = 6000,
    num_train: int = 3000,
    num_held_out: int = 256,
    num_test: int = 256,
    careless: float = 0.5,
) -> None:
    """Writes the data set, the same bytes for the same arguments.

    ==================== ==================================== ==============
    file                 puzzles                              rows
    ==================== ==================================== ==============
    examples.jsonl       to imitate                           `num_examples`
    train.jsonl          to learn from by rewards             `num_train`
    held_out.jsonl       that a run is watched by             `num_held_out`
    test/learnt.jsonl    that it is judged by                 `num_test`
    test/harder.jsonl    likewise, of the levels of `HARDER`  `num_test`
    tokenizer/           `tokenizer.json` and its settings
    ==================== ==================================== ==============

    No prompt stands twice, and no puzzle of one of the last three files in another one, not even with the numbers of
    countdown in another order. Half of each file is arithmetic. A row has the columns `prompt`, `completion` (an
    answer that is right, but for careless examples), `puzzle`, `level`, and in arithmetic `answer`, in countdown
    `numbers` and `target`.

    Args:
      folder: is made if need be.
      seed: decides everything.
      num_examples: at least 1, as are all numbers.
      num_train: likewise.
      num_held_out: likewise.
      num_test: likewise.
      careless: share of the examples whose answer is that of one who works from left to right, 0 to 1.

    Raises:
      ConfigError: the tokenizers library is not installed, a number is less than 1 or the share not from 0 to 1, or
        there are not so many puzzles.
    """
    # Those to be judged by come first, so that they are the same however many are learnt from.
    files = {
        "held_out": ("num_held_out", num_held_out),
        "test/learnt": ("num_test", num_test),
        _HARDER_FILE: ("num_test", num_test),
        "examples": ("num_examples", num_examples),
        "train": ("num_train", num_train),
    }
    for name, count in files.values():
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, got {count}.")
    if not 0 <= careless <= 1:
        raise ConfigError(f"careless must be a share from 0 to 1, got {careless}.")
    folder, owners, prompts = Path(folder), dict[str, str](), set[str]()
    make_tokenizer().save(folder / "tokenizer")
    (folder / "test").mkdir(exist_ok=True)
    for file, (_, count) in files.items():
        rng, owner = random.Random(f"{seed} puzzles {file}"), "learnt from" if file in _LEARNT_FROM else file

        def is_new(drawn: _Drawn, owner: str = owner) -> bool:
            if drawn.row["prompt"] in prompts or owners.setdefault(drawn.key, owner) != owner:
                return False
            prompts.add(drawn.row["prompt"])
            return True

        drawn = _draw_puzzles(rng, HARDER if file == _HARDER_FILE else LEVELS, count, is_new)
        share = careless if file == "examples" else 0.0
        _write_lines(folder / f"{file}.jsonl", (_answer(rng, puzzle, share) for puzzle in drawn))


def _answer(rng: random.Random, drawn: _Drawn, careless: float) -> Row:
    """Returns the row of a puzzle, whose answer is the careless one by chance."""
    return drawn.row | ({"completion": drawn.careless} if rng.random() < careless else {})


def _draw_puzzles(
    rng: random.Random, levels: Mapping[str, Sequence[int]], count: int, is_new: Callable[[_Drawn], bool]
) -> Iterator[_Drawn]:
    """Draws puzzles that are new, of all kinds and their levels in turn."""
    kinds = list(levels)
    for number in range(count):
        turn, place = divmod(number, len(kinds))
        kind = kinds[place]
        yield _draw_new(rng, kind, levels[kind][turn % len(levels[kind])], is_new)


def _draw_new(rng: random.Random, kind: str, level: int, is_new: Callable[[_Drawn], bool]) -> _Drawn:
    draw = {ARITHMETIC: _draw_arithmetic, COUNTDOWN: _draw_countdown}[kind]
    for _ in range(_TRIES):
        drawn = draw(rng, level)
        if drawn is not None and is_new(drawn):
            return drawn
    raise ConfigError(f"There are not so many puzzles of {kind} of level {level}; ask for fewer.")


def _draw_arithmetic(rng: random.Random, level: int) -> _Drawn:
    """Draws an expression of numbers of one digit, in which no product has more than two factors."""
    first = rng.randint(1, _LARGEST_NUMBER)
    text, terms, is_product, in_turn = str(first), [first], False, first
    for _ in range(level):
        sign = rng.choice("+-" if is_product else "+-*")
        is_product = sign == "*"
        number = rng.randint(1, _LARGEST_NUMBER)
        text += f"{sign}{number}"
        in_turn = _OPERATIONS[sign](in_turn, number)
        if is_product:
            terms[-1] *= number
        else:
            terms.append(number if sign == "+" else -number)
    prompt, answer = f"{text}=", str(sum(terms))
    row = {"prompt": prompt, "completion": answer, "puzzle": ARITHMETIC, "level": level, "answer": answer}
    return _Drawn(prompt, row, str(in_turn))


class _Part(NamedTuple):
    """An expression, or a number."""

    value: int
    text: str
    binds: int
    """How tightly its last operation does: 1 of a sum, 2 of a product, 3 of a number."""


def _draw_countdown(rng: random.Random, level: int) -> _Drawn | None:
    """Draws numbers and an expression of them all; None where its value will not do as a target."""
    numbers = [rng.randint(1, _LARGEST_NUMBER) for _ in range(level)]
    parts = [_Part(number, str(number), 3) for number in numbers]
    while len(parts) > 1:
        rng.shuffle(parts)
        left, right = parts.pop(), parts.pop()
        parts.append(_join(rng, left, right))
    target, expression = parts[0].value, parts[0].text
    if not 0 < target <= _LARGEST_TARGET or target in numbers:
        return None
    prompt = f"{','.join(map(str, numbers))}>{target}:"
    row = {"prompt": prompt, "completion": expression, "puzzle": COUNTDOWN, "level": level}
    in_turn = expression.translate(_WITHOUT_PARENTHESES)
    return _Drawn(f"{sorted(numbers)}>{target}", row | {"numbers": numbers, "target": target}, in_turn)


def _join(rng: random.Random, left: _Part, right: _Part) -> _Part:
    """Joins two expressions by an operation that gives a whole number."""
    divides = right.value != 0 and left.value % right.value == 0
    sign = rng.choice("+-*/" if divides else "+-*")
    value = _OPERATIONS[sign](left.value, right.value)
    binds = 1 if sign in "+-" else 2
    first = left.text if left.binds >= binds else f"({left.text})"
    # a - (b - c) and a / (b * c) keep their parentheses.
    second = right.text if right.binds > binds or (right.binds == binds and sign in "+*") else f"({right.text})"
    return _Part(value, f"{first}{sign}{second}", binds)


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
