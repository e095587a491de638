"""Rotary positions: angles and turns, by hand and against complex numbers in float64."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numpy_decoder import ARCHITECTURES, NEWER, turned, wave_lengths

from haepo_jax.language.model.architecture import RopeScaling
from haepo_jax.language.model.rotary import compute_rotary_angles, get_attention_factor, rotate

PLAIN = dataclasses.replace(ARCHITECTURES["qwen2"], rope_theta=100.0)  # heads of 4: frequencies 1 and 1/10


def test_angles_by_hand():
    angles = compute_rotary_angles(PLAIN, jnp.array([[0, 1, 30]]))
    np.testing.assert_allclose(angles, [[[0, 0], [1, 0.1], [30, 3]]], rtol=1e-6)
    assert angles.dtype == jnp.float32


def test_theta_is_the_configured_one():
    for theta in (10_000.0, 500_000.0, 1e6):
        arch = dataclasses.replace(PLAIN, rope_theta=theta)
        np.testing.assert_allclose(
            compute_rotary_angles(arch, jnp.array([[7]]))[0, 0], [7, 7 / np.sqrt(theta)], rtol=1e-6
        )


def test_a_quarter_turn_by_hand():
    # Dimension i is paired with i + 2, not with its neighbour: (1, 2, 3, 4) holds the pairs (1, 3) and (2, 4).
    angles = jnp.array([[[np.pi / 2, 0.0]]])
    got = rotate(jnp.array([[[[1.0, 2.0, 3.0, 4.0]]]]), angles)
    np.testing.assert_allclose(got[0, 0, 0], [-3, 2, 1, 4], atol=1e-6)


def test_linear_scaling_by_hand():
    arch = ARCHITECTURES["llama_biased"]  # factor 4, heads of 4, theta 5e5
    np.testing.assert_allclose(compute_rotary_angles(arch, jnp.array([[8]]))[0, 0], [2, 2 / np.sqrt(5e5)], rtol=1e-6)


def test_llama3_scaling_by_hand():
    # Frequencies 1000 ** -(0, 1/4, 1/2, 3/4); a context of 64 tokens holds 10.2, 1.8, 0.32 and 0.06 of their turns.
    # At or above 4 turns a frequency stays, at or below 1 it is divided by 8, and 1.8 is (1.8 - 1) / 3 of the way.
    frequencies = 1000.0 ** -np.array([0, 0.25, 0.5, 0.75])
    way = (64 * frequencies[1] / (2 * np.pi) - 1) / 3
    expected = frequencies * [1, way + (1 - way) / 8, 1 / 8, 1 / 8]
    assert 0.2 < way < 0.3
    np.testing.assert_allclose(
        compute_rotary_angles(ARCHITECTURES["llama"], jnp.array([[1]]))[0, 0], expected, rtol=1e-6
    )


def test_yarn_scaling_by_hand():
    # Heads of 8, theta 1e4, a context of 64 tokens, which holds 10.2, 1.02, 0.10 and 0.01 turns of the frequencies
    # 1, 1/10, 1/100 and 1/1000. The ramp from 32 turns to 1 begins at dimension -0.5 and ends at 1.01: cut to whole
    # dimensions at 0 and 2, so that the second of the four is half way.
    scaling = RopeScaling("yarn", 4.0, 1.0, 32.0, 64, attention_factor=1.5)
    arch = dataclasses.replace(PLAIN, head_dim=8, rope_theta=1e4, rope_scaling=scaling)
    expected = [1, (0.1 + 0.025) / 2, 0.01 / 4, 0.001 / 4]
    np.testing.assert_allclose(compute_rotary_angles(arch, jnp.array([[1]]))[0, 0], expected, rtol=1e-6)
    assert get_attention_factor(arch.layer_kinds[0]) == 1.5
    whole = dataclasses.replace(arch, rope_scaling=dataclasses.replace(scaling, truncate=False))
    angles = compute_rotary_angles(whole, jnp.array([[1]]))[0, 0]
    kept = 1 - 1 / (4 * np.log(64 / (2 * np.pi)) / np.log(1e4))
    np.testing.assert_allclose(angles[1], 0.1 * kept + 0.025 * (1 - kept), rtol=1e-5)


def test_each_kind_of_layer_has_its_angles():
    local, whole = NEWER["gemma3_text"].layer_kinds
    at = jnp.array([[8]])
    np.testing.assert_allclose(compute_rotary_angles(NEWER["gemma3_text"], at, local)[0, 0, 1], 8 * 30 ** (-1 / 3))
    np.testing.assert_allclose(
        compute_rotary_angles(NEWER["gemma3_text"], at, whole)[0, 0, 1], 1000 ** (-1 / 3), rtol=1e-6
    )
    _, without = NEWER["smollm3"].layer_kinds
    assert not compute_rotary_angles(NEWER["smollm3"], at, without).any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_turns_match_complex_numbers(name):
    arch = ARCHITECTURES[name]
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(2, 5, 3, arch.head_dim))
    positions = rng.integers(0, 60, size=(2, 5))
    got = rotate(jnp.asarray(heads, jnp.float32), compute_rotary_angles(arch, jnp.asarray(positions)))
    for batch, step, head in np.ndindex(2, 5, 3):
        expected = turned(arch, heads[batch, step, head], positions[batch, step])
        np.testing.assert_allclose(got[batch, step, head], expected, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(heads, axis=-1), rtol=1e-5)


def test_dimensions_that_are_not_rotated_stay():
    arch = ARCHITECTURES["gpt_neox"]
    heads = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 1, 4)), jnp.float32)
    got = rotate(heads, compute_rotary_angles(arch, jnp.array([[5]])))
    np.testing.assert_array_equal(got[..., 2:], heads[..., 2:])
    assert len(wave_lengths(arch)) == 1


def test_keeps_the_dtype():
    heads = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
    assert rotate(heads, compute_rotary_angles(PLAIN, jnp.array([[5]]))).dtype == jnp.bfloat16
