"""Rejax itself needs an environment of its own; what is tested here is when a seed counts as being at 475."""

import runpy
from pathlib import Path

import numpy as np
import pytest

ADAPTER = Path(__file__).parents[2] / "examples" / "peers" / "rejax_ppo.py"


@pytest.fixture(scope="module")
def first_update_at():
    return runpy.run_path(str(ADAPTER))["first_update_at"]


def counted(*updates):
    """Sums and counts before the first update and after each, from the returns of the episodes that end in each."""
    totals = np.cumsum([0, *(sum(returns) for returns in updates)])
    return totals, np.cumsum([0, *(len(returns) for returns in updates)])


def test_an_update_with_enough_episodes_stands_for_itself(first_update_at):
    assert first_update_at(*counted([20] * 16, [474] * 16, [475] * 16, [500] * 16)) == 3


def test_fewer_episodes_are_put_together_with_those_before(first_update_at):
    assert first_update_at(*counted([20] * 30, *([[500]] * 15))) is None  # with an update of 30 that are low
    assert first_update_at(*counted([20] * 30, *([[500]] * 16))) == 17
    assert first_update_at(*counted([20] * 30, [500] * 8, [], [450] * 8)) == 4  # their mean is 475


def test_before_sixteen_have_ended_nothing_counts(first_update_at):
    assert first_update_at(*counted([500] * 15)) is None
    assert first_update_at(*counted([500] * 15, [500])) == 2
