"""Threads that ask reward functions: the order of rewards, how many are asked at a time, and what takes too long."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.language.rewards import judge as module
from haepo_jax.language.rewards.functions import Asked, RewardFunction
from haepo_jax.language.rewards.judge import Judge

PROMPTS = [Asked(f"rows.jsonl, line {k}", f"prompt {k}", {}, ["a", "b"], [1, 1], [True, True]) for k in (1, 2, 3)]


def function(compute, name="mine:judge", weight=1.0):
    return RewardFunction(name, name.partition(":")[2], compute, weight, {}, ())


def number_of(prompts, completions):
    return [
        float(prompt[-1]) + (completion == "b") / 2 for prompt, completion in zip(prompts, completions, strict=True)
    ]


def test_rewards_come_in_the_order_of_prompts_whoever_is_done_first():
    def slow_at_first(prompts, completions):
        time.sleep(0.05 if prompts[0].endswith("1") else 0.0)
        return number_of(prompts, completions)

    judge = Judge([function(slow_at_first), function(lambda p, c: [0, 1], "mine:other", 10.0)], timeout=60, threads=4)
    rewards = judge.ask(PROMPTS).wait()
    assert list(rewards) == ["judge", "other"]
    np.testing.assert_array_equal(rewards["judge"], [1, 1.5, 2, 2.5, 3, 3.5])
    np.testing.assert_array_equal(judge.add_up(rewards), [1, 11.5, 2, 12.5, 3, 13.5])


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_calls_are_made_at_a_time_than_there_are_threads(threads):
    running, most, lock = [0], [0], threading.Lock()

    def counted(prompts, completions):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return [0, 0]

    judge = Judge([function(counted)], timeout=60, threads=threads)
    first, second = judge.ask(PROMPTS), judge.ask(PROMPTS)  # two parts of a batch
    second.wait(), first.wait()
    assert most[0] == threads


def test_asking_does_not_wait():
    held = threading.Event()
    judge = Judge([function(lambda p, c: [held.wait(60), 0])], timeout=60, threads=1)
    verdicts = judge.ask(PROMPTS[:1])
    held.set()  # which only happens if `ask` has returned
    np.testing.assert_array_equal(verdicts.wait()["judge"], [1, 0])


def test_a_call_that_takes_too_long_is_one_sentence_with_its_row():
    held, calls = threading.Event(), []

    def hangs(prompts, completions):
        calls.append(prompts[0])
        if prompts[0].endswith("2"):
            held.wait(60)
        return [0, 0]

    judge = Judge([function(hangs)], timeout=0.05, threads=1)
    with pytest.raises(ConfigError) as error:
        judge.ask(PROMPTS).wait()
    held.set()
    for thread in threading.enumerate():
        if thread.name == "rewards":
            thread.join()
    assert str(error.value) == (
        "config.rl.rewards mine:judge has given no rewards on rows.jsonl, line 2 ('prompt 2') within "
        "config.rl.reward_timeout 0.05 s; let it give up earlier, or allow it more."
    )
    assert calls == ["prompt 1", "prompt 2"]  # no further call is begun


def test_the_time_of_a_call_counts_from_when_it_is_made():
    def takes_a_while(prompts, completions):
        time.sleep(0.2)
        return [0, 0]

    Judge([function(takes_a_while)], timeout=0.5, threads=1).ask(PROMPTS).wait()  # 0.6 s in all


HANGS = """
import re
from haepo_jax.language.rewards import judge
from haepo_jax.language.rewards.functions import Asked, RewardFunction

def matches(prompts, completions):
    return [float(re.match("(a+)+$", "a" * 60 + "b") is not None)]

judge._GRACE_SECONDS = 0.5
function = RewardFunction("mine:matches", "matches", matches, 1.0, {}, ())
judge.Judge([function], timeout=0.5, threads=1).ask([Asked("", "", {}, ["a"], [1], [True])]).wait()
"""


def test_a_call_that_lets_nothing_else_run_ends_the_process_with_where_it_is():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:01)!") and "line 7 in matches" in done.stderr


def test_the_timer_that_ends_it_is_taken_off_once_all_is_judged(monkeypatch):
    wound, off = [], threading.Event()

    class Timer:
        @staticmethod
        def dump_traceback_later(seconds, exit, file):
            wound.append((seconds, exit))

        @staticmethod
        def cancel_dump_traceback_later():
            off.set()

    monkeypatch.setattr(module, "faulthandler", Timer)
    held = threading.Event()
    judge = Judge([function(lambda p, c: [held.wait(60), 0])], timeout=50, threads=1)
    for _ in range(2):
        held.clear(), off.clear()
        verdicts = judge.ask(PROMPTS)
        assert not off.is_set()
        held.set()
        verdicts.wait()
        assert off.wait(60)
    assert set(wound) == {(80.0, True)}


def test_the_first_prompt_that_fails_is_reported():
    def fails(prompts, completions):
        raise RuntimeError(prompts[0])

    judge = Judge([function(fails)], timeout=60, threads=3)
    with pytest.raises(ConfigError, match=r"on rows.jsonl, line 1 \('prompt 1'\) fails at line .*: prompt 1\.$"):
        judge.ask(PROMPTS).wait()
