"""A TL;DR task that is generated: posts, noisy reference summaries, comparisons, and a gold reward by program.

A post has eight marked words among filler words. The mark `*` says that the word behind it is a fact, to be told; the
mark `~`, that it is an aside, not to be told. Two to five of the eight are facts. A summary tells words in any order,
among filler words if it likes::

    SUBREDDIT: r/travel

    TITLE: so then

    POST: well * boat you ~ lamp ~ cousin * bread so ~ fence ~ guitar now ~ novel * storm right

    TL;DR: boat so bread really storm

References are noisy, as people are: they leave facts out, tell asides and things that no post said, repeat themselves
and ramble, so that imitating them perfectly earns much less than the best summary does.
"""

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.language.datasets import Comparison, Post
from haepo_jax.language.tokens import Tokenizer, tokenizers_library

FACT_MARK, ASIDE_MARK = "*", "~"
NUM_MARKED = 8
NUM_FACTS = (2, 5)
"""The fewest and the most facts of a post; all numbers between are as likely."""
MAX_WORDS = 49
"""Words of the longest reference: with the end-of-sequence token, 50 tokens."""

COVERED, WRONG, REPEATED, PER_WORD, FLOOR = 1.0, -1.0, -0.5, -0.02, -3.0
SHARPNESS = 2.0
"""Of the judge: what a difference of 1 in gold is worth in the logit of a preference."""

_CONTENT = """
anchor apple attic autumn badge bakery basket bicycle blanket boat bottle bread
bridge brother bucket butter cabin camera candle carpet castle cellar cheese cherry
circus clock coffee cousin curtain dentist desert doctor dragon engine farmer fence
ferry flower forest garden garlic ghost glove guitar hammer harbor helmet honey
hotel island jacket jungle kettle kitchen ladder lamp lawyer lemon letter lizard
magnet market meadow mirror monkey museum needle novel ocean office onion orchard
oven parrot pencil pepper piano pirate planet pocket potato rabbit river rocket
saddle salmon school shovel spider station storm sugar tailor teacher ticket window
"""
_FILLERS = """
again also and anyway here i just like look maybe mean now
okay perhaps quite really right see so still then there well you
"""
CONTENT_WORDS = tuple(_CONTENT.split())
FILLER_WORDS = tuple(_FILLERS.split())
SUBREDDITS = ("advice", "family", "travel", "work")


@dataclass(frozen=True)
class _Writer:
    """How carelessly somebody summarises: chances, of each marked word or of the whole summary."""

    omits: float
    """A fact is left out."""
    digresses: float
    """An aside is told."""
    invents: float
    """A word is told that is not from the post, or only by chance."""
    repeats: float
    """A told word is told again."""
    rambles: tuple[float, float]
    """Bounds of the chance, drawn for each summary, that a filler word comes next."""


_WRITERS = {
    "careful": _Writer(omits=0.1, digresses=0.02, invents=0.05, repeats=0.05, rambles=(0.0, 0.8)),
    "reference": _Writer(omits=0.2, digresses=0.06, invents=0.1, repeats=0.15, rambles=(0.3, 0.9)),
    "careless": _Writer(omits=0.4, digresses=0.15, invents=0.3, repeats=0.4, rambles=(0.3, 0.9)),
}


def gold_reward(post: str, summary: str) -> float:
    """What a summary of a post is worth, from the two texts alone.

    max(-3, facts told - wrong words - repetitions / 2 - words / 50), where a fact counts once, and again as a
    repetition each time after the first; a wrong word is one that is neither a fact nor a filler word, such as an
    aside, a mark, or a word of no post; and all words count in the last term.

    The best summary tells each fact once and nothing else: 0.98 for each, so 1.96 to 4.9 (`best_gold`). The empty
    summary is worth 0; one that tells all marked words, about -0.9 on average over posts; one that copies the whole
    post, -3, the least there is.

    Args:
      post: text that holds the marks: a post, or the whole prompt with the post in it.
      summary: text without special tokens.

    Returns:
      The reward.

    Raises:
      ConfigError: no fact is marked in the post.

    Example:
      >>> gold_reward("well * boat so ~ lamp * bread", "boat really boat lamp")
      -0.58
    """
    facts, told, words = _facts(post), set[str](), summary.split()
    repeated = wrong = 0
    for word in words:
        if word in facts:
            repeated += word in told
            told.add(word)
        else:
            wrong += word not in FILLER_WORDS
    return max(FLOOR, COVERED * len(told) + WRONG * wrong + REPEATED * repeated + PER_WORD * len(words))


