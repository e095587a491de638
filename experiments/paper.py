"""Reproduces the reinforcement-learning half of the paper, with every baseline, and writes report.html.

python -m experiments.paper --workdir=runs/paper
python -m experiments.paper --workdir=runs/paper_quick --quick
"""

from experiments import beginning

if __name__ == "__main__":
    beginning.begin()  # before what takes seconds to import

import os
import time

from absl import flags

from experiments import command_line

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Few seeds and a tenth of the steps: a look, not a result.")


def main() -> int:
    """Does what is missing of the studies, and writes the page."""
    workdir = command_line.workdir()
    if flags.FLAGS.quick:
        # Compiling is most of a quick look's time, and takes a third less of it so.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

    from haepo_jax.paper.reproduction import reproduce  # only now: a wrong flag is told at once
    from haepo_jax.paper.scale import FULL, QUICK
    from haepo_jax.run_folder import locked
    from haepo_jax.terminal import visible

    started = time.monotonic()
    with locked(workdir):
        page, headline = reproduce(workdir, QUICK if flags.FLAGS.quick else FULL)
    print(visible(f"{page}, after {(time.monotonic() - started) / 60:.1f} minutes."))
    print(headline)
    if flags.FLAGS.quick:
        print("Next: python -m experiments.paper --workdir=runs/paper, whose seeds are enough to decide.")
    else:
        print("Next: python -m experiments.tldr_report --workdir=runs/tldr_report, the language half of the paper.")
    return 0


if __name__ == "__main__":
    command_line.run(main)
