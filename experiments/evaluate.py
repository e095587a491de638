"""Greedy and sampled returns of the policies of a run, over fresh episodes.

python -m experiments.evaluate --workdir=runs/cartpole
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import
import errno

from absl import flags

from experiments.cli import command_line
from haepo_jax.errors import StorageError

command_line.define_workdir()
flags.DEFINE_integer("episodes", 100, "Episodes of each policy, greedy and sampled.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Another seed gives other episodes.", lower_bound=0)
flags.DEFINE_string(
    "checkpoint", "last", "Whose policies: last, best (of the evaluations in training), or a number of updates."
)
flags.DEFINE_string(
    "gif", None, "File to draw an episode in: a greedy one of the member with the largest greedy return. Ends in .gif."
)


def main() -> int:
    """Evaluates, prints the table and writes `evaluation.json` into the run folder."""
    workdir, given = command_line.read_workdir(), flags.FLAGS

    from experiments.cli import closing
    from haepo_jax.analysis import tables
    from haepo_jax.runs import animation, evaluation
    from haepo_jax.runs.progress import QUIET_SECONDS, report_waiting
    from haepo_jax.runs.states import LAST, check_checkpoint

    checkpoint = check_checkpoint("--checkpoint", given.checkpoint)
    if given.gif is not None:
        animation.check_gif(given.gif, workdir, checkpoint)
    with report_waiting("Playing", "Played", quiet_seconds=QUIET_SECONDS):
        result = evaluation.measure(workdir, episodes=given.episodes, seed=given.seed, checkpoint=checkpoint)
    command_line.show_table(tables.make_evaluation_table(result))
    code = 0
    try:
        closing.print_sentence(f"Written to {evaluation.write(workdir, result)}.")
    except StorageError as error:
        closing.print_sentence(str(error))
        # A folder that may only be read has policies to look at all the same.
        read_only = getattr(error.__cause__, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM)
        code = 0 if read_only else command_line.STORAGE
    closing.print_sentence(tables.describe_returns(result["members"], "greedy_return", "greedy return"))
    if given.gif is not None:
        steps, member = animation.draw_best(given.gif, workdir, result)
        closing.print_sentence(f"An episode of member {member}, of {steps} steps, is drawn in {given.gif}.")
    if result["members"][0]["settings"]:
        closing.print_next_command("report", workdir)
    else:
        same = [] if checkpoint == LAST else [f"--checkpoint={checkpoint}"]
        closing.print_next_command("evaluate", workdir, *same, f"--seed={given.seed + 1}")
    return code


if __name__ == "__main__":
    command_line.run(main)
