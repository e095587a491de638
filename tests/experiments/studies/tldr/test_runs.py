"""Which runs are asked for, and what is chosen; the stages are stood in for."""

import numpy as np
import pytest

from experiments.studies.language_runs import TUNING_SEED
from experiments.studies.tldr.methods import GRPO, METHODS, RLOO
from experiments.studies.tldr.runs import Runs
from experiments.studies.tldr.scale import FULL, QUICK
from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.language.stages import stages
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.writer import MetricsWriter


@pytest.fixture
def asked(monkeypatch):
    """Runs end at once; their gold is their learning rate, and the largest diverges."""
    configs = []

    def run_rl(config, workdir):
        folder, rate = workdir / "rl" / config.name, config.rl.optimizer.learning_rate
        if folder.exists():
            return False
        configs.append(config)
        folder.mkdir(parents=True)
        looks = np.array([np.nan, rate], np.float32)[:, None]
        kinds = {"held_out_gold": np.float32}
        writer = MetricsWriter(folder / "metrics", [Member(0, config.seed, {})], metrics=kinds, counter="tokens")
        writer.write(0, {"held_out_gold": looks}, np.array([[5], [9]], np.int64))
        status = "diverged" if rate == max(RLOO.grid["rl.optimizer.learning_rate"]) else "ok"
        write_json(folder / "members.json", [{"index": 0, "seed": config.seed, "settings": {}}])
        write_json(folder / "summary.json", _summary("rl", 3.5, status))
        return True

    monkeypatch.setattr(stages, "run_rl", run_rl)
    return configs


def test_every_setting_is_tried_on_the_tuning_seed_and_the_best_that_lives_is_taken(tmp_path, asked):
    tuned = Runs(tmp_path, FULL).tune(RLOO)
    assert {config.seed for config in asked} == {TUNING_SEED}
    assert [score for _, score in tuned.tried] == pytest.approx([1.5e-4, 3e-4, 6e-4, -np.inf])
    assert tuned.chosen == {"rl.optimizer.learning_rate": 6e-4}


def test_reported_runs_have_the_chosen_settings_and_other_seeds(tmp_path, asked):
    runs = Runs(tmp_path, FULL)
    tuned = runs.tune(GRPO)
    asked.clear()
    names = runs.reported(tuned)
    assert names == tuple(f"grpo-seed{seed}" for seed in range(5))
    assert [config.seed for config in asked] == [0, 1, 2, 3, 4]
    assert {config.grpo.kl_coef for config in asked} == {tuned.chosen["grpo.kl_coef"]}
    assert runs.seconds(names[0]) == 5.5 and runs.tokens(names[0]) == 9


def test_a_complete_run_is_not_done_again(tmp_path, asked):
    Runs(tmp_path, FULL).tune(GRPO)
    count = len(asked)
    Runs(tmp_path, FULL).tune(GRPO)
    assert len(asked) == count


def test_nothing_is_tuned_for_a_quick_look(tmp_path, asked):
    runs = Runs(tmp_path, QUICK)
    tuned = runs.tune(GRPO)
    assert asked == [] and tuned.tried == () and tuned.chosen == GRPO.settings()[0]
    runs.reported(tuned)
    assert [config.rl.num_updates for config in asked] == [20, 20]


def test_an_error_says_which_run_it_is_of(tmp_path, monkeypatch):
    def refuse(config, workdir):
        raise ConfigError("something is wrong")

    monkeypatch.setattr(stages, "run_rl", refuse)
    with pytest.raises(ConfigError, match="tuning-grpo-0: something is wrong"):
        Runs(tmp_path, FULL).tune(GRPO)


def test_each_run_is_announced_with_its_number_among_all(tmp_path, asked, monkeypatch, capsys):
    for stage in ("sft", "reward"):
        monkeypatch.setattr(stages, f"run_{stage}", _stands_in(stage))
    runs = Runs(tmp_path, QUICK)
    runs.prepare()
    for method in METHODS:
        runs.reported(runs.tune(method))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "fine-tuning (run 1 of 14)",
        "reward model (run 2 of 14, about 1 min 18 s left)",
        "haepo_sum-seed0 (run 3 of 14, about 1 min 12 s left)",
    ]
    assert len(lines) == 14


def _stands_in(stage):
    def run(config, workdir):
        (workdir / stage).mkdir()
        write_json(workdir / stage / "summary.json", _summary(stage, 4.0))

    return run


def _summary(stage, run_seconds, status="ok"):
    clock = {"compile_seconds": 2.0, "run_seconds": run_seconds}
    return {"stage": stage, "status": status, "updates": 2, "tokens": 9, "wall_clock": clock}
