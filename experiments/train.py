"""Trains a population of seeds on an environment, or goes on with a run that was stopped.

python -m experiments.train --config=configs/cartpole.py --workdir=runs/cartpole
"""

from experiments import beginning

if __name__ == "__main__":
    beginning.begin()  # before what takes seconds to import

import json

from absl import flags

from experiments import command_line

command_line.define_config()
command_line.define_workdir()
flags.DEFINE_float(
    "checkpoint_seconds", 10.0, "Least seconds between two checkpoints; metrics are written with each.", lower_bound=0
)
flags.DEFINE_float(
    "stall_seconds",
    300.0,
    "Standstill after which the process ends itself; the first update has no limit.",
    lower_bound=1,
)


def main() -> int:
    """Runs the experiment, draws its learning curve and prints its table."""
    workdir, config = command_line.workdir(), command_line.experiment_config()
    command_line.check_read([config])

    from haepo_jax.experiment import run  # only now: a wrong flag is told at once

    given = flags.FLAGS
    if not run(config, workdir, checkpoint_seconds=given.checkpoint_seconds, stall_seconds=given.stall_seconds):
        print(f"{workdir} is complete already; nothing to do.")
        return 0

    from haepo_jax.analysis import figures, tables  # only now: drawing costs a second to import

    figure = figures.learning_curve(workdir)
    summary = json.loads((workdir / "summary.json").read_text())
    command_line.console().print(tables.final_returns(summary, f"{config.env}, {config.algorithm}"))
    clock = summary["wall_clock"]
    print(
        f"{summary['env_steps']:,} env steps in {clock['run_seconds']:.1f} s, {summary['env_steps_per_second']:,.0f} "
        f"a second; compiled in {clock['compile_seconds']:.1f} s. Learning curve: {figure}"
    )
    if summary["rows_with_returns_sum_not_positive"]:
        print(
            f"In {summary['rows_with_returns_sum_not_positive']} updates the returns did not sum to a positive "
            "number: sum normalisation dropped them. Use --config.haepo.normalization=zscore."
        )
    if all(member["status"] == "diverged" for member in summary["members"]):
        print("Every member diverged: lower --config.optimizer.learning_rate.")
        return command_line.ALL_DIVERGED
    return 0


if __name__ == "__main__":
    command_line.run(main)
