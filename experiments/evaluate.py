"""Greedy and sampled returns of the policies of a run, over fresh episodes.

python -m experiments.evaluate --workdir=runs/cartpole
"""

from experiments import beginning

if __name__ == "__main__":
    beginning.begin(prints_results=True)  # before what takes seconds to import

from absl import flags

from experiments import command_line

command_line.define_workdir()
flags.DEFINE_integer("episodes", 100, "Episodes of each policy, greedy and sampled.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Another seed gives other episodes.", lower_bound=0)


def main() -> int:
    """Evaluates, writes `evaluation.json` into the run folder and prints the table."""
    workdir = command_line.workdir()

    from haepo_jax.analysis import tables  # only now: a wrong flag is told at once
    from haepo_jax.evaluation import evaluate

    result = evaluate(workdir, episodes=flags.FLAGS.episodes, seed=flags.FLAGS.seed)
    command_line.console().print(tables.evaluation(result))
    print(f"Written to {workdir / 'evaluation.json'}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
