"""Trains a population of seeds on an environment, or resumes a run that was stopped.

python -m experiments.train --config=cartpole --workdir=runs/cartpole
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

from absl import flags

from experiments.cli import command_line
from haepo_jax.runs.files import read_summary

command_line.define_config()
command_line.define_workdir()
command_line.define_loggers()
flags.DEFINE_float(
    "checkpoint_seconds", 10.0, "Least seconds between two checkpoints; metrics are written with each.", lower_bound=0
)
flags.DEFINE_float(
    "stall_seconds",
    300.0,
    "Standstill after which the process ends itself; the first update has no limit.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "keep_checkpoints_every", None, "Updates between two checkpoints that are never dropped.", lower_bound=1
)


def main() -> int:
    """Runs the experiment, draws its learning curve and prints its table."""
    workdir, config = command_line.read_workdir(), command_line.read_config()
    loggers = command_line.read_loggers()
    command_line.check_read([config])

    from haepo_jax.runs.experiment import run

    given = flags.FLAGS
    ran = run(
        config,
        workdir,
        checkpoint_seconds=given.checkpoint_seconds,
        stall_seconds=given.stall_seconds,
        **loggers,
        keep_checkpoints_every=given.keep_checkpoints_every,
    )

    from experiments.cli import closing
    from haepo_jax.analysis import tables
    from haepo_jax.config.method import name_setting
    from haepo_jax.reports import learning_curve

    figure = None
    if ran or not learning_curve.has_learning_curve(workdir):
        figure = learning_curve.draw_learning_curve(workdir)
    summary = read_summary(workdir)
    if not ran:
        drawn = f" but to draw {figure}" if figure else ""
        closing.print_sentence(f"{workdir} is complete already; nothing to do{drawn}.")
    else:
        make = tables.make_populations_table if "populations" in summary else tables.make_returns_table
        command_line.show_table(make(summary, f"{config.env}, {config.algorithm}"))
        closing.print_sentence(f"{tables.describe_speed(summary)} Learning curve: {figure}")
    if summary["rows_with_returns_sum_not_positive"]:
        closing.print_sentence(
            f"In {summary['rows_with_returns_sum_not_positive']} updates the returns did not sum to a positive "
            f"number: sum normalisation dropped them. Use --config.{name_setting(config, 'normalization')}=zscore."
        )
    return closing.finish_run(summary, workdir)


if __name__ == "__main__":
    command_line.run(main)
