"""The documentation site: what it is made of, and that `make docs` builds it without a warning."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.run_folders import TINY

from haepo_jax.config import from_config_dict
from haepo_jax.runs.experiment import run
from haepo_jax.runs.metrics.parts import open_dataset

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text()
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
NOTEBOOKS = sorted(DOCS.glob("tutorials/*.ipynb"))
GLOSSARY = (DOCS / "glossary.md").read_text().partition("## The columns of the metrics")[2]


def named_pages():
    """What the contents of the site name."""
    return {
        line.strip().rpartition("<")[2].rstrip(">")
        for block in re.findall(r"```{toctree}\n(.*?)```", INDEX, re.DOTALL)
        for line in block.splitlines()
        if line.strip() and not line.startswith(":")
    }


def test_the_contents_of_the_site_name_every_page_once():
    expected = {
        *PAGES,
        *(path.relative_to(DOCS).with_suffix("").as_posix() for path in [*DOCS.glob("*.rst"), *NOTEBOOKS]),
        *(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("reference/*.rst")),
        *(f"../{name}" for name in ("README", "BUILD_NOTES", "CONTRIBUTING", "CHANGELOG", "tests/README")),
    }
    assert named_pages() == expected


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_python_and_asserts_what_it_shows(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    compile(code, notebook.name, "exec")
    assert "\nassert " in code


def rows_of_glossary():
    return [
        [cell.strip() for cell in line[1:-1].split("|")] for line in GLOSSARY.splitlines() if line.startswith("| `")
    ]


def test_every_column_of_the_glossary_says_its_unit():
    assert len(rows_of_glossary()) > 40
    short = [row[0] for row in rows_of_glossary() if len(row) not in (5, 6) or not row[-3]]
    assert short == []


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["haepo", "ppo", "grpo", "dpo"])
def test_every_column_of_a_runs_metrics_file_is_in_the_glossary(algorithm, tmp_path):
    changes = {"algorithm": algorithm, "evaluate_every": 3}
    run(from_config_dict(TINY | changes), tmp_path)
    explained = {name for row in rows_of_glossary() for name in re.findall(r"`(\w+)`", row[0])}
    assert set(open_dataset(tmp_path).schema.names) - {"regret", "optimal"} - explained == set()


@pytest.fixture(scope="module")
def site():
    finished = subprocess.run(
        ["make", "docs", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return ROOT / "build" / "site"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first time installs
def test_make_docs_builds_a_page_of_every_document(site):
    documents = [
        *ROOT.glob("*.md"),
        *DOCS.glob("**/*.md"),
        *DOCS.glob("*.rst"),
        *DOCS.glob("reference/*.rst"),
        *NOTEBOOKS,
    ]
    missing = [path for path in documents if not (site / path.relative_to(ROOT)).with_suffix(".html").exists()]
    assert missing == []
    assert (site / "index.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_public_name_without_a_docstring_is_named(site):
    code = (
        "from public_names import find_missing_docstrings\n"
        "class A:\n    def b(self): ...\n    def c(self):\n        'Does it.'\n    def _d(self): ...\n"
        "print(*find_missing_docstrings(A, 'm.A'))"
    )
    extensions = DOCS / "site" / "extensions"
    finished = subprocess.run(
        [ROOT / ".venv-docs" / "bin" / "python", "-c", code],
        cwd=extensions,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.split() == ["m.A", "m.A.b"], finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_site_loads_nothing_from_elsewhere(site):
    loaded = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']https?:|<link[^>]*\shref=["']https?:""")
    assert [path.name for path in site.rglob("*.html") if loaded.search(path.read_text())] == []
    styles = re.compile(r"""(?:url\(|@import )["']?https?:""")
    assert [path.name for path in site.rglob("*.css") if styles.search(path.read_text())] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_maths_is_rendered_as_the_site_is_built(site):
    for page in ("docs/method.html", "docs/reference/losses.html"):
        text = (site / page).read_text()
        assert text.count("<math") > 20
        assert "$$" not in text and not re.search(r"<script[^>]*mathjax", text, re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs_from_its_first_cell_to_its_last(site, notebook):
    execute = ROOT / ".venv-docs" / "bin" / "jupyter-execute"
    finished = subprocess.run([execute, "--timeout=900", notebook], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
