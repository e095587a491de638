"""The stages end to end, on a tiny model and a little of the generated task."""

import json
import shutil

import jax
import numpy as np
import pyarrow.dataset
import pytest
import safetensors.numpy
from helpers.stopped_stages import stop_after

from haepo_jax.errors import ConfigError, Interrupted
from haepo_jax.language.config import ON_LANGUAGE, from_config_dict, name_run
from haepo_jax.language.data import corpus, generated_task
from haepo_jax.language.data.prompts import get_prompt_format
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.hugging_face.adapters import read_adapter
from haepo_jax.language.model.hugging_face.folder import read_model
from haepo_jax.language.model.lora import fold, join
from haepo_jax.language.stages import context, fitting, models, stages
from haepo_jax.language.stages.evaluation import evaluate
from haepo_jax.language.stages.samples import read_samples
from haepo_jax.language.training.reward import compute_rewards
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.runs.json_files import read_json

SMALL = {
    "model": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 32},
    "data": {"num_held_out": 16},
    "sft": {"num_steps": 6, "batch_size": 8},
    "reward": {"num_steps": 4, "batch_size": 8, "optimizer": {"transform": "optax:scale_by_adam"}},
    "rl": {
        "num_updates": 3,
        "num_prompts": 8,
        "num_samples": 4,
        "microbatch": 8,
        "gradient": "two_pass",
        "min_reward_accuracy": 0.0,
        "evaluate_every": 2,
    },
}


def config_with(**changes):
    values = {name: dict(value) for name, value in SMALL.items()}
    for name, value in changes.items():
        values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
    return from_config_dict(values)


@pytest.fixture(scope="module")
def little_data():
    with pytest.MonkeyPatch.context() as patch:
        write = generated_task.write
        patch.setattr(
            generated_task, "write", lambda folder: write(folder, num_posts=64, num_comparisons=64, num_held_out=16)
        )
        yield


@pytest.fixture(scope="module")
def made(little_data, tmp_path_factory):
    """A work folder with a fine-tuned policy and a reward model."""
    workdir = tmp_path_factory.mktemp("made")
    assert stages.run_sft(config_with(), workdir)
    assert stages.run_reward(config_with(), workdir)
    return workdir


