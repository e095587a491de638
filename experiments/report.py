"""The page of a sweep, also while it runs: its best settings, what matters, heat maps, learning curves.

python -m experiments.report --workdir=runs/sweep
"""

from experiments.cli import beginning

if __name__ == "__main__":
    beginning.begin(prints_results=True)  # before what takes seconds to import

from experiments.cli import command_line

command_line.define_workdir()


def main() -> int:
    """Writes `report.html` and `figures/` into the folder of the sweep."""
    workdir = command_line.workdir()

    from experiments.cli import last_words
    from haepo_jax.reports.sweep.page import report

    page, finding = report(workdir)
    last_words.say_passed_over(workdir)
    last_words.say(f"Written to {page}.")
    last_words.say(finding)
    last_words.say_next("evaluate", workdir)
    return 0


if __name__ == "__main__":
    command_line.run(main)
