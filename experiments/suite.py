"""Compares HAEPO with its baselines on many tasks, with one setting for all and tuned for each; writes report.html.

python -m experiments.suite --workdir=runs/suite
python -m experiments.suite --workdir=runs/suite_quick --quick
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few tasks and seeds, and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the suite, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.runs import count_finished
    from experiments.studies.suite.scale import FULL, QUICK
    from experiments.studies.suite.study import run_suite

    study_command.do_study(workdir, lambda: run_suite(workdir, QUICK if flags.FLAGS.quick else FULL), count_finished)
    if flags.FLAGS.quick:
        closing.print_next_command("suite", Path("runs/suite"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("paper", Path("runs/paper"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
