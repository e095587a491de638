"""Rows of the study of memory that nobody measured."""

from haepo_jax.language.training.memory import BASE, list_cases

MIB = 2**20


def row(case, device="cpu", haepo=1.0):
    """Naive temporaries grow with M, two passes do not; HAEPO's may be another than the other methods'."""
    size = {"naive": 100.0, "remat": 40.0, "chunked": 20.0, "two_pass": 160.0}[case.way]
    size *= 1 if case.way == "two_pass" else case.num_responses
    temporaries = int(size * (haepo if case.method == "haepo" else 1.0) * MIB)
    parts = {"arguments": 0, "outputs": 0, "temporaries": temporaries, "aliased": 0, "total": temporaries}
    return {**case._asdict(), **parts, "jax": "1", "device": device}


def rows(haepo=1.0, shapes=tuple(BASE)):
    return [row(case, haepo=haepo) for shape in shapes for case in list_cases(shape)]