@pytest.fixture
def workdir(made, tmp_path):
    for name in ("data", "sft", "reward"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def metrics_of(folder):
    return pyarrow.dataset.dataset(folder / "metrics").to_table().sort_by("update").to_pydict()


def params_of(folder):
    return read_model(folder / "model").params


def assert_same(a, b, tolerance=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_fine_tuning_leaves_a_model_and_its_metrics(made):
    summary = read_json(made / "sft" / "summary.json")
    assert summary["status"] == "ok" and summary["updates"] == 6
    assert 0 < summary["held_out_nll"] < 10
    metrics = metrics_of(made / "sft")
    assert metrics["update"] == list(range(6))
    assert metrics["loss"][-1] < metrics["loss"][0]
    assert np.all(np.diff(metrics["tokens"]) > 0) and metrics["tokens"][-1] == summary["tokens"]


def test_the_reward_model_is_judged_on_held_out_comparisons(made):
    summary = read_json(made / "reward" / "summary.json")
    setting = context.make_context(config_with(), made)
    model = setting.read(made / "reward" / "model")
    decoder, params = setting.decoder(model.architecture), {"decoder": model.params, "score": model.score}
    rows = corpus.read_comparisons(
        setting.config.data, Tokenizer.from_folder(made / "reward" / "model"), held_out=True
    )
    length = get_prompt_format("generated").comparison_length
    reward = jax.jit(lambda rows: compute_rewards(decoder, params, rows, response_length=length, pooling="sum"))
    chosen, rejected = (reward(Sequences(rows.tokens[:, k], rows.valid[:, k])) for k in (0, 1))
    assert len(rows.tokens) == 16 and summary["held_out_accuracy"] == pytest.approx(float(np.mean(chosen > rejected)))
    assert summary["pooling"] == "sum"
    assert read_model(made / "reward" / "model").score.shape == (16,)


def test_a_component_from_outside_is_noted_with_the_hash_of_its_file(made):
    component = read_json(made / "reward" / "run.json")["components"]["optax:scale_by_adam"]
    assert component["settings"] == ["reward.optimizer.transform"] and len(component["sha256"]) == 64
    (attempt,) = read_json(made / "reward" / "provenance.json")
    assert attempt["components"] == {"optax:scale_by_adam": component}
    assert "components" not in read_json(made / "sft" / "run.json")


def test_a_complete_stage_is_not_done_again(made):
    before = (made / "sft" / "summary.json").stat().st_mtime_ns
    assert not stages.run_sft(config_with(), made)
    assert (made / "sft" / "summary.json").stat().st_mtime_ns == before


def test_another_config_is_refused_and_another_stage_s_settings_are_not(made):
    with pytest.raises(ConfigError, match=r"sft.num_steps \(was 6, now 7\)"):
        stages.run_sft(config_with(sft={"num_steps": 7}), made)
    assert not stages.run_sft(config_with(rl={"num_updates": 9}), made)


def test_another_config_is_refused_before_a_model_is_read(workdir, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("the stage is made")

    (workdir / "sft" / "summary.json").unlink()
    monkeypatch.setattr(stages, "make_context", fail)
    with pytest.raises(ConfigError, match=r"sft.num_steps \(was 6, now 7\)"):
        stages.run_sft(config_with(sft={"num_steps": 7}), workdir)


def test_a_setting_that_came_later_than_a_run_has_its_default_there(workdir):
    path = workdir / "sft" / "config.json"
    record = read_json(path)
    del record["sft"]["microbatch"]
    path.write_text(json.dumps(record))
    assert not stages.run_sft(config_with(), workdir)
    with pytest.raises(ConfigError, match=r"sft.microbatch \(was 0, now 4\)"):
        stages.run_sft(config_with(sft={"microbatch": 4}), workdir)


HANDED_IN = "helpers.own_methods:ON_LANGUAGE"


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(name, marks=() if name == "haepo" else pytest.mark.slow) for name in (*ON_LANGUAGE, HANDED_IN)],
)
def test_every_method_learns_from_what_the_stages_before_it_made(workdir, algorithm):
    rl = {"kl_penalty": 0.0, "missing_eos_penalty": 0.0} if algorithm == "maxrl" else {}
    config = config_with(algorithm=algorithm, rl=rl)
    assert stages.run_rl(config, workdir)
    folder = workdir / "rl" / name_run(config)
    metrics = metrics_of(folder)
    assert len(metrics["loss"]) == 3 and np.isfinite(metrics["loss"]).all()
    samples = algorithm not in ON_LANGUAGE or ON_LANGUAGE[algorithm].comparisons is None
    if samples:
        assert max(metrics["sampler_gap"]) < 1e-3
        assert abs(metrics["reference_kl"][0]) < 1e-3  # the policy begins as the reference
        assert min(metrics["response_length"]) >= 1
    assert np.isfinite(metrics["held_out_gold"]).tolist() == [False, True, False]
    assert np.isfinite(metrics["held_out_reference_kl"][1]) and metrics["held_out_length"][1] >= 1
    assert ("held_out_reward" in metrics) == samples
    moved = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), params_of(folder), params_of(workdir / "sft"))
    assert max(jax.tree.leaves(moved)) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["haepo", "dpo", "haepo, its weights moved by a dual"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(workdir, monkeypatch, algorithm):
    name, _, moved = algorithm.partition(",")
    own = {"haepo": {"adapt": "dual"}} if moved else {}
    whole, stopped = (config_with(algorithm=name, name=run, **own) for run in ("whole", "stopped"))
    stages.run_rl(whole, workdir)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted, match="after update 2 of 3"):
            stages.run_rl(stopped, workdir)
    assert not (workdir / "rl" / "stopped" / "summary.json").exists()
    stages.run_rl(stopped, workdir)
    assert_same(params_of(workdir / "rl" / "stopped"), params_of(workdir / "rl" / "whole"))
    one, other = (metrics_of(workdir / "rl" / name) for name in ("whole", "stopped"))
    np.testing.assert_equal(one, other)  # which takes NaN, where nothing was looked at, for equal


