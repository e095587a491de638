"""The page of a sweep, also while it runs: its best settings, what matters, heat maps, learning curves.

python -m experiments.report --workdir=runs/sweep
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import

from experiments.cli import command_line

command_line.define_workdir()


def main() -> int:
    """Writes `report.html` and `figures/` into the folder of the sweep."""
    workdir = command_line.read_workdir()

    from experiments.cli import closing
    from haepo_jax.reports.sweep.page import publish_report
    from haepo_jax.runs.progress import QUIET_SECONDS, report_waiting

    with report_waiting("Drawing", "Drawn", quiet_seconds=QUIET_SECONDS):
        page, finding = publish_report(workdir)
    closing.print_skipped_parts(workdir)
    closing.print_sentence(f"Written to {page}.")
    closing.print_sentence(finding)
    closing.print_next_command("evaluate", workdir)
    return 0


if __name__ == "__main__":
    command_line.run(main)
