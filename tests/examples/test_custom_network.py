import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_network.py"


def test_a_network_of_ones_own_trains_in_a_program():
    assert np.isfinite(runpy.run_path(str(EXAMPLE))["main"](2))


@pytest.mark.slow
def test_a_network_of_ones_own_learns_to_catch():
    assert runpy.run_path(str(EXAMPLE))["main"]() > 0.95
