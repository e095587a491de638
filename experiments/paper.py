"""Reproduces the reinforcement-learning half of the paper, with every baseline, and writes report.html.

python -m experiments.paper --workdir=runs/paper
python -m experiments.paper --workdir=runs/paper_quick --quick
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few seeds and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the studies, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.paper.reproduction import reproduce
    from experiments.studies.paper.scale import FULL, QUICK
    from experiments.studies.runs import count_finished

    study_command.do_study(workdir, lambda: reproduce(workdir, QUICK if flags.FLAGS.quick else FULL), count_finished)
    if flags.FLAGS.quick:
        closing.print_next_command("paper", Path("runs/paper"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("tldr_report", Path("runs/tldr_report"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
