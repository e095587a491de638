"""Who is said to be where, and when; races themselves are for the command."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmarks import race
from experiments.benchmarks.peers import Arrival, Peer
from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.provenance import Provenance

LATE, EARLY = [20, 480, 500, 100, 500], [475, 10, 10, 10, 10]


def finished(folder, *returns):
    """A run of 5 updates in 10 seconds, the first two updates of which took 6."""
    members = [Member(index=i, seed=i, settings={}, group="0") for i in range(len(returns))]
    write_json(folder / "members.json", [member.to_json() for member in members])
    writer = MetricsWriter(folder / "metrics", members, metrics={"episode_return": np.float32})
    columns = np.array(returns, np.float32).T
    writer.write(0, {"episode_return": columns}, np.ones(columns.shape, np.int64))
    Provenance(folder, jax.devices()).update(run_seconds=10.0, timeline=[(1, 4.0), (3, 6.0), (5, 9.0)])
    return folder


def test_a_run_is_there_with_its_last_seed(tmp_path):
    arrival = race.read_arrival(finished(tmp_path, EARLY, LATE), 30.0)
    assert arrival == Arrival(30.0, 10.0, seeds=2, seeds_there=2, share=0.5)  # after two updates: between 4 s and 6 s
    assert arrival.seconds == 30 - 5


def test_a_run_that_misses_a_seed_is_not_there(tmp_path):
    arrival = race.read_arrival(finished(tmp_path, EARLY, [474.9] * 5, [np.nan] * 5), 30.0)
    assert arrival == Arrival(30.0, 10.0, seeds=3, seeds_there=1, share=None)
    assert arrival.seconds is None


@pytest.fixture
def ours(monkeypatch):
    """Stands in for our training: what it leaves, round by round."""

    def play(*arrivals):
        rounds = iter(arrivals)
        monkeypatch.setattr(race, "_train", lambda num_seeds, workdir: next(rounds))

    return play


def teller(seeds=2, there=2, share=0.5):
    printed = {"seconds": 0.0001, "seeds": seeds, "seeds_at_475": there, "share_until_all_at_475": share}
    return Peer("fake", f"echo '{json.dumps(printed)}'")


def test_ours_is_set_against_a_peer_that_gets_there(ours, tmp_path):
    ours(Arrival(2.0, 1.0, 2, 2, 1.0), Arrival(3.0, 1.0, 2, 2, 0.0), Arrival(9.0, 1.0, 2, 2, 1.0))
    own, peer = race.run_race([teller()], num_seeds=2, repeats=3, workdir=tmp_path)
    assert (own["seconds_least"], own["seconds"], own["seconds_most"], own["whole_seconds"]) == (2, 2, 9, 3)
    assert own["repeats"] == 3 and own["training_seconds"] == 1
    assert 0 < peer["seconds"] < peer["whole_seconds"] and peer["command"].startswith("echo")
    assert peer["ours_takes_of_this"] == pytest.approx(2 / peer["seconds"])
    assert list(tmp_path.iterdir()) == []


def test_a_peer_that_does_not_get_there_gives_a_bound(ours, tmp_path):
    ours(Arrival(2.0, 1.0, 2, 2, 1.0))
    rows = race.run_race([teller(there=1, share=None)], num_seeds=2, repeats=1, workdir=tmp_path)
    assert rows[1]["seconds"] is None and rows[1]["seeds_at_475"] == 1
    assert rows[1]["ours_takes_of_this"] == pytest.approx(2 / rows[1]["whole_seconds"])
    cells = race.format_rows([rows[0], rows[1] | {"whole_seconds": 20.0, "ours_takes_of_this": 0.1}])
    assert cells == [
        ("haepo_jax", "2 of 2", "2.0", "2.0 to 2.0", "2.0 s", ""),
        ("fake", "1 of 2", "not all get there", "", "20.0 s", "less than 10.0% of it"),
    ]
    assert all(len(row) == len(race.COLUMNS) for row in cells)


@pytest.mark.parametrize(("least", "printed"), [(7.0, "25.0% of it"), (5.0, "no difference shown")])
def test_a_share_is_stated_where_the_rounds_are_apart(least, printed):
    common = {"seeds": 2, "seeds_at_475": 2, "whole_seconds": 9.0}
    ours = {"name": "haepo_jax", "seconds": 2.0, "seconds_least": 1.0, "seconds_most": 6.0} | common
    peer = {"name": "fake", "seconds": 8.0, "seconds_least": least, "seconds_most": 9.0} | common
    assert race.format_rows([ours, peer | {"ours_takes_of_this": 0.25}])[1][-1] == printed


def test_where_ours_does_not_get_there_nothing_is_compared(ours, tmp_path):
    ours(Arrival(2.0, 1.0, 2, 2, 1.0), Arrival(2.0, 1.0, 2, 1, None))
    own, peer = race.run_race([teller()], num_seeds=2, repeats=2, workdir=tmp_path)
    assert own["seconds"] is None and own["seeds_at_475"] == 1 and "ours_takes_of_this" not in peer


def test_a_peer_finds_nothing_compiled(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    ours(Arrival(2.0, 1.0, 2, 2, 1.0))
    peer = teller()
    printed = (
        f'test "$JAX_COMPILATION_CACHE_DIR" != {tmp_path} && ! test -e "$JAX_COMPILATION_CACHE_DIR" && {peer.command}'
    )
    race.run_race([peer._replace(command=printed)], num_seeds=2, repeats=1, workdir=tmp_path)


def test_a_peer_with_other_seeds_is_refused(ours, tmp_path):
    ours(Arrival(2.0, 1.0, 4, 4, 1.0))
    with pytest.raises(ConfigError, match=r"^--peer fake trains 2 seeds and ours 4: --seeds must agree.$"):
        race.run_race([teller()], num_seeds=4, repeats=1, workdir=tmp_path)


def test_the_rows_are_written_with_the_machine(tmp_path):
    race.write_race(tmp_path, [{"name": "haepo_jax", "seconds": None}])
    written = json.loads((tmp_path / "race.json").read_text())
    assert written["rows"] == [{"name": "haepo_jax", "seconds": None}] and written["machine"]["devices"] == 8
    assert written["title"].startswith("CartPole-v1, from a cold start to all seeds at 475, 8 x ")
    assert (tmp_path / "provenance.json").exists()


@pytest.mark.slow
def test_our_training_is_run_from_cold_and_gets_there(tmp_path):
    (row,) = race.run_race([], num_seeds=2, repeats=1, workdir=tmp_path)
    assert row["seeds_at_475"] == row["seeds"] == 2
    assert 0 < row["seconds"] < row["whole_seconds"]
