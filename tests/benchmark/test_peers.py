import pytest

from haepo_jax.benchmark.peers import Peer, measure, parse
from haepo_jax.errors import ConfigError

TOLD = """echo 'training ...'; echo '{"env_steps": 1000, "seconds": 0.5, "compile_seconds": 2, "more": [1]}'"""


def test_a_peer_is_a_name_and_a_command_that_may_hold_more_of_the_sign_between():
    assert parse("rejax=XLA_FLAGS=--x=1 python rejax.py") == Peer("rejax", "XLA_FLAGS=--x=1 python rejax.py")


@pytest.mark.parametrize("text", ["rejax", "=python x.py", "rejax=", "rejax= "])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="--peer must be NAME=COMMAND, such as"):
        parse(text)


def test_the_last_line_tells():
    assert measure(Peer("x", TOLD)) == {"env_steps": 1000, "seconds": 0.5, "compile_seconds": 2}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("echo broken >&2; exit 3", "--peer x ended with exit code 3: broken"),
        (
            "true",
            "--peer x must print a JSON object with env_steps, seconds, compile_seconds as its last line; got ''",
        ),
        ("echo '[1]'", r"as its last line; got '\[1\]'"),
        ('echo \'{"env_steps": 1, "seconds": 2}\'', "--peer x must print a JSON object"),
        (TOLD.replace("0.5", "0"), "env_steps and seconds must be positive"),
    ],
)
def test_a_peer_that_fails_or_tells_nothing_is_told(command, sentence):
    with pytest.raises(ConfigError, match=sentence):
        measure(Peer("x", command))
