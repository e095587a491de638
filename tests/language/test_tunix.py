"""The adapter to google-tunix, in an environment of its own that has it; without it, the sentence that says so.

HAEPO_TUNIX_PYTHON names an interpreter that has google-tunix and what haepo_jax requires, to save installing them.
"""

import importlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENT = "google-tunix==0.1.7"
MODULE = "haepo_jax.language.tunix"


def in_tunix(test):
    """Marks a test that needs the environment, whose making takes minutes."""
    return pytest.mark.slow(pytest.mark.timeout(1800)(test))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What `tunix_steps.py` wrote."""
    folder = tmp_path_factory.mktemp("tunix")
    python = os.environ.get("HAEPO_TUNIX_PYTHON") or _environment(folder)
    results = folder / "results.json"
    script = ROOT / "tests" / "helpers" / "tunix_steps.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    _run(python, script, ROOT / "docs" / "tunix.md", results, env=environment)
    return json.loads(results.read_text())


def _environment(folder):
    python = folder / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", folder / "venv")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "20")
    try:
        subprocess.run(
            [*pip, "download", "--no-deps", "--dest", folder / "wheels", REQUIREMENT],
            check=True,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{REQUIREMENT} cannot be fetched from the package index: {error.stderr.strip().splitlines()[-1]}")
    ours = [requirement for requirement in metadata.requires("haepo_jax") if "extra ==" not in requirement]
    _run(*pip, "install", REQUIREMENT, *ours)
    return python


def _run(*command, env=None):
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def import_with(monkeypatch, version):
    """Imports the adapter where google-tunix has this version, or is missing."""
    real = metadata.version

    def pretended(name):
        if name != "google-tunix":
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", pretended)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    importlib.import_module(MODULE)


def test_a_missing_tunix_is_reported_with_what_to_install(monkeypatch):
    with pytest.raises(ImportError) as error:
        import_with(monkeypatch, None)
    assert str(error.value) == (
        "haepo_jax.language.tunix needs google-tunix 0.1.7 (No package metadata was found for google-tunix): "
        "pip install 'haepo_jax[tunix]'."
    )


def test_another_version_of_tunix_is_refused(monkeypatch):
    with pytest.raises(ImportError) as error:
        import_with(monkeypatch, "0.1.8")
    assert str(error.value) == (
        "haepo_jax.language.tunix needs google-tunix 0.1.7 (0.1.8 is installed): pip install 'haepo_jax[tunix]'."
    )


@in_tunix
def test_the_registered_loss_and_its_gradient_are_those_by_hand(measured):
    assert len(measured["against_hand"]) == 12  # three scores, with and without a reference and a behaviour policy
    for result in measured["against_hand"]:
        ours, by_hand = result["loss"]
        assert ours == pytest.approx(by_hand, rel=1e-5, abs=1e-6), result["case"]
        assert result["gradient_norm"] > 0.01, result["case"]
        assert result["gradient_error"] < 1e-5 * result["gradient_norm"], result["case"]


@in_tunix
def test_the_metrics_of_a_batch_are_those_by_hand(measured):
    for name, value in measured["metrics_by_hand"].items():
        assert measured["metrics"][name] == pytest.approx(value, rel=1e-4), name
    assert measured["metrics"]["weights_kl"] > 0
    assert measured["metrics"]["returns_sum_not_positive"] == measured["metrics"]["pg_clipfrac"] == 0


@in_tunix
def test_a_step_of_tunix_own_learner_is_the_step_by_hand(measured):
    """Two microbatches, each a prompt with its responses, accumulate to one step of gradient descent."""
    step = measured["one_step"]
    assert step["microbatches"] == [4, 4]
    first, second = np.split(np.array(step["prompts"]), 2)
    assert (first == first[0]).all() and (second == second[0]).all() and (first[0] != second[0]).any()
    assert len(set(step["rewards"])) > 4
    assert step["step"] > 0.1
    assert step["error"] < 1e-5 * step["step"]
    assert len(step["kl"]) == 1 and np.isfinite(step["kl"]).all()


@in_tunix
def test_the_documented_example_trains_and_its_metrics_arrive(measured):
    run = measured["documented_steps"]
    assert run["learner"] == "HaepoLearner"
    assert run["finite"] and not run["reference_moved"]
    assert run["moved"] > 0.9  # of the parameters
    metrics = run["metrics"]
    assert all(
        len(values) == 4 and np.isfinite(values).all() for values in metrics.values()
    )  # two batches, twice each
    # Importance weights are uniform on fresh data, and no longer so after a step.
    np.testing.assert_allclose(metrics["effective_sample_size"][::2], 4, rtol=1e-4)
    assert all(1 <= size < 3.9 for size in metrics["effective_sample_size"][1::2])
    np.testing.assert_allclose(metrics["weights_entropy"][::2], np.log(4), rtol=1e-4)
    assert min(metrics["weights_kl"]) > 0 and min(metrics["grad_norm"]) > 0


@in_tunix
def test_what_haepo_cannot_learn_from_is_refused(measured):
    assert measured["refusals"] == {
        "packed": "ConfigError: HAEPO cannot learn from packed sequences, which part the responses to a prompt: "
        "leave RLTrainingConfig.max_seq_token_per_tpu unset.",
        "rows": "ConfigError: A micro-batch of 6 responses does not hold whole groups of num_generations 4, "
        "whose responses HAEPO has to see together.",
        "temperature": "ConfigError: Score log_ratio with num_iterations 2 needs a rollout temperature of 1, got 0.9: "
        "google-tunix 0.1.7 takes the sampling policy's log-probabilities at 1.",
        "setting": "ConfigError: config.haepo.score 'ratio' is not known; allowed: sum, mean, log_ratio, or one of "
        "your own as package.module:attribute.",
        "epsilon": "TypeError: HaepoConfig.__init__() got an unexpected keyword argument 'epsilon'",
    }


@in_tunix
def test_tunix_is_as_the_document_says(measured):
    facts = measured["facts"]
    assert facts["rope_theta_is_ignored"]
    assert facts["rollouts_repeat"]
    assert facts["old_log_probs_are_at_temperature_one"]
    assert facts["reference_without_kl"] == [False, False]
