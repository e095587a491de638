"""Compares HAEPO with its baselines on many tasks, with one setting for all and tuned for each; writes report.html.

python -m experiments.suite --workdir=runs/suite
python -m experiments.suite --workdir=runs/suite_quick --quick
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
flags.DEFINE_boolean("quick", False, "Few tasks and seeds, and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the suite, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        # Compiling is most of a quick look's time, and takes a third less of it so.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

    from experiments.cli import closing
    from experiments.studies.runs import count_finished
    from experiments.studies.study_folder import hold_folder
    from experiments.studies.suite.scale import FULL, QUICK
    from experiments.studies.suite.study import run_suite

    started = time.monotonic()
    with hold_folder(workdir, count_finished):
        page, headline = run_suite(workdir, QUICK if flags.FLAGS.quick else FULL)
    closing.print_sentence(f"Written to {page}, after {(time.monotonic() - started) / 60:.1f} minutes.")
    closing.print_sentence(headline)
    if flags.FLAGS.quick:
        closing.print_next_command("suite", Path("runs/suite"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("paper", Path("runs/paper"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
