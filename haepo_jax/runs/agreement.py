"""What all processes of a run must have alike, compared before anything is made.

Each process trains its own members by its own config, and the folder notes that of process 0 alone. So a difference
would not be seen later, but for collectives that wait for ever.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import haepo_jax
from haepo_jax.config.checks import flatten
from haepo_jax.config.sweep import Sweep
from haepo_jax.errors import ConfigError
from haepo_jax.runs import identity
from haepo_jax.runs.component_files import describe_components
from haepo_jax.runs.provenance import list_package_versions
from haepo_jax.runtime import processes

_VISIBLE_SECONDS = 5.0  # until a file is seen by other hosts
_SHOWN = 6  # differences in a sentence
_LONGEST = 60  # characters of a value

_JAX_FLAGS = (
    *identity.FLAGS,
    *("jax_numpy_dtype_promotion", "jax_softmax_custom_jvp"),
    *("jax_disable_most_optimizations", "jax_optimization_level"),
)
_OF_ONE_HOST = ("--xla_dump", "--xla_force_host_platform_device_count")  # the devices are compared by themselves


def check(sweep: Sweep, flags: Mapping[str, Any]) -> None:
    """Refuses, on all processes, to run or plan a sweep that differs among them; all must call it.

    Args:
      sweep: as this process has it.
      flags: of the command, by name, as far as all must have them alike.

    Raises:
      ConfigError: they differ; it names in what, and the processes.
    """
    if jax.process_count() == 1:
        return
    own = json.dumps(_collect_facts(sweep, flags), sort_keys=True)
    digest = np.frombuffer(hashlib.sha256(own.encode()).digest(), np.uint8)
    digests = processes.gathered(digest)
    alike = (digests == digests[0]).all()
    facts = [] if alike else processes.texts(own)
    processes.part()  # from here on each knows by itself what becomes of the run
    if alike:
        return
    found = find_differences([json.loads(text) for text in facts])
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise ConfigError(
        f"The processes of this run differ: {'; '.join(found[:_SHOWN])}{more}. Start all with the same command, but "
        "for --process_id, and the same packages."
    )


@contextlib.contextmanager
def one_folder(workdir: Path) -> Iterator[None]:
    """Refuses, on all processes, a run folder that is not one and the same for them; all must enter it.

    Where the run is refused after all, a folder that was made for this and is empty is removed again.

    Raises:
      ConfigError: a process does not see in it what process 0 has put there.
    """
    if jax.process_count() == 1:
        yield
        return
    token = processes.from_first(np.frombuffer(os.urandom(16), np.uint8)).tobytes().hex()
    mark = workdir / f".seen-by-all-{token}"
    made: list[Path] = []
    placed = True
    if processes.is_first():
        made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:  # refused with its reason when the folder is opened
            placed = False
    try:
        if processes.from_first(np.array(placed)):
            _check_seen(workdir, mark)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it is not empty
            for folder in made:
                folder.rmdir()
        raise


def _check_seen(workdir: Path, mark: Path) -> None:
    try:
        seen = processes.gathered(np.array(_wait_until_visible(mark)))
    finally:
        if processes.is_first():
            mark.unlink(missing_ok=True)
    if not seen.all():
        others = ", ".join(map(str, np.flatnonzero(~seen)))
        raise ConfigError(
            f"--workdir {workdir} is another folder on process {others} than on process 0: give all processes one "
            "folder, of a file system that their hosts share."
        )


def find_differences(facts: list[dict[str, str]]) -> list[str]:
    """Lists what differs among these processes, each with the values and the processes that have them.

    Example:
      >>> find_differences([{"config.seed": "0"}, {"config.seed": "9"}, {"config.seed": "9"}])
      ['config.seed is 0 on process 0, 9 on processes 1, 2']
    """
    found = []
    for name in sorted(set().union(*facts)):
        holders = defaultdict(list)
        for process, values in enumerate(facts):
            holders[values.get(name, "not there")].append(process)
        if len(holders) > 1:
            held = [
                f"{value if len(value) <= _LONGEST else value[:_LONGEST] + '...'} on "
                f"{'process' if len(numbers) == 1 else 'processes'} {', '.join(map(str, numbers))}"
                for value, numbers in holders.items()
            ]
            found.append(f"{name} is {', '.join(held)}")
    # The members follow from the config.
    return [text for text in found if not text.startswith("members ")] or found


def _wait_until_visible(path: Path) -> bool:
    end = time.monotonic() + _VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _collect_facts(sweep: Sweep, flags: Mapping[str, Any]) -> dict[str, str]:
    """Collects them by name, as texts, to which NaN is like itself."""
    facts: dict[str, Any] = {f"config.{name}": value for name, value in flatten(sweep.record).items()}
    facts |= {f"--{name}": value for name, value in flags.items()}
    facts["members"] = _digest(repr(sweep.members).encode())
    facts |= _files_of_components(sweep)
    facts |= {f"the version of {name}": version for name, version in list_package_versions().items()}
    facts["the code of haepo_jax"] = _digest_code()
    facts |= {name.upper(): str(jax.config.values.get(name)) for name in _JAX_FLAGS}
    words = sorted(word for word in os.environ.get("XLA_FLAGS", "").split() if not word.startswith(_OF_ONE_HOST))
    facts["XLA_FLAGS"] = " ".join(words)
    facts["the kind of devices"] = jax.local_devices()[0].device_kind
    return {name: json.dumps(value) for name, value in facts.items()}


def _files_of_components(sweep: Sweep) -> dict[str, str | None]:
    """The hashes of components from outside; of those that cannot be imported here the sentence that says so."""
    try:
        described = describe_components(group.config for group in sweep.groups)
    except ConfigError as error:
        return {"a component": str(error)}
    return {f"the file of {name}": component["sha256"] for name, component in described.items()}


@functools.cache
def _digest_code() -> str:
    """Digests all files of the package."""
    package = Path(haepo_jax.__file__).parent
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
