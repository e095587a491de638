"""What is read from folders of runs and studies is what documents quote, and nothing that must not be quoted."""

import pytest
from helpers.made_up_sweeps import write_sweep
from helpers.quotable_folders import write_benchmark, write_race, write_study

from experiments.published import gather
from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json

CONFIG = """
from helpers import settings

def get_config():
    config = settings.get_config()
    config.num_seeds, config.num_updates, config.num_trajectories = {seeds}, 20, 8
    return config
"""
WHEN_AND_WHERE = {"date": "2025-01-01", "devices": "1 x cpu"}


def falls_apart(settings, seed):
    """Seed 2 diverges."""
    return [float(seed)] * (3 if seed == 2 else 20)


def write_run(folder, learn):
    """A run of `train`, and its config file."""
    config = folder.with_suffix(".py")
    config.parent.mkdir(exist_ok=True)
    config.write_text(CONFIG.format(seeds=3))
    write_sweep(folder, [{}], learn, seeds=3, num_trajectories=8)
    record = read_json(folder / "config.json")
    del record["search"]
    write_json(folder / "config.json", record)
    return folder, config


class TestShippedRuns:
    def test_a_run_gives_its_mean_its_worst_seed_and_its_seconds(self, tmp_path):
        entry = gather.shipped(*write_run(tmp_path / "small", lambda settings, seed: [100.04 + seed] * 20))
        assert entry == WHEN_AND_WHERE | {
            "env": "CartPole-v1",
            "seeds": 3,
            "updates": 20,
            "episodes_an_update": 8,
            "mean_return": 101.0,
            "worst_seed": 100.0,
            "million_env_steps": 0.012,
            "training_seconds": 570.0,
            "compile_seconds": 30.0,
            "thousand_env_steps_per_second": 0,
        }

    def test_small_returns_keep_three_digits(self, tmp_path):
        entry = gather.shipped(*write_run(tmp_path / "small", lambda settings, seed: [0.98765] * 20))
        assert entry["mean_return"] == entry["worst_seed"] == 0.988

    def test_a_seed_that_diverged_is_the_worst_and_has_no_return(self, tmp_path):
        entry = gather.shipped(*write_run(tmp_path / "small", falls_apart))
        assert entry["worst_seed"] is None and entry["mean_return"] == 0.5

    def test_a_run_with_other_settings_than_the_shipped_ones_is_refused(self, tmp_path):
        folder, config = write_run(tmp_path / "small", falls_apart)
        config.write_text(CONFIG.format(seeds=4))
        with pytest.raises(ConfigError, match=r"is not a run of small.py as it is shipped: num_seeds \(was 3"):
            gather.shipped(folder, config)

    def test_a_run_that_is_not_complete_is_refused(self, tmp_path):
        folder, config = write_run(tmp_path / "small", falls_apart)
        (folder / "summary.json").unlink()
        with pytest.raises(ConfigError, match=r"summary.json is missing"):
            gather.shipped(folder, config)

    def test_a_run_of_which_every_seed_diverged_has_nothing_to_quote(self, tmp_path):
        folder, config = write_run(tmp_path / "small", lambda settings, seed: [1.0] * 3)
        with pytest.raises(ConfigError, match="no member with a final return"):
            gather.shipped(folder, config)


STEPS = {"cartpole": ("cartpole", 0, ("env steps to 475", "method"))}


class TestStudies:
    def test_a_study_gives_its_headline_its_verdicts_and_the_columns_that_are_quoted(self, tmp_path):
        study = write_study(tmp_path / "paper", "paper", headline="So it is.", judged="a form")
        entry = gather.study(study, STEPS)
        assert (entry["headline"], entry["judged"]) == ("So it is.", "a form")
        assert (entry["date"], entry["devices"]) == ("2031-02-03", "8 x cpu")
        assert {"text", "verdict", "recommended"} == set(entry["claims"][0])
        table = entry["tables"]["cartpole"]
        assert table["columns"] == ["env steps to 475", "method"]
        assert ["29,953 [27,984, 32,391]", "PPO"] in table["rows"]

    def test_a_quick_study_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="is a quick run, which decides nothing"):
            gather.study(write_study(tmp_path / "paper", "paper", quick=True), STEPS)

    @pytest.mark.parametrize(
        ("quoted", "sentence"),
        [(("cartpole", 0, ("method", "weather")), "lacks weather"), (("cartpole", 7, ()), "lacks table 7")],
    )
    def test_a_study_without_what_is_quoted_is_refused(self, quoted, sentence, tmp_path):
        with pytest.raises(ConfigError, match=sentence):
            gather.study(write_study(tmp_path / "paper", "paper"), {"cartpole": quoted})


class TestSpeed:
    def test_a_benchmark_gives_rates_shares_and_ceilings_with_the_digits_that_are_shown(self, tmp_path):
        assert gather.speed(write_benchmark(tmp_path / "b", with_peer=True)) == {
            "gflops_per_second": 200,
            "billion_tanh_per_second": 7.8,
            "rows": [
                {
                    "seeds": 32,
                    "random_play": 50.0,
                    "play": 8.0,
                    "training": 2.35,
                    "percent_of_random_play": 4.7,
                    "percent_of_play": 29.3,
                    "short_update_percent": 12.3,
                    "temporaries_mib": 3.0,
                }
            ],
            "date": "2025-01-01",
            "devices": "4 x cpu",
        }

    def test_other_codes_stand_beside_our_own_rate_of_the_same_rounds(self, tmp_path):
        ours, other = gather.peers(write_benchmark(tmp_path / "b", with_peer=True))["rows"]
        assert ours == {
            "code": "haepo_jax",
            "million_env_steps_per_second": 2.0,
            "compile_seconds": None,
            "training_is_times_this": None,
        }
        assert other["code"] == "Other" and other["training_is_times_this"] == 5.0

    def test_a_benchmark_without_other_codes_gives_none(self, tmp_path):
        assert gather.peers(write_benchmark(tmp_path / "b", with_peer=False)) is None

    def test_a_race_gives_who_got_there_when_and_who_did_not(self, tmp_path):
        ours, slow, lost = gather.cold_start(write_race(tmp_path / "r"))["rows"]
        assert (ours["seconds"], ours["ours_takes"]) == (20.0, "")
        assert (slow["seconds"], slow["ours_takes"]) == (40.0, "50.1% of it")
        assert (lost["seconds"], lost["seeds_at_475"], lost["ours_takes"]) == (None, 7, "less than 80.2% of it")

    def test_a_folder_without_a_benchmark_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match=r"benchmark.json is missing"):
            gather.speed(tmp_path)
