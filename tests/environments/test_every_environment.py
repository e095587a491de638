"""Every environment trains with every method, by the command, over two devices and more."""

import pytest
from helpers.command_runner import run

from haepo_jax.environments import environment_names
from haepo_jax.methods import METHODS

DOWNLOADS = {"MNISTBandit-bsuite"}
QUICK = {("SpaceInvaders-MinAtar", "haepo")}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=() if (name, method) in QUICK else pytest.mark.slow)
        for name in environment_names()
        for method in sorted(METHODS)
    ],
)
def test_two_updates_are_trained(name, method, tmp_path):
    finished = run(
        "experiments.train",
        "--config=configs/cartpole.py",
        f"--config.env={name}",
        f"--config.algorithm={method}",
        *("--config.num_seeds=2", "--config.num_updates=2", "--config.num_trajectories=4", "--config.horizon=20"),
        "--config.policy.hidden_sizes=(8,)",
        *(["--config.ppo.num_steps=20"] if method == "ppo" else []),
        f"--workdir={tmp_path / 'run'}",
    )
    if name in DOWNLOADS and finished.code != 0:
        assert finished.code == 2 and finished.err.count("\n") == 1
        assert f"env {name} downloads its data, which failed" in finished.err
    else:
        assert finished.code == 0, finished.err
        assert (tmp_path / "run" / "summary.json").exists()
