"""Runs with components from outside: where they are found again, and what is said of those that have changed."""

import json
import sys

import pytest
from helpers.settings import fixed_config

from haepo_jax.errors import ConfigError
from haepo_jax.runs import evaluation
from haepo_jax.runs.component_files import describe_components, find_changes, load_sweep
from haepo_jax.runs.experiment import run

MAZE = """
from haepo_jax.environments.random_walk import RandomWalk

class Maze(RandomWalk):
    def __init__(self, width: int = 3):
        super().__init__()
"""
RULES = """
import optax

def slow(*, decay):
    return optax.scale_by_adam(b1=decay)
"""


def config_of(**changes):
    small = {"num_updates": 1, "num_trajectories": 2, "horizon": 4, "policy": {"hidden_sizes": (2,)}, "num_seeds": 1}
    small |= {"algorithm": "reinforce"}  # whose program is compiled fastest
    outside = {
        "env": "small_maze:Maze",
        "env_kwargs": {"width": 4},
        "optimizer": {"transform": "small_rules:slow", "transform_params": {"decay": 0.5}},
    }
    return fixed_config(small | outside | changes)


@pytest.fixture
def forgotten(monkeypatch):
    """As in a new process of another folder: the modules of the project are neither loaded nor on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def forget(folder):
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
        for name in ("small_maze", "small_rules"):
            sys.modules.pop(name, None)

    return forget


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with two modules, and in `run` a complete run with them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "small_maze.py").write_text(MAZE)
    (folder / "small_rules.py").write_text(RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        assert run(config_of(), folder / "run")
    return folder


def test_a_run_notes_the_hash_and_the_folder_of_each_component(project, forgotten):
    forgotten(project)
    noted = json.loads((project / "run" / "run.json").read_text())["components"]
    assert set(noted) == {"small_maze:Maze", "small_rules:slow"}
    assert noted["small_rules:slow"]["settings"] == ["optimizer.transform"]
    assert noted["small_maze:Maze"]["folder"] == str(project) and len(noted["small_maze:Maze"]["sha256"]) == 64
    (attempt,) = json.loads((project / "run" / "provenance.json").read_text())
    assert attempt["components"] == noted


def test_the_policies_are_evaluated_where_nobody_has_imported_the_modules(project, forgotten, capsys):
    forgotten(project)
    result = evaluation.measure(project / "run", episodes=2)
    assert result["env"] == "small_maze:Maze" and "has changed" not in capsys.readouterr().out


def test_a_changed_component_is_reported_with_both_hashes(project, forgotten, capsys):
    forgotten(project)
    sweep = load_sweep(project / "run")
    before = describe_components(group.config for group in sweep.groups)["small_maze:Maze"]["sha256"]
    (project / "small_maze.py").write_text(f"{MAZE}\n# a remark\n")
    forgotten(project)
    try:
        evaluation.measure(project / "run", episodes=1)
        (change,) = find_changes(project / "run", describe_components([config_of()]))
        now = describe_components([config_of()])["small_maze:Maze"]["sha256"]
        assert not run(config_of(), project / "run")  # is complete
    finally:
        (project / "small_maze.py").write_text(MAZE)
    assert before[:12] in change and now[:12] in change and before != now
    assert capsys.readouterr().out.count(f"Since the run was begun {change}.\n") == 2


def test_another_file_of_the_same_name_is_named_beside_the_one_of_the_beginning(project, forgotten, tmp_path):
    forgotten(project)
    (tmp_path / "small_maze.py").write_text(f"{MAZE}\n# of another folder\n")
    (tmp_path / "small_rules.py").write_text(RULES)
    sys.path.insert(0, str(tmp_path))
    (change,) = find_changes(project / "run", describe_components([config_of()]))
    was, is_now = (f"{folder / 'small_maze.py'}, SHA-256 " for folder in (project, tmp_path))
    assert f"(it was {was}" in change and f"and is {is_now}" in change


def test_a_run_resumes_with_a_word_where_updates_compute_the_same_and_not_where_they_do_not(
    project, forgotten, capsys
):
    forgotten(project)
    sys.path.append(str(project))
    workdir = project / "run"
    (workdir / "summary.json").rename(workdir / "summary.away")
    try:
        (project / "small_rules.py").write_text(f"{RULES}\n# a remark\n")
        assert run(config_of(), workdir)
        assert "its updates compute the same, so the run resumes." in capsys.readouterr().out
        (workdir / "summary.json").unlink()
        (project / "small_rules.py").write_text(RULES.replace("b1=decay", "b1=decay / 2"))
        forgotten(project)
        sys.path.append(str(project))
        with pytest.raises(ConfigError, match=r"was begun with other updates: config\.optimizer\.transform small_rul"):
            run(config_of(), workdir)
    finally:
        (project / "small_rules.py").write_text(RULES)
        (workdir / "summary.away").rename(workdir / "summary.json")


def test_a_component_that_is_gone_is_one_sentence(project, forgotten):
    forgotten(project)
    (project / "small_maze.py").rename(project / "small_maze.away")
    try:
        with pytest.raises(ConfigError, match=r"^config\.env small_maze:Maze cannot be imported: there is no mod"):
            evaluation.measure(project / "run", episodes=1)
    finally:
        (project / "small_maze.away").rename(project / "small_maze.py")