@pytest.mark.slow
def test_a_resumed_run_is_held_to_its_reference_and_its_reward_model(workdir, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            stages.run_rl(config_with(), workdir)
    shutil.rmtree(workdir / "reward")
    stages.run_reward(config_with(reward={"num_steps": 2}), workdir)
    with pytest.raises(ConfigError, match="was started with another reference policy or reward model"):
        stages.run_rl(config_with(reward={"num_steps": 4}), workdir)


@pytest.mark.slow
def test_a_poor_reward_model_is_refused_before_anything_is_written(workdir):
    with pytest.raises(ConfigError, match=r"decides 0\.\d+ of the held-out comparisons rightly, less than .* 1.0"):
        stages.run_rl(config_with(rl={"min_reward_accuracy": 1.0}), workdir)
    assert not (workdir / "rl").exists()


@pytest.mark.parametrize(("stage", "missing"), [(stages.run_reward, "sft"), (stages.run_rl, "reward")])
def test_a_stage_says_which_stage_it_builds_on(workdir, stage, missing):
    for made in ("reward", missing):
        shutil.rmtree(workdir / made, ignore_errors=True)
    with pytest.raises(ConfigError, match=f"run --stage={missing} first, or give config.{missing}_path"):
        stage(config_with(reward={"num_steps": 5}), workdir)


def test_a_reward_model_is_read_with_the_pooling_that_it_was_made_with(workdir):
    with pytest.raises(ConfigError) as error:
        stages.run_rl(config_with(reward={"pooling": "last"}), workdir)
    assert str(error.value) == (
        f"The reward model in {workdir / 'reward' / 'model'} was made with config.reward.pooling sum, and cannot be "
        "read with last; give --config.reward.pooling=sum."
    )
    assert not (workdir / "rl").exists()


BIG = 2**31 - 1
WRONG = {
    "a model beyond the machine": (stages.run_sft, {"model": {"intermediate_size": 2**24, "num_layers": 10_000}}),
    "a batch beyond the machine": (stages.run_sft, {"sft": {"batch_size": BIG}}),
    "comparisons beyond the machine": (stages.run_reward, {"reward": {"batch_size": BIG}}),
    "responses beyond the machine": (stages.run_rl, {"rl": {"num_samples": BIG, "gradient": "smallest"}}),
    "model.path": (stages.run_sft, {"model": {"path": "nowhere"}}),
    "sft_path": (stages.run_reward, {"sft_path": "nowhere"}),
    "reward_path": (stages.run_rl, {"reward_path": "~nosuchuser/nowhere"}),
    "sft_path of rl": (stages.run_rl, {"sft_path": "nowhere"}),
    "evaluate": (evaluate, {"sft_path": "nowhere"}),
    "no sft": (stages.run_reward, {}),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("existed", [False, True])
def test_a_stage_that_is_refused_leaves_nothing(little_data, made, tmp_path, wrong, existed):
    stage, changes = WRONG[wrong]
    if wrong == "reward_path":
        changes = changes | {"sft_path": str(made / "sft" / "model")}
    workdir = tmp_path / "deep" / "work"
    if existed:
        workdir.mkdir(parents=True)
    with pytest.raises(ConfigError):
        stage(config_with(**changes), workdir)
    assert list(tmp_path.rglob("*")) == ([workdir.parent, workdir] if existed else [])


def test_a_stage_that_is_refused_leaves_what_was_there(workdir):
    before = sorted(workdir.rglob("*"))
    with pytest.raises(ConfigError):
        stages.run_rl(config_with(reward_path="nowhere"), workdir)
    assert sorted(workdir.rglob("*")) == before


def test_a_model_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(models.os, "listdir", fail)
    with pytest.raises(ConfigError, match=rf"^--config\.sft_path={tmp_path} cannot be read: Permission denied\.$"):
        models.find_policy_folder(config_with(sft_path=str(tmp_path)), tmp_path / "work")


@pytest.mark.parametrize("name", ["reward", pytest.param("sft", marks=pytest.mark.slow)])
def test_a_bad_row_that_is_held_out_is_seen_before_anything_is_learnt(workdir, name):
    stage, data = {"sft": (stages.run_sft, "tldr_3_filtered"), "reward": (stages.run_reward, "comparisons")}[name]
    path = workdir / "data" / data / "valid.jsonl"
    path.write_text("{}\n")
    shutil.rmtree(workdir / name)
    with pytest.raises(ConfigError, match=rf"^{path}, line 1: field \w+ is missing\.$"):
        stage(config_with(), workdir)
    assert not (workdir / name).exists()


def test_generated_data_that_are_missing_are_made_again(workdir):
    path = workdir / "data" / "comparisons" / "valid.jsonl"
    before = path.read_bytes()
    path.unlink()
    context.make_context(config_with(), workdir)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_what_is_missing_of_a_finished_stage_is_made_again(workdir, made):
    losses = (
        lambda: shutil.rmtree(workdir / "sft" / "model"),
        (workdir / "sft" / "model" / "model.safetensors").unlink,
        lambda: (workdir / "sft" / "summary.json").write_text('{"stage": '),
        (workdir / "sft" / "summary.json").unlink,
    )
    whole = {path.name: path.read_bytes() for path in (made / "sft" / "model").iterdir()}
    summary = read_json(made / "sft" / "summary.json")
    for lose in losses:
        lose()
        assert stages.run_sft(config_with(), workdir)
        assert {path.name: path.read_bytes() for path in (workdir / "sft" / "model").iterdir()} == whole
        again = read_json(workdir / "sft" / "summary.json")
        assert {**again, "wall_clock": None} == {**summary, "wall_clock": None}
    assert not stages.run_sft(config_with(), workdir)


@pytest.mark.slow
def test_a_run_that_diverged_stays_so_and_is_left_out(workdir, capsys):
    reward = workdir / "reward" / "model"
    tensors = safetensors.numpy.load_file(reward / "model.safetensors")
    tensors["score.weight"] *= np.nan
    safetensors.numpy.save_file(tensors, reward / "model.safetensors")
    (reward / "haepo_jax.json").unlink()
    config = config_with(name="bad")
    assert stages.run_rl(config, workdir)
    for _ in range(2):
        folder = workdir / "rl" / "bad"
        assert read_json(folder / "summary.json")["status"] == "diverged"
        assert not (folder / "model").exists()
        assert_same(read_model(folder / "model_before_divergence").params, params_of(workdir / "sft"))
        assert not stages.run_rl(config, workdir)
    assert list(evaluate(config_with(), workdir)["policies"]) == ["sft"]
    assert "Leaves out bad, which diverged at update 0." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("change", ["order", "content"])
def test_a_resumed_run_is_held_to_its_data(workdir, monkeypatch, change):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            stages.run_rl(config_with(), workdir)
    path = workdir / "data" / "tldr_3_filtered" / "train.jsonl"
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    path.write_text("".join(lines[::-1]) if change == "order" else good.replace("SO", "DO").replace("BOSS", "boss"))
    with pytest.raises(ConfigError, match=rf"^{path} has changed since {workdir / 'rl'}.* was started"):
        stages.run_rl(config_with(), workdir)
    path.write_text(good.replace('"id": "', '"id": "x-'))  # which no example holds
    assert stages.run_rl(config_with(), workdir)


@pytest.mark.slow
def test_with_top_p_no_divergence_is_reported(workdir):
    stages.run_rl(config_with(name="cut", rl={"top_p": 0.5, "kl_penalty": 0.0}), workdir)
    metrics = metrics_of(workdir / "rl" / "cut")
    assert np.isnan(metrics["reference_kl"]).all() and np.isnan(metrics["held_out_reference_kl"]).all()
    assert np.isfinite(metrics["loss"]).all() and np.isfinite(metrics["held_out_gold"][1])


def test_a_policy_is_no_reward_model(workdir):
    with pytest.raises(ConfigError, match="is no reward model"):
        stages.run_rl(config_with(reward_path=str(workdir / "sft" / "model")), workdir)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "way", "size"), [(2**40, "one_shot", 32), (2**10, "two_pass", 1)])
