"""Random play is worth what it is known to be worth."""

import pytest

from experiments.studies.agents.tasks import make_signals_task
from experiments.studies.suite.random_play import measure
from experiments.studies.suite.tasks import DISCOUNTING_CHAIN, REPORTED


def find(name):
    return next(task for task in REPORTED if task.name == name)


KNOWN = {
    "discounting_chain": (1.02, 0.01),  # one arm in five has 1.1, the others 1
    "bernoulli_bandit": (50.0, 2.0),  # 100 pulls of one of 0.9 and 0.1
    "walk": (0.048, 0.03),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "discounting_chain" else pytest.mark.slow) for name in KNOWN]
)
def test_random_play_of_a_known_task(name):
    value, tolerance = KNOWN[name]
    assert measure(find(name), 1024) == pytest.approx(value, abs=tolerance)


def test_random_play_of_real_valued_actions_covers_their_range():
    # Each step costs a tenth of the squared force, evenly spread over [-1, 1], and hardly any episode gets to the top.
    assert measure(find("mountain_car_continuous"), 64) == pytest.approx(-0.1 * 999 / 3, abs=3.0)


def test_random_play_of_many_agents_is_the_mean_over_them():
    assert measure(make_signals_task(5), 256) == pytest.approx(8 / 3, abs=0.2)  # one of three choices is right


@pytest.mark.slow
def test_the_same_episodes_are_played_each_time():
    assert measure(DISCOUNTING_CHAIN, 16) == measure(DISCOUNTING_CHAIN, 16)
