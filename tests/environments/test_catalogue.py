"""The list of environments: names as a config takes them, with sizes."""

import pytest

from experiments import tasks
from haepo_jax.environments import catalogue
from haepo_jax.environments.catalogue import Refused, Task
from haepo_jax.errors import ConfigError

NAMES = ("CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", "Signals-haepo")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(catalogue, "environment_names", lambda: NAMES)


@pytest.mark.usefixtures("few")
def test_each_environment_has_the_sizes_that_a_policy_meets():
    found = {task.name: task for task in catalogue.describe_tasks("gymnax")}
    assert found["CartPole-v1"] == Task("CartPole-v1", "4", "2 choices", 1, 500)
    assert found["Pendulum-v1"] == Task("Pendulum-v1", "3", "1 real", 1, 200)
    assert found["Breakout-MinAtar"][:3] == ("Breakout-MinAtar", "10x10x4", "3 choices")
    assert found["Signals-haepo"].agents > 1


@pytest.mark.usefixtures("few")
def test_one_that_cannot_be_made_is_named_with_the_reason(monkeypatch):
    def refuse(name):
        raise ConfigError(f"env {name} downloads its data, which failed.")

    monkeypatch.setattr(catalogue, "make", refuse)
    assert next(catalogue.describe_tasks("gymnax")) == Refused(
        "Breakout-MinAtar", "env Breakout-MinAtar downloads its data, which failed."
    )


@pytest.mark.usefixtures("few")
def test_the_command_lists_them_and_what_installs_the_libraries_that_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "is_installed", lambda library: library == "gymnax")
    monkeypatch.setattr(tasks.flags, "FLAGS", type("Given", (), {"libraries": []}))
    assert tasks.main() == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert "brax: is not installed: pip install 'haepo_jax[brax]'\n" in printed


def test_a_library_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setattr(tasks.flags, "FLAGS", type("Given", (), {"libraries": ["navx"]}))
    with pytest.raises(ConfigError, match="--libraries 'navx' is not known; did you mean navix"):
        tasks.main()
