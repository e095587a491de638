import numpy as np

from experiments.studies.claims import count_verdicts, judge
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison
from haepo_jax.reports.page import Section

UP, DOWN, LEVEL = ((2.0, 1.0, 3.0), (-2.0, -3.0, -1.0), (0.0, -1.0, 1.0))


def judged(forms, *, quick=False, seeds=64):
    made = {
        form: {label: Comparison(Estimate(*map(np.float64, ends)), seeds) for label, ends in by.items()}
        for form, by in forms.items()
    }
    first, *_, last = forms
    return judge("It is more.", "abstract", "Difference", made, paper=first, recommended=last, quick=quick)


def test_the_verdict_is_on_the_papers_form_and_the_other_stands_beside_it():
    (claim,) = judged({"sum": {"A": UP, "B": LEVEL}, "mean": {"A": DOWN, "B": DOWN}, "log_ratio": {"A": UP, "B": UP}})
    assert (claim.verdict, claim.recommended) == ("no difference shown", "reproduced")
    assert claim.evidence == (
        "Difference: sum, A: 2 [1, 3] (reproduced); sum, B: 0 [-1, 1] (no difference shown); "
        "mean, A: -2 [-3, -1] (contradicted); mean, B: -2 [-3, -1] (contradicted); "
        "log_ratio, A: 2 [1, 3] (reproduced); log_ratio, B: 2 [1, 3] (reproduced)."
    )


def test_comparisons_that_disagree_are_claims_of_their_own():
    claims = judged({"sum": {"A": UP, "B": DOWN}, "log_ratio": {"A": UP, "B": UP}})
    assert [(claim.text, claim.verdict, claim.recommended) for claim in claims] == [
        ("It is more (A).", "reproduced", "reproduced"),
        ("It is more (B).", "contradicted", "reproduced"),
    ]
    assert "sum, B" not in claims[0].evidence
    assert len(judged({"sum": {"A": DOWN, "B": DOWN}, "log_ratio": {"A": UP, "B": DOWN}})) == 2
    assert len(judged({"sum": {"A": DOWN, "B": LEVEL}, "log_ratio": {"A": UP, "B": LEVEL}})) == 1


def test_a_quick_run_and_few_seeds_decide_nothing():
    for options in ({"quick": True}, {"seeds": 2}):
        (claim,) = judged({"sum": {"A": UP, "B": DOWN}, "log_ratio": {"A": UP, "B": UP}}, **options)
        assert claim.verdict == claim.recommended == "undecided"
        assert "reproduced" not in claim.evidence and "contradicted" not in claim.evidence
    assert "[" not in judged({"sum": {"A": UP}, "log_ratio": {"A": UP}}, seeds=2)[0].evidence


def test_the_words_of_all_claims_are_counted():
    claims = judged({"sum": {"A": UP, "B": DOWN}, "log_ratio": {"A": UP, "B": UP}})
    assert count_verdicts([Section("a", "t", "q", claims=claims), Section("b", "t", "q")], "the form it has") == (
        "Of 2 claims, on the form it has: 1 reproduced, 1 contradicted, 0 no difference shown, "
        "0 undecided; on the form recommended here: 2 reproduced, 0 contradicted, 0 no difference shown, 0 undecided."
    )
