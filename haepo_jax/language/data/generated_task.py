"""A TL;DR task that is generated: posts, noisy reference summaries, comparisons, and a gold reward by program.

A post names eight things, one of each topic, among filler words. Those in capitals are the facts to mention, two to
five of them; the others are asides. A summary mentions things in small letters, and may ramble in stock phrases::

    SUBREDDIT: r/travel

    TITLE: so honest

    POST: camera so BOSS we pizza MIDNIGHT rabbit just hotel EXAM proud

    TL;DR: boss midnight so anyway you know exam

References mention facts in the order of the topics, and are noisy, as people are: they omit facts, mention asides and
things that no post named, repeat themselves and ramble. They also have habits: times and feelings they leave out more
often than not, and animals they mostly mention whether they are facts or asides. To imitate them perfectly earns half
of what the best summary does, and what they most likely say is not the best either.
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
from haepo_jax.language.data.datasets import Comparison, Post
from haepo_jax.language.data.tokenizer import Tokenizer, make_word_tokenizer

NUM_FACTS = (2, 5)
"""The fewest and the most facts of a post; all numbers between are as likely."""
MAX_WORDS = 49
"""Words of the longest reference: with the end-of-sequence token, 50 tokens."""

COVERED, WRONG, REPEATED, PER_WORD, FLOOR = 1.0, -1.0, -0.5, -0.02, -3.0
SHARPNESS = 1.7
"""Of the judge: what a difference of 1 in gold is worth in the logit of a preference."""

TOPICS = (
    ("boss", "brother", "cousin", "doctor", "lawyer", "teacher"),
    ("beach", "hotel", "kitchen", "office", "school", "station"),
    ("autumn", "friday", "midnight", "monday", "sunday", "winter"),
    ("bicycle", "camera", "guitar", "jacket", "piano", "wallet"),
    ("cat", "dog", "horse", "parrot", "rabbit", "spider"),
    ("bread", "cheese", "coffee", "onion", "pizza", "soup"),
    ("accident", "divorce", "exam", "fire", "party", "wedding"),
    ("angry", "bored", "guilty", "jealous", "proud", "scared"),
)
THINGS = tuple(itertools.chain.from_iterable(TOPICS))
NEGLECTED, GOSSIPED = (*TOPICS[2], *TOPICS[7]), TOPICS[4]
"""Facts that references leave out more often than not, and asides that they mostly mention."""
PHRASES = (
    ("so", "anyway", "you", "know"),
    ("well", "i", "just", "mean"),
    ("and", "then", "there", "was"),
    ("to", "be", "really", "honest"),
    ("it", "all", "seems", "like"),
    ("but", "now", "here", "we"),
)
FILLER_WORDS = tuple(itertools.chain.from_iterable(PHRASES))
SUBREDDITS = ("advice", "family", "travel", "work")

_CAPITALS = frozenset(thing.upper() for thing in THINGS)


@dataclass(frozen=True)
class _Writer:
    """The carelessness of a writer: chances, of each thing in the post or of the whole summary."""

    omits: float
    """A fact is left out."""
    neglects: float
    """The same for facts of `NEGLECTED`."""
    digresses: float
    """An aside is mentioned."""
    gossips: float
    """The same for asides of `GOSSIPED`."""
    invents: float
    """Something is mentioned that is not from the post, or only by chance."""
    repeats: float
    """Something that was mentioned is repeated, before anything else is."""
    rambles: tuple[float, float]
    """Bounds of the chance, drawn for each summary, that a stock phrase comes next."""


_WRITERS = {
    "careful": _Writer(
        omits=0.1, neglects=0.3, digresses=0.02, gossips=0.3, invents=0.05, repeats=0.05, rambles=(0.0, 0.5)
    ),
    "reference": _Writer(
        omits=0.15, neglects=0.6, digresses=0.03, gossips=0.6, invents=0.1, repeats=0.15, rambles=(0.0, 0.65)
    ),
    "careless": _Writer(
        omits=0.4, neglects=0.7, digresses=0.15, gossips=0.7, invents=0.3, repeats=0.4, rambles=(0.1, 0.7)
    ),
}


def compute_gold_reward(post: str, summary: str) -> float:
    """Computes the worth of a summary of a post, from the two texts alone.

    max(-3, facts mentioned - wrong words - repetitions / 2 - words / 50), where a fact counts once, and again as a
    repetition each time after the first; a wrong word is one that is neither a fact in small letters nor a filler
    word, such as an aside, a thing of no post, or one in capitals; and all words count in the last term.

    The best summary mentions each fact once and nothing else: 0.98 for each, so 1.96 to 4.9 (`compute_best_gold`). The
    empty summary is worth 0; one that mentions all eight things, about -0.9 on average over posts; one that copies the
    whole post, -3, the least there is.

    Args:
      post: text with the facts in capitals: a post, or the whole prompt with the post in it.
      summary: text without special tokens.

    Returns:
      The reward.

    Raises:
      ConfigError: there is no fact in the post.

    Example:
      >>> compute_gold_reward("well BOSS so pizza EXAM", "boss really boss pizza")
      -0.58
    """
    facts, said, words = _facts(post), set[str](), summary.split()
    repeated = wrong = 0
    for word in words:
        if word in facts:
            repeated += word in said
            said.add(word)
        else:
            wrong += word not in FILLER_WORDS
    return max(FLOOR, COVERED * len(said) + WRONG * wrong + REPEATED * repeated + PER_WORD * len(words))


def compute_best_gold(post: str) -> float:
    """Computes the most that a summary of the post can earn.

    Example:
      >>> compute_best_gold("well BOSS so pizza EXAM")
      1.96
    """
    return (COVERED + PER_WORD) * len(_facts(post))


def compute_preference_probability(first: float, second: float) -> float:
    """Computes the chance that the judge prefers a summary of gold reward `first` to one of `second`: Bradley-Terry.

    Example:
      >>> compute_preference_probability(1.0, 1.0)
      0.5
    """
    return 1 / (1 + math.exp(SHARPNESS * (second - first)))


def compute_ceiling_accuracy(comparisons: Sequence[Comparison]) -> float:
    """Computes the accuracy of a judge who knows gold, the most that a reward model can reach, on such comparisons.

    Args:
      comparisons: of this task, at least one.

    Returns:
      Mean over the comparisons of the chance that the judge prefers the summary of the larger gold reward.
    """
    chances = []
    for comparison in comparisons:
        golds = [compute_gold_reward(_text(comparison.post), summary) for summary in comparison.summaries]
        chances.append(compute_preference_probability(max(golds), min(golds)))
    return math.fsum(chances) / len(chances)


def make_tokenizer() -> Tokenizer:
    """Makes the task's tokenizer: a token a word, with the space before it, so that texts come back as they were.

    Raises:
      ConfigError: the tokenizers library is not installed.
    """
    headers = ("SUBREDDIT:", "TITLE:", "POST:", "TL;DR:", "\n\n")
    subreddits, facts = (f"r/{name}" for name in SUBREDDITS), (thing.upper() for thing in THINGS)
    spaced = (*subreddits, *FILLER_WORDS, *THINGS, *facts)
    return make_word_tokenizer((*headers, *(f" {word}" for word in spaced)), r"\n\n| ?\S+|\s")


def write(
    folder: str | Path,
    *,
    seed: int = 0,
    num_posts: int = 20_000,
    num_comparisons: int = 40_000,
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


def _facts(post: str) -> set[str]:
    facts = {word.lower() for word in post.split() if word in _CAPITALS}
    if not facts:
        raise ConfigError(f"The post {post[:40]!r}... names no fact in capitals: it is not of the generated task.")
    return facts


def _text(post: Any) -> str:
    if not isinstance(post, Post):
        raise ConfigError("The gold reward is that of posts of the generated task, not of articles.")
    return post.post


def _fillers(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(FILLER_WORDS) for _ in range(count)]


def _post(rng: random.Random, name: str) -> Post:
    things = [rng.choice(topic) for topic in TOPICS]
    for i in rng.sample(range(len(TOPICS)), rng.randint(*NUM_FACTS)):
        things[i] = things[i].upper()
    rng.shuffle(things)
    words = []
    for thing in things:
        words += [*_fillers(rng, rng.randint(0, 1)), thing]
    words += _fillers(rng, rng.randint(0, 1))
    return Post(name, rng.choice(SUBREDDITS), " ".join(_fillers(rng, 2)), " ".join(words))


def _summary(rng: random.Random, post: str, writer: _Writer) -> str:
    facts, words = _facts(post), post.split()
    mentioned = []
    for thing in THINGS:
        if thing in facts:
            chance = 1 - (writer.neglects if thing in NEGLECTED else writer.omits)
        elif thing in words:
            chance = writer.gossips if thing in GOSSIPED else writer.digresses
        else:
            continue
        if rng.random() < chance:
            mentioned.append(thing)
    if rng.random() < writer.invents:
        mentioned.insert(rng.randint(0, len(mentioned)), rng.choice(THINGS))
    if mentioned and rng.random() < writer.repeats:
        i = rng.randrange(len(mentioned))
        mentioned.insert(i, mentioned[i])
    rambling = rng.uniform(*writer.rambles)
    summary: list[str] = []
    for piece in (*([thing] for thing in mentioned), []):
        while rng.random() < rambling:
            summary += rng.choice(PHRASES)
        summary += piece
    return " ".join(summary[:MAX_WORDS] or _fillers(rng, 1))


def _demonstration_row(rng: random.Random, name: str) -> dict[str, Any]:
    post = _post(rng, name)
    summary = _summary(rng, post.post, _WRITERS["reference"])
    return {"id": post.id, "subreddit": post.subreddit, "title": post.title, "post": post.post, "summary": summary}


def _comparison_row(rng: random.Random, name: str, split: str) -> dict[str, Any]:
    post = _post(rng, name)
    policies = [rng.choice(tuple(_WRITERS)) for _ in range(2)]
    summaries = [_summary(rng, post.post, _WRITERS[policy]) for policy in policies]
    first = compute_preference_probability(*(compute_gold_reward(post.post, summary) for summary in summaries))
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
