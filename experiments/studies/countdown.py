"""A count of the runs of a study, with the time that the rest will take."""

from haepo_jax.runs.progress import format_duration


class Countdown:
    """Counts runs, of which it is known how many there will be."""

    def __init__(self, total: int) -> None:
        """None of them is done."""
        self._total = total
        self._seconds: list[float] = []

    def finished(self, seconds: float) -> None:
        """Counts a run that took so long, in this attempt or in an earlier one."""
        self._seconds.append(seconds)

    def words(self) -> str:
        """Says which run comes now, and the time left if the rest take as long as those before.

        Example:
          >>> countdown = Countdown(49)
          >>> countdown.words()
          'run 1 of 49'
          >>> countdown.finished(60.0)
          >>> countdown.words()
          'run 2 of 49, about 48 min left'
        """
        done = len(self._seconds)
        which = f"run {done + 1} of {self._total}"
        if not done:
            return which
        left = sum(self._seconds) / done * (self._total - done)
        return f"{which}, about {format_duration(left)} left"
