"""The study of memory, from rows that nobody measured."""

import pytest
from helpers.made_up_memory import row, rows

from experiments.studies.tldr import memory
from haepo_jax.language.training.memory import list_cases, list_method_cases
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Report


def test_the_findings_are_computed_from_the_rows():
    findings = memory.section(rows(shapes=("40M",))).findings
    assert findings[0].startswith("40M: two passes need 160 MiB of temporaries for M = 64 and 160 for M = 8, 1.000")
    assert "their temporaries are 5.0% of naive GRPO's" in findings[1]
    assert "between 3,200 and 3,200 MiB with every method: the losses differ by 0.00%" in findings[2]
    assert findings[3] == "40M: two passes need less than the best way in one pass from M = 16 up."


@pytest.mark.parametrize(
    ("haepo", "verdict"),
    [
        *((0.995, "no difference shown"), (0.75, "contradicted"), (0.736, "reproduced")),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1.0, "no difference shown"), (1.2, "contradicted"), (0.7, "reproduced"))
        ),
    ],
)
def test_the_claim_of_the_paper_is_decided_by_the_totals(haepo, verdict):
    (claim,) = memory.section(rows(haepo)).claims
    assert claim.verdict == verdict
    share = f"{abs(1 - haepo):.2%} {'less' if haepo <= 1 else 'more'}"
    assert f"40M {share} than GRPO and {share} than DPO" in claim.evidence


def test_every_device_has_rows_of_its_own():
    both = rows(shapes=("40M",)) + [row(case, "TPU v5 lite") for case in list_method_cases("40M")]
    table, every = memory.section(both).tables
    assert len(every.rows) == len(list(list_cases("40M")) + list(list_method_cases("40M"))) / 4
    assert [cells[:2] for cells in table.rows] == [
        (device, method) for device in ("cpu", "TPU v5 lite") for method in ("HAEPO", "GRPO", "RLOO", "DPO")
    ]
    assert table.rows[4][2] == "3,200"


def test_a_model_that_does_not_fit_is_reported():
    small = [row(case, "TPU v5 lite") for case in list_method_cases("40M")]
    small = [cells | {"total": None, "temporaries": None} if cells["way"] == "naive" else cells for cells in small]
    table, _ = memory.section(rows(shapes=("40M",)) + small).tables
    assert table.rows[4][2] == "does not fit" and table.rows[0][2] == "3,200"


def test_the_study_fits_a_page():
    page = render(Report("Memory", "All alike.", (memory.section(rows()),)))
    assert page.count("<figure>") == 2 and "26.4%" in page


def test_shapes_are_measured_here_first_and_then_for_the_topology(tmp_path, monkeypatch):
    asked = []

    def measure_all(workdir, every, device=None):
        asked.append((len(list(every)), device))
        return []

    monkeypatch.setattr(memory, "measure_all", measure_all)
    monkeypatch.setattr(memory, "describe_topology_device", lambda name: f"device of {name}")
    memory.measured(tmp_path, ("40M",), "v5e:2x2")
    assert asked == [(len(list(list_cases("40M"))), None), (16, "device of v5e:2x2")]
