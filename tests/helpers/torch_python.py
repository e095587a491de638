"""Another interpreter, with torch and libraries of it, and scripts that it runs."""

import importlib.util
import os
import subprocess
import sys

import pytest

VARIABLE = "HAEPO_TORCH_PYTHON"


def find_python(*packages, needs=None):
    """Finds this interpreter, if it has the packages, or the one that is named; or skips and says why.

    Args:
      packages: what is imported.
      needs: says what the named one must have, if that is not the packages.
    """
    if all(importlib.util.find_spec(name) for name in packages):
        return sys.executable
    if named := os.environ.get(VARIABLE, ""):
        return named
    pytest.skip(
        f"{', '.join(packages)} are not installed here; set {VARIABLE} to an interpreter that has {needs or 'them'}"
    )


def run_script(python, script, *arguments, timeout):
    """Runs a script with no network and no GPU, and returns how it ended, with what it printed."""
    return subprocess.run(
        [python, script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=timeout,
    )
