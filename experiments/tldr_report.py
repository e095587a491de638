"""Compares HAEPO, GRPO, RLOO and DPO on generated TL;DR summaries, measures their memory, and writes report.html.

python -m experiments.tldr_report --workdir=runs/tldr_report
python -m experiments.tldr_report --workdir=runs/tldr_report_quick --quick
"""

from experiments import beginning

if __name__ == "__main__":
    beginning.begin()  # before what takes seconds to import

import time

from absl import flags

from experiments import command_line

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Two seeds and a quarter of the updates, without memory: a look, not a result.")
flags.DEFINE_string("topology", "", "A TPU topology to compile for too, such as v5e:2x2; needs jax[tpu], not a TPU.")


def main() -> int:
    """Does what is missing of the experiment, and writes the page."""
    workdir = command_line.workdir()

    from haepo_jax.paper.tldr.reproduction import reproduce  # only now: a wrong flag is told at once
    from haepo_jax.paper.tldr.scale import FULL, QUICK
    from haepo_jax.run_folder import locked
    from haepo_jax.terminal import visible

    started = time.monotonic()
    with locked(workdir):
        page, headline = reproduce(workdir, QUICK if flags.FLAGS.quick else FULL, flags.FLAGS.topology)
    print(visible(f"{page}, after {(time.monotonic() - started) / 60:.1f} minutes."))
    print(headline)
    if flags.FLAGS.quick:
        print("Next: python -m experiments.tldr_report --workdir=runs/tldr_report, whose seeds are enough to decide.")
    else:
        print("Next: python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=sft")
    return 0


if __name__ == "__main__":
    command_line.run(main)
