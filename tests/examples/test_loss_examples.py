"""Examples that take the losses alone: accumulated gradients and meta-gradients."""

import runpy
from pathlib import Path

import jax
import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_main(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]()


def test_a_gradient_in_pieces_is_the_gradient_at_once():
    at_once, in_pieces = run_main("gradient_accumulation.py")
    assert np.abs(at_once).max() > 1e-3
    np.testing.assert_allclose(in_pieces, at_once, rtol=1e-4, atol=1e-7)


def test_the_meta_gradient_is_exact_and_finds_a_better_coefficient():
    exact, differences, rewards = run_main("meta_gradients.py")
    assert abs(exact) > 1e-3
    np.testing.assert_allclose(exact, differences, rtol=1e-7)
    assert rewards[-1] > rewards[0]
    assert not jax.config.jax_enable_x64
