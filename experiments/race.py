"""Races other codes from a cold start, compiling included, to all seeds at a mean return of 475 on CartPole-v1.

python -m experiments.race --workdir=runs/race --peer="NAME=COMMAND"

The machine must have nothing else to do. Ours is configs/cartpole.py. A command of --peer is run by the shell and
prints, as its last line, {"seconds": ..., "seeds": ..., "seeds_at_475": ..., "share_until_all_at_475": ...}: the
seconds of its training and, where all its seeds came there, the part of them after which the last was there; when
a seed is, docs/performance.md says.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from absl import flags

from experiments.cli import command_line

command_line.define_workdir()
flags.DEFINE_multi_string("peer", [], "NAME=COMMAND of another code to race against; repeatable.")
flags.DEFINE_integer("seeds", 32, "Seeds that each of them trains.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Runs of each; their median counts.", lower_bound=1)


def main() -> int:
    """Runs each in turn, prints the table and writes `race.json`."""
    given = flags.FLAGS
    workdir = command_line.read_workdir("runs/race")

    from experiments.benchmarks import peers, race
    from haepo_jax.runs.folder import lock_folder_without_run

    others = [peers.parse_peer(text) for text in given.peer]
    with lock_folder_without_run(workdir, "a race"):
        rows = race.run_race(others, num_seeds=given.seeds, repeats=given.repeats, workdir=workdir)
        result = race.write_race(workdir, rows)
    command_line.print_table(result["title"], race.COLUMNS, race.format_rows(rows))
    return 0


if __name__ == "__main__":
    command_line.run(main)
