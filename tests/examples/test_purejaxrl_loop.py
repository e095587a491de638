import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "purejaxrl_loop.py"


@pytest.mark.slow
def test_cartpole_is_learned():
    returns = runpy.run_path(str(EXAMPLE))["main"]()
    assert returns[:, 0].mean() < 40
    assert returns[:, -10:].mean() > 400


def test_what_stands_in_the_place_of_ppo_has_as_many_lines_as_it_says():
    lines = EXAMPLE.read_text().partition("# --- HAEPO from here")[2].partition("# --- to here")[0].splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 22
