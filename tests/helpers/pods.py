"""Sweeps as of a pod, on this machine: several processes on loopback, each with virtual devices."""

import contextlib
import random
import socket

from helpers.command_runner import Command

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


def free_port():
    """A port below those that systems give to connections, one of which could take it before it is used."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return port


def start(workdir, *arguments, processes, devices_each, of_the_last=()):
    """The processes of a sweep, started; `of_the_last` are more arguments of the last one."""
    together = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"] if processes > 1 else []
    counts = devices_each if isinstance(devices_each, tuple) else (devices_each,) * processes
    return [
        Command(
            "experiments.sweep",
            *_replaced(
                [*arguments, f"--workdir={workdir}", *together, *([f"--process_id={process}"] if together else [])],
                of_the_last if process == processes - 1 else (),
            ),
            xla_flags=devices(count),
        )
        for process, count in enumerate(counts)
    ]


def run(workdir, *arguments, processes=1, devices_each=4, of_the_last=(), seconds=240):
    """Runs a sweep to its end; what each process left."""
    started = start(workdir, *arguments, processes=processes, devices_each=devices_each, of_the_last=of_the_last)
    return [command.wait(seconds) for command in started]


def _replaced(arguments, others):
    """The arguments with these in the place of those of the same name."""
    names = {argument.partition("=")[0] for argument in others}
    return [*(argument for argument in arguments if argument.partition("=")[0] not in names), *others]
