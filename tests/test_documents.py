"""What the documents show must run."""

import ast
import json
import re
import runpy
import sys
from pathlib import Path

import jax
import pytest
from helpers.command_runner import run

from haepo_jax.analysis.verdicts import VERDICTS

ROOT = Path(__file__).parent.parent
CONFIGS = (ROOT / "configs").rglob("*.py")


def test_the_example_learns():
    example = runpy.run_path(str(ROOT / "examples" / "own_training_loop.py"))
    assert example["main"]() > 11.5


@pytest.mark.slow
def test_a_search_by_optuna_compiles_once_and_finds_its_best():
    pytest.importorskip("optuna")
    example = runpy.run_path(str(ROOT / "examples" / "optuna_search.py"))
    study, params = example["search"](rounds=2, batch=2)
    assert len(study.trials) == 4
    assert study.best_value == max(trial.value for trial in study.trials) >= -1
    assert all(leaf.shape[0] == 4 for leaf in jax.tree.leaves(params))  # seeds


def blocks(document):
    """The python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


RUN = {
    ("README.md", 0): (),
    ("docs/method.md", 0): (),
    ("docs/method.md", 1): (),
    ("docs/sweeps.md", 0): (),
    ("docs/sweeps.md", 1): ("duckdb", "pandas", "polars"),
    ("docs/sweeps.md", 2): (),
}
"""Blocks that run as they are, in any folder, and what must be installed for them beyond the package."""
READ = {
    ("docs/pods.md", 0): "submitit and a SLURM cluster",
    ("docs/pods.md", 1): "ray and its nodes",
    ("docs/pods.md", 2): "the TPU's compiler",
    ("docs/tunix.md", 0): "tunix, and a cluster and rewards of one's own",
}
"""Blocks that need more than a test has, which are read alone."""
SLOW = {("docs/method.md", 1), ("docs/sweeps.md", 1), ("docs/sweeps.md", 2)}


def test_every_block_of_every_document_is_run_or_read():
    documents = [path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]]
    assert {(document, k) for document in documents for k in range(len(blocks(document)))} == RUN.keys() | READ.keys()


@pytest.mark.parametrize(
    ("document", "k"), [pytest.param(*block, marks=pytest.mark.slow if block in SLOW else ()) for block in RUN]
)
def test_a_block_runs_outside_of_the_projects_folder(document, k, tmp_path, monkeypatch):
    for library in RUN[document, k]:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if (document, k) == ("docs/sweeps.md", 1):
        make_small_sweep(tmp_path / "runs" / "small")
    # As a script elsewhere sees it: the package, and neither configs nor experiments.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != ROOT])
    hidden = [name for name in sys.modules if name.partition(".")[0] in ("configs", "experiments")]
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    exec(compile(blocks(document)[k], f"{document}, block {k}", "exec"), {"__name__": "__main__"})


def make_small_sweep(workdir):
    """By the command that the page shows above its block."""
    arguments = re.search(
        r"python -m experiments.sweep (--config=\S+) --workdir=runs/small \\\n(.*)",
        (ROOT / "docs/sweeps.md").read_text(),
    )
    finished = run("experiments.sweep", arguments[1], *arguments[2].split(), f"--workdir={workdir}")
    assert finished.code == 0, finished.err


@pytest.mark.parametrize(("document", "k"), READ)
def test_a_block_that_cannot_be_run_here_is_python(document, k):
    compile(blocks(document)[k], f"{document}, block {k}", "exec")


@pytest.mark.parametrize(("document", "k"), [*RUN, *READ])
def test_what_a_block_imports_comes_with_the_package_or_the_page_says_how_to_install_it(document, k):
    code = blocks(document)[k]
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(code))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    with_it = {"haepo_jax", "jax", "optax", "flax", "gymnax", "numpy", *sys.stdlib_module_names}
    installed = " ".join(re.findall(r"pip install ([^`\n]*)", (ROOT / document).read_text()))
    told = {name for name in imported - with_it if re.search(rf"\b{name}\b", installed)}
    from_the_project = {"configs"} if "PYTHONPATH=. python FILE" in (ROOT / document).read_text() else set()
    assert imported - with_it - told - from_the_project == set()


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "BUILD_NOTES.md",
        "CONTRIBUTING.md",
        "docs/method.md",
        "docs/performance.md",
        "docs/pods.md",
        "docs/sweeps.md",
        "docs/language_models.md",
        "docs/tunix.md",
    ],
)
def test_links_within_the_project_lead_somewhere(document):
    text = (ROOT / document).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("config", sorted(str(path.relative_to(ROOT / "configs")) for path in CONFIGS))
def test_a_config_says_its_command_its_time_and_its_score(config):
    header = (ROOT / "configs" / config).read_text().split('"""')[1]
    command = {"tldr_": "experiments.tldr", "sweep": "experiments.sweep"}.get(config[:5], "experiments.train")
    assert f"python -m {command} --config=configs/{config} --workdir=" in header
    assert "Takes " in header and "Expect " in header


@pytest.mark.parametrize(("folder", "chapter"), [("paper", "The paper's experiments"), ("tldr", "Language models")])
def test_the_readme_tells_the_verdicts_that_the_command_wrote(folder, chapter):
    told = json.loads((ROOT / "docs" / folder / "verdicts.json").read_text())
    section = (ROOT / "README.md").read_text().partition(f"## {chapter}")[2].partition("\n## ")[0]
    assert told["headline"] in section
    of_either_form = "|".join(VERDICTS)
    rows = re.findall(rf"^\| (.+?) \| ({of_either_form}) (?:\| ({of_either_form}) )?\|$", section, re.MULTILINE)
    assert rows == [(claim["text"], claim["verdict"], claim["recommended"]) for claim in told["claims"]]
