"""What the documents show must run."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import jax
import pytest
from helpers.command_runner import run
from helpers.run_folders import TINY

from experiments.published import gather
from experiments.published.blocks import blocks as render_blocks
from experiments.published.documents import BLOCK, documents, fill
from experiments.published.publish import TABLES
from haepo_jax.config import from_config_dict, traced_settings
from haepo_jax.errors import ConfigError
from haepo_jax.methods import METHODS
from haepo_jax.population.member import make_member
from haepo_jax.runs.json_files import read_json

ROOT = Path(__file__).parent.parent
CONFIGS = (ROOT / "configs").rglob("*.py")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(document):
    """The python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


RUN = {
    **{("docs/components.md", k): () for k in range(10)},
    ("docs/agents.md", 0): (),
    ("docs/self_play.md", 0): (),
    ("docs/environments.md", 0): (),
    ("README.md", 0): (),
    ("README.md", 1): (),
    **{("docs/language_models.md", k): () for k in range(2)},
    ("docs/losses.md", 0): (),
    ("docs/method.md", 0): (),
    **{("docs/policies.md", k): () for k in range(2)},
    ("docs/running.md", 0): (),
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
SLOW = {
    ("README.md", 1),
    ("docs/policies.md", 0),
    ("docs/policies.md", 1),
    ("docs/sweeps.md", 1),
    ("docs/sweeps.md", 2),
}


def test_every_block_of_every_document_is_run_or_read():
    assert {(document, k) for document in DOCUMENTS for k in range(len(blocks(document)))} == RUN.keys() | READ.keys()


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
def test_imports_of_a_block_come_with_the_package_or_the_page_names_their_install(document, k):
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
    explained = {name for name in imported - with_it if re.search(rf"\b{name}\b", installed)}
    from_the_project = {"configs"} if "PYTHONPATH=. python FILE" in (ROOT / document).read_text() else set()
    assert imported - with_it - explained - from_the_project == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_project_lead_somewhere(document):
    text = (ROOT / document).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_the_project_that_a_document_names_exist(document):
    pattern = r"(?<![\w./])(?:haepo_jax|experiments|tests|configs|examples)/[a-z0-9_/]+(?:\.py|/)(?=[`\s)])"
    named = re.findall(pattern, (ROOT / document).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_of_the_project_that_a_document_names_exist(document):
    text = (ROOT / document).read_text()
    modules = {
        *re.findall(r"python -m (experiments\.\w+)", text),
        *(name.rpartition(".")[0] for name in re.findall(r"`(haepo_jax(?:\.\w+)+\.\w+)\(", text)),
    }
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def explained_columns():
    glossary = (ROOT / "docs" / "glossary.md").read_text().partition("## The columns of the metrics")[2]
    return set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", glossary, re.MULTILINE))))


@pytest.mark.parametrize("name", METHODS)
def test_every_metric_of_a_method_is_in_the_glossary(name):
    assert set(METHODS[name].metrics) - explained_columns() == set()


def test_every_metric_that_all_methods_share_is_in_the_glossary():
    config = from_config_dict(TINY | {"algorithm": "reinforce"})
    functions = make_member(config)
    state = jax.eval_shape(functions.init, jax.random.key(0), traced_settings(config))
    _, metrics = jax.eval_shape(lambda state: functions.learn(state, functions.collect(state)), state)
    assert {"loss", "episode_return"} <= metrics.keys() <= explained_columns()


def test_tests_that_the_list_of_failed_inputs_names_exist():
    text, missing = (ROOT / "tests" / "README.md").read_text(), []
    for row in re.findall(r"^\|.*\|.*\|(.*)\|$", text, re.MULTILINE):
        file = ""
        for named in re.findall(r"`([\w/]*(?:\.py)?(?:::\w+)*)`", row):
            file = named.partition("::")[0] or file  # `::NAME` is in the file before it
            source = (ROOT / "tests" / file).read_text() if (ROOT / "tests" / file).is_file() else ""
            names = named.split("::")[1:]
            if not source or not all(re.search(rf"(?:def|class) {name}\b", source) for name in names):
                missing.append(named)
    assert missing == []


def test_the_readme_fits_on_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


@pytest.mark.parametrize("folder", ["decisions", "experiments"])
def test_the_build_notes_list_each_page_once(folder):
    listed = re.findall(rf"\]\((docs/{folder}/\w+\.md)\)", (ROOT / "BUILD_NOTES.md").read_text())
    assert sorted(listed) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"docs/{folder}/*.md"))


