import numpy as np
import pytest

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison
from haepo_jax.reports import figures
from haepo_jax.reports.forest import draw_claims
from haepo_jax.reports.page import Claim, ClaimsChapter, Section


def made(value, low, high, **options):
    return Comparison(Estimate(*map(np.asarray, (value, low, high))), 8, **options)


@pytest.fixture
def drawn(monkeypatch):
    """Draws claims, and returns the figure and what it was drawn from."""

    def draw(claims, chapter):
        calls = {}
        for kind in ("intervals", "grouped_intervals"):
            monkeypatch.setattr(
                figures, kind, lambda *data, kind=kind, **options: calls.update({kind: data}) or b"<svg/>"
            )
        return draw_claims([Section("s", "t", "q", claims=claims)], chapter), calls

    return draw


def test_a_claim_stands_at_its_distance_from_a_tie_in_half_widths_in_its_own_direction(drawn):
    claims = [
        Claim("ahead", "s", "reproduced", "e", comparisons=[made(6.0, 4.0, 8.0)]),
        Claim("fewer", "s", "reproduced", "e", comparisons=[made(-6.0, -8.0, -4.0, larger=False)]),
        Claim("ratio", "s", "contradicted", "e", comparisons=[made(np.e, 1.0, np.e**2, larger=False, tie=1.0)]),
        Claim("weakest", "s", "undecided", "e", comparisons=[made(6.0, 4.0, 8.0), made(0.0, -1.0, 1.0)]),
        Claim("far", "s", "reproduced", "e", comparisons=[made(500.0, 499.0, 501.0)]),
        Claim("exact", "s", "reproduced", "e", comparisons=[made(5.0, 5.0, 5.0)]),
        Claim("never", "s", "contradicted", "e", comparisons=[made(-np.inf, -np.inf, -np.inf)]),
        Claim("few", "s", "undecided", "e", comparisons=[made(1.0, 0.5, 1.5)._replace(seeds=2)]),
        Claim("left out", "s", "undecided", "e"),
    ]
    figure, calls = drawn(claims, ClaimsChapter(forms=None))
    (rows,) = calls["intervals"]
    assert rows[:4] == [("ahead", 3, 2, 4), ("fewer", 3, 2, 4), ("ratio", -1, -2, 0), ("weakest", 0, -1, 1)]
    assert [row[1:] for row in rows[4:6]] == [(np.inf,) * 3] * 2
    assert rows[6][1:] == (-np.inf,) * 3
    assert [row[0] for row in rows[7:]] == ["few"] and np.isnan(rows[7][1])
    assert figure.alt == "Of 8 claims with a comparison, 4 reproduced, 2 contradicted, 2 undecided."


def test_two_forms_stand_in_one_row(drawn):
    claim = Claim("c", "s", "reproduced", "e", "contradicted", [made(6.0, 4.0, 8.0)], [made(-6.0, -8.0, -4.0)])
    figure, calls = drawn([claim], ClaimsChapter(forms=("ours", "theirs")))
    names, forms, values, lows, highs = calls["grouped_intervals"]
    assert (names, forms) == (["c"], ("ours", "theirs"))
    assert (values.tolist(), lows.tolist(), highs.tolist()) == ([[3, -3]], [[2, -4]], [[4, -2]])
    assert figure.alt.endswith("1 reproduced, on ours.")


def test_without_an_interval_there_is_no_figure():
    few = Claim("c", "s", "undecided", "e", comparisons=[made(1.0, 0.5, 1.5)._replace(seeds=2)])
    for claim in (Claim("c", "s", "undecided", "e"), few):
        assert draw_claims([Section("s", "t", "q", claims=[claim])], ClaimsChapter()) is None
