"""The helpers of tests by which they run on fewer devices, and on devices whose products have fewer bits."""

import jax
import numpy as np
import pytest
from helpers import tolerances
from helpers.devices import some_devices
from helpers.tolerances import approx, assert_allclose, assert_close, assert_same_products, of_products


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


def test_numbers_of_products_may_differ_by_what_the_backend_loses_of_the_largest(monkeypatch):
    found, off = np.float32([100.0, 1.0]), np.float32([100.1, 1.1])
    for compare in (assert_allclose, assert_close, assert_same_products):
        monkeypatch.delitem(tolerances._BITS, jax.default_backend(), raising=False)
        compare(found, found)
        with pytest.raises(AssertionError):
            compare(found, off)
        monkeypatch.setitem(tolerances._BITS, jax.default_backend(), 10)
        compare(found, off)  # both are off by a thousandth of the largest
        with pytest.raises(AssertionError):
            compare(found, found + np.float32(0.5))
        compare(np.float32([np.inf, 1.0]), np.float32([np.inf, 1.0]))


def test_one_number_of_products_may_differ_by_what_the_backend_loses_of_it(monkeypatch):
    monkeypatch.setitem(tolerances._BITS, jax.default_backend(), 10)
    assert approx(0.01) == 0.010019 and approx(0.01) != 0.0101
    assert approx(0.0, abs=1e-5) == 1e-3 and approx(0.0, abs=1e-5) != 1e-2


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="bits are those of CPUs")
def test_programs_with_the_same_products_have_the_same_bits_on_cpus():
    one = np.float32(1.0)
    with pytest.raises(AssertionError):
        assert_same_products({"a": one}, {"a": np.nextafter(one, np.float32(2))})
