"""The device memory of an update, by the compiler's own account, for every method and way to compute it.

Nothing is allocated: programs are compiled for abstract shapes, for the devices that are here or for a TPU topology
that is not (with `jax[tpu]` installed, whose compiler needs no TPU). What is counted is the update that learns, from
responses that are given: policy, optimiser, reference policy, batch and temporaries. Sampling and the reward model
are the same for all methods and left out. All methods get the same weights, dtype, responses and lengths.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, get_group_size, get_language_rules
from haepo_jax.language.model.architecture import Architecture, make_architecture
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.group_update import Experience, Score, make_learn, make_optimizer_of, make_score
from haepo_jax.language.training.learner import LearnerState
from haepo_jax.language.training.rollout import Frozen, make_reference
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.json_files import read_json
from haepo_jax.types import Metrics, Params

PROMPT_LENGTH = 64
METHODS = ("haepo", "grpo", "rloo", "dpo")
"""One for each way in which methods see responses: as wholes that couple or not, token by token, and in pairs. The
losses of all others hold what one of these does."""
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
        """All that must be there at once."""
        return self.arguments + self.outputs + self.temporaries - self.aliased


def make_architecture_of_shape(shape: str, vocab_size: int) -> Architecture:
    """Makes the architecture of a shape: 44 million parameters at 32k tokens, or those of Qwen3-0.6B."""
    sizes = {
        "40M": {"hidden_size": 512, "num_layers": 7, "num_heads": 8, "num_kv_heads": 4, "intermediate_size": 2048},
        "0.6B": {"hidden_size": 1024, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8, "intermediate_size": 3072},
    }[shape]
    return make_architecture(
        "qwen3",
        head_dim={"40M": 64, "0.6B": 128}[shape],
        vocab_size=vocab_size,
        rope_theta=1e6,
        max_length=32_768,
        tie_embeddings=True,
        **sizes,
    )


BASE = {"40M": Case("40M", "haepo", "", 32, 512, 32_768), "0.6B": Case("0.6B", "haepo", "", 8, 53, 151_936)}
"""The case of each shape from which one thing at a time is varied, but for the way."""


def list_method_cases(shape: str) -> Iterator[Case]:
    """Lists every method in every way at the base of a shape."""
    yield from (BASE[shape]._replace(method=method, way=way) for method in METHODS for way in WAYS)


def list_cases(shape: str) -> Iterator[Case]:
    """Lists the cases of the report: every way against M, T and vocabulary, and every method at the base."""
    base = BASE[shape]
    varied = [base._replace(num_responses=count) for count in (4, 8, 16, 32, 64)]
    lengths, vocabularies = {
        "40M": ((128, 256, 1024), (8192, 131_072)),
        "0.6B": ((128, 512), (32_768,)),
    }[shape]
    varied += [base._replace(response_length=length) for length in lengths]
    varied += [base._replace(vocab_size=size) for size in vocabularies]
    yield from dict.fromkeys((*(case._replace(way=way) for case in varied for way in WAYS), *list_method_cases(shape)))


def describe_topology_device(name: str) -> jax.Device:
    """Describes a device of a TPU topology such as `v5e:2x2`, to compile for.

    Raises:
      ConfigError: there is no such topology, or no compiler for it.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # nobody is asked which TPU this machine has
    try:
        return topologies.get_topology_desc(name, platform="tpu").devices[0]
    except Exception as error:
        raise ConfigError(
            f"--topology={name} cannot be compiled for ({error}); it is a name such as v5e:2x2, and needs jax[tpu]."
        ) from error


def measure(case: Case, device: jax.Device | None = None) -> Memory | None:
    """Compiles the update of a case for this device, or for the first one here, and reads what memory it needs.

    Returns:
      None where the compiler finds that the device's memory does not hold it.
    """
    update, shapes = make_case_update(case)
    if device is not None:
        sharding = SingleDeviceSharding(device)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
    return _compile(update, shapes)


