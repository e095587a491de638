"""The folder of a study is its own, and a signal is answered with what is kept of the whole study."""

import pytest

from experiments.studies import language_runs, runs
from experiments.studies.study_folder import hold_folder
from haepo_jax.errors import ConfigError
from haepo_jax.runtime import signals


@pytest.mark.parametrize(
    ("names", "finished", "sentence"),
    [
        ((), runs.count_finished, "no run is finished yet, and the same command resumes with the first."),
        (
            ("runs/a/ppo/seal.json",),
            runs.count_finished,
            "1 finished run is kept, and the same command resumes with the next.",
        ),
        (
            ("runs/a/ppo/seal.json", "runs/seal.json", "runs/b/summary.json"),
            runs.count_finished,
            "2 finished runs are kept, and the same command resumes with the next.",
        ),
        (
            ("sft/summary.json", "rl/haepo-seed0/summary.json", "rl/haepo-seed1/config.json"),
            language_runs.count_finished,
            "2 finished runs are kept, and the same command resumes with the next.",
        ),
    ],
)
def test_a_study_that_is_stopped_reports_the_kept_runs_also_within_one_of_them(tmp_path, names, finished, sentence):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    outside = signals._left()
    with hold_folder(tmp_path, finished), signals.leaving(lambda: "there is no checkpoint yet."):
        assert signals._left() == sentence
    assert signals._left() == outside == "the same command does what is left."


def test_the_folder_of_a_run_is_refused_and_nothing_is_put_into_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(ConfigError, match=r"holds a run, and a study needs a folder of its own"),
        hold_folder(tmp_path, runs.count_finished),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
