"""A record refuses what cannot be one, before anything is trained."""

import pytest

from haepo_jax.methods import (
    EpochsConfig,
    HaepoConfig,
    Method,
    NoSettings,
    Sees,
    SegmentConfig,
    gradient_steps,
    reference_rule,
)


@pytest.mark.parametrize("settings", [SegmentConfig, {"num_epochs": 2}, None])
def test_settings_that_are_no_instance_of_a_dataclass_are_refused(settings):
    with pytest.raises(TypeError, match="settings must be an instance of a frozen dataclass, such as MyConfig"):
        Method(lambda *_: None, Sees.SUMS, settings)


def test_segments_need_the_settings_of_segments():
    with pytest.raises(TypeError, match="must be a SegmentConfig, got EpochsConfig"):
        Method(lambda *_: None, Sees.SEGMENTS, EpochsConfig())


def test_steps_and_reference_follow_from_the_settings():
    assert [gradient_steps(s) for s in (NoSettings(), EpochsConfig(3), SegmentConfig(num_epochs=3))] == [1, 3, 12]
    assert [reference_rule(s) for s in (NoSettings(), HaepoConfig(), HaepoConfig(reference="ema"))] == [
        "none",
        "previous",
        "ema",
    ]