def make_case_update(case: Case, dtype: jnp.dtype = jnp.float32) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Makes the update of a case, which computes in `dtype`, and the shapes of what it takes.

    Returns:
      `(learner, frozen, sequences, behaviour_log_probs, returns) -> (learner, metrics)`, and those five as
      `jax.ShapeDtypeStruct`.
    """
    config = _config(case)
    architecture = make_architecture_of_shape(case.shape, case.vocab_size)
    decoder = Decoder(architecture, dtype, remat=case.way != "naive")
    score = (
        _score_all_positions(case.response_length) if case.way == "naive" else make_score(config, case.response_length)
    )
    update = _make_update(config, decoder, case.response_length, score)
    return update, _shapes(case, config, decoder)


def count_update_bytes(
    config: LanguageConfig,
    decoder: Decoder,
    learner: LearnerState,
    frozen: Frozen,
    *,
    prompt_length: int,
    response_length: int,
    rows: jax.sharding.Sharding,
) -> int | None:
    """Counts the bytes that an update on given responses needs on each device.

    Args:
      config: the settings; gradient and microbatch must be decided.
      decoder: of the policy.
      learner: the state, placed as in training.
      frozen: as in training.
      prompt_length: P.
      response_length: R.
      rows: how batches are spread over the devices.

    Returns:
      None where the compiler finds that the memory does not hold it; 0 where the backend does not say.
    """
    count = config.rl.num_prompts * get_group_size(config)

    def shape(size: int | None, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count,) if size is None else (count, size), dtype, sharding=rows)

    sequences = Sequences(*(shape(prompt_length + response_length, dtype) for dtype in (jnp.int32, bool)))
    sampled = get_language_rules(config).comparisons is None
    given = (shape(response_length, jnp.float32), shape(None, jnp.float32)) if sampled else (None, None)
    update = _make_update(config, decoder, response_length, make_score(config, response_length))
    memory = _compile(update, (learner, frozen, sequences, *given))
    return None if memory is None else memory.total


def _make_update(config: LanguageConfig, decoder: Decoder, response_length: int, score: Score) -> Callable[..., Any]:
    """Makes the update that learns from given responses, the reference policy's look at them included."""
    learn = make_learn(config, decoder, response_length, score=score)
    reference_of = make_reference(config, decoder, score=score)

    def update(
        learner: LearnerState,
        frozen: Frozen,
        sequences: Sequences,
        behaviour: jax.Array | None,
        returns: jax.Array | None,
    ) -> tuple[LearnerState, Metrics]:
        reference = reference_of(frozen, sequences)
        learner, metrics = learn(learner, frozen.base, Experience(sequences, reference, behaviour, returns))
        if behaviour is not None:
            # Every method reports it, and so holds the reference, though RLOO's loss does not read it.
            metrics |= {"reference_kl": jnp.mean(jnp.sum(behaviour - reference, axis=-1))}
        return learner, metrics

    return update


def _compile(update: Callable[..., Any], given: tuple[Any, ...]) -> Memory | None:
    try:
        analysis: Any = jax.jit(update, donate_argnums=0).lower(*given).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    if analysis is None:
        return Memory(0, 0, 0, 0)
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

    def learner() -> LearnerState:
        nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        params = decoder.init(jax.random.key(0), *nothing)["params"]
        return LearnerState(params, make_optimizer_of(config).init(params), jax.random.key(0), jnp.int32(0))

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
    """Scores as a trainer does that does not think of memory."""

    def score(decoder: Decoder, params: Params, sequences: Sequences) -> jax.Array:
        logits: Any = decoder.apply({"params": params}, sequences.tokens, sequences.valid)
        every = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(every[:, :-1], sequences.tokens[:, 1:, None], axis=-1)[..., 0]
        return chosen[:, -response_length:]

    return score


def measure_all(workdir: StrPath, every: Iterable[Case], device: jax.Device | None = None) -> list[dict[str, Any]]:
    """Measures these cases, and writes `WORKDIR/memory.json`, one row a case and kind of device, after each.

    A case that the file already holds, by the same version of JAX and for the same kind of device, is not measured
    again.

    Args:
      workdir: is made if need be.
      every: the cases.
      device: what to compile for; the first device here when None.

    Returns:
      All rows of the file; the sizes of what does not fit are None.

    Raises:
      StorageError: the file could not be written any more.
    """
    workdir = Path(workdir)
    path = workdir / "memory.json"
    where = {"jax": jax.__version__, "device": (device or jax.devices()[0]).device_kind}
    row_shape = dict.fromkeys((*Case._fields, "device", "jax", "total"), object)
    rows: list[dict[str, Any]] = read_json(path, {"rows": [row_shape]})["rows"] if os.path.lexists(path) else []
    rows = [row for row in rows if row["jax"] == where["jax"]]
    done = {tuple(row[name] for name in (*Case._fields, "device")) for row in rows}
    for case in (case for case in every if (*case, where["device"]) not in done):
        memory = measure(case, device)
        sizes = dict.fromkeys(Memory._fields) if memory is None else memory._asdict()
        total = None if memory is None else memory.total
        rows.append({**case._asdict(), **sizes, "total": total, **where})
        described = "does not fit" if total is None else f"{total / 2**20:,.0f} MiB"
        print(f"{where['device']}, {', '.join(map(str, case))}: {described}", flush=True)
        with storage_errors(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(path, {"rows": rows})
    return rows
