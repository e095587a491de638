import itertools

import pytest

from experiments.benchmarks.clock import Times, measure_in_turn


def test_things_are_measured_in_rounds():
    order = []

    def measure(name, seconds):
        def one():
            order.append(name)
            return next(seconds)

        return one

    times = measure_in_turn(
        {"a": measure("a", itertools.count(1)), "b": measure("b", itertools.repeat(5.0))}, repeats=3
    )
    assert order == ["a", "b"] * 3
    assert times == {"a": Times((1, 2, 3)), "b": Times((5.0, 5.0, 5.0))}


def test_the_median_of_repeats_counts_and_the_spread_is_given():
    times = Times((1.0, 9.0, 2.0))
    assert times.median == 2.0
    assert times.least == 1.0
    assert times.spread == pytest.approx(4.0)
