"""Opponents that learn as well: a pool of earlier selves or the newest self alone, and what the reference may be."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from experiments.studies.agents.arms import (
    ARMS,
    EPISODES,
    GAME,
    LEARNERS,
    NEWEST,
    OPPONENTS,
    POOL,
    REFERENCES,
    SEGMENTS,
    Arm,
)
from experiments.studies.agents.policies import measure as measure_policies
from experiments.studies.agents.ranking import SOURCE
from experiments.studies.agents.scale import Scale
from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.run_data import RunData
from experiments.studies.runs import Look, Runs
from experiments.studies.targets import judge_count, judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.ratings import ELO, rate
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, name_bands
from haepo_jax.reports.page import Claim, Figure, Section, Table

_LATE = 0.5
"""The share of the checkpoints that are late, over which the end and the fluctuation are measured."""
_GAMES = 200
"""Of each pair, as many as exact points are taken to stand for in the ratings."""
_RANDOM, _PERFECT = 0.01, 0.05
"""Shares of the games that may be lost against random play and against the perfect player."""


@dataclasses.dataclass(frozen=True)
class Played:
    """What a learner came to against its opponents."""

    arm: Arm
    run: RunData

    def measured(self, name: str) -> np.ndarray:
        """Returns what was measured of its policies, `[members, checkpoints]`."""
        return np.array(self.run.policies[name], np.float64).T

    @property
    def steps(self) -> np.ndarray:
        """`[checkpoints]` environment steps done by each, the mean over members."""
        done = np.nan_to_num(self.run.env_steps, nan=-np.inf)
        newest = np.maximum.accumulate(done, axis=1)  # they stand still once a member has stopped
        return newest[:, np.array(self.run.policies["updates"]) - 1].mean(axis=0)

    def late(self, name: str) -> np.ndarray:
        """Returns what was measured of the later policies, `[members, late checkpoints]`."""
        values = self.measured(name)
        return values[:, int(values.shape[1] * (1 - _LATE)) :]

    def rated(self) -> np.ndarray:
        """Returns the ratings of a member's policies among themselves, in Elo above random play, `[members, C]`."""
        points = np.array(self.run.policies["points"], np.float64)
        ratings = np.stack([rate(_GAMES * of_member).values for of_member in points])
        return ELO * (ratings[:, :-1] - ratings[:, -1:])

    def setbacks(self) -> np.ndarray:
        """Returns how often a later policy makes less than half of the points against an earlier one, `[members]`."""
        points = np.array(self.run.policies["points"], np.float64)[:, :-1, :-1]
        later, earlier = np.tril_indices(points.shape[1], -1)
        return (points[:, later, earlier] < 0.5).mean(axis=1)

    def weights(self) -> np.ndarray:
        """Returns the effective sample size as a share of what competes, its mean over updates, `[members]`."""
        return np.nanmean(self.run.metric("effective_sample_size"), axis=1) / _count_competing(self.run)


def _count_competing(run: RunData) -> float:
    """How many trajectories or segments compete in a batch of a run of HAEPO."""
    config, haepo = run.config, run.config["haepo"]
    if haepo["segment_length"] is None:
        return float(config["num_trajectories"] * (1 + haepo["history"]))
    return config["num_trajectories"] * haepo["num_steps"] / haepo["segment_length"] / haepo["num_minibatches"]


@dataclasses.dataclass(frozen=True)
class SelfPlay:
    """What all learners came to."""

    played: Mapping[tuple[str, str], Played]
    """By the names of the method and of the opponents."""
    many: Played
    """The shipped config, on more seeds."""

    def of(self, method: Method, opponents: str) -> Played:
        """Returns one of them."""
        return self.played[method.name, opponents]


_MANY = Arm(SEGMENTS, NEWEST)


def list_runs(scale: Scale) -> tuple[str, ...]:
    """Lists the names of the runs."""
    return (*(arm.name for arm in ARMS), _name_many())


