"""The sweep that nobody disturbs."""

import time

import pytest
from helpers import campaign, pods


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    ends = []
    for name in ("compiled", "again"):
        workdir = tmp_path_factory.mktemp("undisturbed") / name
        started = time.monotonic()
        (finished,) = pods.run(workdir, *campaign.SWEEP, devices_each=campaign.DEVICES)
        seconds = time.monotonic() - started
        assert finished.code == 0, finished.err
        ends.append(campaign.end(workdir))
    campaign.assert_same(*ends)
    print(f"\nleft alone, the sweep takes {seconds:.1f} s", flush=True)
    return campaign.Undisturbed(ends[-1], seconds)
