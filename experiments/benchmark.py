"""Measures environment steps a second on CartPole: random play, play by a policy, training, and other codes.

python -m experiments.benchmark --workdir=runs/benchmark
python -m experiments.benchmark --workdir=runs/benchmark_language --language
python -m experiments.benchmark --workdir=runs/benchmark_kernels --kernels
python -m experiments.benchmark --workdir=runs/benchmark --peer="NAME=COMMAND"

The machine must have nothing else to do. A command of --peer is run by the shell and prints, as its last line,
{"env_steps": ..., "seconds": ..., "compile_seconds": ...}. With --language it measures tokens a second of sampling,
scoring and learning instead, for decoders of 40M and 0.6B parameters; what the memory does not hold is left out, with
a word. With --kernels it counts what a device starts for an update, in a trace of the profiler, with fewer and more
steps of play as one turn of a loop; tracing takes a minute for each 300,000 kernels, so seeds on a CPU should be few.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.cli import arguments, command_line

command_line.define_workdir()
flags.DEFINE_list("seeds", None, "Numbers of seeds to measure; 1,32,256,1024 by default, and 1 with --kernels.")
flags.DEFINE_multi_string("peer", [], "NAME=COMMAND of another code to measure in turn with ours; repeatable.")
flags.DEFINE_integer("peer_seeds", 32, "Seeds of our training beside the peers.", lower_bound=1)
flags.DEFINE_bool("kernels", False, "Count kernels instead.")
flags.DEFINE_list("unrolled_steps", ["1", "5"], "Steps of play as one turn of a loop, to count kernels with.")
flags.DEFINE_bool("language", False, "Measure language models instead.")
flags.DEFINE_list("shapes", ["40M", "0.6B"], "Language models to measure.")
flags.DEFINE_integer("responses", 64, "Responses to one prompt, of a language model.", lower_bound=1)
flags.DEFINE_integer("response_length", 512, "Tokens of each.", lower_bound=2)
flags.DEFINE_enum("dtype", "", ["", "float32", "bfloat16"], "Of the computation; float32 on CPUs, else bfloat16.")
flags.DEFINE_integer("repeats", 5, "Measurements of each; their median counts.", lower_bound=1)


def main() -> int:
    """Measures, prints the table, and writes `benchmark.json` and `.svg`, `language.json` or `kernels.json`."""
    given = flags.FLAGS
    workdir = command_line.read_workdir("runs/benchmark")
    if given.language and given.kernels:
        from haepo_jax.errors import ConfigError

        raise ConfigError("--language and --kernels measure different things; leave one of them out.")
    if given.language:
        return _measure_language(workdir)
    if given.kernels:
        return _measure_kernels(workdir)
    seeds = arguments.parse_whole_numbers("--seeds", given.seeds or ["1", "32", "256", "1024"], low=1)

    from experiments.benchmarks import peers, report, speed
    from experiments.benchmarks.ceilings import Ceilings, measure_ceilings
    from haepo_jax.runs.folder import lock_folder_without_run
    from haepo_jax.runs.provenance import Provenance

    others = [peers.parse_peer(text) for text in given.peer]
    jax.config.update("jax_enable_compilation_cache", False)  # what compiling takes is measured too
    with lock_folder_without_run(workdir, "a benchmark"):
        before = measure_ceilings(given.repeats)
        rows = [row for number in seeds for row in speed.measure_rows(number, repeats=given.repeats)]
        # What a shared machine can do at most shows at its quietest moment.
        ceilings = Ceilings(*map(max, before, measure_ceilings(given.repeats)))
        result = report.write_benchmark(workdir, rows, ceilings)  # already now: a peer may fail
        if others:
            rows += speed.compare_peers(others, num_seeds=given.peer_seeds, repeats=given.repeats)
            result = report.write_benchmark(workdir, rows, ceilings)
        Provenance(workdir, jax.devices()).update(outcome="complete")
    command_line.print_table(result["title"], report.COLUMNS, report.format_rows(rows))
    print(report.describe_floor(result))
    return 0


def _measure_kernels(workdir: Path) -> int:
    given = flags.FLAGS
    seeds = arguments.parse_whole_numbers("--seeds", given.seeds or ["1"], low=1)
    unrolled_steps = arguments.parse_whole_numbers("--unrolled_steps", given.unrolled_steps, low=1)

    from experiments.benchmarks import kernels
    from haepo_jax.runs.folder import lock_folder_without_run
    from haepo_jax.runs.provenance import Provenance

    jax.config.update("jax_enable_compilation_cache", False)  # what compiling takes is measured too
    rows: list[dict[str, Any]] = []
    with lock_folder_without_run(workdir, "a benchmark"):
        for number in seeds:
            rows += kernels.measure_rows(number, unrolled_steps, repeats=given.repeats)
            result = kernels.write_rows(workdir, rows)  # already now: the next one may be ended
        Provenance(workdir, jax.devices()).update(outcome="complete")
    command_line.print_table(result["title"], kernels.COLUMNS, kernels.format_rows(rows))
    return 0


def _measure_language(workdir: Path) -> int:
    given = flags.FLAGS
    from experiments.benchmarks import language
    from haepo_jax.errors import choose
    from haepo_jax.language.training.memory import BASE
    from haepo_jax.runs.folder import lock_folder_without_run
    from haepo_jax.runs.provenance import Provenance

    shapes = [choose("--shapes", shape, language.list_shapes()) for shape in given.shapes]
    jax.config.update("jax_enable_compilation_cache", False)  # what compiling takes is measured too
    dtype = jax.numpy.dtype(given.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"))
    rows: list[language.Row] = []
    with lock_folder_without_run(workdir, "a benchmark"):
        rate = language.measure_matrix_rate(dtype, given.repeats)
        for shape in shapes:
            case = BASE[shape]._replace(
                way="chunked", num_responses=given.responses, response_length=given.response_length
            )
            rows += language.measure_rows(case, dtype, repeats=given.repeats, matrix_rate=rate)
            result = language.write_rows(workdir, rows, rate)  # already now: the next one may be ended
        Provenance(workdir, jax.devices()).update(outcome="complete")
    command_line.print_table(result["title"], language.COLUMNS, language.format_rows(rows))
    return 0


if __name__ == "__main__":
    command_line.run(main)
