"""Batches that are counted in steps, in a population: bits do not depend on devices, chunks or who waits for whom."""

import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config
from helpers.updates import assert_identical

from haepo_jax.population import make_population

CONFIG = {
    "env": "CartPole-v1",
    "num_updates": 3,
    "num_trajectories": 4,
    "horizon": 40,
    "min_batch_steps": 150,
    "policy": {"hidden_sizes": (8,)},
    "max_env_steps": 400,
}


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["remat", "recompute"])
def test_members_have_the_same_bits_on_two_devices_as_on_four_and_over_a_resume(memory):
    config = fixed_config(CONFIG | {"memory": memory})
    two, four = (make_population(config, devices=some_devices(k), members_per_device=2) for k in (2, 4))
    seeds = range(8)
    by_waves, at_once = two.run([{}], seeds), four.run([{}], seeds)
    assert_identical(dict(by_waves), dict(at_once))
    assert_identical(by_waves.params, at_once.params)
    whole, _ = two.advance(two.init(), np.int32(3))
    part, _ = two.advance(two.init(), np.int32(1))
    resumed, _ = two.advance(two.from_host(two.to_host(part)), np.int32(2))
    assert_identical(two.to_host(whole), two.to_host(resumed))
    # A budget ends a member after the update that reaches it, and later updates count nothing.
    steps = np.asarray(at_once["env_steps"])[0]
    assert (steps.sum(axis=1) >= 400).all()
    assert (steps[:, 0] < 400).all()
