"""What holds for each file of examples/, also for one that is added."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_says_how_to_run_it(example):
    said = ast.get_docstring(ast.parse((ROOT / example).read_text()))
    assert f"python {example}" in said or f"--config={example}" in said


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_run_by_a_test(example):
    others = [path for path in TESTS.glob("test_*.py") if path != Path(__file__)]
    assert any(f'"{Path(example).name}"' in path.read_text() for path in others)
