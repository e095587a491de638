"""Measures environment steps a second on CartPole: random play, play by a policy, training, and other codes.

python -m experiments.benchmark --workdir=runs/benchmark
python -m experiments.benchmark --workdir=runs/benchmark --peer="NAME=COMMAND"

The machine must have nothing else to do. A command of --peer is run by the shell and prints, as its last line,
{"env_steps": ..., "seconds": ..., "compile_seconds": ...}.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

import jax
from absl import flags

from experiments.cli import arguments, command_line

command_line.define_workdir()
flags.DEFINE_list("seeds", ["1", "32", "256", "1024"], "Numbers of seeds to measure.")
flags.DEFINE_multi_string("peer", [], "NAME=COMMAND of another code to measure in turn with ours; repeatable.")
flags.DEFINE_integer("peer_seeds", 32, "Seeds of our training beside the peers.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Measurements of each; their median counts.", lower_bound=1)


def main() -> int:
    """Measures, prints the table, and writes `benchmark.json` and `benchmark.svg`."""
    given = flags.FLAGS
    workdir = command_line.read_workdir("runs/benchmark")
    seeds = arguments.parse_whole_numbers("--seeds", given.seeds, low=1)

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


if __name__ == "__main__":
    command_line.run(main)
