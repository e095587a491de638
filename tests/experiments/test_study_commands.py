"""The last words of the commands that write the pages of the studies."""

import importlib
import sys

import pytest
from absl import flags

from haepo_jax.reports.publishing import PublishedReport

COMMANDS = {
    "agents": ("experiments.studies.agents.study", "run_study"),
    "paper": ("experiments.studies.paper.reproduction", "reproduce"),
    "segments": ("experiments.studies.segments.study", "run_study"),
    "pbt_study": ("experiments.studies.pbt.study", "run_study"),
    "puzzles": ("experiments.studies.puzzles.study", "run_study"),
    "suite": ("experiments.studies.suite.study", "run_suite"),
    "tldr_report": ("experiments.studies.tldr.reproduction", "reproduce"),
}


FLAGS = ("quick", "cnn", "part", "baseline", "workdir", "topology", "data_only", "every_method")


@pytest.fixture
def command(name, monkeypatch):
    """The module of a command, with its own flags alone: commands share names of flags, as each has its process."""
    held = {flag: flags.FLAGS[flag] for flag in FLAGS if flag in flags.FLAGS}
    remove_flags()
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
    yield importlib.import_module(f"experiments.{name}")
    remove_flags()
    for flag, one in held.items():
        flags.FLAGS[flag] = one


def remove_flags():
    for flag in FLAGS:
        if flag in flags.FLAGS:
            delattr(flags.FLAGS, flag)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_with_its_finding_and_the_next_command(command, tmp_path, monkeypatch, capsys, name, quick):
    workdir = tmp_path / "\x1b[2J"
    headline = "Of 9 claims, on the form it has: 9 undecided."
    module, does = COMMANDS[name]
    study = importlib.import_module(module)
    monkeypatch.setattr(study, does, lambda *_: PublishedReport(workdir / "report.html", headline))
    monkeypatch.setattr(command.command_line, "read_workdir", lambda: tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")
    flags.FLAGS.mark_as_parsed()
    monkeypatch.setattr(flags.FLAGS["quick"], "value", quick)
    assert command.main() == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Written to {tmp_path}/\\x1b[2J/report.html, after ") and second == headline
    assert last.startswith("Next: python -m experiments.") and (" --workdir=runs/" in last)
    assert last.split()[3] != f"experiments.{name}" or quick
