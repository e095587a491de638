"""The judge: asks reward functions for rewards in threads of the host, while the devices are at work."""

import contextlib
import faulthandler
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from haepo_jax.errors import ConfigError
from haepo_jax.language.rewards.functions import Asked, RewardFunction, describe_row

_BEAT_SECONDS = 1.0
_GRACE_SECONDS = 30.0  # beyond the time that a call may take


class Verdicts:
    """Rewards that are being computed."""

    def __init__(self, judge: "Judge", calls: Sequence["_Call"]) -> None:
        """Holds the calls of a judge, in the order of the functions and, for each, of the prompts."""
        self._judge, self._calls = judge, calls

    def wait(self) -> dict[str, np.ndarray]:
        """Waits for the rewards.

        Returns:
          For each function by its short name `[prompts x samples]` float64, those of a prompt adjacent.

        Raises:
          ConfigError: a function fails, gives something else than rewards, or takes too long.
        """
        rewards: dict[str, list[float]] = {}
        try:
            for call in self._calls:
                rewards.setdefault(call.function.short, []).extend(self._judge.wait_for(call))
        except BaseException:
            self._judge.give_up()
            raise
        return {name: np.array(values, np.float64) for name, values in rewards.items()}


class Judge:
    """Several reward functions, asked in threads."""

    def __init__(self, functions: Sequence[RewardFunction], *, timeout: float, threads: int) -> None:
        """Asks nothing yet.

        Args:
          functions: whose rewards are wanted.
          timeout: seconds that one call, for the completions of one prompt, may take.
          threads: calls at a time.
        """
        self.functions = tuple(functions)
        self._timeout, self._threads = timeout, threads
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._running: list[_Call] = []
        self._workers, self._is_watched = 0, False

    def ask(self, prompts: Sequence[Asked]) -> Verdicts:
        """Begins to compute rewards; returns at once."""
        calls = [_Call(function, asked) for function in self.functions for asked in prompts]
        with self._lock:
            self._waiting.extend(calls)
            new = min(self._threads - self._workers, len(calls))
            self._workers += new
            watch = bool(calls) and not self._is_watched
            self._is_watched |= watch
        if watch:
            self._wind_up()  # before a call can keep this from being done
        # A function that hangs must not keep the process from ending.
        for target in [self._work] * new + [self._watch] * watch:
            threading.Thread(target=target, name="rewards", daemon=True).start()
        return Verdicts(self, calls)

    def add_up(self, rewards: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes the weighted sum, float64, of what `Verdicts.wait` returns."""
        return np.sum([function.weight * rewards[function.short] for function in self.functions], axis=0)

    def wait_for(self, call: "_Call") -> list[float]:
        """Waits for the rewards of a call, and for no call longer than it may take.

        Raises:
          ConfigError: as of `Verdicts.wait`.
        """
        while not call.done.wait(self._count_seconds_left()):
            with self._lock:
                late = [one for one in self._running if time.monotonic() - one.begun > self._timeout]
            if late:
                raise ConfigError(
                    f"{late[0].function.describe()} has given no rewards on {describe_row(late[0].asked)} within "
                    f"config.rl.reward_timeout {self._timeout:g} s; let it give up earlier, or allow it more."
                )
        if call.error is not None:
            raise call.error
        return call.rewards

    def give_up(self) -> None:
        """Begins no further call."""
        with self._lock:
            self._waiting.clear()

    def _count_seconds_left(self) -> float:
        """Counts the seconds until the first of the running calls is late."""
        with self._lock:
            begun = min((one.begun for one in self._running), default=time.monotonic())
        return max(begun + self._timeout - time.monotonic(), 0.0) + 0.01

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._workers -= 1
                    return
                call = self._waiting.popleft()
                call.begun = time.monotonic()
                self._running.append(call)
            try:
                call.rewards = call.function.compute(call.asked)
            except BaseException as error:
                call.error = error
            with self._lock:
                self._running.remove(call)
            call.done.set()

    def _watch(self) -> None:
        """Ends the process, with the stacks of all threads, where a call keeps all others from running for too long.

        Nothing of Python has a turn then, `wait_for` and the handlers of signals included: so it is with a regular
        expression that tries out endlessly many ways to match. The timer, wound up again and again, needs no turn.
        """
        while True:
            time.sleep(min(_BEAT_SECONDS, self._timeout))
            with self._lock:
                if not (self._waiting or self._running):
                    self._is_watched = False
                    faulthandler.cancel_dump_traceback_later()
                    return
            self._wind_up()

    def _wind_up(self) -> None:
        if sys.__stderr__ is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed
                faulthandler.dump_traceback_later(self._timeout + _GRACE_SECONDS, exit=True, file=sys.__stderr__)


class _Call:
    """One function asked for the rewards of one prompt's completions."""

    def __init__(self, function: RewardFunction, asked: Asked) -> None:
        self.function, self.asked = function, asked
        self.done = threading.Event()
        self.begun = 0.0
        self.rewards: list[float] = []
        self.error: BaseException | None = None
