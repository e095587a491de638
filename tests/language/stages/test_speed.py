"""Rates and shares by hand."""

import types

import jax.numpy as jnp
import pytest

from haepo_jax.language.stages import speed
from haepo_jax.language.stages.speed import compute_utilisation, count_flops, find_peak, make_utilisation


def devices(kind, count=2):
    return [types.SimpleNamespace(device_kind=kind) for _ in range(count)]


def test_an_update_takes_eight_operations_a_parameter_and_token():
    assert count_flops("rl", 600, adapter=False) == 4800
    assert count_flops("rl", 600, adapter=True) == 3600
    assert count_flops("sft", 600, adapter=False) == 3600


def test_the_share_is_that_of_all_devices():
    # 8 x 0.6e9 operations at 50,000 tokens a second are 2.4e14, of two times 9.89e14.
    share = compute_utilisation(50_000, 4_800_000_000, devices("NVIDIA H100 80GB HBM3"), "bfloat16")
    assert share == pytest.approx(2.4e14 / (2 * 9.89e14))


def test_a_stage_counts_the_parameters_that_its_adapter_adapts(monkeypatch):
    monkeypatch.setattr(speed, "find_peak", lambda kind, dtype: 1e6)
    trained, base = {"a": jnp.zeros((3, 4))}, {"b": jnp.zeros(100)}
    assert make_utilisation("sft", None, trained, "bfloat16")(50.0) == pytest.approx(6 * 12 * 50 / 1e6)
    assert make_utilisation("rl", base, trained, "bfloat16")(50.0) == pytest.approx(6 * 100 * 50 / 1e6)


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H200", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("NVIDIA H100 80GB HBM3", "float32", None),
        ("cpu", "bfloat16", None),
    ],
)
def test_peaks_are_found_by_the_kind_of_a_device(kind, dtype, peak):
    assert find_peak(kind, dtype) == peak
    if peak is None:
        assert compute_utilisation(1.0, 1, devices(kind), dtype) is None
