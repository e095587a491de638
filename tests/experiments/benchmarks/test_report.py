import json

import pytest

from experiments.benchmarks import report
from experiments.benchmarks.ceilings import Ceilings

RATES = {"random_rollout": 2e7, "policy_rollout": 5e6, "training": 2e6, "training_on_short_episodes": 1e6}


@pytest.fixture
def rows():
    rows = [
        {
            "measure": measure,
            "seeds": seeds,
            "env_steps_per_second": rate,
            "env_steps_per_second_least": 0.9 * rate,
            "env_steps_per_second_most": 1.1 * rate,
            "compile_seconds": 1.25,
            "temporary_bytes_a_device": 2**20,
        }
        for seeds in (1, 32)
        for measure, rate in RATES.items()
    ]
    rows[6] |= {"share_of_random_rollout": 0.1, "share_of_policy_rollout": 0.4}
    rows[7]["share_of_a_full_update"] = 0.1
    peer = {"measure": "peer", "name": "rejax", "training_is_times_this": 8.0}
    return [*rows, {name: value for name, value in rows[6].items() if name.startswith("env")} | peer]


def test_rows_and_machine_are_written_and_drawn(tmp_path, rows):
    report.write_benchmark(tmp_path, rows, Ceilings(1e11, 1e9))
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["rows"] == rows
    assert written["ceilings"] == {"flops_per_second": 1e11, "tanh_per_second": 1e9}
    assert written["machine"]["devices"] == 8
    assert "</svg>" in (tmp_path / "benchmark.svg").read_text()


def test_a_row_of_the_table_states_its_share_of_the_others(rows):
    cells = report.format_rows(rows)
    assert all(len(row) == len(report.COLUMNS) for row in cells)
    assert cells[6] == (
        *("training", "32", "2,000,000", "1,800,000 to 2,200,000"),
        *("10.0%", "40.0%", "1.2 s", "1.0 MiB"),
    )
    assert cells[8][0] == "rejax" and cells[8][5] == "training is 8.0 x"


def test_the_distance_from_the_floor_is_described(tmp_path, rows):
    described = report.describe_floor(report.write_benchmark(tmp_path, rows, Ceilings(1e11, 1e9)))
    forward = 2 * (256 + 4096 + 128) / 1e11 + 128 / 1e9
    assert f"a policy could act {1e-6 / forward:.1f} million times a second" in described
    assert f"with 32 seeds is at {5e6 * forward:.0%} of that" in described
    assert "With 32 seeds an update whose episodes end after 25 of 500 steps takes 10.0% of the time" in described
