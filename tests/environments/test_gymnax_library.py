"""gymnax comes without the libraries that draw its environments, until it draws."""

import subprocess
import sys

import pytest


def run(script):
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_nothing_for_drawing_is_imported():
    modules = run("import sys, haepo_jax.environments; print(*sys.modules)")
    assert "gymnax" in modules
    assert {"matplotlib.pyplot", "seaborn"}.isdisjoint(modules)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import matplotlib.pyplot, seaborn",
        pytest.param("import matplotlib.pyplot", marks=pytest.mark.slow),
    ],
    ids=["later", "first", "one first"],
)
def test_what_draws_finds_the_real_library(before):
    script = f"""
{before}
import haepo_jax.environments, gymnax.environments.misc.pong as pong
print(pong.sns.heatmap.__name__, pong.plt.subplots.__name__)
import matplotlib.pyplot, seaborn
print(pong.plt.subplots is matplotlib.pyplot.subplots, pong.sns.heatmap is seaborn.heatmap)
"""
    assert run(script) == ["heatmap", "subplots", "True", "True"]
