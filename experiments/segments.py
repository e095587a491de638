"""Compares HAEPO with segments and PPO on MinAtar, and policies with and without memory; writes report.html.

python -m experiments.segments --workdir=runs/segments
python -m experiments.segments --workdir=runs/segments --cnn
python -m experiments.segments --workdir=runs/segments_quick --quick

The second adds the convolutional network, and does what is missing of the rest.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

import dataclasses
from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("cnn", False, "The games with a convolutional network too, which takes hours.")
flags.DEFINE_boolean("quick", False, "One game, few seeds, and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the study, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.runs import count_finished
    from experiments.studies.segments.scale import CNN_SEEDS, FULL, QUICK
    from experiments.studies.segments.study import run_study

    scale = QUICK if flags.FLAGS.quick else FULL
    if flags.FLAGS.cnn:
        scale = dataclasses.replace(scale, cnn_seeds=CNN_SEEDS)
    study_command.do_study(workdir, lambda: run_study(workdir, scale), count_finished)
    if flags.FLAGS.quick:
        closing.print_next_command("segments", Path("runs/segments"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("suite", Path("runs/suite"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