def best_gold(post: str) -> float:
    """The most that a summary of the post can earn.

    Example:
      >>> best_gold("well * boat so ~ lamp * bread")
      1.96
    """
    return (COVERED + PER_WORD) * len(_facts(post))


def preference_probability(first: float, second: float) -> float:
    """Chance that the judge prefers the summary of gold reward `first` to that of `second`: Bradley-Terry.

    Example:
      >>> preference_probability(1.0, 1.0)
      0.5
    """
    return 1 / (1 + math.exp(SHARPNESS * (second - first)))


def ceiling_accuracy(comparisons: Sequence[Comparison]) -> float:
    """The accuracy to expect of who knows gold, and so the most that a reward model can reach, on such comparisons.

    Args:
      comparisons: of this task, at least one.

    Returns:
      Mean over the comparisons of the chance that the judge prefers the summary of the larger gold reward.
    """
    chances = []
    for comparison in comparisons:
        golds = [gold_reward(_text(comparison.post), summary) for summary in comparison.summaries]
        chances.append(preference_probability(max(golds), min(golds)))
    return math.fsum(chances) / len(chances)


def make_tokenizer() -> Tokenizer:
    """The task's tokenizer: a token a word, together with the space before it, so that texts come back as they were.

    Raises:
      ConfigError: the tokenizers library is not installed.
    """
    library = tokenizers_library()
    special, headers = ("<pad>", "<eos>", "<unk>"), ("SUBREDDIT:", "TITLE:", "POST:", "TL;DR:", "\n\n")
    spaced = (*(f"r/{name}" for name in SUBREDDITS), FACT_MARK, ASIDE_MARK, *FILLER_WORDS, *CONTENT_WORDS)
    vocabulary = {token: i for i, token in enumerate((*special, *headers, *(f" {word}" for word in spaced)))}
    backend = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(r"\n\n| ?\S+|\s"), behavior="isolated")
    backend.decoder = library.decoders.Fuse()
    # <unk> is none of them: a text that holds it shows it.
    backend.add_special_tokens(["<pad>", "<eos>"])
    return Tokenizer(backend, eos_id=vocabulary["<eos>"], pad_id=vocabulary["<pad>"])


def write(
    folder: str | Path,
    *,
    seed: int = 0,
    num_posts: int = 20_000,
    num_comparisons: int = 20_000,
    num_held_out: int = 1000,
) -> None:
    """Writes the task's data set, the same bytes for the same arguments.

    ==================================== =================== ============================================
    file                                 schema              rows
    ==================================== =================== ============================================
    tldr_3_filtered/train.jsonl          openai_tldr         `num_posts`, by the writer `reference`
    tldr_3_filtered/{valid,test}.jsonl   openai_tldr         `num_held_out` each
    comparisons/train.jsonl              openai_comparisons  `num_comparisons`, of any two writers; split train
    comparisons/valid.jsonl              openai_comparisons  `num_held_out`; split valid1
    tokenizer.json                                           and tokenizer_config.json, for `Tokenizer`
    ==================================== =================== ============================================

    Every file has posts of its own.

    Args:
      folder: is made if need be.
      seed: decides everything.
      num_posts: posts with a reference to learn from, at least 1.
      num_comparisons: comparisons to learn from, at least 1.
      num_held_out: rows of each other file, at least 1.

    Raises:
      ConfigError: the tokenizers library is not installed, or a number is less than 1.
    """
    for name, count in (
        ("num_posts", num_posts),
        ("num_comparisons", num_comparisons),
        ("num_held_out", num_held_out),
    ):
        if count < 1:
            raise ConfigError(f"{name} must be at least 1, got {count}.")
    folder = Path(folder)
    make_tokenizer().save(folder)
    for split, count in (("train", num_posts), ("valid", num_held_out), ("test", num_held_out)):
        rng = random.Random(f"{seed} tldr_3_filtered {split}")
        rows = (_demonstration_row(rng, f"{split}-{i}") for i in range(count))
        _write_lines(folder / "tldr_3_filtered" / f"{split}.jsonl", rows)
    for name, split, count in (("train", "train", num_comparisons), ("valid", "valid1", num_held_out)):
        rng = random.Random(f"{seed} comparisons {split}")
        rows = (_comparison_row(rng, f"comparison-{name}-{i}", split) for i in range(count))
        _write_lines(folder / "comparisons" / f"{name}.jsonl", rows)


