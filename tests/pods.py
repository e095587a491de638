"""Sweeps as of a pod, on this machine: several processes on loopback, each with virtual devices."""

import socket

from command_runner import Command

SMALL = (
    "--config=configs/sweeps/beta_lambda.py",
    "--config.env=Catch-bsuite",
    "--config.sweep.haepo.entropy_coef=(0.0,0.1,0.3)",
    "--config.sweep.haepo.kl_coef=(0.0,0.02)",
    "--config.num_seeds=2",
    "--config.num_trajectories=4",
    "--config.policy.hidden_sizes=(8,)",
    "--config.haepo.num_epochs=2",
    "--config.num_updates=400",
    "--members_per_device=3",
)
"""Twelve members: one wave on four devices."""


def devices(count):
    return f"--xla_force_host_platform_device_count={count}"


def start(workdir, *arguments, processes, devices_each):
    """The processes of a sweep, started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"] if processes > 1 else []
    return [
        Command(
            "experiments.sweep",
            *arguments,
            f"--workdir={workdir}",
            *together,
            *([f"--process_id={process}"] if together else []),
            xla_flags=devices(devices_each),
        )
        for process in range(processes)
    ]


def run(workdir, *arguments, processes=1, devices_each=4, seconds=240):
    """Runs a sweep to its end; what each process left."""
    return [
        command.wait(seconds) for command in start(workdir, *arguments, processes=processes, devices_each=devices_each)
    ]
