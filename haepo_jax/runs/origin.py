"""Which version of the package began a run."""

import contextlib
from pathlib import Path

import haepo_jax
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import read_attempts, read_identity
from haepo_jax.runs.older_versions import FIRST


def describe_versions(workdir: Path) -> str:
    """Says with which version of the package a run was begun, and which one this is."""
    version, commit = find_origin(workdir)
    begun = version if commit is None else f"{version} (commit {str(commit)[:10]})"
    return f"The run was begun with haepo_jax {begun}, and this is {haepo_jax.__version__}."


def is_of_this_version(workdir: Path) -> bool:
    """Returns whether a run was begun with this version of the package."""
    return find_origin(workdir)[0] == haepo_jax.__version__


def find_origin(workdir: Path) -> tuple[str, str | None]:
    """Finds the version of the package that began a run, and its commit, None where it is not known."""
    noted, first = read_identity(workdir), {}
    with contextlib.suppress(ConfigError, IndexError):  # no number of the run depends on its provenance
        first = read_attempts(workdir)[0]
    version = first.get("packages", {}).get("haepo_jax", FIRST) if noted is None else noted["haepo_jax"]
    return version, (first.get("git") or {}).get("commit")