def test_a_microbatch_of_zero_takes_what_memory_holds(workdir, monkeypatch, there, way, size):
    monkeypatch.setattr(fitting, "device_bytes", lambda: there)
    config = config_with(rl={"microbatch": 0, "gradient": "smallest", "num_updates": 1}, name="fitted")
    stages.run_rl(config, workdir)
    summary = read_json(workdir / "rl" / "fitted" / "summary.json")
    assert (summary["gradient"], summary["microbatch"]) == (way, size)
    assert summary["tokens_per_second"] == summary["tokens"] / summary["wall_clock"]["run_seconds"]


@pytest.mark.slow
def test_an_adapter_learns_and_is_folded_into_what_is_written(workdir):
    config = config_with(model={"adapter_rank": 2}, name="adapted")
    stages.run_rl(config, workdir)
    before, after = params_of(workdir / "sft"), params_of(workdir / "rl" / "adapted")
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    change = np.asarray(after["layers"]["mlp"]["up"]["kernel"] - before["layers"]["mlp"]["up"]["kernel"])
    assert np.abs(change).max() > 1e-6
    assert np.all(np.linalg.matrix_rank(change, tol=1e-7) <= 2)
    assert abs(metrics_of(workdir / "rl" / "adapted")["reference_kl"][0]) < 1e-3
    assert_adapter_is_the_change(workdir / "rl" / "adapted", before, after)


