"""Lists the environments that can be had here, with the sizes of their observations and actions.

python -m experiments.tasks
python -m experiments.tasks --libraries=navix,brax
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import

from absl import flags

from experiments.cli import command_line
from haepo_jax.config.libraries import LIBRARIES
from haepo_jax.errors import ConfigError, choose

flags.DEFINE_list(
    "libraries",
    [],
    "Libraries whose environments are listed, such as gymnax,navix; all that are installed by default.",
)


def main() -> int:
    """Prints a table for each library, and what installs those that are missing."""
    from haepo_jax.environments import catalogue

    named = [choose("--libraries", library, catalogue.list_libraries()) for library in flags.FLAGS.libraries]
    missing = []
    for library in dict.fromkeys(named or catalogue.list_libraries()):
        if catalogue.is_installed(library):
            _print_library(library)
        else:
            missing.append(library)
    for library in missing:
        print(f"{library}: is not installed: pip install {LIBRARIES[library].install}")
    return 0


def _print_library(library: str) -> None:
    from haepo_jax.environments import catalogue

    try:
        found = list(catalogue.describe_tasks(library))
    except ConfigError as error:
        print(error)
        return
    command_line.print_table(
        f"{library}, as config.env names them",
        ("env", "observation", "actions", "agents", "steps at most"),
        [
            (task.name, task.observation, task.actions, str(task.agents), _format_steps(task.max_steps))
            for task in found
            if isinstance(task, catalogue.Task)
        ],
    )
    for refused in found:
        if isinstance(refused, catalogue.Refused):
            print(refused.reason, flush=True)


def _format_steps(steps: int | None) -> str:
    return "give config.horizon" if steps is None else f"{steps:,}"


if __name__ == "__main__":
    command_line.run(main)
