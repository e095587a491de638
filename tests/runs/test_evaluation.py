"""What evaluation finds, shows and writes, whatever the returns and the folder are."""

import errno
import json

import jax
import numpy as np
import pytest
from helpers.called_commands import call
from helpers.command_runner import Command
from helpers.run_folders import TINY
from helpers.settings import fixed_config

from haepo_jax.config import ALGORITHMS
from haepo_jax.population import Population, make_population
from haepo_jax.runs import evaluation
from haepo_jax.runs.experiment import run
from haepo_jax.runs.folder import load_config
from haepo_jax.runs.states import load_states


def strict(path):
    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def infinite(tmp_path_factory):
    """A run of two members whose returns are infinite."""
    folder, settings = tmp_path_factory.mktemp("run") / "run", TINY | {"seed": 4, "env_params": {"noise": 3e38}}
    return folder, settings, call("train", folder, settings)


def test_a_run_with_infinite_returns_is_summed_up_and_complete(infinite):
    folder, settings, (code, words) = infinite
    assert code == 3 and "Every member diverged: " in words
    members = strict(folder / "summary.json")["members"]
    assert [(member["status"], member["final_return"]) for member in members] == [("diverged", None)] * 2
    code, words = call("train", folder, settings)
    assert code == 3 and "is complete already; nothing to do." in words


def test_an_infinite_return_is_null_and_shown_as_none(infinite):
    folder, _, _ = infinite
    code, words = call("evaluate", folder, episodes=50)
    assert code == 0 and "No member has a greedy return" in words
    for member in strict(folder / "evaluation.json")["members"]:
        assert member["sampled_return"] is None and member["sampled_return_std"] is None


def test_a_folder_may_be_given_as_text(infinite):
    folder, settings, _ = infinite
    config = fixed_config(settings)
    assert load_config(str(folder)) == config
    assert run(config, str(folder)) is False
    ((_, _, update),) = load_states(str(folder))
    assert update == 1


def test_returns_near_the_largest_float_are_not_lost_in_their_mean(monkeypatch):
    largest = np.full((2, 8), np.finfo(np.float32).max)
    monkeypatch.setattr(
        Population, "map_members", lambda *_: {"greedy": largest, "sampled": np.array([largest[0], [np.inf] * 8])}
    )
    population = make_population(fixed_config(TINY))
    members = evaluation._play_wave(population, population.init(), 3, "last", 8, 0)
    assert [member["greedy_return"] for member in members] == [float(np.finfo(np.float32).max)] * 2
    assert [member["sampled_return"] for member in members] == [float(np.finfo(np.float32).max), None]
    assert [member["greedy_return_std"] for member in members] == [0.0, 0.0]


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, 0), (errno.EACCES, 0), (errno.ENOSPC, 4)])
def test_a_folder_that_cannot_be_written_has_its_table_shown(infinite, monkeypatch, number, code):
    def refuse(*_):
        raise OSError(number, "Nothing can be written here")

    member = {"settings": {}, "update": 3, "greedy_return": 1.0, "sampled_return": 2.0}
    found = {"env": "Catch-bsuite", "checkpoint": "last", "update": 3, "episodes": 100, "members": [member]}
    monkeypatch.setattr(evaluation, "measure", lambda *_, **__: found)
    monkeypatch.setattr(evaluation, "write_json", refuse)
    ended, words = call("evaluate", infinite[0])
    assert ended == code
    assert "sampled" in words and f"{infinite[0] / 'evaluation.json'} is not written: Nothing can be" in words


@pytest.mark.slow
def test_memory_does_not_grow_with_the_horizon(monkeypatch):
    def measured(horizon):
        settings = TINY | {"env": "LongChain-haepo", "horizon": horizon, "num_seeds": 1}
        population = make_population(fixed_config(settings))
        found = []

        def compile_instead(self, function, state):
            compiled = jax.jit(jax.vmap(function)).lower(state).compile()
            found.append(compiled.memory_analysis().temp_size_in_bytes)
            raise StopIteration

        monkeypatch.setattr(Population, "map_members", compile_instead)
        with pytest.raises(StopIteration):
            evaluation._play_wave(population, population.init(), 1, "last", 16, 0)
        return found[0]

    assert measured(1_000_000) < 1.1 * measured(1_000)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_members_whose_numbers_overflow_leave_the_others_whole(tmp_path, algorithm):
    settings = {
        "env": "Pendulum-v1",
        "algorithm": algorithm,
        "num_seeds": 2,
        "num_updates": 3,
        "num_trajectories": 4,
        "horizon": 30,
        "policy": {"hidden_sizes": (8,)},
        "ppo": {"num_steps": 60, "num_minibatches": 2},
        "env_params": {"max_speed": 1e30},
        "sweep": {"env_params.g": (10.0, 1e38)},
    }
    folder = tmp_path / "run"
    code, words = call("train", folder, settings)
    assert code in (0, 3), words
    members = strict(folder / "summary.json")["members"]
    assert len(members) == 4
    for member in members:
        assert (member["final_return"] is None) == (member["status"] == "diverged") or not np.isfinite(
            member["final_return"] or np.nan
        )
    assert call("train", folder, settings)[0] == code
    for command in ("evaluate", "summarize"):
        assert call(command, folder)[0] == 0
    assert call("report", folder)[0] in (0, 2)
    strict(folder / "evaluation.json")


@pytest.mark.slow
def test_a_run_in_which_no_episode_ends_is_complete(tmp_path):
    settings = TINY | {"env": "MountainCar-v0", "algorithm": "ppo", "ppo": {"num_steps": 20, "num_minibatches": 2}}
    code, words = call("train", tmp_path / "run", settings)
    assert code == 0 and "No member has a final return: no episode has ended" in words
    members = strict(tmp_path / "run" / "summary.json")["members"]
    assert [(m["status"], m["final_return"], m["best_return"]) for m in members] == [("ok", None, None)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_two_at_once_both_end_well(tmp_path, command):
    folder = tmp_path / "run"
    assert call("train", folder, TINY | {"sweep": {"haepo.kl_coef": (0.0, 0.1)}})[0] == 0
    for _ in range(4):
        both = [Command(f"experiments.{command}", f"--workdir={folder}") for _ in range(2)]
        assert [(finished.code, finished.complaints) for finished in (one.wait() for one in both)] == [(0, "")] * 2
    assert not [path for path in folder.rglob(".*.tmp")]
