import numpy as np
import pytest

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison
from haepo_jax.reports.formatting import (
    explain_brackets,
    format_comparison,
    format_interval,
    format_interval_cell,
    format_number,
    name_bands,
)

INF = np.inf


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (0.12345, "0.123"), (-0.5, "-0.5"), (12.3456, "12.3"), (475.0, "475"), (1000.0, "1,000")),
        *((123456.7, "123,457"), (-2500.4, "-2,500"), (3e-5, "3e-05")),
    ],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text
    assert format_number(np.float32(value)) == text


@pytest.mark.parametrize(("value", "text"), [(999.6, "1,000"), (-999.9, "-1,000")])
def test_numbers_that_round_to_a_thousand(value, text):
    assert format_number(value) == text


def test_more_digits_can_be_asked_for():
    assert format_number(0.123456, digits=5) == "0.12346"


def test_an_interval_follows_its_value():
    assert format_interval(Estimate(np.float64(0.5), np.float64(-0.25), np.array(1.0))) == "0.5 [-0.25, 1]"
    assert format_interval(Estimate(np.float64(3e4), np.float64(2e4), np.float64(INF))) == "30,000 [20,000, infinite]"


FEW = Estimate(np.float64(0.5), np.nan, np.nan)


def test_infinite_and_missing_numbers_are_written_in_words():
    assert [format_number(value) for value in (INF, -INF, np.nan)] == ["infinite", "-infinite", "no value"]
    assert format_interval(Estimate(*map(np.float64, (INF, 3e4, INF))), infinite="never") == "never [30,000, never]"
    assert format_interval(Estimate(*map(np.float64, (INF, INF, INF))), infinite="never") == "never"


def test_too_few_seeds_have_a_value_and_no_brackets():
    assert format_interval(FEW) == "0.5 (too few seeds for an interval)" and format_interval_cell(FEW) == "0.5"
    assert explain_brackets(4) == "No intervals: 4 seeds are too few for them." and explain_brackets(5).startswith(
        "Brackets: 95%"
    )
    assert name_bands(2) == "without 95% bootstrap bands, as 2 seeds are too few for them"
    assert name_bands(5) == "with 95% bootstrap bands"


def test_a_comparison_has_its_interval_or_the_reason_why_it_has_none():
    whole = Estimate(*map(np.float64, (0.5, 0.25, 1.0)))
    assert format_comparison(Comparison(whole, 5)) == format_comparison(Comparison(whole, None)) == "0.5 [0.25, 1]"
    assert format_comparison(Comparison(whole, 2)) == "0.5 (too few seeds for an interval)"
    assert format_comparison(Comparison(whole, 64, nothing="neither reaches 475")) == "neither reaches 475"
