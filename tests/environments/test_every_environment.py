"""Every environment trains with every method, by the command, over two devices and more."""

import pytest
from command_runner import run

from haepo_jax.algorithms import MAKERS
from haepo_jax.environments import environment_names

DOWNLOADS = {"MNISTBandit-bsuite"}


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(MAKERS))
@pytest.mark.parametrize("name", environment_names())
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
