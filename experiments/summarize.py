"""Makes the summary of a run again from its metrics, wherever the parts of its processes were written.

python -m experiments.summarize --workdir=runs/sweep
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start(prints_results=True)  # before what takes seconds to import
import json

from experiments.cli import command_line
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import read_attempts, read_members

command_line.define_workdir()

_NAMED = 5  # members in a sentence


def main() -> int:
    """Writes `summary.json`, once every member has ended."""
    workdir = command_line.read_workdir()

    from experiments.cli import closing
    from haepo_jax.analysis import tables
    from haepo_jax.runs.component_files import load_sweep
    from haepo_jax.runs.folder import lock_folder, storage_errors, write_json
    from haepo_jax.runs.summary import find_unfinished, summarize

    expected = [member.to_json() for member in load_sweep(workdir).members]
    if read_members(workdir) != json.loads(json.dumps(expected)):
        raise ConfigError(f"{workdir / 'members.json'} is not that of the run in config.json: its members differ.")
    if not read_attempts(workdir):
        raise ConfigError(f"{workdir / 'provenance.json'} holds no attempt, so that the time of the run is not known.")
    with lock_folder(workdir):
        closing.print_skipped_parts(workdir)
        missing = find_unfinished(workdir)
        if missing:
            named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
            raise ConfigError(
                f"--workdir {workdir} lacks metrics of {len(missing)} of its members ({named}): copy the parts that "
                "are missing into its metrics/, or resume the run by the command that began it."
            )
        summary = summarize(workdir)
        with storage_errors(workdir):
            write_json(workdir / "summary.json", summary)
    closing.print_sentence(f"Written to {workdir / 'summary.json'}.")
    closing.print_sentence(tables.describe_returns(summary["members"], "final_return", "final return"))
    closing.print_next_command("report", workdir)
    return 0


if __name__ == "__main__":
    command_line.run(main)
