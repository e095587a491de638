"""Makes the summary of a run again from its metrics, wherever the parts of its processes were written.

python -m experiments.summarize --workdir=runs/sweep
"""

from experiments import beginning

if __name__ == "__main__":
    beginning.begin(prints_results=True)  # before what takes seconds to import

from experiments import command_line
from haepo_jax.errors import ConfigError

command_line.define_workdir()

_NAMED = 5  # members in a sentence


def main() -> int:
    """Writes `summary.json`, once every member has ended."""
    workdir = command_line.workdir()

    from haepo_jax.analysis.summary import summarize, unfinished  # only now: a wrong flag is told at once
    from haepo_jax.run_folder import locked, storage_errors, write_json

    for name in ("config.json", "members.json", "provenance.json"):
        if not (workdir / name).is_file():
            raise ConfigError(f"--workdir {workdir} holds no run: there is no {name} in it.")
    with locked(workdir):
        missing = unfinished(workdir)
        if missing:
            named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
            raise ConfigError(
                f"--workdir {workdir} lacks metrics of {len(missing)} of its members ({named}): copy the parts that "
                "are missing into its metrics/, or go on with the run by the command that began it."
            )
        with storage_errors(workdir):
            write_json(workdir / "summary.json", summarize(workdir))
    print(workdir / "summary.json")
    return 0


if __name__ == "__main__":
    command_line.run(main)
