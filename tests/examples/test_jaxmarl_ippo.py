"""JaxMARL needs an environment of its own; what is tested here is what stands for the return of a seed."""

import runpy
from pathlib import Path

import numpy as np
import pytest

ADAPTER = Path(__file__).parents[2] / "examples" / "peers" / "jaxmarl_ippo.py"


@pytest.fixture(scope="module")
def final_returns():
    return runpy.run_path(str(ADAPTER))["final_returns"]


def test_a_seeds_return_is_the_mean_over_the_last_tenth_of_its_updates(final_returns):
    logged = np.stack([np.arange(20.0), -np.arange(20.0)])
    assert final_returns(logged, 1) == [18.5, -18.5]


def test_returns_that_are_logged_times_the_agents_are_divided_by_them(final_returns):
    logged = np.full((1, 10, 4, 6), 9.0)  # each step of each agent
    assert final_returns(logged, 3) == [3.0]


def test_of_few_updates_the_last_one_counts(final_returns):
    assert final_returns(np.array([[1.0, 2.0, 5.0]]), 1) == [5.0]