def assert_adapter_is_the_change(folder, before, after):
    """What the folder `adapter` holds is what the merged model differs by."""
    adapter, params = read_adapter(folder / "adapter", read_model(folder / "model").architecture)
    assert (adapter.rank, adapter.alpha) == (2, 16.0)
    assert_same(fold(join({"layers": before["layers"]}, params), adapter)["layers"], after["layers"], tolerance=1e-6)


@pytest.mark.slow
def test_a_reward_model_may_be_an_adapter_with_a_score_and_learn_in_pieces(workdir):
    shutil.rmtree(workdir / "reward")
    own = {"adapter_rank": 2, "microbatch": 3}
    stages.run_reward(config_with(reward=own, model={"frozen_dtype": "bfloat16"}), workdir)
    before, after = params_of(workdir / "sft"), params_of(workdir / "reward")
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    assert np.abs(after["layers"]["mlp"]["up"]["kernel"] - before["layers"]["mlp"]["up"]["kernel"]).max() > 1e-6
    assert np.abs(read_model(workdir / "reward" / "model").score).max() > 1e-6
    assert_adapter_is_the_change(workdir / "reward", before, after)
    tensors = safetensors.numpy.load_file(workdir / "reward" / "adapter" / "adapter_model.safetensors")
    np.testing.assert_array_equal(
        tensors["base_model.model.score.weight"][0], read_model(workdir / "reward" / "model").score
    )
    stages.run_rl(config_with(reward={"adapter_rank": 2}, rl={"num_updates": 1}, name="judged"), workdir)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "reward", "rl"])
def test_a_stage_computes_in_bfloat16(workdir, stage):
    if stage != "rl":
        shutil.rmtree(workdir / stage)
    config = config_with(model={"dtype": "bfloat16"}, name="low")
    {"sft": stages.run_sft, "reward": stages.run_reward, "rl": stages.run_rl}[stage](config, workdir)
    folder = workdir / "rl" / "low" if stage == "rl" else workdir / stage
    assert np.isfinite(metrics_of(folder)["loss"]).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(params_of(folder))} == {np.dtype("float32")}


