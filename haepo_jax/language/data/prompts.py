"""Prompt formats: from rows of a data set to formatted texts, and from those to ids of fixed shapes.

Lengths count tokens. Prompts are padded on the left, so that every response starts at the same position; responses
are padded on the right. A response is tokenised as it continues its prompt, as when it is sampled behind it.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError, choose
from haepo_jax.language.data.datasets import (
    Article,
    Comparison,
    Demonstration,
    Post,
    Preference,
    PromptCompletion,
    Row,
)
from haepo_jax.language.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class PromptFormat:
    """The text of a prompt, and the lengths that it and its responses are brought to."""

    name: str
    template: str
    """With the fields of a `Post` or an `Article` in braces."""
    long_field: str
    """The last field of the template, which is cut where the prompt is too long."""
    query_length: int
    """Tokens of a prompt, P."""
    response_length: int
    """Tokens of a response, R, its end-of-sequence token included."""
    comparison_length: int
    """Tokens of a response that is compared; those of other policies may be longer."""

    def render(self, post: Post | Article) -> str:
        """Writes the prompt of a post or an article, whatever its length.

        Raises:
          ConfigError: the template has a field that it does not have.
        """
        try:
            return self.template.format(**dataclasses.asdict(post))
        except KeyError as error:
            what = "an article" if isinstance(post, Article) else "a post"
            raise ConfigError(
                f"Prompt format {self.name} has the field {error.args[0]}, and {what} has none."
            ) from None

    def response(self, text: str) -> str:
        """Writes a summary as it follows the prompt: with one leading space, whether its source has one or not."""
        return f" {text.lstrip()}" if text.strip() else ""

    def parts(self, prompt: str) -> tuple[str, str, str]:
        """Splits a formatted prompt into what precedes the long field, that field, and what follows it.

        Raises:
          ConfigError: the prompt is not in this format.
        """
        before, _, tail = self.template.partition(f"{{{self.long_field}}}")
        marker = before.rpartition("}")[2]
        start, end = prompt.find(marker) + len(marker), len(prompt) - len(tail)
        if marker not in prompt or not prompt.endswith(tail) or start > end:
            raise ConfigError(
                f"The prompt {prompt[:40]!r}... is longer than {self.query_length} tokens, and not in the format "
                f"{self.name}, which would say what to cut: {marker!r} before and {tail!r} at its end."
            )
        return prompt[:start], prompt[start:end], tail


_TLDR = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"

FORMATS = {
    prompt_format.name: prompt_format
    for prompt_format in (
        PromptFormat("openai_tldr", _TLDR, "post", query_length=512, response_length=53, comparison_length=169),
        PromptFormat(
            "openai_cnndm",
            "Article:\n{article}\n\nTL;DR:\n",
            "article",
            query_length=1919,
            response_length=128,
            comparison_length=155,
        ),
        PromptFormat("generated", _TLDR, "post", query_length=32, response_length=50, comparison_length=50),
    )
}
"""The presets. The published formats and lengths are those of Stiennon et al. (2020) and, for comparisons, of Huang et
al. (2024), "The N+ implementation details of RLHF with PPO"; `generated` fits the posts of the generated task."""


class CompletionArrays(NamedTuple):
    """Prompts with completions to imitate; N of them."""

    queries: np.ndarray
    """`[N, P]` int32, padded on the left."""
    query_valid: np.ndarray
    """`[N, P]` boolean."""
    responses: np.ndarray
    """`[N, R]` int32, padded on the right."""
    response_valid: np.ndarray
    """`[N, R]` boolean, True for the end-of-sequence token too."""


class PreferenceArrays(NamedTuple):
    """Prompts with two completions of which the first is preferred; N of them."""

    queries: np.ndarray
    """`[N, P]` int32, padded on the left."""
    query_valid: np.ndarray
    """`[N, P]` boolean."""
    chosen: np.ndarray
    """`[N, R]` int32, padded on the right."""
    chosen_valid: np.ndarray
    """`[N, R]` boolean."""
    rejected: np.ndarray
    """`[N, R]` int32, padded on the right."""
    rejected_valid: np.ndarray
    """`[N, R]` boolean."""


def get_prompt_format(name: str) -> PromptFormat:
    """Returns the preset of that name.

    Raises:
      ConfigError: there is none.
    """
    return FORMATS[choose("Prompt format", name, tuple(FORMATS))]


def format_completions(rows: Sequence[Row], prompt_format: PromptFormat) -> tuple[PromptCompletion, ...]:
    """Formats the prompts of rows to imitate, of either schema.

    Args:
      rows: of `openai_tldr` or `trl_tldr`.
      prompt_format: formats posts and summaries of the former; the latter are formatted already and stay as they are.

    Raises:
      ConfigError: rows of a schema of comparisons.
    """
    completions = []
    for row in rows:
        match row:
            case Demonstration(post, summary):
                completions.append(PromptCompletion(prompt_format.render(post), prompt_format.response(summary)))
            case PromptCompletion():
                completions.append(row)
            case _:
                raise ConfigError("Completions come from schema openai_tldr or trl_tldr; these rows are comparisons.")
    return tuple(completions)


def format_preferences(rows: Sequence[Row], prompt_format: PromptFormat) -> tuple[Preference, ...]:
    """Formats the prompts of comparisons of either schema.

    Args:
      rows: of `openai_comparisons` or `trl_tldr_preference`.
      prompt_format: formats posts and summaries of the former; the latter are formatted already and stay as they are.

    Raises:
      ConfigError: rows of a schema without comparisons.
    """
    preferences = []
    for row in rows:
        match row:
            case Comparison(post, summaries, choice):
                prompt = prompt_format.render(post)
                chosen, rejected = (prompt_format.response(summaries[i]) for i in (choice, 1 - choice))
                preferences.append(Preference(prompt, chosen, rejected))
            case Preference():
                preferences.append(row)
            case _:
                raise ConfigError(
                    "Preferences come from schema openai_comparisons or trl_tldr_preference; these rows "
                    "are not compared."
                )
    return tuple(preferences)


def encode_completions(
    examples: Sequence[PromptCompletion], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> CompletionArrays:
    """Encodes prompts and completions as ids, in the format's `query_length` and `response_length`.

    Args:
      examples: at least one.
      tokenizer: that of the model.
      prompt_format: gives the lengths, and says what is cut; see `encode_queries` and `encode_responses`.

    Raises:
      ConfigError: as `encode_queries`.
    """
    prompts = [example.prompt for example in examples]
    completions = [example.completion for example in examples]
    return CompletionArrays(
        *encode_queries(prompts, tokenizer, prompt_format),
        *encode_responses(prompts, completions, tokenizer, prompt_format.response_length),
    )


def encode_preferences(
    examples: Sequence[Preference], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> PreferenceArrays:
    """Encodes prompts and compared completions as ids, in the format's `query_length` and `comparison_length`.

    Args:
      examples: at least one.
      tokenizer: that of the model.
      prompt_format: gives the lengths, and says what is cut; see `encode_queries` and `encode_responses`.

    Raises:
      ConfigError: as `encode_queries`.
    """
    prompts, length = [example.prompt for example in examples], prompt_format.comparison_length
    return PreferenceArrays(
        *encode_queries(prompts, tokenizer, prompt_format),
        *encode_responses(prompts, [example.chosen for example in examples], tokenizer, length),
        *encode_responses(prompts, [example.rejected for example in examples], tokenizer, length),
    )


def encode_queries(
    prompts: Sequence[str], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes formatted prompts as ids, padded on the left.

    A prompt that is too long loses the end of its post: it is cut at the last newline at which it fits, and where
    there is none, as many characters go as it takes. What stands before and behind the post stays whole.

    Args:
      prompts: N formatted prompts, at least one.
      tokenizer: that of the model; its `begin_ids` come first, unless the prompt spells them out, and count.
      prompt_format: gives P and says where the post is.

    Returns:
      `(queries, valid)`: `[N, P]` int32 and `[N, P]` boolean.

    Raises:
      ConfigError: no prompts, an empty one, one that is too long and not in the format, or one that does not fit
        even without its post.
    """
    if not prompts:
        raise ConfigError("There are no examples to encode.")
    length, rows = prompt_format.query_length, list[list[int]]()
    for prompt, text_ids in zip(prompts, tokenizer.encode(prompts), strict=True):
        ids = begin_text(text_ids, tokenizer)
        if not ids:
            raise ConfigError(f"Prompt {len(rows)} (the first is 0) is empty.")
        rows.append(ids if len(ids) <= length else _cut(prompt, tokenizer, prompt_format))
    queries = np.full((len(rows), length), tokenizer.pad_id, np.int32)
    for query, row in zip(queries, rows, strict=True):
        query[length - len(row) :] = row
    lengths = np.array([len(row) for row in rows])
    return queries, np.arange(length) >= length - lengths[:, None]


