"""Reproduces the reinforcement-learning half of the paper, with every baseline, and writes report.html.

python -m experiments.paper --workdir=runs/paper
python -m experiments.paper --workdir=runs/paper_quick --quick
"""

from experiments.cli import beginning

if __name__ == "__main__":
    beginning.begin()  # before what takes seconds to import

import os
import time
from pathlib import Path

from absl import flags

from experiments.cli import command_line

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few seeds and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the studies, and writes the page."""
    workdir = command_line.workdir()
    if flags.FLAGS.quick:
        # Compiling is most of a quick look's time, and takes a third less of it so.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

    from experiments.cli import last_words
    from experiments.studies.reproduction import reproduce
    from experiments.studies.runs import finished
    from experiments.studies.scale import FULL, QUICK
    from experiments.studies.study_folder import held

    started = time.monotonic()
    with held(workdir, finished):
        page, headline = reproduce(workdir, QUICK if flags.FLAGS.quick else FULL)
    last_words.say(f"Written to {page}, after {(time.monotonic() - started) / 60:.1f} minutes.")
    last_words.say(headline)
    if flags.FLAGS.quick:
        last_words.say_next("paper", Path("runs/paper"))  # whose seeds are enough to decide
    else:
        last_words.say_next("tldr_report", Path("runs/tldr_report"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
