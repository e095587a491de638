"""Measures what settings and a run's protocol cost: guard, evaluation, networks, metrics, checkpoints, compiling.

python -m experiments.overheads --workdir=runs/overheads

Takes ten minutes on 2 CPU cores, which must have nothing else to do: seconds are those of the fastest repeat.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

import dataclasses
import os
import sys
from pathlib import Path

from absl import flags

from experiments.cli import command_line
from haepo_jax.config import ExperimentConfig
from haepo_jax.runs.folder import lock_folder, refuse_run, storage_errors, write_json
from haepo_jax.runtime import signals
from haepo_jax.text import format_value

_PARTS = {
    "guard": "The divergence guard: 32 seeds, 5 updates of 16 x 500 steps on CartPole",
    "evaluation": "Greedy evaluation in training, CPU seconds: 8 seeds, 40 such updates, 16 episodes each time",
    "adapt": "HAEPO's sharpness, CPU seconds: 32 seeds, 5 such updates of 4 gradient steps",
    "network": "Networks of two layers of 64, the second a cell that remembers, CPU seconds: 32 seeds, 5 such updates",
    "run": "Metrics and progress: 32 seeds, 40 such updates",
    "checkpoints": "Checkpoints: configs/sweeps/beta_lambda.py, 1,152 members, 6 updates",
    "compile": "Compiling: configs/cartpole.py",
    "scale_out": "Virtual devices with 8 seeds each: 5 such updates",
}
_VIRTUAL_DEVICES = 8

command_line.define_workdir()
flags.DEFINE_enum("part", None, list(_PARTS), "What to measure alone; all, each in a process of its own, by default.")


def main() -> int:
    """Measures, and writes what comes out as `PART.json`."""
    workdir, part = command_line.read_workdir("runs/overheads"), flags.FLAGS.part
    refuse_run(workdir, "a benchmark")
    if part is not None:
        _measure(part, workdir)
        return 0
    for part in _PARTS:
        command = [sys.executable, "-m", "experiments.overheads", f"--workdir={workdir}", f"--part={part}"]
        devices = f" --xla_force_host_platform_device_count={_VIRTUAL_DEVICES}" if part == "scale_out" else ""
        environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + devices}
        code = signals.run_child(command, env=environment).returncode
        if code:
            return code
    return 0


def _measure(part: str, workdir: Path) -> None:
    from configs import cartpole  # only now: a wrong flag is refused at once
    from configs.sweeps import beta_lambda
    from experiments.benchmarks import overheads
    from haepo_jax.config import from_config_dict
    from haepo_jax.config.sweep import from_values

    with lock_folder(workdir):
        match part:
            case "guard":
                rows = overheads.measure_guard(_make_config(5), repeats=15)
            case "evaluation":
                rows = overheads.measure_evaluation(dataclasses.replace(_make_config(40), num_seeds=8), repeats=5)
            case "adapt":
                config = _make_config(5)
                haepo = dataclasses.replace(config.haepo, num_epochs=4)
                rows = overheads.measure_adapting(dataclasses.replace(config, haepo=haepo), repeats=15)
            case "network":
                rows = overheads.measure_networks(_make_config(5), repeats=5)
            case "run":
                rows = overheads.measure_run(_make_config(40), repeats=8)
            case "checkpoints":
                sweep = from_values(beta_lambda.get_config().to_dict() | {"num_updates": 6})
                rows = overheads.measure_checkpoints(sweep, repeats=3)
            case "compile":
                rows = overheads.measure_compiling(from_config_dict(cartpole.get_config().to_dict()), repeats=5)
            case "scale_out":
                rows = overheads.measure_scale_out(_make_config(5), members_per_device=8, repeats=8)
        with storage_errors(workdir):
            write_json(workdir / f"{part}.json", {"what": _PARTS[part], "rows": rows})
    headings = [name.replace("_", " ") for name in rows[-1]]
    command_line.print_table(
        _PARTS[part], headings, [[format_value(row.get(name, ""), 4) for name in rows[-1]] for row in rows]
    )


def _make_config(number: int) -> ExperimentConfig:
    from experiments.benchmarks.programs import make_config

    return dataclasses.replace(make_config(32), num_updates=number)


if __name__ == "__main__":
    command_line.run(main)
