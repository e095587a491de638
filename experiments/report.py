"""The page of a run or of a sweep, also while it runs; or, of several runs on one task, the page that compares them.

python -m experiments.report --workdir=runs/sweep

python -m experiments.report --workdir=runs/a --workdir=runs/b
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import

from absl import flags

from experiments.cli import command_line

command_line.define_workdirs()
flags.DEFINE_string(
    "output", None, "Folder of the page: the run's own, or for several WORKDIR/comparison/OTHERS of the first."
)


def main() -> int:
    """Writes `report.html` and `figures/` into the folder of the run, or into that of the comparison."""
    workdirs = command_line.read_workdirs()
    output = command_line.read_folder("--output", flags.FLAGS.output)

    from experiments.cli import closing
    from haepo_jax.reports.comparison.page import publish_comparison
    from haepo_jax.reports.run.page import publish_page
    from haepo_jax.runs.progress import QUIET_SECONDS, report_waiting

    with report_waiting("Drawing", "Drawn", quiet_seconds=QUIET_SECONDS):
        if len(workdirs) == 1:
            page, finding = publish_page(workdirs[0], output)
        else:
            page, finding = publish_comparison(workdirs, output)
    for workdir in workdirs:
        closing.print_skipped_parts(workdir)
    closing.print_sentence(f"Written to {page}.")
    closing.print_sentence(finding)
    if len(workdirs) == 1:
        closing.print_next_command("evaluate", workdirs[0])
    return 0


if __name__ == "__main__":
    command_line.run(main)
