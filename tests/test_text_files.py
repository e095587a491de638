"""Text is read and written in UTF-8, whatever the encoding of the user's locale is."""

import ast
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("haepo_jax", "experiments") for path in (ROOT / folder).rglob("*.py"))
TAKES = {name: list(inspect.signature(getattr(Path, name)).parameters)[1:] for name in ("read_text", "write_text")}


def find_unsaid(text):
    """Lists the lines that read or write text without saying in which encoding."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in TAKES
        if len(call.args) <= TAKES[call.func.attr].index("encoding")
        if all(keyword.arg != "encoding" for keyword in call.keywords)
    ]


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    assert len(SOURCES) > 300
    found = {str(path.relative_to(ROOT)): find_unsaid(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("path.write_text(text)", False),
        ("write(lambda path: path.write_text(text))", False),
        ("path.write_text(text, 'utf-8')", True),
        ("path.write_text(text, encoding='utf-8')", True),
        ("path.read_text()", False),
        ("path.read_text('utf-8')", True),
    ],
)
def test_a_line_that_does_not_say_its_encoding_is_found(line, says):
    assert find_unsaid(line) == ([] if says else [1])
