"""What the documents show must run."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIGS = (ROOT / "configs").rglob("*.py")


def test_the_example_learns():
    example = runpy.run_path(str(ROOT / "examples" / "own_training_loop.py"))
    assert example["main"]() > 11.5


@pytest.mark.slow
def test_a_search_by_optuna_compiles_once_and_finds_its_best():
    pytest.importorskip("optuna")
    example = runpy.run_path(str(ROOT / "examples" / "optuna_search.py"))
    study = example["search"](rounds=2, batch=2)
    assert len(study.trials) == 4
    assert study.best_value == max(trial.value for trial in study.trials) >= -1


def test_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["loss"].shape == ()


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
    rows = re.findall(r"^\| (.+) \| (reproduced|not reproduced|mixed) \|$", section, re.MULTILINE)
    assert rows == [(claim["text"], claim["verdict"]) for claim in told["claims"]]