def _name_many() -> str:
    return f"{GAME.name}/shipped"


def measure(runs: Runs[Scale]) -> SelfPlay:
    """Does what is missing of the runs, and looks at their policies."""
    scale = runs.scale
    played = {(arm.method.name, arm.opponents): _play(runs, arm, arm.name, scale.seeds) for arm in ARMS}
    return SelfPlay(played, _play(runs, _MANY, _name_many(), scale.many_seeds))


def _play(runs: Runs[Scale], arm: Arm, name: str, seeds: int) -> Played:
    settings = {**arm.make_settings(runs.scale.budget), "seed": 0, "num_seeds": seeds}
    every = max(1, settings["num_updates"] // runs.scale.checkpoints)
    return Played(arm, runs.get(name, settings, Look(every, functools.partial(measure_policies, every=every))))


def make_section(found: SelfPlay, scale: Scale) -> Section:
    """Makes the section, with its targets."""
    return Section(
        slug="self-play",
        title="Opponents that learn as well",
        question="Does a pool of earlier selves make learning steadier, and what should the reference policy be?",
        findings=(_describe_pool(found), _describe_many(found)),
        figures=(
            _draw(
                found,
                lambda played: played.measured("exploitability"),
                y_label="exploitability",
                alt="Exploitability over training, with a pool of earlier selves and without, by method",
                caption="What the best answer to the policy wins less what it loses in a game, exactly: "
                f"{_explain(scale)}.",
            ),
            _draw(
                found,
                Played.rated,
                y_label="Elo above random play",
                alt="Ratings of the policies of each run among themselves over training, by method",
                caption="Ratings of a member's policies among themselves and random play, by the exact points of each "
                f"pair, which stand for {_GAMES} games: {_explain(scale)}.",
            ),
        ),
        tables=(_make_table(found, scale), _make_reference_table(found, scale)),
        claims=(
            judge_target(
                "With a pool HAEPO is less exploitable in the end than against its newest self alone.",
                SOURCE,
                "Exploitability over the later half of the checkpoints, with a pool less without, difference of "
                "interquartile means",
                {method.label: _compare_ends(found, method) for method in (EPISODES, SEGMENTS)},
                quick=scale.quick,
            ),
            judge_target(
                "With a pool HAEPO's exploitability moves less from checkpoint to checkpoint.",
                SOURCE,
                "Deviation over the later half of the checkpoints, with a pool less without, difference of "
                "interquartile means",
                {method.label: _compare_movements(found, method) for method in (EPISODES, SEGMENTS)},
                quick=scale.quick,
            ),
            *_judge_many(found, scale),
        ),
    )


def _ends(one: Played) -> np.ndarray:
    return one.late("exploitability").mean(axis=1)


def _movements(one: Played) -> np.ndarray:
    return one.late("exploitability").std(axis=1)


def _compare_ends(found: SelfPlay, method: Method) -> Comparison:
    pool, newest = (_ends(found.of(method, opponents)) for opponents in (POOL, NEWEST))
    return compare(pool[None], newest[None], larger=False)


def _compare_movements(found: SelfPlay, method: Method) -> Comparison:
    pool, newest = (_movements(found.of(method, opponents)) for opponents in (POOL, NEWEST))
    return compare(pool[None], newest[None], larger=False)


def _judge_many(found: SelfPlay, scale: Scale) -> tuple[Claim, Claim]:
    lost = {name: found.many.measured(f"greedy_{name}")[:, -1] for name in ("lost_to_random", "lost_to_perfect")}
    return (
        judge_count(
            f"By self-play tic-tac-toe loses under {_RANDOM:.0%} against random play.",
            SOURCE,
            "Share of the games lost by the likeliest moves at the end",
            lost["lost_to_random"],
            lost["lost_to_random"] < _RANDOM,
            least=scale.enough_seeds,
            quick=scale.quick,
        ),
        judge_count(
            f"By self-play tic-tac-toe loses at most {_PERFECT:.0%} against the perfect player.",
            SOURCE,
            "Share of the games lost by the likeliest moves at the end",
            lost["lost_to_perfect"],
            lost["lost_to_perfect"] <= _PERFECT,
            least=scale.enough_seeds,
            quick=scale.quick,
        ),
    )


def _describe_pool(found: SelfPlay) -> str:
    standings = "; ".join(
        f"{method.label} {_cell(_ends(found.of(method, POOL)))} with a pool and "
        f"{_cell(_ends(found.of(method, NEWEST)))} without"
        for method in LEARNERS
    )
    return f"Exploitability in the end, 0 being perfect play: {standings}."


def _describe_many(found: SelfPlay) -> str:
    to_random, to_perfect = (
        100 * np.median(found.many.measured(f"greedy_{name}")[:, -1]) for name in ("lost_to_random", "lost_to_perfect")
    )
    return (
        f"{SEGMENTS.label} {OPPONENTS[NEWEST]}, by its likeliest moves: the median seed loses {to_random:.1f}% of its "
        f"games against random play and {to_perfect:.1f}% against the perfect player, who each move first in half of "
        "them."
    )


def _explain(scale: Scale) -> str:
    return f"policies that draw their moves, interquartile mean over {scale.seeds} seeds, {name_bands(scale.seeds)}"


def _draw(found: SelfPlay, values: Callable[[Played], np.ndarray], *, y_label: str, alt: str, caption: str) -> Figure:
    charts = [
        (
            method.label,
            [
                make_curve(words, found.of(method, opponents).steps, values(found.of(method, opponents)))
                for opponents, words in OPPONENTS.items()
            ],
        )
        for method in LEARNERS
    ]
    return draw(
        figures.panels,
        charts,
        x_label="environment steps of a member",
        y_label=y_label,
        share_y=True,
        alt=alt,
        caption=caption,
    )


def _make_table(found: SelfPlay, scale: Scale) -> Table:
    return Table(
        caption=f"TicTacToe-haepo, interquartile mean over {scale.seeds} seeds",
        columns=("learner", *_COLUMNS),
        rows=[
            (f"{method.label}, {words}", *_make_cells(found.of(method, opponents), method))
            for method in LEARNERS
            for opponents, words in OPPONENTS.items()
        ],
        note=_NOTE + explain_brackets(scale.seeds),
    )


def _make_reference_table(found: SelfPlay, scale: Scale) -> Table:
    return Table(
        caption=f"HAEPO with segments by its reference policy, interquartile mean over {scale.seeds} seeds",
        columns=("reference", *_COLUMNS),
        rows=[
            (f"{label}, {words}", *_make_cells(found.of(method, opponents), method))
            for label, method in (("none", SEGMENTS), *((method.label, method) for method in REFERENCES))
            for opponents, words in OPPONENTS.items()
        ],
        note="The first policy never moves; the newest of the pool is a copy of the policy at each snapshot, with or "
        "without a pool. " + _NOTE + explain_brackets(scale.seeds),
    )


_COLUMNS = (
    "exploitability",
    "its deviation",
    "lost to random play, greedy",
    "lost to the perfect player, greedy",
    "a later self is worse",
    "effective sample size, share",
)
_NOTE = (
    "Exploitability, its mean and its deviation over the later half of the checkpoints. Lost are shares of the games "
    "by the likeliest moves at the end. A later self is worse in this share of all pairs of checkpoints: it makes "
    "less than half of the points. "
)


def _make_cells(one: Played, method: Method) -> tuple[str, ...]:
    lost = (one.measured(f"greedy_{name}")[:, -1] for name in ("lost_to_random", "lost_to_perfect"))
    values = (_ends(one), _movements(one), *lost, one.setbacks())
    share = "" if method.base["algorithm"] == "ppo" else _cell(one.weights())
    return (*map(_cell, values), share)


def _cell(values: np.ndarray) -> str:
    return format_interval_cell(estimate_interquartile_mean(values))
