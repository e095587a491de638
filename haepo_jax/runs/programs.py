"""What the updates of a run compute, as `run.json` records it: no run mixes updates that compute different things."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jax

import haepo_jax
from haepo_jax.errors import ConfigError
from haepo_jax.runs.component_files import Described, find_changes
from haepo_jax.runs.files import read_identity
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.origin import describe_versions
from haepo_jax.text import visible

_NAMES = {"haepo_jax": "haepo_jax", "jax": "JAX"}


def check_programs(workdir: Path, programs: Mapping[str, str], components: Described = MappingProxyType({})) -> None:
    """Makes sure that updates compute what they did when the run was begun; changes nothing.

    Versions of the package whose `NUMBERS` are the same compute the same, by other operations maybe.

    Args:
      workdir: the run folder.
      programs: the fingerprint of an update of each group, by its name.
      components: those from outside that updates are made with. Where their files have changed and updates compute
        the same, that is reported.

    Raises:
      ConfigError: an update computes something else.
    """
    changes = find_changes(workdir, components)
    noted = (read_identity(workdir) or {}).get("programs", {})
    changed = [noted[group] for group, program in programs.items() if _differs(noted.get(group), program)]
    if changed:
        _report_versions(workdir, changed, changes)
    for change in changes:
        same = "" if changed else "; its updates compute the same, so the run resumes"
        print(visible(f"Since the run was begun {change}{same}."), flush=True)


def _report_versions(workdir: Path, changed: Sequence[Mapping[str, str]], changes: Sequence[str]) -> None:
    """Says which versions computed updates whose fingerprints have changed; refuses them where it was this one."""
    now = _list_versions()
    others = [name for name in now if any(before[name] != now[name] for before in changed)]
    if not others:
        what = "; ".join(changes) or "the loss, the network, the environment or a package has changed"
        raise ConfigError(
            f"--workdir {workdir} was begun with other updates: {what}, and the run would mix both. "
            f"{describe_versions(workdir)} Nothing was changed in the folder; use the code it was begun with, or "
            "another --workdir."
        )
    was, is_now = (" and ".join(f"{_NAMES[name]} {of[name]}" for name in others) for of in (changed[0], now))
    unknown = "whether an update" if "jax" in others else "whether code of your own in it"
    print(
        f"The updates of this run were computed with {was}, and this is {is_now}: {unknown} still computes the same "
        "cannot be seen.",
        flush=True,
    )


def record_programs(workdir: Path, programs: Mapping[str, str], components: Described = MappingProxyType({})) -> None:
    """Records in `run.json` what updates compute from now on, and with which components the run was begun.

    Arguments as of `check_programs`, which comes first.

    Raises:
      OSError: it cannot be written.
    """
    identity = read_identity(workdir)
    assert identity is not None  # `write_identity` has written it
    programs_then, components_then = identity["programs"], identity["components"]
    changed = {
        group: {"fingerprint": program} | _list_versions()
        for group, program in programs.items()
        if group not in programs_then or _differs(programs_then[group], program)
    }
    if changed or not components.keys() <= components_then.keys():
        recorded = {"programs": programs_then | changed, "components": {**components, **components_then}}
        write_json(workdir / "run.json", identity | recorded)


def _differs(noted: Mapping[str, str] | None, program: str) -> bool:
    return noted is not None and noted["fingerprint"] != program


def _list_versions() -> dict[str, str]:
    """Lists those that decide the operations of an update."""
    return {"haepo_jax": haepo_jax.__version__, "jax": jax.__version__}
