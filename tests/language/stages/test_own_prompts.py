"""Prompts of one's own and rewards that programs compute: what docs/language_models.md shows, on a tiny model."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet
import pytest
from helpers.own_model import write_own_model, write_rows
from helpers.stopped_stages import stop_after

from haepo_jax import components
from haepo_jax.errors import ConfigError, Interrupted
from haepo_jax.language.config import from_config_dict
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.language.model.hugging_face.adapters import write_adapter
from haepo_jax.language.model.hugging_face.folder import read_model
from haepo_jax.language.model.lora import fold, init_adapter, join
from haepo_jax.language.stages import stages
from haepo_jax.language.stages.context import make_context
from haepo_jax.language.stages.evaluation import evaluate
from haepo_jax.language.stages.models import find_policy_folder, make_first_model
from haepo_jax.language.stages.samples import list_parts, read_samples
from haepo_jax.reports.samples import write_samples_page
from haepo_jax.runs.json_files import read_json

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "language_models.md").read_text()
REWARDS, CONFIG = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:2]
(COMMAND,) = re.findall(r"```sh\npython (-m experiments.tldr .*?)\n```", PAGE, re.DOTALL)
QUICK = {"num_updates": 3, "num_prompts": 1, "gradient": "two_pass", "write_samples_every": 2, "microbatch": 8}


def write_inputs(folder):
    """The files that the page speaks of."""
    write_own_model(folder / "models" / "my_model")
    rows = [{"question": f"{a}+{b}=", "answer": str(a + b), "level": 1 + a} for a in range(10) for b in range(4)]
    write_rows(folder / "data" / "train.jsonl", rows)
    write_rows(folder / "data" / "test.jsonl", rows[:10])
    (folder / "my_rewards.py").write_text(REWARDS)
    (folder / "my_task.py").write_text(CONFIG)


def config_of(folder, **changes):
    """The page's config, with less to do."""
    space = {}
    exec(CONFIG, space)
    values = space["get_config"]().to_dict()
    values["model"]["path"] = str(folder / "models" / "my_model")
    for name in ("prompts", "test_prompts"):
        values["data"][name] = str(folder / values["data"][name])
    for section, change in (changes | {"rl": QUICK | changes.get("rl", {})}).items():
        values[section] = values[section] | change if isinstance(change, dict) else change
    return from_config_dict(values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the inputs, and a run in `work`."""
    folder = tmp_path_factory.mktemp("own")
    write_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        components.make_importable(folder)
        assert stages.run_rl(config_of(folder), folder / "work")
        yield folder
    sys.modules.pop("my_rewards", None)


def folder_of(trained):
    return trained / "work" / "rl" / "haepo-log_ratio-seed0"


def metrics_of(folder):
    return pyarrow.dataset.dataset(folder / "metrics").to_table().sort_by("update").to_pydict()


def test_a_config_of_twenty_lines_trains_from_a_folder_and_prompts_alone(trained):
    assert len(CONFIG.strip().splitlines()) <= 20
    before = read_model(trained / "models" / "my_model").params
    after = read_model(folder_of(trained) / "model").params
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
    assert max(jax.tree.leaves(moved)) > 0
    assert {path.name for path in (trained / "work").iterdir()} == {"rl"}  # no sft, no reward model
    summary = read_json(folder_of(trained) / "summary.json")
    assert summary["updates"] == 3 and summary["gradient"] == "two_pass"


def test_each_function_s_mean_is_a_metric_and_their_weighted_sum_the_reward(trained):
    metrics = metrics_of(folder_of(trained))
    parts = np.array(metrics["reward/exact_match"]), np.array(metrics["reward/brief"])
    assert np.all(parts[1] < 0)
    np.testing.assert_allclose(metrics["reward"], parts[0] + 0.1 * parts[1], rtol=1e-4, atol=1e-7)
    assert max(metrics["sampler_gap"]) < 1e-3 and np.isfinite(metrics["loss"]).all()


def test_a_function_from_outside_is_noted_with_the_hash_of_its_file(trained):
    noted = read_json(folder_of(trained) / "run.json")["components"]["my_rewards:brief"]
    assert noted["settings"] == ["rl.rewards[1]"] and len(noted["sha256"]) == 64
    assert noted["folder"] == str(trained)


def test_responses_are_written_with_their_rewards_one_part_an_update(trained):
    folder = folder_of(trained)
    assert [update for update, _ in list_parts(folder)] == [1]
    samples = read_samples(folder).to_pydict()
    assert len(samples["prompt"]) == 8 and samples["sample"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert samples["row"][0].startswith(f"{trained / 'data' / 'train.jsonl'}, line ")
    assert np.mean(samples["reward"]) == pytest.approx(metrics_of(folder)["reward"][1], rel=1e-4)
    assert sum(samples["tokens"]) == np.diff(metrics_of(folder)["tokens"])[0]
    for text, tokens, ended in zip(samples["completion"], samples["tokens"], samples["ended"], strict=True):
        assert len(text) <= tokens - ended <= 16  # a token is a letter, or a special one that is no text
    page = write_samples_page(folder).read_text()
    assert page.count('<p class="reward">') == 8 and "Update 1</h2>" in page


def test_a_model_can_start_from_random_parameters_with_a_tokenizer_alone(trained, tmp_path):
    tokenizer = str(trained / "models" / "my_model")
    config = from_config_dict({"data": config_data(trained), "model": {"tokenizer": tokenizer, "num_layers": 1}})
    model, read = make_first_model(make_context(config, tmp_path))
    assert len(model.params["embedding"]) == read.vocab_size == Tokenizer.from_folder(tokenizer).vocab_size
    assert model.architecture.num_layers == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {},
            "config.model.path is empty: data of your own need a model with its tokenizer, or for a model that starts",
        ),
        ({"tokenizer": "nowhere"}, "nowhere holds no tokenizer.json"),
    ],
)
def test_data_of_ones_own_without_model_or_tokenizer_are_refused(trained, tmp_path, model, words):
    config = from_config_dict({"data": config_data(trained), "model": model})
    with pytest.raises(ConfigError, match=words):
        make_first_model(make_context(config, tmp_path))


def write_own_adapter(trained, folder):
    """An adapter of the model of the page, of random numbers; gives the parameters of the two together."""
    base = trained / "models" / "my_model"
    model, adapter = read_model(base), Adapter(2, 3.0)
    fresh = init_adapter(Decoder(model.architecture, adapter=adapter), jax.random.key(0))
    params = jax.tree.map(lambda leaf: 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), fresh)
    write_adapter(folder, model.architecture, params, adapter, base=str(base))
    return fold(join(model.params, params), adapter)


def test_stages_begin_with_an_adapter_and_what_it_adapts(trained, tmp_path):
    expected = write_own_adapter(trained, tmp_path / "adapter")
    config = config_of(trained, model={"path": str(tmp_path / "adapter")})
    model, tokenizer = make_first_model(make_context(config, tmp_path / "work"))
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6), model.params, expected)
    assert tokenizer.folder == trained / "models" / "my_model"
    assert find_policy_folder(config, tmp_path / "work") == tmp_path / "adapter"
    with pytest.raises(ConfigError, match=r"There is no model in .*: it holds neither config\.json nor adapter_"):
        find_policy_folder(config_of(trained, model={"path": str(tmp_path)}), tmp_path / "work")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rank", [0, 2])
def test_rl_from_an_adapter_leaves_a_whole_model(trained, tmp_path, rank):
    expected = write_own_adapter(trained, tmp_path / "adapter")
    model = {"path": str(tmp_path / "adapter"), "adapter_rank": rank}
    still = dataclasses.asdict(config_of(trained).rl.optimizer) | {"learning_rate": 1e-30}
    stages.run_rl(config_of(trained, model=model, rl={"num_updates": 1, "optimizer": still}), tmp_path / "work")
    made = tmp_path / "work" / "rl" / "haepo-log_ratio-seed0"
    after = read_model(made / "model").params
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6), after, expected)
    assert abs(metrics_of(made)["reference_kl"][0]) < 1e-3
    if rank:  # an adapter of what another has made
        again = read_model(made / "adapter").params
        jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6), again, expected)


def config_data(trained):
    data = config_of(trained).data
    return {"prompts": data.prompts, "test_prompts": data.test_prompts, "prompt_column": "question"}


def test_another_reward_is_another_run(trained):
    with pytest.raises(
        ConfigError, match=r"holds a run with another config: rl.reward_weights \(was \[1.0, 0.1\], now"
    ):
        stages.run_rl(config_of(trained, rl={"reward_weights": (1.0, 0.2)}), trained / "work")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_was_stopped_or_that_a_function_failed_ends_as_one_that_was_not(trained, tmp_path, monkeypatch):
    whole, stopped = (tmp_path / name / "rl" / "haepo-log_ratio-seed0" for name in ("whole", "stopped"))
    every = {"write_samples_every": 1, "num_updates": 3}
    assert stages.run_rl(config_of(trained, rl=every), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Interrupted, match="after update 1 of 3"):
            stages.run_rl(config_of(trained, rl=every), tmp_path / "stopped")
    calls = []

    def fails_in_time(prompts, completions, level):
        calls.append(None)
        if len(calls) > 1:  # in the second update of this attempt
            raise RuntimeError("no more")
        return brief(prompts, completions, level)

    import my_rewards

    brief = my_rewards.brief
    with monkeypatch.context() as patch:
        patch.setattr(my_rewards, "brief", fails_in_time)
        with pytest.raises(ConfigError, match=r"my_rewards:brief on .*train.jsonl, line \d+ \('\d\+\d=.* no more\.$"):
            stages.run_rl(config_of(trained, rl=every), tmp_path / "stopped")
    assert len(list_parts(stopped)) == 2  # what was learnt before it is kept
    assert stages.run_rl(config_of(trained, rl=every), tmp_path / "stopped")
    np.testing.assert_equal(metrics_of(stopped), metrics_of(whole))
    jax.tree.map(
        np.testing.assert_array_equal, read_model(stopped / "model").params, read_model(whole / "model").params
    )
    for (_, one), (_, other) in zip(list_parts(stopped), list_parts(whole), strict=True):
        assert pyarrow.parquet.read_table(one).equals(pyarrow.parquet.read_table(other))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_of_the_page_trains_as_it_is_printed(tmp_path):
    write_inputs(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    commands = [COMMAND, COMMAND.replace("--stage=rl", "--stage=evaluate"), COMMAND.replace("=rl", "=samples")]
    for command in commands:
        finished = subprocess.run(
            [sys.executable, *shlex.split(command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs" / "my_task" / "rl" / "haepo-log_ratio-seed0"
    assert (folder / "model" / "model.safetensors").is_file() and (folder / "samples.html").is_file()
    assert [update for update, _ in list_parts(folder)] == [9, 19]
    policies = read_json(tmp_path / "runs" / "my_task" / "evaluation.json")["policies"]
    assert list(policies) == ["model.path", "haepo-log_ratio-seed0"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_prompts_alone_are_evaluated_greedily_or_by_several_samples(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "work", tmp_path / "work")
    greedy = evaluate(config_of(trained, evaluation={"temperature": 0.0}, seed=1), tmp_path / "work")
    assert (greedy["temperature"], greedy["samples"], greedy["posts"]) == (0.0, 1, 10)
    again = evaluate(config_of(trained, evaluation={"temperature": 0.0}, seed=2), tmp_path / "work")
    assert greedy["policies"] == again["policies"] and greedy["judge"] == "reward functions"
    import my_rewards

    calls, brief = [], my_rewards.brief

    def counted(prompts, completions, level):
        calls.append(prompts[0])
        return brief(prompts, completions, level)

    monkeypatch.setattr(my_rewards, "brief", counted)
    sampled = evaluate(config_of(trained, evaluation={"num_samples": 4}), tmp_path / "work")
    assert len(calls) == 20 and len(set(calls)) == 10  # the prompts of two policies, and none that fills up a batch
    first = sampled["policies"]["model.path"]
    rates = first["pass_rates"]
    assert rates.keys() == {"exact_match"}  # `brief` is neither 0 nor 1
    assert rates["exact_match"]["pass@1"] == pytest.approx(first["reward/exact_match"])
    assert rates["exact_match"]["pass@4"] >= rates["exact_match"]["pass@1"]
    assert abs(first["reference_kl"]) < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_rl_begins_with_what_sft_has_made_of_completions(trained, tmp_path):
    changes = {"data": {**config_data(trained), "completion_column": "answer", "prompt_length": 64}}
    sft = {"num_steps": 2, "batch_size": 8}
    parts = {"num_prompts": 2, "sampling_parts": 2, "reward_threads": 2}
    rl = {"num_updates": 1, "mask_truncated": True, "filter_groups": True, **parts}
    config = config_of(trained, sft=sft, rl=rl, **changes)
    assert stages.run_sft(config, tmp_path) and stages.run_rl(config, tmp_path)
    assert read_json(tmp_path / "sft" / "summary.json")["updates"] == 2
    (counted,) = metrics_of(tmp_path / "rl" / "haepo-log_ratio-seed0")["counted"]
    assert 0 <= counted <= 1
    assert list(evaluate(config, tmp_path)["policies"]) == ["sft", "haepo-log_ratio-seed0"]
