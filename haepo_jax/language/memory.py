"""How much device memory an update needs, by the compiler's own account, for every method and way to compute it.

Nothing is allocated: programs are compiled for abstract shapes. What is counted is the update that learns, from
responses that are given: policy, optimiser, reference policy, batch and temporaries. Sampling and the reward model
are the same for all methods and left out. All methods get the same weights, dtype, responses and lengths.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.architecture import Architecture, of_family
from haepo_jax.language.config import METHODS, LanguageConfig
from haepo_jax.language.decoder import Decoder
from haepo_jax.language.learner import Learner
from haepo_jax.language.learning import Experience, Score, make_learn, make_optimizer_of, make_score
from haepo_jax.language.rollout import Frozen, make_reference
from haepo_jax.language.scoring import Sequences
from haepo_jax.objectives import Metrics
from haepo_jax.run_folder import read_json, storage_errors, write_json

Params = Any
PROMPT_LENGTH = 64
WAYS = ("naive", "remat", "chunked", "two_pass")
"""`naive` keeps everything that the gradient reads, logits of all positions among it; `remat` keeps the layers' inputs
alone, and logits of the response; `chunked` besides has the logits of 1024 tokens at a time; `two_pass` besides goes
one response at a time."""
_CHUNK = 1024


class Case(NamedTuple):
    """One update."""

    shape: str
    """`40M` or `0.6B`."""
    method: str
    way: str
    num_responses: int
    """M."""
    response_length: int
    """T, in tokens."""
    vocab_size: int


class Memory(NamedTuple):
    """Bytes of the whole update on one device."""

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    """Outputs that take the place of arguments."""

    @property
    def total(self) -> int:
        """What must be there at once."""
        return self.arguments + self.outputs + self.temporaries - self.aliased


def architecture(shape: str, vocab_size: int) -> Architecture:
    """The architecture of a shape: 44 million parameters at 32k tokens, or those of Qwen3-0.6B."""
    sizes = {
        "40M": {"hidden_size": 512, "num_layers": 7, "num_heads": 8, "num_kv_heads": 4, "intermediate_size": 2048},
        "0.6B": {"hidden_size": 1024, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8, "intermediate_size": 3072},
    }[shape]
    return of_family(
        "qwen3",
        head_dim={"40M": 64, "0.6B": 128}[shape],
        vocab_size=vocab_size,
        rope_theta=1e6,
        max_length=32_768,
        tie_embeddings=True,
        **sizes,
    )


def cases(shape: str) -> Iterator[Case]:
    """What the report shows: every way against M, T and vocabulary, and every method at one shape."""
    base = {
        "40M": Case(shape, "haepo", "", 32, 512, 32_768),
        "0.6B": Case(shape, "haepo", "", 8, 53, 151_936),
    }[shape]
    varied = [base._replace(num_responses=count) for count in (4, 8, 16, 32, 64)]
    if shape == "40M":
        varied += [base._replace(response_length=length) for length in (128, 256, 1024)]
        varied += [base._replace(vocab_size=size) for size in (8192, 131_072)]
    yield from (case._replace(way=way) for case in varied for way in WAYS)
    others = [method for method in METHODS if method != base.method]
    yield from (base._replace(method=method, way=way) for method in others for way in WAYS)


def measure(case: Case) -> Memory:
    """Compiles the update of a case, and reads what memory it needs."""
    config = _config(case)
    decoder = Decoder(architecture(case.shape, case.vocab_size), remat=case.way != "naive")
    score = (
        _score_all_positions(case.response_length) if case.way == "naive" else make_score(config, case.response_length)
    )
    learn = make_learn(config, decoder, case.response_length, score=score)
    reference_of = make_reference(config, decoder, score=score)

    def update(
        learner: Learner, frozen: Frozen, sequences: Sequences, behaviour: jax.Array, returns: jax.Array
    ) -> tuple[Learner, Metrics]:
        return learn(learner, None, Experience(sequences, reference_of(frozen, sequences), behaviour, returns))

    compiled = jax.jit(update, donate_argnums=0).lower(*_shapes(case, config, decoder)).compile()
    analysis: Any = compiled.memory_analysis()
    return Memory(
        analysis.argument_size_in_bytes,
        analysis.output_size_in_bytes,
        analysis.temp_size_in_bytes,
        analysis.alias_size_in_bytes,
    )


def _config(case: Case) -> LanguageConfig:
    config = LanguageConfig(algorithm=case.method)
    two_pass = case.way == "two_pass"
    rl = dataclasses.replace(
        config.rl,
        num_samples=case.num_responses,
        num_epochs=1,
        gradient="two_pass" if two_pass else "one_shot",
        microbatch=1 if two_pass else case.num_responses,
        chunk_size=_CHUNK if case.way in ("chunked", "two_pass") else 0,
    )
    return dataclasses.replace(config, rl=rl)


def _shapes(case: Case, config: LanguageConfig, decoder: Decoder) -> tuple[Any, ...]:
    length = PROMPT_LENGTH + case.response_length

    def learner() -> Learner:
        nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        params = decoder.init(jax.random.key(0), *nothing)["params"]
        return Learner(params, make_optimizer_of(config).init(params), jax.random.key(0), jnp.int32(0))

    begun = jax.eval_shape(learner)
    rows, of_tokens = (case.num_responses, length), (case.num_responses, case.response_length)
    return (
        begun,
        Frozen(None, begun.trained, None),
        Sequences(jax.ShapeDtypeStruct(rows, jnp.int32), jax.ShapeDtypeStruct(rows, bool)),
        jax.ShapeDtypeStruct(of_tokens, jnp.float32),
        jax.ShapeDtypeStruct(of_tokens[:1], jnp.float32),
    )


def _score_all_positions(response_length: int) -> Score:
    """What a trainer does that does not think of memory."""

    def score(decoder: Decoder, params: Params, sequences: Sequences) -> jax.Array:
        logits: Any = decoder.apply({"params": params}, sequences.tokens, sequences.valid)
        every = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(every[:, :-1], sequences.tokens[:, 1:, None], axis=-1)[..., 0]
        return chosen[:, -response_length:]

    return score


def measure_all(workdir: Path, shapes: Sequence[str] = ("40M", "0.6B")) -> list[dict[str, Any]]:
    """Measures every case of these shapes, and writes `WORKDIR/memory.json`, one row a case, after each.

    A case that the file already holds, by the same version of JAX and on the same backend, is not measured again.

    Raises:
      StorageError: the file could not be written any more.
    """
    path = workdir / "memory.json"
    where = {"jax": jax.__version__, "backend": jax.default_backend()}
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = [row for row in read_json(path)["rows"] if {key: row[key] for key in where} == where]
    done = {tuple(row[name] for name in Case._fields) for row in rows}
    for case in (case for shape in shapes for case in cases(shape) if tuple(case) not in done):
        memory = measure(case)
        rows.append({**case._asdict(), **memory._asdict(), "total": memory.total, **where})
        print(f"{', '.join(map(str, case))}: {memory.total / 2**20:,.0f} MiB", flush=True)
        with storage_errors(workdir):
            write_json(path, {"rows": rows})
    return rows
