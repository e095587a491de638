"""Compares HAEPO, GRPO, RLOO and DPO on generated TL;DR summaries, measures their memory, and writes report.html.

python -m experiments.tldr_report --workdir=runs/tldr_report
python -m experiments.tldr_report --workdir=runs/tldr_report_quick --quick
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Two seeds and a quarter of the updates, without memory: a look, not a result.")
flags.DEFINE_string("topology", "", "A TPU topology to compile for too, such as v5e:2x2; needs jax[tpu], not a TPU.")


def main() -> int:
    """Does what is missing of the experiment, and writes the page."""
    workdir = command_line.read_workdir()

    from experiments.cli import closing
    from experiments.studies.language_runs import count_finished
    from experiments.studies.tldr.reproduction import reproduce
    from experiments.studies.tldr.scale import FULL, QUICK

    study_command.do_study(
        workdir, lambda: reproduce(workdir, QUICK if flags.FLAGS.quick else FULL, flags.FLAGS.topology), count_finished
    )
    if flags.FLAGS.quick:
        closing.print_next_command("tldr_report", Path("runs/tldr_report"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("tldr", Path("runs/tldr"), "--config=configs/tldr_generated.py", "--stage=sft")
    return 0


if __name__ == "__main__":
    command_line.run(main)
