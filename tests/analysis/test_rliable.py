"""Our statistics against rliable, the library of the paper that they come from."""

import json
import subprocess
import sys

import numpy as np
import pytest

from haepo_jax.analysis.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

THRESHOLDS = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
RESAMPLES = 20_000
REQUIREMENTS = ("rliable==1.2.0", "pandas<3")  # with pandas 3, rliable 1.2.0 fails on import

SCRIPT = """
import json, sys
import numpy as np
from rliable import library, metrics

np.random.seed(0)
inputs = np.load(sys.argv[1])
x, y, curves = (np.swapaxes(inputs[name], 0, 1) for name in ("x", "y", "curves"))  # rliable has runs first
iqm = lambda scores: np.array([metrics.aggregate_iqm(scores)])
iqm_of_points = lambda scores: np.array([metrics.aggregate_iqm(scores[..., p]) for p in range(scores.shape[-1])])
improvement = lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
results = {}
for name, scores, function, reps in (
    ("iqm_x", x, iqm, 20_000),
    ("iqm_y", y, iqm, 20_000),
    ("iqm_curves", curves, iqm_of_points, 5_000),
    ("improvement", [x, y], improvement, 5_000),
):
    values, intervals = library.get_interval_estimates({name: scores}, function, reps=reps)
    results[name] = [values[name].tolist(), *intervals[name].tolist()]
values, intervals = library.create_performance_profile({"profile": x}, inputs["thresholds"], reps=5_000)
results["profile"] = [values["profile"].tolist(), *intervals["profile"].tolist()]
print(json.dumps(results))
"""

# What SCRIPT printed under rliable 1.2.0 (Python 3.11, numpy 2.4.6, pandas 2.3.3, arch 7.2.0, scipy 1.17.1) for
# inputs(): of each quantity its value, then the low and the high ends of its 95% interval (to four decimals).
REFERENCE = {
    "iqm_x": [[0.9766666666666666], [0.7200], [1.2167]],
    "iqm_y": [[0.6565217391304348], [0.0826], [1.2304]],
    "iqm_curves": [
        [-0.0833333333333333, 0.47, 4.27, 9.226666666666667],
        [-0.3600, -0.1067, 3.5067, 8.1233],
        [0.1733, 0.9933, 5.0233, 10.4002],
    ],
    "improvement": [[0.57], [0.4494], [0.6894]],
    "profile": [
        [0.9666666666666667, 0.8166666666666667, 0.45, 0.15, 0.016666666666666666],
        [0.9167, 0.7167, 0.3333, 0.0667, 0.0],
        [1.0, 0.9167, 0.5667, 0.2500, 0.0500],
    ],
}


def inputs():
    """Three tasks, unequal numbers of runs, one decimal so that there are ties, from numpy's frozen generator."""
    random = np.random.RandomState(7)
    return {
        "x": random.normal(1.0, 1.0, size=(3, 20)).round(1),
        "y": random.normal(0.6, 2.0, size=(3, 15)).round(1),
        "curves": (random.normal(size=(3, 20, 4)) * [1, 2, 3, 4] + [0, 1, 4, 9]).round(1),
        "thresholds": THRESHOLDS,
    }


def ours():
    arrays = inputs()
    x, y, curves = arrays["x"], arrays["y"], arrays["curves"]

    def with_interval(scores):
        value = interquartile_mean(scores)
        return value, *stratified_bootstrap(scores, interquartile_mean, resamples=RESAMPLES)

    return {
        "iqm_x": with_interval(x),
        "iqm_y": with_interval(y),
        "iqm_curves": with_interval(curves),
        "improvement": probability_of_improvement(x, y, resamples=RESAMPLES),
        "profile": performance_profile(x, THRESHOLDS, resamples=RESAMPLES),
    }


def assert_agree(reference):
    """The same values, and intervals that differ by bootstrap noise: 6% of their width, or one run of a profile."""
    results = ours()
    assert results.keys() == reference.keys()
    for name, result in results.items():
        value, low, high = (np.atleast_1d(part) for part in result)
        np.testing.assert_allclose(value, reference[name][0], rtol=1e-12, atol=1e-15, err_msg=name)
        allowed = 1.01 / inputs()["x"].size if name == "profile" else 0.06 * (high - low)
        assert (np.abs(low - reference[name][1]) <= allowed).all(), name
        assert (np.abs(high - reference[name][2]) <= allowed).all(), name


def test_agrees_with_rliables_recorded_numbers():
    assert_agree(REFERENCE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_agrees_with_rliable_itself(tmp_path):
    """In an environment of its own, as rliable and this package do not want the same pandas."""
    python = tmp_path / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "20")
    try:
        _run(*pip, "download", "--no-deps", "--dest", tmp_path / "wheels", REQUIREMENTS[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"rliable cannot be fetched from the package index: {error.stderr.strip().splitlines()[-1]}")
    _run(*pip, "install", *REQUIREMENTS)
    np.savez(tmp_path / "inputs.npz", **inputs())
    assert_agree(json.loads(_run(python, "-c", SCRIPT, tmp_path / "inputs.npz")))


def _run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
