import pytest
from helpers.made_up_sweeps import ATTEMPT

from haepo_jax.reports.sweep.provenance import describe_provenance, read_attempts_so_far
from haepo_jax.runs.folder import write_json

EARLIER = ATTEMPT | {"processes": 2, "outcome": "SIGTERM", "git": {"commit": "89ab", "dirty": True}}
LATER = ATTEMPT | {
    "started": "2025-01-01T01:00:00+00:00",
    "last_written": "2025-01-01T01:20:00+00:00",
    "processes": 3,
    "devices": ["TPU_0", "TPU_1"],
    "device_kind": "TPU v5 lite",
}


def describe(folder, **files):
    for name, attempts in files.items():
        write_json(folder / f"{name.replace('_', '-')}.json", attempts)
    return describe_provenance(folder, read_attempts_so_far(folder))


def test_a_run_of_one_process_names_its_device(tmp_path):
    words = describe(tmp_path, provenance=[ATTEMPT])
    assert words["device"] == "1 x cpu" and words["minutes, compilation included"] == 10.0
    assert not [name for name in words if name.startswith("process")]


def test_every_process_of_the_newest_attempt_has_a_line(tmp_path):
    of_others = [LATER | {"process": number, "host": host} for number, host in ((1, "beta"), (2, "gamma"))]
    words = describe(
        tmp_path,
        provenance=[EARLIER, LATER],
        provenance_00001=[EARLIER | {"process": 1, "host": "omega"}, of_others[0]],
        provenance_00002=[of_others[1] | {"started": "2025-01-01T00:59:59+00:00"}],
    )
    assert words["processes"] == 3 and "device" not in words
    assert [words[f"process {number}"] for number in range(3)] == [
        f"{host}, 2 x TPU v5 lite" for host in ("alpha", "beta", "gamma")
    ]
    assert words["attempts"] == 2 and words["minutes, compilation included"] == 20.0
    assert words["commit"] == "0123abcd, 89ab, with changes"


def test_a_process_that_has_only_older_entries_or_none_is_reported(tmp_path):
    words = describe(tmp_path, provenance=[EARLIER, LATER], provenance_00001=[EARLIER | {"process": 1}])
    assert [words[f"process {number}"] for number in (1, 2)] == ["has not written yet"] * 2


def test_processes_that_the_newest_attempt_does_without_have_no_line(tmp_path):
    alone = LATER | {"processes": 1}
    words = describe(tmp_path, provenance=[EARLIER, alone], provenance_00001=[EARLIER | {"process": 1}])
    assert words["device"] == "2 x TPU v5 lite" and "process 1" not in words


@pytest.mark.parametrize("git", [None, {"commit": "0123", "dirty": False}])
def test_the_commit_is_reported(tmp_path, git):
    assert describe(tmp_path, provenance=[ATTEMPT | {"git": git}])["commit"] == (
        "0123" if git else "not in a checkout"
    )


def test_a_folder_without_provenance_has_an_empty_description(tmp_path):
    assert describe(tmp_path) == {}
