"""Runs a sweep, settings x seeds, on all devices of all processes, or resumes one that was stopped.

python -m experiments.sweep --config=sweeps/beta_lambda --workdir=runs/beta_lambda

Of a run of several processes the same command is started once on every host: docs/sweeps.md.
"""

from experiments.cli import launch

if __name__ == "__main__":
    launch.start()  # before what takes seconds to import

import jax
from absl import flags

from experiments.cli import command_line
from haepo_jax.config.sweep import Sweep, from_values, sweep_settings, unread_of_search
from haepo_jax.runs.files import read_summary
from haepo_jax.runtime import processes

command_line.define_config(sweep_settings)
command_line.define_workdir()
flags.DEFINE_bool("dry_run", False, "Print members, groups, waves and memory, and run nothing.")
flags.DEFINE_integer(
    "members_per_device",
    None,
    "Members of each device at once, which decides the bits of all; as many as are needed and fit by default.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "trajectory_devices", None, "Devices that share the M trajectories of their members; 1 by default.", lower_bound=1
)
flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX cannot find out for itself.")
flags.DEFINE_integer("num_processes", None, "How many processes there are, with --coordinator.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0, with --coordinator.", lower_bound=0)
flags.DEFINE_integer(
    "heartbeat_seconds", processes.HEARTBEAT_SECONDS, "Silence after which a process counts as gone.", lower_bound=1
)
flags.DEFINE_float(
    "join_seconds", processes.JOIN_SECONDS, "How long processes wait for each other at the start.", lower_bound=1
)
flags.DEFINE_float("stall_seconds", 300.0, "Standstill after which a process ends itself.", lower_bound=1)
command_line.define_loggers()
flags.DEFINE_float("checkpoint_seconds", 60.0, "Least seconds between two checkpoints.", lower_bound=0)
flags.DEFINE_integer(
    "keep_checkpoints_every", None, "Updates between two checkpoints that are never dropped.", lower_bound=1
)


def main() -> int:
    """Runs the sweep or plans it, and prints its best settings."""
    given = flags.FLAGS
    workdir = None if given.dry_run else command_line.read_workdir("runs/beta_lambda")
    sweep = from_values(command_line.read_config_values("sweeps/beta_lambda"))
    loggers = command_line.read_loggers()
    processes.initialize(
        given.coordinator, given.num_processes, given.process_id, given.heartbeat_seconds, given.join_seconds
    )
    configs = [group.config for group in sweep.groups]
    command_line.check_read(configs, sweep.members[0].settings, unread_of_search(sweep))
    if workdir is None:
        return _print_plan(sweep)

    from experiments.cli import closing
    from haepo_jax.analysis import tables
    from haepo_jax.runs.experiment import run_sweep
    from haepo_jax.runs.placement import Placement

    ran = run_sweep(
        sweep,
        workdir,
        placement=Placement(given.members_per_device, given.trajectory_devices),
        checkpoint_seconds=given.checkpoint_seconds,
        stall_seconds=given.stall_seconds,
        **loggers,
        keep_checkpoints_every=given.keep_checkpoints_every,
    )
    summary = read_summary(workdir)
    if not processes.is_first():
        return closing.find_exit_code(summary)
    if not ran:
        closing.print_sentence(f"{workdir} is complete already; nothing to do.")
    else:
        closing.print_sentence(f"{len(summary['members']):,} members, {tables.describe_speed(summary)}")
    return closing.finish_run(summary, workdir)


def _print_plan(sweep: Sweep) -> int:
    from haepo_jax.population.planning import device_bytes, plan
    from haepo_jax.runs import agreement
    from haepo_jax.runs.placement import Placement

    placement = Placement(flags.FLAGS.members_per_device, flags.FLAGS.trajectory_devices)
    agreement.check(sweep, placement._asdict() | {"dry_run": True})
    plans = plan(
        sweep,
        members_per_device=flags.FLAGS.members_per_device,
        trajectory_devices=flags.FLAGS.trajectory_devices or 1,
    )
    if processes.is_first():
        command_line.print_table(
            f"{len(sweep.members):,} members on {jax.device_count()} devices",
            ("group", "members", "a device", "waves", "MiB a device"),
            [
                (
                    *(row.group.name, f"{len(row.group.members):,}", str(row.members_per_device), str(row.waves)),
                    "does not fit" if row.bytes_per_device is None else f"{row.bytes_per_device / 2**20:,.1f}",
                )
                for row in plans
            ],
        )
        print(
            f"{len(plans)} program{'s' if len(plans) > 1 else ''} to compile. A device has "
            f"{device_bytes() / 2**20:,.0f} MiB. Nothing was run."
        )
    return 0


if __name__ == "__main__":
    command_line.run(main)
