"""Which runs are asked for, where they are, and what is chosen; the stages are stood in for."""

import dataclasses

import numpy as np
import pytest

from experiments.studies.language_runs import TUNING_SEED
from experiments.studies.puzzles.methods import DAPO, HAEPO
from experiments.studies.puzzles.runs import Runs
from experiments.studies.puzzles.scale import FULL, QUICK
from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.language.stages import stages
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.metrics.writer import MetricsWriter

CLOCK = {"compile_seconds": 2.0, "run_seconds": 4.0}
LOOKS = {1e-4: [0.1, 0.2, 0.9, 0.3], 2e-4: [0.1, 0.2, 0.3, 0.5], 4e-4: [0.2, 0.3, 0.4, 0.4]}
"""By learning rate: what its last look says, its best one, and the mean of its last third are not the same."""
LUCK = {(TUNING_SEED, 4e-4): 0.24}
"""What a look has besides on a seed: the first tuning seed alone would choose another rate."""


@pytest.fixture
def asked(monkeypatch):
    """Stages that end at once; the largest learning rate diverges."""
    configs = []

    def finish(folder, config, status="ok"):
        configs.append((folder, config))
        summary = {"stage": folder.name, "status": status, "updates": 4, "tokens": 9, "wall_clock": CLOCK}
        write_json(folder / "summary.json", summary)

    def run_sft(config, workdir):
        (workdir / "sft").mkdir(parents=True)
        finish(workdir / "sft", config)

    def run_rl(config, workdir):
        folder, rate = workdir / "rl" / config.name, config.rl.optimizer.learning_rate
        folder.mkdir(parents=True)
        name = "held_out_reward/puzzle"
        looks = np.array(LOOKS.get(rate, [0.0]), np.float32)[:, None] + LUCK.get((config.seed, rate), 0)
        writer = MetricsWriter(
            folder / "metrics", [Member(0, config.seed, {})], metrics={name: np.float32}, counter="tokens"
        )
        writer.write(0, {name: looks}, np.arange(1, len(looks) + 1, dtype=np.int64)[:, None])
        write_json(folder / "members.json", [{"index": 0, "seed": config.seed, "settings": {}}])
        finish(folder, config, "ok" if rate in LOOKS else "diverged")

    monkeypatch.setattr(stages, "run_sft", run_sft)
    monkeypatch.setattr(stages, "run_rl", run_rl)
    return configs


def test_settings_are_tried_on_the_tuning_seeds_and_judged_by_the_mean_of_their_last_looks(tmp_path, asked):
    tuned = Runs(tmp_path, FULL).tune(DAPO)
    seeds = range(TUNING_SEED, TUNING_SEED + 3)
    assert [config.seed for _, config in asked] == [*seeds] * 4
    assert {folder.parent for folder, _ in asked} == {tmp_path / f"seed{seed}" / "rl" for seed in seeds}
    assert [score for _, score in tuned.tried] == pytest.approx([0.3, 0.5, 0.4 + 0.24 / 3, -np.inf])
    assert tuned.chosen == DAPO.settings()[1]


def test_nothing_is_tuned_for_a_quick_look(tmp_path, asked):
    tuned = Runs(tmp_path, QUICK).tune(DAPO)
    assert asked == [] and tuned.tried == () and tuned.chosen == DAPO.settings()[0]


def test_each_seed_has_a_policy_of_its_own_and_a_run_of_each_method_beside_it(tmp_path, asked):
    runs = Runs(tmp_path, QUICK)
    for seed in range(2):
        runs.fine_tune(seed)
    assert runs.report(runs.tune(HAEPO)) == ("seed0/haepo_dual", "seed1/haepo_dual")
    assert [folder.relative_to(tmp_path).as_posix() for folder, _ in asked] == [
        "seed0/sft", "seed1/sft", "seed0/rl/haepo_dual", "seed1/rl/haepo_dual",
    ]  # fmt: skip
    assert [config.seed for _, config in asked] == [0, 1, 0, 1]
    assert runs.seconds("seed1/haepo_dual") == 6.0 and runs.fine_tuning_seconds(1) == 6.0


def test_fine_tuning_sees_the_examples_and_methods_the_other_puzzles(tmp_path, asked):
    runs = Runs(tmp_path, QUICK)
    runs.fine_tune(0)
    runs.report(runs.tune(DAPO))
    (_, sft), (_, rl), _ = asked
    assert sft.data.prompts == str(tmp_path / "data" / "examples.jsonl")
    assert rl.data.prompts == str(tmp_path / "data" / "train.jsonl")


def test_the_announced_number_of_runs_is_that_of_all(tmp_path, asked, capsys):
    runs = Runs(tmp_path, QUICK)
    for seed in range(QUICK.seeds):
        runs.fine_tune(seed)
    for method in QUICK.methods:
        runs.report(runs.tune(method))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed0/fine-tuning (run 1 of 6)"
    assert lines[-1] == "seed1/dapo (run 6 of 6, about 6 s left)" and len(lines) == 6


def test_puzzles_are_written_once(tmp_path):
    few = {"num_examples": 4, "num_train": 4, "num_held_out": 4, "num_test": 4}
    runs = Runs(tmp_path, dataclasses.replace(QUICK, puzzles=few))
    runs.write_puzzles()
    path = tmp_path / "data" / "train.jsonl"
    path.write_text("kept")
    runs.write_puzzles()
    assert path.read_text() == "kept"
    with pytest.raises(ConfigError, match="holds the puzzles of a quick study, and this one is full; give it another"):
        Runs(tmp_path, FULL).write_puzzles()