@pytest.mark.slow
def test_parameters_over_the_devices_change_nothing_but_rounding(workdir):
    for name, fsdp in (("copies", 1), ("shared", 4)):
        stages.run_rl(config_with(name=name, mesh={"fsdp": fsdp}, rl={"num_updates": 1}), workdir)
    copies, shared = (metrics_of(workdir / "rl" / name) for name in ("copies", "shared"))
    np.testing.assert_allclose(shared["reward"], copies["reward"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shared["loss"], copies["loss"], rtol=1e-3, atol=1e-5)
    assert_same(params_of(workdir / "rl" / "shared"), params_of(workdir / "rl" / "copies"), tolerance=2e-3)


@pytest.mark.slow
def test_a_batch_that_not_all_devices_can_share_is_shared_by_as_many_as_can(workdir, capsys):
    for prompts in (6, 7, 1):
        config = config_with(rl={"num_prompts": prompts, "num_updates": 1, "microbatch": 4}, name=f"of-{prompts}")
        assert stages.run_rl(config, workdir)
    said = capsys.readouterr().err
    for prompts in (6, 7, 1):
        assert f"Uses {prompts} of 8 devices, as more cannot share a batch of {prompts} evenly." in said


@pytest.mark.slow
@pytest.mark.parametrize("functions", [(), ("length",)])
def test_a_reward_model_and_reward_functions_add_and_responses_are_written_with_both(workdir, functions):
    rl = {
        "rewards": functions,
        "reward_kwargs": {"length": {"free": 2, "limit": 40}},
        "reward_weights": (0.5,)[: len(functions)],
    }
    config = config_with(
        name="both",
        reward_path=str(workdir / "reward" / "model"),
        rl=rl | {"num_updates": 2, "write_samples_every": 1, "evaluate_every": 1},
    )
    assert stages.run_rl(config, workdir)
    metrics = metrics_of(workdir / "rl" / "both")
    expected = np.array(metrics["reward/reward_model"])
    if functions:
        assert max(metrics["reward/length"]) < 0
        expected = expected + 0.5 * np.array(metrics["reward/length"])
        assert np.all(np.array(metrics["held_out_reward/length"]) < 0)
    np.testing.assert_allclose(metrics["reward"], expected, rtol=1e-4, atol=1e-5)
    samples = read_samples(workdir / "rl" / "both").to_pandas()
    np.testing.assert_allclose(samples.groupby("update")["reward"].mean(), metrics["reward"], rtol=1e-4, atol=1e-5)
    assert len(samples) == 2 * 32 and samples["prompt"].str.startswith("SUBREDDIT: r/").all()
    judged = evaluate(config, workdir)
    assert set(judged["policies"]["both"]) >= {"gold", "reward", *(f"reward/{name}" for name in functions)}


def test_data_of_ones_own_need_a_model(little_data, tmp_path):
    generated_task.write(tmp_path / "own")
    own = tmp_path / "own"
    paths = {
        "demonstrations": str(own / "tldr_3_filtered" / "train.jsonl"),
        "held_out_demonstrations": str(own / "tldr_3_filtered" / "valid.jsonl"),
        "test_demonstrations": str(own / "tldr_3_filtered" / "test.jsonl"),
        "comparisons": str(own / "comparisons"),
        "held_out_comparisons": str(own / "comparisons"),
    }
    with pytest.raises(ConfigError, match=r"config.model.path is empty"):
        stages.run_sft(config_with(data=paths), tmp_path / "work")


@pytest.mark.slow
def test_every_policy_is_judged_on_the_same_posts(workdir):
    stages.run_rl(config_with(name="mine"), workdir)
    (workdir / "rl" / "unfinished").mkdir()
    result = evaluate(config_with(), workdir)
    assert read_json(workdir / "evaluation.json") == result
    assert list(result["policies"]) == ["sft", "mine"]
    assert result["posts"] == 16
    assert abs(result["policies"]["sft"]["reference_kl"]) < 1e-3
    assert all(-3 <= policy["gold"] <= 5 for policy in result["policies"].values())
    there, back = result["win_rates"]["sft"]["mine"], result["win_rates"]["mine"]["sft"]
    assert there["plain"] + back["plain"] == pytest.approx(1)
    assert evaluate(config_with(), workdir) == result
