"""Reproduces the reinforcement-learning half of the paper, with every baseline, and writes report.html.

python -m experiments.paper --workdir=runs/paper
python -m experiments.paper --workdir=runs/paper_quick --quick
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

import os
import time
from pathlib import Path

from absl import flags

from experiments.cli import command_line

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few seeds and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the studies, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        # Compiling is most of a quick look's time, and takes a third less of it so.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

    from experiments.cli import closing
    from experiments.studies.paper.reproduction import reproduce
    from experiments.studies.paper.scale import FULL, QUICK
    from experiments.studies.runs import count_finished
    from experiments.studies.study_folder import hold_folder

    started = time.monotonic()
    with hold_folder(workdir, count_finished):
        page, headline = reproduce(workdir, QUICK if flags.FLAGS.quick else FULL)
    closing.print_sentence(f"Written to {page}, after {(time.monotonic() - started) / 60:.1f} minutes.")
    closing.print_sentence(headline)
    if flags.FLAGS.quick:
        closing.print_next_command("paper", Path("runs/paper"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("tldr_report", Path("runs/tldr_report"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
