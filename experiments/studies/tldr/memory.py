"""Device memory of an update: what makes a difference, and what becomes of the paper's 26.4%."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.studies.drawing import draw
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison, decide, decide_all
from haepo_jax.language.training.memory import (
    BASE,
    PROMPT_LENGTH,
    WAYS,
    describe_topology_device,
    list_cases,
    list_method_cases,
    measure_all,
)
from haepo_jax.reports import figures
from haepo_jax.reports.figures import Series
from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Claim, Figure, Section, Table
from haepo_jax.runs.files import StrPath

CLAIMED = 0.264
_ALIKE = 0.01
"""Shares of memory that differ by less than this make no difference."""
_LABELS = {"naive": "naive", "remat": "remat", "chunked": "remat, chunked head", "two_pass": "two passes"}
_METHODS = {"haepo": "HAEPO", "grpo": "GRPO", "rloo": "RLOO", "dpo": "DPO"}

Row = dict[str, Any]


def measured(workdir: StrPath, shapes: Iterable[str], topology: str = "") -> list[Row]:
    """Loads the rows of `memory.json`, of which those of these shapes are measured first.

    Args:
      workdir: holds the file.
      shapes: of models.
      topology: a TPU topology to compile every method for as well, such as `v5e:2x2`.

    Raises:
      ConfigError: the topology cannot be compiled for.
      StorageError: the file could not be written any more.
    """
    shapes = tuple(shapes)
    rows = measure_all(workdir, [case for shape in shapes for case in list_cases(shape)])
    if topology:
        device = describe_topology_device(topology)
        rows = measure_all(workdir, [case for shape in shapes for case in list_method_cases(shape)], device)
    return rows


def section(rows: Sequence[Row]) -> Section:
    """Makes the section from the rows of `memory.json`."""
    shapes = [shape for shape in BASE if any(row["shape"] == shape for row in rows)]
    first = next(row["device"] for row in rows if row["way"] == "naive")
    here = [row for row in rows if row["device"] == first]
    return Section(
        slug="memory",
        title="Memory of an update",
        question="How much memory does an update need at the same weights, dtype, M, T and reference policy, by "
        "method and by the way that its gradient is computed?",
        findings=_findings(here, shapes),
        figures=tuple(figure for shape in shapes for figure in _figures(here, shape)),
        tables=tuple(table for shape in shapes for table in (_table(rows, shape), _every_case(rows, shape))),
        claims=(_claim(here, shapes),),
    )


def _value(rows: Sequence[Row], measure: str, **wanted: Any) -> float:
    """Bytes; infinite for what does not fit."""
    (row,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return math.inf if row[measure] is None else row[measure]


def _at_base(rows: Sequence[Row], measure: str, shape: str, **changes: Any) -> float:
    return _value(rows, measure, **{**BASE[shape]._asdict(), **changes})


def _findings(rows: Sequence[Row], shapes: Sequence[str]) -> tuple[str, ...]:
    findings = []
    for shape in shapes:
        base = BASE[shape]
        few, many = (_at_base(rows, "temporaries", shape, way="two_pass", num_responses=m) for m in (8, 64))
        two, naive = (
            _at_base(rows, "temporaries", shape, way=way, method=method)
            for way, method in (("two_pass", "haepo"), ("naive", "grpo"))
        )
        totals = [_at_base(rows, "total", shape, way="naive", method=method) for method in _METHODS]
        findings += [
            f"{shape}: two passes need {_mib(many)} MiB of temporaries for M = 64 and {_mib(few)} for M = 8, "
            f"{many / few:.3f} times as much.",
            f"{shape}, M = {base.num_responses}, T = {base.response_length}, V = {base.vocab_size:,}: their "
            f"temporaries are {two / naive:.1%} of naive GRPO's.",
            f"{shape}: with the same naive gradient the whole update needs between {_mib(min(totals))} and "
            f"{_mib(max(totals))} MiB with every method: the losses differ by "
            f"{(max(totals) - min(totals)) / max(totals):.2%}.",
        ]
        counts = (4, 8, 16, 32, 64)
        cheaper = [
            count
            for count in counts
            if _at_base(rows, "total", shape, way="two_pass", num_responses=count)
            < _at_base(rows, "total", shape, way="chunked", num_responses=count)
        ]
        findings.append(
            f"{shape}: two passes need less than the best way in one pass from M = {min(cheaper)} up."
            if cheaper
            else f"{shape}: two passes never need less than the best way in one pass, up to M = {max(counts)}."
        )
    return tuple(findings)


def _figures(rows: Sequence[Row], shape: str) -> list[Figure]:
    base, charts = BASE[shape], []
    for field, label in (
        ("num_responses", "responses M"),
        ("response_length", "response length T"),
        ("vocab_size", "vocabulary V"),
    ):
        fixed = {name: value for name, value in base._asdict().items() if name not in ("way", field)}
        varied = [row for row in rows if all(row[name] == value for name, value in fixed.items())]
        values = sorted({row[field] for row in varied})
        if len(values) > 1:
            charts.append((label, [_series(varied, way, field, values) for way in WAYS]))
    at = f"M = {base.num_responses}, T = {base.response_length}, V = {base.vocab_size:,}"
    return [
        draw(
            figures.panels,
            charts,
            x_label="",
            y_label="temporaries, MiB",
            x_log=True,
            y_log=True,
            share_y=True,
            alt=f"Memory of temporaries for the shape of {shape} parameters",
            caption=f"Temporaries of a HAEPO update of a model of {shape} parameters against "
            f"{', '.join(name for name, _ in charts)}, the others at {at}; prompts of {PROMPT_LENGTH} tokens, "
            "float32, by the compiler's account.",
        )
    ]


def _series(rows: Sequence[Row], way: str, field: str, values: Sequence[int]) -> Series:
    heights = [_value(rows, "temporaries", way=way, **{field: value}) / 2**20 for value in values]
    return Series(_LABELS[way], np.array(values, float), np.array(heights))


def _table(rows: Sequence[Row], shape: str) -> Table:
    base = BASE[shape]
    cells = []
    for device in dict.fromkeys(row["device"] for row in rows):
        there = [row for row in rows if row["device"] == device]
        for method, label in _METHODS.items():
            totals = [_at_base(there, "total", shape, way=way, method=method) for way in WAYS]
            cells.append((device, label, *map(_mib, totals)))
    return Table(
        caption=f"MiB of an update of the shape of {shape} parameters, M = {base.num_responses}, "
        f"T = {base.response_length}, V = {base.vocab_size:,}",
        columns=("device", "method", *(_LABELS[way] for way in WAYS)),
        rows=cells,
        note="Arguments + outputs + temporaries - aliased, for parameters, two moments of the optimiser, "
        "reference policy, batch and temporaries. Two passes go one response at a time. A row for a device that is "
        "not the CPU was compiled for it, not run on it.",
    )


def _every_case(rows: Sequence[Row], shape: str) -> Table:
    at = ("device", "method", "num_responses", "response_length", "vocab_size")
    there = [row for row in rows if row["shape"] == shape]
    cells = []
    for place in sorted({tuple(row[name] for name in at) for row in there}):
        wanted = dict(zip(at, place, strict=True))
        device, method, *sizes = place
        sized = [_value(there, measure, way=way, **wanted) for measure in ("total", "temporaries") for way in WAYS]
        cells.append((device, _METHODS[method], *(f"{size:,}" for size in sizes), *map(_mib, sized)))
    return Table(
        caption=f"MiB of every update of the shape of {shape} parameters",
        columns=(
            "device",
            "method",
            "M",
            "T",
            "V",
            *(f"{what}, {_LABELS[way]}" for what in ("all", "temporaries") for way in WAYS),
        ),
        rows=cells,
        folded=True,
    )


def _claim(rows: Sequence[Row], shapes: Sequence[str]) -> Claim:
    saved = {}
    for shape in shapes:
        ours, rivals = (
            [_at_base(rows, "total", shape, way="naive", method=method) for method in methods]
            for methods in (("haepo",), ("grpo", "dpo"))
        )
        saved[shape] = [1 - ours[0] / rival for rival in rivals]
    words = [decide(_comparison(saving)) for savings in saved.values() for saving in savings]
    numbers = "; ".join(
        f"{shape} {' and '.join(map(_difference, savings, ('GRPO', 'DPO')))}" for shape, savings in saved.items()
    )
    return Claim(
        text="HAEPO uses 26.4% less GPU memory on TL;DR.",
        source="abstract; key results",
        verdict=decide_all(words),
        evidence="Whole update at equal settings, gradient and reference, by the compiler's account, which is exact; "
        f"less than {_ALIKE:.0%} either way is no difference: {numbers}.",
    )


def _comparison(saving: float) -> Comparison:
    """A share of memory saved. To make a difference is not enough: the claim asks for as much as it says."""
    if abs(saving) < _ALIKE:
        return Comparison(Estimate(*map(np.asarray, (saving, saving - _ALIKE, saving + _ALIKE))), None)
    return Comparison(Estimate(*[np.asarray(saving)] * 3), None, tie=np.nextafter(CLAIMED, 0))


def _difference(saving: float, rival: str) -> str:
    if not math.isfinite(saving):
        return f"no figure beside {rival}, as one of them does not fit"
    return f"{abs(saving):.2%} {'less' if round(saving, 4) >= 0 else 'more'} than {rival}"


def sources() -> tuple[str, ...]:
    """Lists sources of a difference in memory between two codes, as the losses are none."""
    return (
        "At equal settings the losses alone make no difference: a method's loss reads log-probabilities of [M, T] "
        "numbers, and what fills memory are the states and logits behind them.",
        "A difference of a quarter can come from each of these: logits of prompt positions kept or not; a critic or a "
        "reward model held beside the policy; a reference policy held, offloaded or switched off as an adapter; "
        "remat; float32 or bfloat16 logits; pairs of responses in one batch (DPO) or groups of M; and two passes "
        "instead of one, which any of these methods can take.",
    )


def _mib(size: float) -> str:
    return "does not fit" if math.isinf(size) else format_number(size / 2**20, 4)
