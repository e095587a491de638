"""Compares joint ranking with each agent's own, IPPO and MAPPO, and self-play with and without a pool.

python -m experiments.agents --workdir=runs/agents
python -m experiments.agents --workdir=runs/agents --part=ranking --part=self_play
python -m experiments.agents --workdir=runs/agents_quick --quick

A part that was not asked for is on the page where the folder holds all of its runs.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments.cli import command_line, study_command

if TYPE_CHECKING:
    from haepo_jax.reports.publishing import PublishedReport

_PARTS = ("ranking", "self_play", "switch_riddle", "simple_spread")

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few agents and seeds, and a twentieth of the steps: a look, not a result.")
flags.DEFINE_multi_enum("part", list(_PARTS), _PARTS, "Whose runs are done; repeatable, all by default.")
flags.DEFINE_multi_string(
    "baseline", [], "File that a baseline of JaxMARL has printed; repeatable, kept in the folder."
)


def main() -> int:
    """Does what is missing of the study, and writes the page."""
    workdir = command_line.read_workdir()
    given = flags.FLAGS
    if given.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.agents import peers
    from experiments.studies.agents.scale import FULL, QUICK
    from experiments.studies.agents.study import run_study
    from experiments.studies.runs import count_finished

    scale = QUICK if given.quick else FULL

    def study() -> "PublishedReport":
        peers.keep(workdir, given.baseline)
        return run_study(workdir, scale, given.part)

    study_command.do_study(workdir, study, count_finished)
    if given.quick:
        closing.print_next_command("agents", Path("runs/agents"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("suite", Path("runs/suite"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
