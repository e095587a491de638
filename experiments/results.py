"""Gathers the numbers that documents quote into docs/results.json, and writes them into the documents.

python -m experiments.results --runs=runs --paper=runs/paper --suite=runs/suite --segments=runs/segments \
    --agents=runs/agents --pbt=runs/pbt --tldr=runs/tldr_report --puzzles=runs/puzzles --benchmark=runs/benchmark \
    --language=runs/benchmark_language --race=runs/race

Each flag is optional. What is not given keeps the entry that it has, with the date and the devices it is from. Without
any flag the documents are written again from docs/results.json and the studies' files in docs/.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import

from pathlib import Path

from absl import flags

from experiments.cli import command_line
from haepo_jax.errors import ConfigError
from haepo_jax.runtime.paths import folder

_ROOT = Path(__file__).parent.parent

flags.DEFINE_string("runs", None, "Folder of runs of shipped configs, each named after its config: runs/cartpole.")
flags.DEFINE_string("paper", None, "Folder of experiments.paper.")
flags.DEFINE_string("suite", None, "Folder of experiments.suite.")
flags.DEFINE_string("segments", None, "Folder of experiments.segments.")
flags.DEFINE_string("agents", None, "Folder of experiments.agents.")
flags.DEFINE_string("pbt", None, "Folder of experiments.pbt_study.")
flags.DEFINE_string("tldr", None, "Folder of experiments.tldr_report.")
flags.DEFINE_string("puzzles", None, "Folder of experiments.puzzles.")
flags.DEFINE_string("benchmark", None, "Folder of experiments.benchmark.")
flags.DEFINE_string("language", None, "Folder of experiments.benchmark --language.")
flags.DEFINE_string("race", None, "Folder of experiments.race.")


def main() -> int:
    """Writes docs/results.json and the blocks of the documents."""
    given = flags.FLAGS

    from experiments.published import publish  # only now: a wrong flag is refused at once

    if not (_ROOT / "docs").is_dir():
        raise ConfigError(
            "experiments.results writes the documents of a clone of the project, and is installed without them."
        )

    folders = {
        name: folder(f"--{name}", value) for name in publish.SOURCES if (value := given[name].value) is not None
    }
    changed = publish.publish(_ROOT, folders)
    for path in changed:
        print(f"Written to {path}.")
    if not changed:
        print("Every document says what its numbers say.")
    return 0


if __name__ == "__main__":
    command_line.run(main)
