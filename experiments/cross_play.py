"""Games of the policies of a run against one another, random play and, in tic-tac-toe, the perfect player.

python -m experiments.cross_play --workdir=runs/tic_tac_toe
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import
from absl import flags

from experiments.cli import command_line

command_line.define_workdir()
flags.DEFINE_integer("games", 200, "Games of each pair.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Another seed gives other games.", lower_bound=0)
flags.DEFINE_list(
    "checkpoints", ["last"], "Whose policies: last, best, numbers of updates, or all that the run has kept."
)
flags.DEFINE_bool("greedy", False, "Whether policies take their likeliest move instead of a sample.")


def main() -> int:
    """Plays all pairs, prints the ratings, and writes games, ratings and a figure into the run folder."""
    workdir, given = command_line.read_workdir("runs/tic_tac_toe"), flags.FLAGS

    from experiments.cli import closing
    from haepo_jax.reports import cross_play as report
    from haepo_jax.runs import cross_play
    from haepo_jax.runs.states import check_checkpoint

    checkpoints = given.checkpoints
    if checkpoints != [cross_play.ALL]:
        checkpoints = [check_checkpoint("--checkpoints", name) for name in checkpoints]
    result = cross_play.play_all(
        workdir, games=given.games, seed=given.seed, checkpoints=checkpoints, greedy=given.greedy
    )
    rated = report.rate_all(result)
    command_line.show_table(report.make_ratings_table(rated))
    folder = report.write(workdir, rated)
    best = rated.result.players[rated.order[0]]
    closing.print_sentence(f"Written to {folder}: {report.GAMES}, {report.RATINGS} and {report.FIGURE}.")
    closing.print_sentence(
        f"The strongest is {best.name}, {rated.elo[rated.order[0]]:.0f} Elo points above random play."
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
