import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_training_loop.py"


def test_the_policy_learns_to_sample_sequences_of_almost_the_largest_return():
    assert runpy.run_path(str(EXAMPLE))["main"]() > 11.5