@pytest.mark.parametrize("decision", sorted(path.name for path in ROOT.glob("docs/decisions/*.md")))
def test_a_decision_says_why_what_with_which_numbers_by_which_command_and_what_lost(decision):
    title, _, summary, *rest = (ROOT / "docs" / "decisions" / decision).read_text().splitlines()
    assert title.startswith("# ") and summary and not summary.startswith("-")
    bold = [line.split("**")[1] for line in rest if line.startswith("- **")]
    assert bold == ["Context.", "Decision.", "Numbers.", "Command.", "Lost."]


@pytest.mark.parametrize("config", sorted(str(path.relative_to(ROOT / "configs")) for path in CONFIGS))
def test_a_config_says_its_command_its_time_and_its_score(config):
    header = (ROOT / "configs" / config).read_text().split('"""')[1]
    commands = {"tldr_": "experiments.tldr", "puzzl": "experiments.tldr", "sweep": "experiments.sweep"}
    command = commands.get(config[:5], "experiments.train")
    assert f"python -m {command} --config=configs/{config} --workdir=" in header
    assert "Takes " in header and "Expect " in header


RESULTS = read_json(ROOT / "docs" / "results.json")
PAGES = {
    **{"suite": ["suite"], "segments": ["segments"], "agents": ["agents", "self_play"], "pbt": ["sweeps"]},
    "puzzles": ["puzzles"],
}
UNPUBLISHED = {f"docs/{page}.md" for name, pages in PAGES.items() if name not in RESULTS for page in pages}
QUOTING = {path.relative_to(ROOT).as_posix(): path.read_text() for path in documents(ROOT)}


def test_the_readme_and_the_page_of_results_quote_numbers():
    assert {"README.md", "docs/results.md"} <= QUOTING.keys()


@pytest.mark.parametrize("document", QUOTING)
def test_a_document_says_what_the_results_say(document):
    assert fill(QUOTING[document], render_blocks(RESULTS)) == QUOTING[document]


@pytest.mark.parametrize("name", [name for name in TABLES if name in RESULTS])
def test_the_results_say_what_the_studies_wrote(name):
    command = {"command": RESULTS[name]["command"]}
    assert RESULTS[name] == command | gather.study(ROOT / "docs" / name, TABLES[name])


@pytest.mark.parametrize("document", QUOTING)
def test_a_number_that_is_changed_in_a_document_is_noticed(document):
    text, rendered = QUOTING[document], render_blocks(RESULTS)
    spans = [found.span("text") for found in BLOCK.finditer(text)]
    places = [place for span in spans for place in range(*span) if text[place].isdecimal()]
    assert len(places) > 10 or document in UNPUBLISHED
    for place in places:
        changed = text[:place] + str(int(text[place]) ^ 1) + text[place + 1 :]
        assert fill(changed, rendered) != changed


def leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def with_leaf(value, path, leaf):
    if not path:
        return leaf
    copy = value.copy()
    copy[path[0]] = with_leaf(value[path[0]], path[1:], leaf)
    return copy


def changes(value):
    """Other values for a leaf: another number, or a text with another digit."""
    if isinstance(value, int | float):
        return [value + 1]
    digits = [k for k, character in enumerate(value or "") if character.isdecimal()]
    return [value[:k] + str(int(value[k]) ^ 1) + value[k + 1 :] for k in digits]


def test_a_number_that_is_changed_in_the_results_is_noticed():
    texts = "".join(QUOTING.values())
    for path, value in leaves(RESULTS):
        for other in changes(value):
            try:
                rendered = render_blocks(with_leaf(RESULTS, path, other))
            except ConfigError:
                continue  # a method or a column that the README names is gone
            assert fill(texts, rendered) != texts, path


def test_the_page_of_results_has_no_number_that_is_not_held():
    outside = BLOCK.sub("", (ROOT / "docs" / "results.md").read_text())
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|\[1\]", "", outside)
    assert re.findall(r"(?<!\w)\d+", prose) == []
