"""Compares population-based training with random search at equal environment steps, and writes report.html.

python -m experiments.pbt_study --workdir=runs/pbt
python -m experiments.pbt_study --workdir=runs/pbt_quick --quick
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
flags.DEFINE_boolean("quick", False, "Few populations and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the runs, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        # Compiling is most of a quick look's time, and takes a third less of it so.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

    from experiments.cli import closing
    from experiments.studies.pbt.scale import FULL, QUICK
    from experiments.studies.pbt.study import run_study
    from experiments.studies.runs import count_finished
    from experiments.studies.study_folder import hold_folder

    started = time.monotonic()
    with hold_folder(workdir, count_finished):
        page, headline = run_study(workdir, QUICK if flags.FLAGS.quick else FULL)
    closing.print_sentence(f"Written to {page}, after {(time.monotonic() - started) / 60:.1f} minutes.")
    closing.print_sentence(headline)
    if flags.FLAGS.quick:
        closing.print_next_command("pbt_study", Path("runs/pbt"))  # whose populations are enough to decide
    else:
        closing.print_next_command("suite", Path("runs/suite"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
