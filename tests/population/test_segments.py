"""Segments that compete, in a population: bits do not depend on devices or on where a run was taken up again."""

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
    "horizon": 20,
    "policy": {"hidden_sizes": (8,)},
    "optimizer": {"learning_rate": 0.03},
}
SEGMENTS = {"segment_length": 3, "num_steps": 14, "num_minibatches": 2, "bootstrap": "value", "target_policy_kl": 1e-4}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["continuing", "episodes"])
def test_members_have_the_same_bits_on_two_devices_as_on_four_and_over_a_resume(source):
    config = fixed_config(CONFIG | {"haepo": SEGMENTS | {"segments_from": source}})
    two, four = (make_population(config, devices=some_devices(k), members_per_device=2) for k in (2, 4))
    by_waves, at_once = two.run([{}], range(8)), four.run([{}], range(8))
    assert_identical(dict(by_waves), dict(at_once))
    assert_identical(by_waves.params, at_once.params)
    whole, _ = two.advance(two.init(), np.int32(3))
    part, _ = two.advance(two.init(), np.int32(1))
    resumed, _ = two.advance(two.from_host(two.to_host(part)), np.int32(2))
    assert_identical(two.to_host(whole), two.to_host(resumed))
    assert (two.here(whole.learner.adaptation) > 0).all()
