import itertools

import numpy as np
import pytest

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    REPRODUCED,
    UNDECIDED,
    VERDICTS,
    Comparison,
    compare,
    compare_variances,
    decide,
    decide_all,
    disagree,
)

INF, NAN = np.inf, np.nan


def made(value, low, high, seeds=64, **options):
    return Comparison(Estimate(*map(np.float64, (value, low, high))), seeds, **options)


@pytest.mark.parametrize(
    ("comparison", "word"),
    [
        (made(2, 1, 3), REPRODUCED),
        (made(2, 1, 3, larger=False), CONTRADICTED),
        (made(-2, -3, -1), CONTRADICTED),
        (made(-2, -3, -1, larger=False), REPRODUCED),
        (made(467, 305, 657, tie=1.0, larger=False), CONTRADICTED),
        (made(-1.68, -9.04, 3.07), NO_DIFFERENCE),
        (made(0, 0, 0), NO_DIFFERENCE),
        (made(2, 0, 3), NO_DIFFERENCE),
        (made(1, 0.5, 2, tie=1.0), NO_DIFFERENCE),
    ],
)
def test_the_interval_decides(comparison, word):
    assert decide(comparison) == word


@pytest.mark.parametrize("ends", [(2, 1, 3), (-2, -3, -1), (0, -1, 1), (INF, INF, INF)])
@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_fewer_than_five_seeds_decide_nothing(ends, seeds):
    assert decide(made(*ends, seeds=seeds)) == UNDECIDED
    assert decide(made(*ends, seeds=5)) != UNDECIDED


def test_an_exact_comparison_needs_no_seeds():
    assert decide(made(2, 2, 2, seeds=None)) == REPRODUCED


@pytest.mark.parametrize("ends", [(NAN, NAN, NAN), (1, NAN, NAN), (0, -INF, INF), (INF, 0, INF), (-INF, -INF, 0)])
def test_an_infinite_interval_that_holds_the_tie_is_undecided(ends):
    assert decide(made(*ends)) == UNDECIDED


def test_always_against_never_is_decided():
    assert decide(made(-INF, -INF, -INF, larger=False)) == REPRODUCED
    assert decide(made(INF, 20, INF, larger=False)) == CONTRADICTED


def test_never_against_never_is_undecided_and_says_so():
    never = np.full((1, 64), INF)
    both = compare(never, never, larger=False, never="neither reaches 475")
    assert decide(both) == UNDECIDED and both.nothing == "neither reaches 475"
    assert decide(compare(np.full((1, 64), 3.0), never, larger=False)) == REPRODUCED
    assert compare(np.full((1, 64), 3.0), never).nothing == ""


def test_seeds_are_those_of_the_side_that_has_fewer():
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 1, (3, 4)), rng.normal(0, 1, (3, 64))
    for comparison in (compare(x, y), compare(y, x), compare_variances(x, y), compare_variances(y, x)):
        assert comparison.seeds == 4 and decide(comparison) == UNDECIDED
    assert decide(compare(np.repeat(x, 2, axis=1), y)) == REPRODUCED


def test_less_variance_is_a_ratio_below_one():
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, (1, 64)), rng.normal(0, 9, (1, 64))
    assert decide(compare_variances(small, large)) == REPRODUCED
    assert decide(compare_variances(large, small)) == CONTRADICTED
    assert decide(compare_variances(small, small[:, ::-1])) == NO_DIFFERENCE


@pytest.mark.parametrize("words", list(itertools.product(VERDICTS, repeat=2)), ids=" and ".join)
def test_a_claim_stands_for_all_of_its_comparisons(words):
    if CONTRADICTED in words:
        expected = CONTRADICTED
    elif set(words) == {REPRODUCED}:
        expected = REPRODUCED
    else:
        expected = UNDECIDED if UNDECIDED in words else NO_DIFFERENCE
    assert decide_all(words) == expected
    assert disagree(words) == (REPRODUCED in words and CONTRADICTED in words)


def test_without_comparisons_a_claim_is_undecided():
    assert decide_all([]) == UNDECIDED
