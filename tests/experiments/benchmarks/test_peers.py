import pytest

from experiments.benchmarks.peers import Arrival, Peer, measure_peer, parse_peer, race_peer
from haepo_jax.errors import ConfigError

TOLD = """echo 'training ...'; echo '{"env_steps": 1000, "seconds": 0.5, "compile_seconds": 2, "more": [1]}'"""
RACED = """echo '{"seconds": 0.0001, "seeds": 4, "seeds_at_475": 4, "share_until_all_at_475": 0.25}'"""


def test_a_peer_is_a_name_and_a_command_that_may_hold_more_of_the_sign_between():
    assert parse_peer("rejax=XLA_FLAGS=--x=1 python rejax.py") == Peer("rejax", "XLA_FLAGS=--x=1 python rejax.py")


@pytest.mark.parametrize("text", ["rejax", "=python x.py", "rejax=", "rejax= "])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="--peer must be NAME=COMMAND, such as"):
        parse_peer(text)


def test_the_figures_of_a_peer_are_in_its_last_line():
    assert measure_peer(Peer("x", TOLD)) == {"env_steps": 1000, "seconds": 0.5, "compile_seconds": 2}


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
def test_a_peer_that_fails_or_prints_no_figures_is_refused(command, sentence):
    with pytest.raises(ConfigError, match=sentence):
        measure_peer(Peer("x", command))


def test_a_racing_peer_reports_when_its_last_seed_was_there():
    arrival = race_peer(Peer("x", RACED))
    assert arrival == Arrival(arrival.whole_seconds, 0.0001, seeds=4, seeds_there=4, share=0.25)
    assert arrival.seconds == pytest.approx(arrival.whole_seconds - 0.75 * 0.0001)


@pytest.mark.parametrize("share", ["null", "0.25"])
def test_a_racer_that_misses_a_seed_was_not_there_whatever_it_says(share):
    arrival = race_peer(Peer("x", RACED.replace('"seeds_at_475": 4', '"seeds_at_475": 3').replace("0.25", share)))
    assert arrival.seeds_there == 3 and arrival.share is None and arrival.seconds is None


def test_a_racer_has_the_environment_that_is_given():
    with pytest.raises(ConfigError, match=r"exit code 1: it is there"):
        race_peer(Peer("x", 'echo "it is $WHERE" >&2; exit 1'), {"WHERE": "there"})


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("echo broken >&2; exit 3", "--peer x ended with exit code 3: broken"),
        (TOLD, "--peer x must print a JSON object with seconds, seeds, seeds_at_475 as its last line; got '{"),
        (RACED.replace("0.25", "null"), "with seconds, seeds, seeds_at_475, share_until_all_at_475 as its last line"),
        (RACED.replace("0.25", "1.25"), "share_until_all_at_475 from 0 to 1"),
        (RACED.replace('475": 4', '475": 5'), "seeds_at_475 no more than seeds"),
        (RACED.replace("0.0001", "100"), "seconds must be positive and no more than the command took"),
        (RACED.replace("0.0001", "NaN"), "seconds must be positive"),
    ],
)
def test_a_racing_peer_that_prints_too_little_or_nonsense_is_refused(command, sentence):
    with pytest.raises(ConfigError, match=sentence):
        race_peer(Peer("x", command))
