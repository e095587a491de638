"""JaxMARL needs an environment of its own; what is tested here is what stands for the return of a seed."""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ADAPTER = Path(__file__).parents[2] / "examples" / "peers" / "jaxmarl_ippo.py"


@pytest.fixture(scope="module")
def final_return():
    return runpy.run_path(str(ADAPTER))["final_return"]


def test_a_seeds_return_is_the_mean_over_the_last_tenth_of_its_updates(final_return):
    assert final_return(np.arange(20.0), 1) == 18.5


def test_returns_that_are_logged_times_the_agents_are_divided_by_them(final_return):
    assert final_return(np.full((10, 4, 6), 9.0), 3) == 3.0  # each step of each agent


def test_of_few_updates_the_last_one_counts(final_return):
    assert final_return(np.array([1.0, 2.0, 5.0]), 1) == 5.0


def test_what_is_printed_is_the_result_alone(capfd, monkeypatch):
    main = runpy.run_path(str(ADAPTER))["main"]
    result = {"code": "JaxMARL's IPPO", "env": "switch_riddle", "env_steps": 1, "returns": [0.5]}

    def train(checkout, benchmark, seeds, env_steps):
        # As importing JaxMARL undoes a change of it.
        monkeypatch.setattr(sys, "stdout", os.fdopen(1, "w", buffering=1, closefd=False))
        print("Importing submoduled environments...")
        return result | {"env_steps": env_steps, "returns": [0.5] * seeds}

    monkeypatch.setitem(main.__globals__, "train", train)
    monkeypatch.setattr(sys, "argv", ["jaxmarl_ippo.py", "JaxMARL", "switch_riddle", "--seeds=2", "--env_steps=7"])
    main()
    printed = capfd.readouterr()
    assert json.loads(printed.out) == result | {"env_steps": 7, "returns": [0.5, 0.5]}
    assert printed.err == "Importing submoduled environments...\n"
