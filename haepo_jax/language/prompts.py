"""Prompt formats: from rows of a data set to formatted texts, and from those to ids of fixed shapes.

Lengths count tokens. Prompts are padded on the left, so that every response starts at the same position; responses
are padded on the right. Prompt and response are tokenised each on its own, as when one is sampled behind the other.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError, choose
from haepo_jax.language.datasets import Article, Comparison, Demonstration, Post, Preference, PromptCompletion, Row
from haepo_jax.language.tokens import Tokenizer


@dataclass(frozen=True)
class PromptFormat:
    """How a prompt reads, and the lengths that it and its responses are brought to."""

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
        """The prompt of a post or an article, whatever its length.

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


def prompt_format(name: str) -> PromptFormat:
    """The preset of that name.

    Raises:
      ConfigError: there is none.
    """
    return FORMATS[choose("Prompt format", name, tuple(FORMATS))]


def as_completions(rows: Sequence[Row], prompt_format: PromptFormat) -> tuple[PromptCompletion, ...]:
    """Rows to imitate, of either schema, with their prompts formatted.

    Args:
      rows: of `openai_tldr` or `trl_tldr`.
      prompt_format: formats the posts of the former; the latter have their prompts already.

    Raises:
      ConfigError: rows of a schema of comparisons.
    """
    completions = []
    for row in rows:
        match row:
            case Demonstration(post, summary):
                completions.append(PromptCompletion(prompt_format.render(post), summary))
            case PromptCompletion():
                completions.append(row)
            case _:
                raise ConfigError("Completions come from schema openai_tldr or trl_tldr; these rows are comparisons.")
    return tuple(completions)


def as_preferences(rows: Sequence[Row], prompt_format: PromptFormat) -> tuple[Preference, ...]:
    """Comparisons, of either schema, with their prompts formatted.

    Args:
      rows: of `openai_comparisons` or `trl_tldr_preference`.
      prompt_format: formats the posts of the former; the latter have their prompts already.

    Raises:
      ConfigError: rows of a schema without comparisons.
    """
    preferences = []
    for row in rows:
        match row:
            case Comparison(post, summaries, choice):
                prompt = prompt_format.render(post)
                preferences.append(Preference(prompt, summaries[choice], summaries[1 - choice]))
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
    """Prompts and completions as ids, in the format's `query_length` and `response_length`.

    Args:
      examples: at least one.
      tokenizer: that of the model.
      prompt_format: gives the lengths, and says what is cut; see `encode_queries` and `encode_responses`.

    Raises:
      ConfigError: as `encode_queries`.
    """
    return CompletionArrays(
        *encode_queries([example.prompt for example in examples], tokenizer, prompt_format),
        *encode_responses([example.completion for example in examples], tokenizer, prompt_format.response_length),
    )


def encode_preferences(
    examples: Sequence[Preference], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> PreferenceArrays:
    """Prompts and compared completions as ids, in the format's `query_length` and `comparison_length`.

    Args:
      examples: at least one.
      tokenizer: that of the model.
      prompt_format: gives the lengths, and says what is cut; see `encode_queries` and `encode_responses`.

    Raises:
      ConfigError: as `encode_queries`.
    """
    length = prompt_format.comparison_length
    return PreferenceArrays(
        *encode_queries([example.prompt for example in examples], tokenizer, prompt_format),
        *encode_responses([example.chosen for example in examples], tokenizer, length),
        *encode_responses([example.rejected for example in examples], tokenizer, length),
    )


def encode_queries(
    prompts: Sequence[str], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Formatted prompts as ids, padded on the left.

    A prompt that is too long loses the end of its post: from its last newline on, again and again until it fits,
    and when no newline is left, as many characters as it takes. What stands before and behind the post stays whole.

    Args:
      prompts: N formatted prompts, at least one.
      tokenizer: that of the model; its `begin_ids` come first and count.
      prompt_format: gives P and says where the post is.

    Returns:
      `(queries, valid)`: `[N, P]` int32 and `[N, P]` boolean.

    Raises:
      ConfigError: no prompts, an empty one, one that is too long and not in the format, or one that does not fit
        even without its post.
    """
    if not prompts:
        raise ConfigError("There are no examples to encode.")
    length, begin = prompt_format.query_length, list(tokenizer.begin_ids)
    rows: list[list[int]] = []
    for prompt, text_ids in zip(prompts, tokenizer.encode(prompts), strict=True):
        ids = begin + text_ids
        if not ids:
            raise ConfigError(f"Prompt {len(rows)} (the first is 0) is empty.")
        rows.append(ids if len(ids) <= length else begin + _cut(prompt, tokenizer, prompt_format))
    queries = np.full((len(rows), length), tokenizer.pad_id, np.int32)
    for query, row in zip(queries, rows, strict=True):
        query[length - len(row) :] = row
    lengths = np.array([len(row) for row in rows])
    return queries, np.arange(length) >= length - lengths[:, None]


def encode_responses(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses as ids, each with one leading space and the end-of-sequence token, padded on the right.

    Sources differ in whether a text starts with a space; here all do, but for the empty text. A text that spells an
    end-of-sequence token ends there. A response that is too long keeps its first `length` tokens, and so has no
    end-of-sequence token: nothing is learnt of ending in the middle of a sentence.

    Args:
      texts: N responses, at least one.
      tokenizer: that of the model.
      length: R.

    Returns:
      `(responses, valid)`: `[N, R]` int32 and `[N, R]` boolean.
    """
    spaced = [f" {text.lstrip()}" if text.strip() else "" for text in texts]
    responses = np.full((len(texts), length), tokenizer.pad_id, np.int32)
    lengths = np.zeros((len(texts), 1), np.int32)
    for i, ids in enumerate(tokenizer.encode(spaced)):
        row = [*ids, tokenizer.eos_id]
        row = row[: min(row.index(tokenizer.eos_id) + 1, length)]
        responses[i, : len(row)] = row
        lengths[i] = len(row)
    return responses, np.arange(length) < lengths


def _cut(prompt: str, tokenizer: Tokenizer, prompt_format: PromptFormat) -> list[int]:
    """The ids, without `begin_ids`, of a prompt that is too long, with its long field cut until it fits."""
    room = prompt_format.query_length - len(tokenizer.begin_ids)
    head, body, tail = prompt_format.parts(prompt)

    def encoded(end: int) -> list[int]:
        return tokenizer.encode([head + body[:end] + tail])[0]

    def fits(end: int) -> bool:
        return len(encoded(end)) <= room

    end = len(body)
    while not fits(end):
        newline = body.rfind("\n", 0, end)
        if newline < 0:
            end = _last(fits, end)
            break
        end = newline
    if end < 0:
        raise ConfigError(
            f"The prompt {prompt[:40]!r}... has {len(encoded(0)) + len(tokenizer.begin_ids)} tokens without its "
            f"{prompt_format.long_field}, and format {prompt_format.name} holds {prompt_format.query_length}."
        )
    return encoded(end)


def _last(fits: Callable[[int], bool], end: int) -> int:
    """The last number below `end`, which does not fit, that does, found by halving; -1 if 0 does not."""
    low, high = -1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
