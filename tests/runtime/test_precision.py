"""`config.precision`: products in float32 wherever a program is traced, and the same bits on CPU."""

import concurrent.futures
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.errors import ConfigError
from haepo_jax.language import config as language
from haepo_jax.language.stages import stages
from haepo_jax.population import make_population
from haepo_jax.runs.evaluation import measure
from haepo_jax.runs.experiment import run
from haepo_jax.runs.files import read_attempts, read_identity
from haepo_jax.runs.policies import load_policy
from haepo_jax.runtime.precision import computing_products, name_precision, with_precision

SMALL = {
    "env": "Catch-bsuite",
    "num_seeds": 2,
    "num_updates": 2,
    "num_trajectories": 4,
    "min_batch_steps": None,
    "policy": {"hidden_sizes": (8,)},
}
MATRIX = jnp.ones((3, 3))


def config_of(**changes):
    return fixed_config(SMALL | changes)


def precisions_of(lowered):
    """The precision of each matrix product of a lowered program, as StableHLO has it."""
    products = re.findall(r"stablehlo\.dot_general[^\n]*", lowered.as_text())
    return [re.search(r"precision = \[(\w+), (\w+)\]", product) for product in products]


def update_of(**changes):
    population = make_population(config_of(**changes), devices=jax.devices()[:1])
    return population.advance.lower(population.abstract_state(), jnp.int32(1))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"memory": "store"}, marks=pytest.mark.slow),
        pytest.param({"memory": "recompute"}, marks=pytest.mark.slow),
        {"policy": {"network": "gru", "hidden_sizes": (8,)}},
        {"algorithm": "ppo", "evaluate_every": 1},
    ],
    ids=["remat", "store", "recompute", "recurrent", "ppo"],
)
def test_float32_asks_for_the_highest_precision_of_every_product_of_an_update(changes):
    asked = precisions_of(update_of(precision="float32", **changes))
    assert len(asked) > 3 and all(found and set(found.groups()) == {"HIGHEST"} for found in asked)
    left = precisions_of(update_of(**changes))
    assert len(left) == len(asked)
    assert not any(found and "HIGHEST" in found.groups() for found in left)


@pytest.mark.slow
def test_both_precisions_have_the_same_bits_on_cpu():
    if jax.default_backend() != "cpu":
        pytest.skip("products of float32 have all their bits by default on CPUs alone")
    default, float32 = (
        make_population(config_of(precision=precision), devices=jax.devices()[:1]).run([{}], range(2))
        for precision in ("default", "float32")
    )
    jax.tree.map(np.testing.assert_array_equal, (dict(default), default.params), (dict(float32), float32.params))


def test_the_precision_holds_in_whichever_thread_a_function_is_traced():
    product = with_precision("float32", lambda x: x @ x)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        (found,) = precisions_of(pool.submit(jax.jit(product).lower, MATRIX).result())
    assert set(found.groups()) == {"HIGHEST"}
    assert name_precision() == "default"


def test_what_is_left_to_jax_follows_its_flag_and_float32_does_not():
    def product(x):
        return x @ x

    assert with_precision("default", product) is product
    with jax.default_matmul_precision("bfloat16"):
        assert name_precision() == "bfloat16"
        with computing_products("default"):
            assert name_precision() == "bfloat16"
        with computing_products("float32"):
            assert name_precision() == "float32"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A complete run in float32."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run(config_of(precision="float32"), folder)
    return folder


def test_the_record_the_identity_and_the_provenance_of_a_run_have_it(workdir):
    assert json.loads((workdir / "config.json").read_text())["precision"] == "float32"
    assert read_identity(workdir)["numbers"]["jax_default_matmul_precision"] == "float32"
    assert [attempt["matmul_precision"] for attempt in read_attempts(workdir)] == ["float32"]


def test_a_run_in_float32_resumes_whatever_the_flag_of_jax_says_and_another_precision_is_refused(workdir):
    with jax.default_matmul_precision("bfloat16"):
        assert not run(config_of(precision="float32"), workdir)  # complete
        with pytest.raises(ConfigError, match=r"another config: precision \(was float32, now default\)"):
            run(config_of(), workdir)


@pytest.mark.slow
def test_a_run_of_before_the_setting_resumes_as_it_was(tmp_path):
    run(config_of(), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    del record["precision"]
    path.write_text(json.dumps(record))
    assert not run(config_of(), tmp_path / "run")
    with pytest.raises(ConfigError, match="precision"):
        run(config_of(precision="float32"), tmp_path / "run")


def test_evaluations_and_loaded_policies_compute_in_it(workdir, monkeypatch):
    policy = load_policy(workdir)
    observation = jnp.zeros(policy.environment.observation_shape)
    found = precisions_of(jax.jit(policy.apply).lower(policy.params, observation))
    assert found and all(set(one.groups()) == {"HIGHEST"} for one in found)
    seen = []

    def note(*args, **kwargs):
        seen.append(name_precision())
        raise ConfigError("seen")

    monkeypatch.setattr("haepo_jax.runs.evaluation.play", note)
    with pytest.raises(ConfigError, match="seen"):
        measure(workdir, episodes=2)
    assert seen == ["float32"]


def test_another_word_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"config\.precision 'tf32' is not known; allowed: default, float32"):
        config_of(precision="tf32")


@pytest.mark.parametrize("stage", ["sft", "reward", "rl"])
def test_stages_of_language_models_compute_in_it_and_record_it(monkeypatch, tmp_path, stage):
    config = language.from_config_dict({"precision": "float32"})
    assert language.stage_settings(config, stage)["precision"] == "float32"
    seen = []
    monkeypatch.setattr(stages, "_run_stage", lambda *arguments: seen.append(name_precision()))
    {"sft": stages.run_sft, "reward": stages.run_reward, "rl": stages.run_rl}[stage](config, tmp_path)
    assert seen == ["float32"]
