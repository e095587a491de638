"""Compares population-based training with random search at equal environment steps, and writes report.html.

python -m experiments.pbt_study --workdir=runs/pbt
python -m experiments.pbt_study --workdir=runs/pbt_quick --quick
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few populations and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the runs, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.pbt.scale import FULL, QUICK
    from experiments.studies.pbt.study import run_study
    from experiments.studies.runs import count_finished

    study_command.do_study(workdir, lambda: run_study(workdir, QUICK if flags.FLAGS.quick else FULL), count_finished)
    if flags.FLAGS.quick:
        closing.print_next_command("pbt_study", Path("runs/pbt"))  # whose populations are enough to decide
    else:
        closing.print_next_command("suite", Path("runs/suite"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