def encode_responses(
    prompts: Sequence[str], texts: Sequence[str], tokenizer: Tokenizer, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes responses as ids, as they continue their prompts, with the end-of-sequence token, padded on the right.

    A text that spells an end-of-sequence token ends there. A response that is too long keeps its first `length`
    tokens, and so has no end-of-sequence token: nothing is learnt of ending in the middle of a sentence.

    Args:
      prompts: N formatted prompts, at least one.
      texts: their responses, which stay as they are.
      tokenizer: that of the model.
      length: R.

    Returns:
      `(responses, valid)`: `[N, R]` int32 and `[N, R]` boolean.
    """
    responses = np.full((len(texts), length), tokenizer.pad_id, np.int32)
    lengths = np.zeros((len(texts), 1), np.int32)
    for i, ids in enumerate(_continuations(prompts, texts, tokenizer)):
        row = [*ids, tokenizer.eos_id]
        end = next(place for place, token in enumerate(row) if token in tokenizer.eos_ids)
        row = row[: min(end + 1, length)]
        responses[i, : len(row)] = row
        lengths[i] = len(row)
    return responses, np.arange(length) < lengths


_STANDING_IN = (":", ".", ")", "\n", "a", "1")
"""The stand-in for a prompt in whose last token a response would merge."""


def _continuations(prompts: Sequence[str], texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of texts behind their prompts, where a tokenizer adds no space as it may at the beginning of a text.

    Where the end of a prompt and the beginning of its text would be one token, which the ids of the prompt alone do
    not hold, the text is tokenised behind something else with which it shares none.
    """
    heads = tokenizer.encode(prompts)
    whole = tokenizer.encode([prompt + text for prompt, text in zip(prompts, texts, strict=True)])
    return [
        ids[len(head) :] if ids[: len(head)] == head else _behind_something(text, tokenizer)
        for head, ids, text in zip(heads, whole, texts, strict=True)
    ]


def _behind_something(text: str, tokenizer: Tokenizer) -> list[int]:
    for before in _STANDING_IN:
        head, ids = tokenizer.encode([before, before + text])
        if ids[: len(head)] == head:
            return ids[len(head) :]
    return tokenizer.encode([text])[0]


def begin_text(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Puts those of `begin_ids` before the ids of a text that they do not begin with."""
    begin = list(tokenizer.begin_ids)
    missing = next(n for n in range(len(begin) + 1) if ids[: len(begin) - n] == begin[n:])
    return begin[:missing] + ids


def _cut(prompt: str, tokenizer: Tokenizer, prompt_format: PromptFormat) -> list[int]:
    """The ids of a prompt that is too long, with its long field cut until it fits."""
    head, body, tail = prompt_format.parts(prompt)

    def encoded(end: int) -> list[int]:
        return begin_text(tokenizer.encode([head + body[:end] + tail])[0], tokenizer)

    def fits(end: int) -> bool:
        return len(encoded(end)) <= prompt_format.query_length

    newlines = [place for place, character in enumerate(body) if character == "\n"]
    end = _last(fits, newlines)
    if end is None:
        end = _last(fits, range(newlines[0] if newlines else len(body)))
    if end is None:
        raise ConfigError(
            f"The prompt {prompt[:40]!r}... has {len(encoded(0))} tokens without its "
            f"{prompt_format.long_field}, and format {prompt_format.name} holds {prompt_format.query_length}."
        )
    return encoded(end)


def _last(fits: Callable[[int], bool], ends: Sequence[int]) -> int | None:
    """The last of some growing ends that fits, None if none does; what is far too long is not looked at."""
    known = 1
    while known <= len(ends) and fits(ends[known - 1]):
        known *= 2
    count = bisect.bisect_left(ends, True, known // 2, min(known, len(ends)), key=lambda end: not fits(end))
    return ends[count - 1] if count else None
