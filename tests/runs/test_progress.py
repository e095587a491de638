import io
import re
import sys
import time

import numpy as np
import pytest

from haepo_jax.runs import progress
from haepo_jax.runs.progress import ProgressReport, count_updates_within, format_duration, report_waiting


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one, that pass only where a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def report(total=100, **options):
    return ProgressReport(total, 0, counts="env steps", **options)


def test_without_a_terminal_progress_is_a_line_now_and_then_and_one_at_the_end(clock, capsys):
    shown = report(total=10)
    for done in range(1, 10):
        clock[0] += 3
        shown.show(done, 300 * done, "return 99.75")
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "updates 1/10  return 99.75  3 s so far",
        "updates 5/10  100 env steps/s  return 99.75  15 s so far, about 15 s left",
        "updates 9/10  100 env steps/s  return 99.75  27 s so far, about 3 s left",
    ]


def test_processes_that_do_not_show_it_say_nothing_of_it(clock, capsys):
    shown = report(shown=False)
    clock[0] += 60
    shown.show(1, 10, "")
    shown.close()
    assert capsys.readouterr().err == ""


def left(shown):
    words = re.search(r"about (.*) left", shown.words())[1]
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+) (\w+)", words))


def test_the_time_left_falls_while_a_chunk_takes_its_time(clock):
    shown = report()
    for done in (1, 2):
        clock[0] += 2
        shown.show(done, 10 * done, "")
    assert left(shown) == 196
    clock[0] += 1
    assert left(shown) == 195


def test_rate_and_time_left_are_of_the_last_chunks(clock):
    shown = report()
    clock[0] += 500  # the first one is slow
    shown.show(1, 10, "")
    for done in range(2, 60):
        clock[0] += 1
        shown.show(done, 10 * done, "")
    assert shown.words().startswith("10 env steps/s")
    assert left(shown) == 41


def test_the_first_chunk_counts_for_nothing_once_there_is_another(clock):
    shown = report()
    clock[0] += 5  # the first one is slow
    shown.show(1, 10, "return 3")
    assert shown.words() == "return 3  5 s so far"
    clock[0] += 1
    shown.show(2, 20, "")
    assert left(shown) == 98


def test_a_resumed_run_counts_what_it_does_itself(clock):
    shown = ProgressReport(100, 90, counts="tokens", counted=9e9)
    clock[0] += 4
    shown.show(92, 9e9 + 20, "")
    clock[0] += 6
    shown.show(95, 9e9 + 50, "")
    assert shown.words() == "5 tokens/s    10 s so far, about 10 s left"


def test_the_updates_left_may_be_others_than_the_rest(clock):
    shown = report()
    for done in (10, 20):
        clock[0] += 10
        shown.show(done, 0, "", updates_left=20)
    assert left(shown) == 20
    shown.show(20, 0, "", updates_left=0)
    assert shown.words().endswith("20 s so far, done")


def test_before_the_first_chunk_there_is_no_rate(clock):
    shown = report()
    clock[0] += 5
    assert shown.words() == "5 s so far"


def test_members_with_few_steps_left_stop_before_the_last_update():
    steps_left, steps_an_update = np.array([100, 900, -5, 300]), np.array([30.0, 100.0, 10.0, 0.0])
    assert count_updates_within(steps_left, steps_an_update) == 9
    assert count_updates_within(steps_left[2:], steps_an_update[2:]) == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_in_a_terminal_the_words_are_beside_the_bar(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    shown = report()
    for done in (25, 50):
        clock[0] += 1
        shown.show(done, 100 * done, "return 3")
    shown.close()
    assert "50/100" in sys.stderr.getvalue()
    assert "2,500 env steps/s  return 3  2 s so far, about 2 s left" in sys.stderr.getvalue()


def test_a_wait_is_said_before_and_after(clock, capsys):
    with report_waiting("Compiling", "Compiled"):
        assert capsys.readouterr().err == "Compiling ...\n"
        clock[0] += 75
    assert capsys.readouterr().err == "Compiled in 1 min 15 s.\n"


def test_a_wait_that_fails_has_not_ended_well(clock, capsys):
    with pytest.raises(RuntimeError), report_waiting("Compiling", "Compiled"):
        raise RuntimeError
    assert capsys.readouterr().err == "Compiling ...\n"


def test_a_wait_shows_its_time_in_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with report_waiting("Compiling", "Compiled"):
        pass
    assert re.search(r"Compiling \.\.\..*0:00:00", sys.stderr.getvalue())
    assert sys.stderr.getvalue().endswith("Compiled in 0 s.\n")


def test_a_wait_that_is_short_enough_is_not_said(clock, capsys):
    with report_waiting("Tracing", "Traced", quiet_seconds=10.0):
        clock[0] += 9
    assert capsys.readouterr().err == ""


def test_a_wait_that_is_too_long_to_be_quiet_is_said_while_it_lasts(clock, capsys):
    with report_waiting("Tracing", "Traced", quiet_seconds=0.01):
        said = ""
        while not said:
            time.sleep(0.005)
            said = capsys.readouterr().err
        assert said == "Tracing ...\n"
        clock[0] += 75
    assert capsys.readouterr().err == "Traced in 1 min 15 s.\n"


def test_a_long_sentence_stays_on_one_line(capsys):
    shown = report()
    shown.say("word " * 60 + "end [not markup]")
    shown.close()
    assert capsys.readouterr().err == "word " * 60 + "end [not markup]\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (59.6, "1 min"), (599, "9 min 59 s"), (3599, "1 h"), (86399, "1 d"), (90000, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert format_duration(seconds) == words
