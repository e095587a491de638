"""The reward functions that come with the package. They see texts alone, as those from outside do."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def exact_match(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    column: str = "answer",
    after: str = "",
    ignore_case: bool = False,
    **columns: Sequence[Any],
) -> list[float]:
    """Gives 1 to a completion that is the answer, and 0 to others; white space at either end does not count.

    Args:
      prompts: not looked at.
      completions: the texts.
      column: holds the answer of each row; what is no text there is compared as Python writes it, and a row without
        an answer (None) gives 0.
      after: what stands before the answer, such as `####`: the text behind the last of them is compared, and a
        completion without one gets 0. A column without one, unlike that of GSM8K, holds the answer alone. Empty: all
        of both is compared.
      ignore_case: whether `Paris` and `paris` are one.
      columns: those of the data.

    Example:
      >>> exact_match(["2+2="] * 3, ["4", " 4 ", "5"], answer=[4, 4, 4])
      [1.0, 1.0, 0.0]
      >>> exact_match(["2+2="] * 2, ["It is 2+2, so #### 4"] * 2, after="####", answer=["4", "2 and 2 is 4 #### 4"])
      [1.0, 1.0]
    """
    del prompts

    def plain(text: str) -> str:
        return text.strip().casefold() if ignore_case else text.strip()

    def last(text: str) -> str:
        return text.rpartition(after)[2] if after else text

    def is_right(completion: str, answer: Any) -> bool:
        there = answer is not None and after in completion
        return there and plain(last(completion)) == plain(last(str(answer)))

    answers = _get_column(columns, column)
    return [float(is_right(*pair)) for pair in zip(completions, answers, strict=True)]


def regular_expression(
    prompts: Sequence[str], completions: Sequence[str], *, pattern: str, column: str = "", **columns: Sequence[Any]
) -> list[float]:
    r"""Gives 1 to a completion in which a pattern is found, and 0 to others.

    Args:
      prompts: not looked at.
      completions: the texts.
      pattern: a regular expression of Python; a dot stands for a line break too.
      column: where given, what the last match finds must be what this column holds: the first group of the pattern, or
        the whole match where it has none. A row without it (None) gives 0.
      columns: those of the data.

    Example:
      >>> regular_expression(["2+2="] * 2, ["so = 4", "so = 5"], pattern=r"= (\d+)", column="answer", answer=[4, 4])
      [1.0, 0.0]
    """
    del prompts
    compiled = re.compile(pattern, re.DOTALL)
    answers = _get_column(columns, column) if column else [None] * len(completions)

    def is_right(completion: str, answer: Any) -> bool:
        found = list(compiled.finditer(completion))
        if not found or not column:
            return bool(found)
        last = found[-1]
        text = (last.group(1 if compiled.groups else 0) or "").strip()
        return answer is not None and text == str(answer).strip()

    return [float(is_right(*pair)) for pair in zip(completions, answers, strict=True)]


THINK_THEN_ANSWER = r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*"
"""The format that DeepSeek-R1 was asked for."""


def match_format(
    prompts: Sequence[str], completions: Sequence[str], *, pattern: str = THINK_THEN_ANSWER
) -> list[float]:
    """Gives 1 to a completion that is of a format from its beginning to its end, and 0 to others.

    Args:
      prompts: not looked at.
      completions: the texts.
      pattern: a regular expression of Python; a dot stands for a line break too.

    Example:
      >>> match_format(["2+2="] * 2, ["<think>easy</think> <answer>4</answer>", "4"])
      [1.0, 0.0]
    """
    del prompts
    compiled = re.compile(pattern, re.DOTALL)
    return [float(compiled.fullmatch(completion) is not None) for completion in completions]


def penalize_length(
    prompts: Sequence[str], completions: Sequence[str], num_tokens: Sequence[int], *, free: int, limit: int
) -> list[float]:
    """Gives 0 to a completion of few tokens, -1 to one of many, and between both what lies on the line.

    It is the soft punishment of overlong responses of DAPO (arXiv 2503.14476), section 3.4.

    Args:
      prompts: not looked at.
      completions: not looked at.
      num_tokens: of each completion, the one that ends it included.
      free: the most tokens that cost nothing.
      limit: the fewest tokens that cost 1; above `free`.

    Example:
      >>> penalize_length([""] * 3, ["a", "b", "c"], [10, 15, 30], free=10, limit=20)
      [0.0, -0.5, -1.0]
    """
    del prompts, completions
    if limit <= free:
        raise ValueError(f"limit must be above free, got {limit} and {free}")
    return [min(max((free - tokens) / (limit - free), -1.0), 0.0) for tokens in num_tokens]


def _get_column(columns: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any]:
    if name not in columns:
        there = ", ".join(columns) or "none"
        raise ValueError(f"the data have no column {name}; there are: {there}")
    return columns[name]


BUILT_IN: dict[str, Callable[..., list[float]]] = {
    "exact_match": exact_match,
    "regular_expression": regular_expression,
    "format": match_format,
    "length": penalize_length,
}
"""By the names that a config has for them."""
