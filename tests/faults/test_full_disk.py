"""A disk that is full at any moment: the sweep stops and says so, and resumes once there is room."""

import contextlib
import subprocess
import time

import pytest
from helpers import campaign

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def disk(tmp_path):
    """A file system of 8 MiB; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_twice_stops_the_sweep_and_loses_nothing(undisturbed, disk):
    draw = campaign.generator("full disks")
    filler = disk / "filler"

    def fill(command):
        end = time.monotonic() + campaign.HANG_SECONDS
        with filler.open("wb", buffering=0) as file:
            while command.running and time.monotonic() < end:  # what the sweep frees meanwhile is taken too
                with contextlib.suppress(OSError):
                    file.write(bytes(4096))
                    continue
                time.sleep(0.001)

    arguments = (*campaign.SWEEP, "--checkpoint_seconds=0")
    for stopped in campaign.struck(disk / "run", arguments, fill, 2, undisturbed, draw):
        filler.unlink()
        assert stopped.code == 4, stopped.err
        assert "is on a full disk; what was written before is intact" in stopped.err
        assert "Traceback" not in stopped.err, stopped.err
