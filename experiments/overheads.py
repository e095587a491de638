"""Measures what is around the training: divergence guard, metrics, progress, checkpoints, compiling, more devices.

python -m experiments.overheads --workdir=runs/overheads

Takes a quarter of an hour on 2 CPU cores, which must have nothing else to do.
"""

import os
import subprocess
import sys
from pathlib import Path

from absl import flags
from rich.table import Table

from experiments import command_line

_PARTS = {
    "guard": "The divergence guard: configs/cartpole.py",
    "run": "Metrics and progress: configs/cartpole.py",
    "checkpoints": "Checkpoints 60 s apart: configs/sweeps/beta_lambda.py, 1,152 members, 12 updates",
    "compile": "Compiling: configs/cartpole.py",
    "scale_out": "Virtual devices with 8 members each: configs/cartpole.py, 5 updates",
}
_VIRTUAL_DEVICES = 8

command_line.define_workdir()
flags.DEFINE_enum("part", None, list(_PARTS), "What to measure alone; all, each in a process of its own, by default.")


def main() -> int:
    """Measures, and writes what comes out as `PART.json`."""
    workdir, part = command_line.workdir("runs/overheads"), flags.FLAGS.part
    if part is not None:
        _measure(part, workdir)
        return 0
    for part in _PARTS:
        command = [sys.executable, "-m", "experiments.overheads", f"--workdir={workdir}", f"--part={part}"]
        devices = f" --xla_force_host_platform_device_count={_VIRTUAL_DEVICES}" if part == "scale_out" else ""
        environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + devices}
        code = subprocess.run(command, env=environment, check=False).returncode
        if code:
            return code
    return 0


def _measure(part: str, workdir: Path) -> None:
    from configs import cartpole  # only now: a wrong flag is told at once
    from configs.sweeps import beta_lambda
    from haepo_jax.benchmark import overheads
    from haepo_jax.config import from_config_dict
    from haepo_jax.run_folder import locked, storage_errors, write_json
    from haepo_jax.sweeps import from_values, of_experiment

    values = cartpole.get_config().to_dict()
    config = from_config_dict(values)
    with locked(workdir):
        match part:
            case "guard":
                rows = overheads.guard(config, repeats=5)
            case "run":
                rows = overheads.whole_run(of_experiment(config), checkpoint_seconds=60.0, repeats=5)
            case "checkpoints":
                sweep = from_values(beta_lambda.get_config().to_dict() | {"num_updates": 12})
                rows = overheads.whole_run(sweep, checkpoint_seconds=60.0, repeats=2)
            case "compile":
                rows = overheads.compiling(config, repeats=5)
            case "scale_out":
                few = from_config_dict(values | {"num_updates": 5})
                rows = overheads.scale_out(few, members_per_device=8, repeats=5)
        with storage_errors(workdir):
            write_json(workdir / f"{part}.json", {"what": _PARTS[part], "rows": rows})
    table = Table(*(name.replace("_", " ") for name in rows[-1]), title=_PARTS[part], title_justify="left")
    for row in rows:
        table.add_row(*(_shown(row.get(name, "")) for name in rows[-1]))
    command_line.console().print(table)


def _shown(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command_line.run(main)
