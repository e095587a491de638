"""The helpers of tests by which they run on fewer devices, and on devices whose products have fewer bits."""

import jax
import pytest
from helpers.devices import some_devices
from helpers.tolerances import of_products


@pytest.mark.parametrize(("there", "words"), [(1, "there is one"), (2, "there are 2")])
def test_a_test_that_needs_more_devices_than_there_are_is_skipped_with_a_word(monkeypatch, there, words):
    devices = jax.devices()[:1] * there
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert some_devices(there) == devices
    with pytest.raises(pytest.skip.Exception, match=f"needs 3 devices, and {words}"):
        some_devices(3)


@pytest.mark.parametrize(
    ("platform", "precision", "expected"),
    [
        ("cpu", None, 1e-6),
        ("gpu", None, 2.0**-9),  # four times 2^-11, half of TF32's last bit
        ("tpu", None, 2.0**-6),
        ("gpu", "float32", 1e-6),
        ("gpu", "highest", 1e-6),
    ],
)
def test_tolerances_follow_the_precision_of_products(platform, precision, expected):
    assert of_products(1e-6, platform=platform, precision=precision) == expected
    assert of_products(0.1, platform=platform, precision=precision) == 0.1


def test_a_tolerance_follows_the_flag_of_jax():
    with jax.default_matmul_precision("float32"):
        assert of_products(1e-6, platform="gpu") == 1e-6