def _marked(post: str) -> list[tuple[str, str]]:
    return [pair for pair in itertools.pairwise(post.split()) if pair[0] in (FACT_MARK, ASIDE_MARK)]


def _facts(post: str) -> set[str]:
    facts = {word for mark, word in _marked(post) if mark == FACT_MARK}
    if not facts:
        raise ConfigError(
            f"The post {post[:40]!r}... marks no fact with {FACT_MARK}: it is not of the generated task."
        )
    return facts


def _text(post: Any) -> str:
    if not isinstance(post, Post):
        raise ConfigError("The gold reward is that of posts of the generated task, not of articles.")
    return post.post


def _fillers(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(FILLER_WORDS) for _ in range(count)]


def _post(rng: random.Random, name: str) -> Post:
    num_facts = rng.randint(*NUM_FACTS)
    marks = [FACT_MARK] * num_facts + [ASIDE_MARK] * (NUM_MARKED - num_facts)
    rng.shuffle(marks)
    words = []
    for mark, word in zip(marks, rng.sample(CONTENT_WORDS, NUM_MARKED), strict=True):
        words += [*_fillers(rng, rng.randint(0, 2)), mark, word]
    words += _fillers(rng, rng.randint(0, 2))
    return Post(name, rng.choice(SUBREDDITS), " ".join(_fillers(rng, 2)), " ".join(words))


def _summary(rng: random.Random, post: str, writer: _Writer) -> str:
    told = []
    for mark, word in _marked(post):
        if rng.random() < (1 - writer.omits if mark == FACT_MARK else writer.digresses):
            told.append(word)
    if rng.random() < writer.invents:
        told.insert(rng.randint(0, len(told)), rng.choice(CONTENT_WORDS))
    if told and rng.random() < writer.repeats:
        told.insert(rng.randint(0, len(told)), rng.choice(told))
    rambling = rng.uniform(*writer.rambles)
    words: list[str] = []
    for piece in (*([word] for word in told), []):
        while rng.random() < rambling:
            words.append(rng.choice(FILLER_WORDS))
        words += piece
    return " ".join(words[:MAX_WORDS] or _fillers(rng, 1))


def _demonstration_row(rng: random.Random, name: str) -> dict[str, Any]:
    post = _post(rng, name)
    summary = _summary(rng, post.post, _WRITERS["reference"])
    return {"id": post.id, "subreddit": post.subreddit, "title": post.title, "post": post.post, "summary": summary}


def _comparison_row(rng: random.Random, name: str, split: str) -> dict[str, Any]:
    post = _post(rng, name)
    policies = [rng.choice(tuple(_WRITERS)) for _ in range(2)]
    summaries = [_summary(rng, post.post, _WRITERS[policy]) for policy in policies]
    first = preference_probability(*(gold_reward(post.post, summary) for summary in summaries))
    return {
        "info": {"id": post.id, "post": post.post, "title": post.title, "subreddit": post.subreddit},
        "summaries": [
            {"text": f" {text}", "policy": policy, "note": None}
            for text, policy in zip(summaries, policies, strict=True)
        ],
        "choice": int(rng.random() >= first),
        "worker": "judge",
        "batch": "generated",
        "split": split,
        "extra": {"confidence": None},
    }


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
