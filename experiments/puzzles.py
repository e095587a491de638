"""Compares HAEPO with other methods on puzzles whose answers a program checks; writes report.html.

python -m experiments.puzzles --workdir=runs/puzzles
python -m experiments.puzzles --workdir=runs/puzzles --every_method
python -m experiments.puzzles --workdir=runs/puzzles_quick --quick
python -m experiments.puzzles --workdir=runs/puzzles --data_only

The last one writes the puzzles alone, for configs/puzzles.py.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line, study_command

command_line.define_workdir()
flags.DEFINE_boolean("quick", False, "Two seeds, few updates and nothing tuned: a look, not a result.")
flags.DEFINE_boolean("every_method", False, "All methods that sample; runs of the folder that are done are kept.")
flags.DEFINE_boolean("data_only", False, "Write the puzzles, and train nothing.")


def main() -> int:
    """Does what is missing of the study, and writes the page."""
    workdir = command_line.read_workdir()
    if flags.FLAGS.quick:
        study_command.compile_quickly()

    from experiments.cli import closing
    from experiments.studies.language_runs import count_finished
    from experiments.studies.puzzles.runs import Runs
    from experiments.studies.puzzles.scale import EVERY_METHOD, FULL, QUICK
    from experiments.studies.puzzles.study import run_study
    from experiments.studies.study_folder import hold_folder
    from haepo_jax.errors import ConfigError

    if flags.FLAGS.quick and flags.FLAGS.every_method:
        raise ConfigError("--quick compares two methods; give either it or --every_method.")
    scale = QUICK if flags.FLAGS.quick else EVERY_METHOD if flags.FLAGS.every_method else FULL
    if flags.FLAGS.data_only:
        with hold_folder(workdir, count_finished):
            runs = Runs(workdir, scale)
            runs.write_puzzles()
        closing.print_sentence(f"Written to {runs.data}.")
        return 0
    study_command.do_study(workdir, lambda: run_study(workdir, scale), count_finished)
    if flags.FLAGS.quick:
        closing.print_next_command("puzzles", Path("runs/puzzles"))  # whose seeds are enough to decide
    else:
        closing.print_next_command("tldr_report", Path("runs/tldr_report"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
