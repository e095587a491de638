import numpy as np
import pytest
from helpers.made_up_runs import contents, empty, remove, truncate

from experiments.studies.computed import load_or_compute
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json


class Counting:
    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


DATA = {"b": [1, 2.5, None], "a": {"1": "text", "0": float(np.float32(0.1))}}


def test_computed_data_is_computed_once(tmp_path):
    compute = Counting(DATA)
    assert load_or_compute(tmp_path, "noise", compute) == DATA
    before = contents(tmp_path)
    assert list(before) == ["computed/noise.json"]
    assert load_or_compute(tmp_path, "noise", compute) == DATA
    assert compute.calls == 1
    assert contents(tmp_path) == before


def test_computed_data_is_what_json_gives_back_from_the_first_time_on(tmp_path):
    first = load_or_compute(tmp_path, "x", lambda: {1: (2, 3)})
    assert first == load_or_compute(tmp_path, "x", lambda: None) == {"1": [2, 3]}


@pytest.mark.parametrize("harm", [truncate, empty, remove, lambda path: path.write_text("[1]\n")])
def test_damaged_data_is_computed_again_alone(tmp_path, harm):
    compute = Counting(DATA)
    load_or_compute(tmp_path, "noise", compute)
    load_or_compute(tmp_path, "neighbour", compute)
    before = contents(tmp_path)
    harm(tmp_path / "computed" / "noise.json")
    assert load_or_compute(tmp_path, "noise", compute) == DATA
    assert load_or_compute(tmp_path, "neighbour", compute) == DATA
    assert compute.calls == 3
    after = contents(tmp_path)
    after.pop("computed/noise.damaged-1.json", None)
    assert after["computed/neighbour.json"] == before["computed/neighbour.json"]
    assert after["computed/noise.json"][0] == before["computed/noise.json"][0]


def test_a_changed_digit_is_noticed(tmp_path, capsys):
    load_or_compute(tmp_path, "noise", lambda: {"snr": 0.125})
    path = tmp_path / "computed" / "noise.json"
    path.write_text(path.read_text().replace("0.125", "0.625"))
    assert load_or_compute(tmp_path, "noise", lambda: {"snr": 0.125}) == {"snr": 0.125}
    assert f"{path} is damaged: its checksum does not hold. noise.json is kept as" in capsys.readouterr().out


def test_data_that_could_not_be_computed_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        load_or_compute(tmp_path, "noise", lambda: 1 / 0)
    assert contents(tmp_path) == {}


def test_data_of_other_inputs_is_computed_again(tmp_path):
    compute = Counting(DATA)
    for beta in (0.1, 0.1, 0.2, 0.2):
        assert load_or_compute(tmp_path, "noise", compute, inputs={"betas": (beta,)}) == DATA
    assert compute.calls == 2
    assert list(contents(tmp_path)) == ["computed/noise.json"]


def test_data_that_an_earlier_version_wrote_without_inputs_is_kept_where_there_are_none(tmp_path):
    compute = Counting(DATA)
    load_or_compute(tmp_path, "noise", compute)
    path = tmp_path / "computed" / "noise.json"
    stored = read_json(path)
    assert stored.pop("inputs") is None
    write_json(path, stored)
    assert load_or_compute(tmp_path, "noise", compute) == DATA and compute.calls == 1
    assert load_or_compute(tmp_path, "noise", compute, inputs=[1]) == DATA and compute.calls == 2
