"""Every file of a run folder, damaged in every way, and every command: a sentence, or what was lost is made again.

The commands' own functions are called in this process, on copies of one trained folder.
"""

import itertools
import json
import os
import shutil

import jax
import numpy as np
import pytest
from helpers.called_commands import call
from helpers.run_folders import TINY

from haepo_jax.runs.metrics.reader import read_metric

SETTINGS = TINY | {"sweep": {"haepo.entropy_coef": (0.1, 1.0)}}
COMMANDS = ("train", "sweep", "evaluate", "report", "summarize")
FILES = (
    "config.json",
    "members.json",
    "run.json",
    "placement.json",
    "provenance.json",
    "summary.json",
    "evaluation.json",
    "learning_curve.png",
    "report.html",
    "metrics",
    "metrics/PART",
    "checkpoints",
    "checkpoints/WAVE/NEWEST/default/_METADATA",
    "checkpoints/WAVE/NEWEST/default/ocdbt.process_0",
    "checkpoints/WAVE/NEWEST",
    "checkpoints/WAVE",
)
OUTPUTS = {"evaluation.json", "learning_curve.png", "report.html"}
"""What commands write for people to look at, and none of them reads."""


@pytest.fixture(scope="module", autouse=True)
def _programs_are_compiled_once(tmp_path_factory):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], str(tmp_path_factory.mktemp("compiled")))
    jax.config.update(names[1], 0.0)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Maps a command and a seed to a folder that is complete."""
    folders = {}

    def folder_of(command, seed=0):
        maker = "sweep" if command == "sweep" else "train"
        if (maker, seed) not in folders:
            folder = folders[maker, seed] = tmp_path_factory.mktemp("trained") / f"{maker}{seed}"
            code, words = call(maker, folder, SETTINGS | {"seed": seed})
            assert code == 0, words
            for name in OUTPUTS:  # of earlier commands
                if not (folder / name).exists():
                    (folder / name).write_text(f"of the run with seed {seed}")
        return folders[maker, seed]

    return folder_of


def place(folder, name):
    """The path that a name of FILES stands for."""
    part = sorted((folder / "metrics").iterdir())[0].name
    wave = sorted((folder / "checkpoints").iterdir())[0]
    newest = max(int(path.name) for path in wave.iterdir() if path.name.isdigit())
    named = {"PART": part, "WAVE": wave.name, "NEWEST": str(newest)}
    return folder.joinpath(*(named.get(piece, piece) for piece in name.split("/")))


def remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def absent(path, other):
    remove(path)


def empty(path, other):
    remove(path)
    path.write_bytes(b"")


def truncated(path, other):
    if path.is_dir():
        path = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_type(path, other):
    was_list = path.is_file() and path.read_bytes()[:1] == b"["
    remove(path)
    path.write_text("{}" if was_list else "[]")


def nested_deep(path, other):
    remove(path)
    path.write_text("[" * 100_000)


def binary(path, other):
    remove(path)
    path.write_bytes(bytes(range(256)) * 16)


def a_folder(path, other):
    remove(path)
    path.mkdir()


def of_another_run(path, other):
    remove(path)
    (shutil.copytree if other.is_dir() else shutil.copy)(other, path)


def a_link_elsewhere(path, other):
    remove(path)
    path.symlink_to(other)


DAMAGES = {
    damage.__name__: damage
    for damage in (
        *(absent, empty, truncated, of_another_type, nested_deep, binary, a_folder),
        *(of_another_run, a_link_elsewhere),
    )
}
QUICK = {
    ("evaluate", "config.json", "nested_deep"),
    ("evaluate", "placement.json", "of_another_type"),
    ("report", "members.json", "of_another_run"),
    ("report", "metrics/PART", "truncated"),
    ("report", "provenance.json", "a_folder"),
    ("summarize", "config.json", "a_folder"),
    ("summarize", "summary.json", "binary"),
    ("train", "config.json", "empty"),
    ("train", "learning_curve.png", "absent"),
}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def cases():
    for case in itertools.product(COMMANDS, FILES, DAMAGES):
        yield pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow], id=" ".join(case))


@pytest.mark.parametrize(("command", "name", "damage"), list(cases()))
def test_a_damaged_folder_is_refused_in_a_sentence_or_repaired(trained, tmp_path, command, name, damage):
    folder, elsewhere = tmp_path / "run", tmp_path / "other"
    shutil.copytree(trained(command), folder)
    shutil.copytree(trained(command, seed=9), elsewhere)
    rows = read_metric(folder, "episode_return")
    path = place(folder, name)
    DAMAGES[damage](path, place(elsewhere, name))
    before, other = contents(folder), contents(elsewhere)
    code, words = call(command, folder, SETTINGS)
    assert code in (0, 2, 4), words
    assert contents(elsewhere) == other
    after = contents(folder)
    lost = {
        file
        for file, content in before.items()
        if file.startswith(("metrics/", "checkpoints/")) and content not in after.values()
    }
    if code:
        # What was good before is where it was, and the sentence says what was not.
        assert str(folder) in words.strip().splitlines()[-1] or "is not written" in words, words
        assert not lost, (lost, words)
    elif command in ("train", "sweep"):
        np.testing.assert_array_equal(read_metric(folder, "episode_return"), rows)
        assert json.loads((folder / "summary.json").read_text())["num_updates"] == 3
        assert call(command, folder, SETTINGS)[0] == 0
    else:
        assert not lost, (lost, words)
    if name in OUTPUTS:
        assert code == 0 or os.path.isdir(path), words


@pytest.mark.slow
def test_every_command_is_well_on_a_whole_folder(trained, tmp_path):
    for command in ("train", "evaluate", "report", "summarize"):
        shutil.copytree(trained(command), tmp_path / command)
        code, words = call(command, tmp_path / command, SETTINGS)
        assert code == 0, words
        before, following = words.rsplit("\nNext: ", 1)
        assert before.splitlines()[-1].startswith("Of 2 ") and following.startswith("python -m experiments."), words
