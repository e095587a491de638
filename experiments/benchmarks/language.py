"""Tokens a second of language models: sampling, scoring, and a whole update, at the shapes of `memory.py`."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.clock import measure_in_turn
from experiments.benchmarks.machine import describe_machine
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.memory import BASE, PROMPT_LENGTH, Case, make_architecture_of_shape, make_case_update
from haepo_jax.language.training.sampling import sample
from haepo_jax.language.training.scoring import Sequences, response_log_probs
from haepo_jax.population.memory import device_bytes
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runtime import host

COLUMNS = ("shape", "measure", "responses", "tokens/s", "least to most", "of the matrix rate", "compile")
_FLOPS = {"sampling": 2, "scoring": 2, "learning": 8}
"""A parameter and token: a multiplication and an addition; for an update those of two forward passes (one of them the
reference policy's) and of a gradient."""
_ROOM = 0.9
_CHUNK = 1024

Row = dict[str, Any]


class _Inputs(NamedTuple):
    """What all programs of a case share, so that the parameters are there once."""

    decoder: Decoder
    params: Any
    prompt: jax.Array


class _Program(NamedTuple):
    run: Callable[[], Any]
    compile_seconds: float
    tokens: int
    """Of responses, for the rate."""
    computed: int
    """Of responses and their prompts, where these are computed with them."""


def list_shapes() -> tuple[str, ...]:
    """Lists the shapes that can be measured."""
    return tuple(BASE)


def measure_matrix_rate(dtype: jnp.dtype, repeats: int) -> float:
    """Measures the floating-point operations a second of square matrix products on the first device."""
    size = 8192 if jax.default_backend() != "cpu" else 1024
    matrix = jnp.ones((size, size), dtype)
    count = 20

    @jax.jit
    def products(matrix: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, x: (x @ matrix) / size, matrix)

    seconds = []
    for _ in range(repeats + 1):  # the first compiles
        clock = time.perf_counter()
        jax.block_until_ready(products(matrix))
        seconds.append(time.perf_counter() - clock)
    return count * 2 * size**3 / min(seconds[1:])


def measure_rows(case: Case, dtype: jnp.dtype, *, repeats: int, matrix_rate: float) -> list[Row]:
    """Measures a row for sampling, scoring and learning; one for which memory does not suffice says so.

    Args:
      case: shape, number of responses and their length.
      dtype: of the computation.
      repeats: measurements of each, in turn.
      matrix_rate: of this machine, as `measure_matrix_rate` finds it.
    """
    makers = {"sampling": _make_sampling, "scoring": _make_scoring, "learning": _make_learning}
    inputs = _make_inputs(case, dtype)
    programs: dict[str, _Program] = {}
    rows: list[Row] = []
    for measure, make in makers.items():
        row: Row = {"shape": case.shape, "measure": measure, "responses": case.num_responses}
        row |= {"response_length": case.response_length, "vocab_size": case.vocab_size, "dtype": dtype.name}
        made = make(case, inputs)
        if isinstance(made, int):
            row["needs_bytes"] = made
        else:
            programs[measure] = made
        rows.append(row)
    size = _count_parameters(case)
    times = measure_in_turn({name: functools.partial(_time, program) for name, program in programs.items()}, repeats)
    for row in rows:
        if row["measure"] in times:
            program, seconds = programs[row["measure"]], times[row["measure"]].seconds
            flops = _FLOPS[row["measure"]] * size * program.computed
            row |= {
                "tokens_per_second": program.tokens / float(np.median(seconds)),
                "tokens_per_second_least": program.tokens / max(seconds),
                "tokens_per_second_most": program.tokens / min(seconds),
                "flop_utilisation": flops / float(np.median(seconds)) / matrix_rate,
                "compile_seconds": program.compile_seconds,
            }
    return rows


def format_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Formats the cells of each row, under `COLUMNS`."""
    cells: list[tuple[str, ...]] = []
    for row in rows:
        responses = f"{row['responses']} x {row['response_length']}"
        if "needs_bytes" in row:
            missing = f"needs {host.in_words(row['needs_bytes'])}, and there are {host.in_words(_usable_bytes())}"
            cells.append((row["shape"], row["measure"], responses, missing, "", "", ""))
            continue
        cells.append(
            (
                row["shape"],
                row["measure"],
                responses,
                f"{row['tokens_per_second']:,.0f}",
                f"{row['tokens_per_second_least']:,.0f} to {row['tokens_per_second_most']:,.0f}",
                f"{row['flop_utilisation']:.1%}",
                f"{row['compile_seconds']:.1f} s",
            )
        )
    return cells


def write_rows(workdir: Path, rows: Sequence[Row], matrix_rate: float) -> dict[str, Any]:
    """Writes `language.json`, and returns what is in it."""
    machine = describe_machine()
    result = {
        "title": f"Language models, {machine['devices']} x {machine['device_kind']}, of which one is used; "
        f"{matrix_rate / 1e9:,.0f} GFLOP/s in square products",
        "machine": machine,
        "matrix_flops_per_second": matrix_rate,
        "rows": list(rows),
    }
    with storage_errors(workdir):
        write_json(workdir / "language.json", result)
    return result


def _make_sampling(case: Case, inputs: _Inputs) -> _Program | int:
    valid = jnp.ones(inputs.prompt.shape, bool)
    draw = functools.partial(
        sample,
        inputs.decoder,
        num_samples=case.num_responses,
        response_length=case.response_length,
        eos_ids=(),  # none ends early
        pad_id=0,
    )
    count = case.num_responses * case.response_length
    return _compile(draw, (inputs.params, inputs.prompt, valid, jax.random.key(0)), count, count)


def _make_scoring(case: Case, inputs: _Inputs) -> _Program | int:
    length = case.response_length

    def score(params: Any, rows: Sequences) -> jax.Array:
        return response_log_probs(inputs.decoder, params, rows, response_length=length, chunk_size=_CHUNK)

    return _compile(score, (inputs.params, _make_sequences(case)), *_count_tokens(case))


def _make_learning(case: Case, inputs: _Inputs) -> _Program | int:
    update, shapes = make_case_update(case, inputs.decoder.dtype)
    compiled = jax.jit(update, donate_argnums=0).lower(*shapes)
    clock = time.perf_counter()
    program = compiled.compile()
    seconds = time.perf_counter() - clock
    needed = _count_bytes(program)
    if needed > _ROOM * _usable_bytes():
        return needed
    of_learner, frozen, _, *of_rewards = shapes
    learner, rewards = jax.tree.map(
        lambda leaf: (
            jax.random.key(0) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros(leaf.shape, leaf.dtype)
        ),
        (of_learner.replace(trained=None), of_rewards),
    )
    # The learner is donated, and each call gives the next.
    held = [learner.replace(trained=jax.tree.map(jnp.copy, inputs.params))]
    frozen = frozen._replace(reference=inputs.params)
    rows = _make_sequences(case)

    def run() -> Any:
        held[0], metrics = program(held[0], frozen, rows, *rewards)
        return metrics

    return _Program(run, seconds, *_count_tokens(case))


def _make_inputs(case: Case, dtype: jnp.dtype) -> _Inputs:
    """The decoder, random parameters, and one prompt."""
    decoder = Decoder(make_architecture_of_shape(case.shape, case.vocab_size), dtype, remat=True)
    nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    params = jax.jit(decoder.init)(jax.random.key(0), *nothing)["params"]
    return _Inputs(decoder, params, jax.random.randint(jax.random.key(1), (1, PROMPT_LENGTH), 0, case.vocab_size))


def _make_sequences(case: Case) -> Sequences:
    shape = case.num_responses, PROMPT_LENGTH + case.response_length
    return Sequences(jax.random.randint(jax.random.key(2), shape, 0, case.vocab_size), jnp.ones(shape, bool))


def _count_tokens(case: Case) -> tuple[int, int]:
    """Those of responses, and those with their prompts."""
    return (
        case.num_responses * case.response_length,
        case.num_responses * (PROMPT_LENGTH + case.response_length),
    )


def _count_parameters(case: Case) -> int:
    decoder = Decoder(make_architecture_of_shape(case.shape, case.vocab_size))
    nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    shapes = jax.eval_shape(decoder.init, jax.random.key(0), *nothing)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _compile(function: Callable[..., Any], given: tuple[Any, ...], tokens: int, computed: int) -> _Program | int:
    """The compiled function on what it is given, or the bytes that it needs where they are not there."""
    clock = time.perf_counter()
    program = jax.jit(function).lower(*given).compile()
    seconds = time.perf_counter() - clock
    needed = _count_bytes(program)
    return needed if needed > _ROOM * _usable_bytes() else _Program(lambda: program(*given), seconds, tokens, computed)


def _usable_bytes() -> int:
    """The memory of the device that is used; on a CPU all of the machine's, as its other devices do nothing."""
    return host.memory_bytes() if jax.default_backend() == "cpu" else device_bytes()


def _count_bytes(program: jax.stages.Compiled) -> int:
    sizes: Any = program.memory_analysis()
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return int(held + sizes.temp_size_in_bytes)


def _time(program: _Program) -> float:
    clock = time.perf_counter()
    jax.block_until_ready(program.run())
    return time.perf_counter() - clock
