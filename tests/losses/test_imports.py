"""What `import haepo_jax` brings along, and what it offers."""

import subprocess
import sys
from pathlib import Path

import haepo_jax
from haepo_jax import losses

ROOT = Path(haepo_jax.__file__).parents[1]
HEAVY = ("gymnax", "distrax", "orbax", "matplotlib", "tensorflow_probability", "flax", "optax", "rlax")


def _modules_after(statement):
    command = [sys.executable, "-c", f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def test_importing_the_package_needs_jax_and_chex_alone():
    modules = _modules_after("import haepo_jax")
    assert "haepo_jax.losses.haepo" in modules
    assert [name for name in modules if name.split(".")[0] in HEAVY] == []


def test_the_losses_import_nothing_else_of_the_package():
    modules = [name for name in _modules_after("import haepo_jax.losses") if name.startswith("haepo_jax.")]
    assert modules != []
    assert [name for name in modules if name.split(".")[1] != "losses"] == []


def test_every_public_loss_is_offered_at_the_top():
    assert all(getattr(haepo_jax, name) is getattr(losses, name) for name in losses.__all__)
    assert set(losses.__all__) < set(haepo_jax.__all__)
