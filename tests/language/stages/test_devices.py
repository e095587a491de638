"""Every stage with numbers of devices that no batch was made for, as machines of 12, 6 or 16 cores have."""

import json

import pytest
from helpers.command_runner import Command

SMALL = (
    *("--config.model.hidden_size=16", "--config.model.num_heads=2", "--config.model.num_kv_heads=1"),
    *("--config.model.intermediate_size=32", "--config.data.num_held_out=15", "--config.sft.num_steps=2"),
    *("--config.reward.num_steps=2", "--config.rl.num_updates=2", "--config.rl.evaluate_every=1"),
    *("--config.rl.min_reward_accuracy=0.0", "--config.rl.microbatch=8", "--config.rl.gradient=two_pass"),
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("devices", "used"), [(12, 8), (6, 4), (16, 16), (7, 4)])
def test_every_stage_works(devices, used, tmp_path):
    for stage in ("sft", "reward", "rl", "evaluate"):
        finished = Command(
            "experiments.tldr",
            "--config=configs/tldr_generated.py",
            f"--workdir={tmp_path}",
            f"--stage={stage}",
            *SMALL,
            xla_flags=f"--xla_force_host_platform_device_count={devices}",
        ).wait(600)
        assert finished.code == 0, finished.err
        batch = {"sft": 32, "reward": 32, "rl": 8, "evaluate": 64}[stage]
        count = min(used, 8) if stage == "rl" else used
        word = f"Uses {count} of {devices} devices, as more cannot share a batch of {batch} evenly."
        assert (word in finished.err) == (count < devices)
    names = ("sft", "haepo-log_ratio-seed0")
    evaluation = (tmp_path / "evaluation.json").read_text()
    assert finished.out.endswith(evaluation)  # behind what was waited for
    policies = json.loads(evaluation)["policies"]
    assert tuple(policies) == names
    assert all(-3 <= policies[name]["gold"] <= 5 for name in names)
