"""The wheel and the source distribution, as a user without a clone has them: minutes, and a network."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.py"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def run(*command, folder, code=0):
    """Runs a command as far from the project as can be; returns what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    finished = subprocess.run(
        [str(part) for part in command], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )
    assert finished.returncode == code, finished.stderr
    return finished.stdout + finished.stderr


def make_environment(folder, *requirements):
    """Makes a virtual environment in which nothing but these, and what they need, is installed."""
    run(sys.executable, "-m", "venv", folder, folder=folder.parent)
    if requirements:
        run(folder / "bin/pip", "install", "--quiet", *requirements, folder=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution, built from a copy of the project's files."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    tools = make_environment(folder / "tools", "build")
    run(tools / "python", "-m", "build", "--outdir", folder / "dist", source, folder=folder)
    (wheel,), (archive,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, archive


def test_the_wheel_holds_the_packages_their_configs_and_no_test(built):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        information = next(name for name in names if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(information))
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"haepo_jax", "experiments"}
    assert sorted(name.removeprefix("haepo_jax/configs/") for name in names if "/configs/" in name) == CONFIGS
    assert {"haepo_jax/py.typed", "haepo_jax/reports/page.css"} <= set(names)
    assert metadata["Requires-Python"] == ">=3.12" and "Paper, https://arxiv.org/abs/2508.18884" in str(metadata)
    assert "train" in metadata.get_all("Provides-Extra") and "Typing :: Typed" in metadata.get_all("Classifier")


def test_the_source_distribution_holds_what_tests_and_documents_need(built):
    _, path = built
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    assert {name for name in listed.split("\0") if (ROOT / name).is_file()} - names == set()


def test_without_an_extra_the_losses_alone_are_installed(built, tmp_path):
    tools = make_environment(tmp_path / "light", built[0])
    packages = run(tools / "pip", "list", "--format=freeze", folder=tmp_path).split()
    names = {package.partition("=")[0].lower() for package in packages}
    assert {"haepo_jax", "jax", "chex"} <= names and not {"flax", "optax", "gymnax", "matplotlib"} & names
    call = (
        "import haepo_jax as hj, jax.numpy as jnp; x = jnp.zeros(3); "
        "print(hj.haepo_loss(x, x, entropy_coef=1.0, kl_coef=0.0)[0])"
    )
    assert float(run(tools / "python", "-c", call, folder=tmp_path)) < 0
    assert "haepo train" in run(tools / "haepo", "--help", folder=tmp_path)
    sentence = run(tools / "haepo", "train", "--config=cartpole", folder=tmp_path, code=2)
    assert "pip install 'haepo_jax[train]'" in sentence and sentence.count("\n") == 1


def test_with_the_extra_a_shipped_config_trains_in_an_empty_folder(built, tmp_path):
    tools = make_environment(tmp_path / "whole", f"haepo_jax[train] @ {built[0].as_uri()}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    flags = ("--config=cartpole", "--config.num_updates=2", "--config.num_seeds=2", "--workdir=a")
    printed = run(tools / "haepo", "train", *flags, folder=elsewhere)
    assert "Next: haepo report --workdir=a\n      haepo evaluate --workdir=a\n" in printed
    assert (elsewhere / "a" / "summary.json").exists()
    assert "greedy return" in run(tools / "haepo", "evaluate", "--workdir=a", "--episodes=2", folder=elsewhere)
    assert "CartPole-v1" in run(tools / "haepo", "tasks", "--libraries=gymnax", folder=elsewhere)
    assert "did you mean cartpole?" in run(
        tools / "haepo", "train", "--config=cartpol", "--workdir=b", folder=elsewhere, code=2
    )
    sentence = run(tools / "haepo", "results", folder=elsewhere, code=2)
    assert "is installed without them" in sentence
