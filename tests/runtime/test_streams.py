"""Words that nobody reads, or that find no room, end nothing."""

import os
import subprocess
import sys

import pytest
from helpers.command_runner import ROOT

from haepo_jax.runtime.streams import BestEffort


@pytest.fixture(params=["a pipe without a reader", "a full device"])
def broken(request):
    if request.param == "a full device":
        stream = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - closed below
    else:
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w", buffering=1)
    yield stream
    stream.close()


def test_what_cannot_be_written_is_left_out(broken):
    stream = BestEffort(broken)
    print("a line", file=stream)
    stream.writelines(["another\n"])
    stream.flush()
    stream.close_quietly()  # or else closing the stream fails


def test_everything_else_is_the_streams_own(capsys):
    stream = BestEffort(sys.stdout)
    print("kept", file=stream)
    assert stream.encoding == sys.stdout.encoding and not stream.isatty()
    assert capsys.readouterr().out == "kept\n"


SCRIPT = """
import sys
from experiments.cli import launch
launch.start()
from experiments.cli import command_line
def main():
    for number in range(100_000 // 20):
        print("a line of a long table")
        print("a word on it", file=sys.stderr)
    return 3
command_line.run(main)
"""


@pytest.mark.parametrize(
    "streams", [pytest.param("2>&1 | head -1", marks=pytest.mark.slow), ">/dev/full 2>/dev/full", ">&- 2>&- <&-"]
)
def test_a_command_ends_with_its_own_code_whatever_becomes_of_its_streams(streams, tmp_path):
    code = tmp_path / "code"
    shell = f'{{ "{sys.executable}" -c "$SCRIPT"; echo $? >{code}; }} {streams}'
    subprocess.run(shell, shell=True, cwd=ROOT, env=os.environ | {"SCRIPT": SCRIPT}, capture_output=True, check=False)
    assert code.read_text() == "3\n"
