import itertools

import numpy as np
import pytest

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.reporting.words import interval, number, settings, verdict

INF = np.inf
PAIRS = list(itertools.product([True, False], repeat=2))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((0.0, "0"), (0.12345, "0.123"), (-0.5, "-0.5"), (12.3456, "12.3"), (475.0, "475"), (1000.0, "1,000")),
        *((123456.7, "123,457"), (-2500.4, "-2,500"), (INF, "∞"), (-INF, "-∞"), (3e-5, "3e-05")),
    ],
)
def test_numbers_are_short(value, told):
    assert number(value) == told
    assert number(np.float32(value)) == told


@pytest.mark.parametrize(("value", "told"), [(999.6, "1,000"), (-999.9, "-1,000")])
def test_numbers_that_round_to_a_thousand(value, told):
    assert number(value) == told


def test_more_digits_can_be_asked_for():
    assert number(0.123456, digits=5) == "0.12346"


def test_an_interval_follows_its_value():
    assert interval(Estimate(np.float64(0.5), np.float64(-0.25), np.array(1.0))) == "0.5 [-0.25, 1]"
    assert interval(Estimate(np.float64(3e4), np.float64(2e4), np.float64(INF))) == "30,000 [20,000, ∞]"


def test_settings_go_by_the_last_part_of_their_names():
    assert (
        settings({"optimizer.learning_rate": 3e-3, "haepo.entropy_coef": 0.0}) == "learning_rate 0.003, entropy_coef 0"
    )
    assert settings({}) == ""


@pytest.mark.parametrize("paper", PAIRS)
@pytest.mark.parametrize("recommended", PAIRS)
def test_the_rule_of_verdicts(paper, recommended):
    if paper == (True, True):
        expected = "reproduced"  # whatever the recommended one did: the claim is the paper's
    elif any(paper) or any(recommended):
        expected = "mixed"
    else:
        expected = "not reproduced"
    assert verdict(list(paper), list(recommended)) == expected
    assert verdict(paper, recommended) == verdict(paper[::-1], recommended[::-1]) == expected


def test_one_comparison_decides_alone():
    assert verdict([True], [False]) == "reproduced"
    assert verdict([False], [True]) == "mixed"
    assert verdict([False], [False]) == "not reproduced"
