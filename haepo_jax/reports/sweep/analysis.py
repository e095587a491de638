"""All numbers of the page, computed once, and how it words what comes up in several chapters."""

from collections.abc import Mapping
from typing import NamedTuple

from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.reports.formatting import format_interval, format_interval_cell
from haepo_jax.reports.sweep.bins import LABEL_DIGITS, Setting
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.ranking import Ranking, Scores, rank_points, score_members
from haepo_jax.reports.sweep.sensitivity import Sensitivity, measure_sensitivities
from haepo_jax.reports.sweep.ties import compare_with_highest
from haepo_jax.runs.summary import FINAL_UPDATES
from haepo_jax.text import format_setting, format_value, shorten_names


class Analysis(NamedTuple):
    """The numbers of a sweep."""

    sweep: Sweep
    scores: Scores
    ranking: Ranking
    sensitivities: tuple[Sensitivity, ...]
    names: Mapping[str, str]
    """The swept settings as the page calls them, by their dotted names."""
    beside: Mapping[int, str]
    """How each ranked point stands beside the one with the highest score: see `ties`."""

    def final(self) -> str:
        """Returns the meaning of a final return, in words."""
        return f"mean return of the last {format_count(min(FINAL_UPDATES, self.scores.updates), 'update')}"

    def score(self, point: int) -> str:
        """Formats the score of a point with its interval."""
        return format_interval(self._estimate(point))

    def score_cell(self, point: int) -> str:
        """Formats the score of a point for a table."""
        return format_interval_cell(self._estimate(point))

    def _estimate(self, point: int) -> Estimate:
        return estimate_interquartile_mean(self.scores.finals[(self.sweep.point == point) & self.scores.compared])

    def settings(self, point: int) -> str:
        """Formats the settings of a point."""
        return ", ".join(
            format_setting(self.names[setting.name], self.value(setting, point)) for setting in self.sweep.settings
        )

    def value(self, setting: Setting, point: int) -> str:
        """Formats one of the settings of a point."""
        if setting.binned:
            return format_value(self.sweep.points[point][setting.name], LABEL_DIGITS)
        return setting.labels[setting.level[point]]


def analyse_sweep(sweep: Sweep) -> Analysis:
    """Computes all numbers of a sweep.

    Raises:
      ConfigError: no member has a finite return.
    """
    scores = score_members(sweep)
    ranking = rank_points(sweep, scores)
    found = measure_sensitivities(sweep, scores, ranking)
    names = shorten_names([setting.name for setting in sweep.settings])
    return Analysis(sweep, scores, ranking, found, names, compare_with_highest(sweep, scores, ranking))


def format_count(number_of: int, what: str) -> str:
    """Formats a number of things, `1 seed` or `1,152 members`."""
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"
