"""An update whose rewards are computed by programs on the host, between what the devices do.

The devices sample part after part of the prompts, then score all responses under the reference policy. Each part is
judged as soon as it is sampled, so that rewards are computed while later parts are sampled and while all are scored.
Learning waits for all rewards, and the next update for learning: no response is older than the policy.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.stages import Compiled

from haepo_jax.language.config import REWARD_MODEL, count_sampling_parts
from haepo_jax.language.data.buckets import find_width, trim
from haepo_jax.language.data.corpus import PromptSet
from haepo_jax.language.data.prompt_rows import PromptRow
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.sharding import shard_rows
from haepo_jax.language.rewards.functions import Asked
from haepo_jax.language.rewards.judge import Judge, Verdicts
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.programs import count_bytes, count_temporary_bytes
from haepo_jax.language.stages.samples import SamplesWriter
from haepo_jax.language.training.learner import LearnerState
from haepo_jax.language.training.rl import Phases
from haepo_jax.language.training.rollout import Frozen, Sampled, Scores
from haepo_jax.language.training.sampling import Samples
from haepo_jax.language.training.scoring import Prompts
from haepo_jax.runs.progress import report_waiting
from haepo_jax.text import visible
from haepo_jax.types import Metrics


class JudgedExamples(NamedTuple):
    """N prompts, on the host."""

    tokens: np.ndarray
    """`[N, P]` int32, padded on the left."""
    valid: np.ndarray
    """`[N, P]` boolean."""
    row: np.ndarray
    """`[N]` int32, the index of its row."""
    checksum: np.ndarray
    """`[N]` uint32, of what reward functions see of the row."""


class JudgedBatch(NamedTuple):
    """The prompts of an update."""

    parts: tuple[Prompts, ...]
    """On the devices, as wide as the longest needs."""
    rows: np.ndarray
    """`[B]`."""


class _Programs(NamedTuple):
    """An update compiled for one width of prompts."""

    sample: Compiled
    score: Compiled
    learn: Compiled


class JudgedUpdate:
    """The update of a stage; see `run.Stage`."""

    def __init__(
        self,
        context: StageContext,
        phases: Mapping[str, Phases],
        prompts: PromptSet,
        tokenizer: Tokenizer,
        judge: Judge,
        samples: SamplesWriter,
    ) -> None:
        """Holds what an update needs; nothing is compiled yet.

        Args:
          context: of the stage.
          phases: the update in several ways, by name; the one that needs the least memory is taken.
          prompts: those that batches are of.
          tokenizer: of the policy.
          judge: asks the reward functions; it may have none.
          samples: keeps the responses that are to be written.
        """
        self._context, self._phases = context, dict(phases)
        self._prompts, self._tokenizer = prompts, tokenizer
        self._judge, self._samples = judge, samples
        self._programs: dict[tuple[int, ...], _Programs] = {}

    def make_examples(self) -> JudgedExamples:
        """Makes the examples that batches are drawn from."""
        rows = self._prompts.rows
        checksums = np.array([row.checksum for row in rows], np.uint32)
        return JudgedExamples(*self._prompts.prompts, np.arange(len(rows), dtype=np.int32), checksums)

    def place(self, examples: JudgedExamples) -> JudgedBatch:
        """Places examples as the parts of a batch on the devices."""
        length, count = examples.tokens.shape[-1], count_sampling_parts(self._context.config)
        width = find_width(examples.valid, length)
        arrays = [np.split(trim(array, length, width), count) for array in (examples.tokens, examples.valid)]
        parts = (self._context.place(Prompts(*part)) for part in zip(*arrays, strict=True))
        return JudgedBatch(tuple(parts), examples.row)

    def prepare(self, learner: LearnerState, frozen: Frozen, batch: JudgedBatch) -> float:
        """Compiles the programs for the width of a batch, where there are none yet; returns the seconds it took."""
        key = batch.parts[0].tokens.shape
        if key in self._programs:
            return 0.0
        clock = time.monotonic()
        with report_waiting("Compiling", "Compiled"):
            self._programs[key] = self._compile(learner, frozen, batch)
        return time.monotonic() - clock

    def find_way(self, learner: LearnerState, frozen: Frozen) -> tuple[str, int]:
        """Compiles for the widest prompts, which decides the way; returns it, and the bytes it needs on a device."""
        examples, batch_size = self.make_examples(), self._context.config.rl.num_prompts
        widest = int(examples.valid.sum(axis=-1).argmax())
        batch = self.place(JudgedExamples(*(array[[widest] * batch_size] for array in examples)))
        self.prepare(learner, frozen, batch)
        (name,) = self._phases
        programs = self._programs[batch.parts[0].tokens.shape]
        return name, max(map(count_bytes, programs))

    def _compile(self, learner: LearnerState, frozen: Frozen, batch: JudgedBatch) -> _Programs:
        rows = shard_rows(self._context.mesh)
        part = jax.ShapeDtypeStruct((), np.int32)
        first = next(iter(self._phases.values()))
        given = (learner.trained, frozen, learner.key, part, batch.parts[0])
        sample = jax.jit(first.sample, out_shardings=rows).lower(*given).compile()
        sampled = _with_sharding(jax.eval_shape(first.sample, *given), rows)
        score = jax.jit(first.score, out_shardings=rows).lower(frozen, sampled).compile()
        scores = _with_sharding(jax.eval_shape(first.score, frozen, sampled), rows)
        count = len(batch.parts)
        rewards = jax.ShapeDtypeStruct((count * len(sampled.samples.tokens),), np.float32, sharding=rows)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, learner)
        learn = {
            name: jax.jit(phases.learn, donate_argnums=0, out_shardings=(shardings, None))
            .lower(learner, frozen, (sampled,) * count, (scores,) * count, rewards)
            .compile()
            for name, phases in self._phases.items()
        }
        name = min(learn, key=lambda name: count_temporary_bytes(learn[name]))
        self._phases = {name: self._phases[name]}
        return _Programs(sample, score, learn[name])

    def __call__(self, learner: LearnerState, frozen: Frozen, batch: JudgedBatch) -> tuple[LearnerState, Metrics]:
        """Samples, judges and learns.

        Raises:
          ConfigError: a reward function fails, gives something else than rewards, or takes too long; the learner is
            as it was.
        """
        programs, update = self._programs[batch.parts[0].tokens.shape], int(learner.updates_done)
        # All of this is only handed to the devices, which do one after the other.
        sampled: list[Sampled] = [
            programs.sample(learner.trained, frozen, learner.key, np.int32(number), part)
            for number, part in enumerate(batch.parts)
        ]
        scores: list[Scores] = [programs.score(frozen, one) for one in sampled]
        rows = np.split(batch.rows, len(batch.parts))
        asked: list[Asked] = []
        verdicts: list[Verdicts] = []
        for one, of in zip(sampled, rows, strict=True):
            part = ask_about([self._prompts.rows[row] for row in of], one.samples, self._tokenizer)
            verdicts.append(self._judge.ask(part))
            asked += part
        given = [one.wait() for one in verdicts]
        rewards = {name: np.concatenate([one[name] for one in given]) for name in given[0]}
        count = sum(len(one.completions) for one in asked)
        total = (self._judge.add_up(rewards) if rewards else np.zeros(count)).astype(np.float32)
        if scores[0].reward is not None:
            rewards[REWARD_MODEL] = np.concatenate([np.asarray(one.reward, np.float64) for one in scores])
        if self._samples.wants(update):
            drift = np.concatenate([np.asarray(one.drift) for one in scores])
            self._samples.add(update, make_columns(asked, total, rewards, drift))
        placed = self._context.place(total)
        learner, metrics = programs.learn(learner, frozen, tuple(sampled), tuple(scores), placed)
        return learner, metrics | {f"reward/{name}": np.float32(values.mean()) for name, values in rewards.items()}


def ask_about(rows: Sequence[PromptRow], samples: Samples, tokenizer: Tokenizer) -> list[Asked]:
    """Reads responses as texts, once they are sampled: those to these prompts, as many to each."""
    tokens, ended = np.asarray(samples.tokens), np.asarray(samples.ended)
    lengths = np.asarray(samples.valid).sum(axis=-1)
    texts = [tokenizer.decode_response(ids[:length]) for ids, length in zip(tokens, lengths, strict=True)]
    each = len(texts) // len(rows)
    places = [slice(k * each, (k + 1) * each) for k in range(len(rows))]
    return [
        Asked(row.where, row.text, row.columns, texts[at], lengths[at].tolist(), ended[at].tolist())
        for row, at in zip(rows, places, strict=True)
    ]


def make_columns(
    asked: Sequence[Asked], total: np.ndarray, rewards: Mapping[str, np.ndarray], drift: np.ndarray
) -> dict[str, Any]:
    """Makes the columns of `samples.read_samples`."""
    each = len(asked[0].completions)
    model = rewards.get(REWARD_MODEL, 0.0)
    return {
        "row": [visible(one.where) for one in asked for _ in range(each)],  # a path may hold bytes that are no text
        "prompt": [one.prompt for one in asked for _ in range(each)],
        "sample": np.tile(np.arange(each, dtype=np.int32), len(asked)),
        "completion": [text for one in asked for text in one.completions],
        "reward": (total + model).astype(np.float32),
        **{f"reward/{name}": values.astype(np.float32) for name, values in rewards.items()},
        "tokens": np.concatenate([np.array(one.num_tokens, np.int32) for one in asked]),
        "ended": [ended for one in asked for ended in one.ended],
        "reference_kl": drift,
    }


def _with_sharding(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
