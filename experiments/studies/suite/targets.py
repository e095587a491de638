"""The targets of the suite, and what became of each."""

import math

import numpy as np

from experiments.studies.methods import Method
from experiments.studies.run_data import find_steps_to
from experiments.studies.suite.methods import HAEPO, METHODS, PPO, RIVALS
from experiments.studies.suite.results import Results
from experiments.studies.suite.selection import Reported
from experiments.studies.suite.tasks import (
    CARTPOLE,
    DISCOUNTING_CHAIN,
    FROZEN_LAKE,
    MOUNTAIN_CAR,
    UMBRELLA_CHAIN,
    Task,
)
from experiments.studies.targets import judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.statistics import Estimate, interquartile_mean
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.reports.page import Claim

SOLVED = 475.0
OF_TUNED, OF_PPO, OF_BEST, OF_SEEDS = 0.95, 0.7, 0.9, 0.75
UPHILL = -150.0
_SOURCE = "target of the suite"
_STEPS_WINDOW = 8_000  # of CartPole: one update of 16 full episodes
_STEPS_POINTS = 400


def find_best_rival(results: Results) -> Method:
    """Finds the rival whose one setting has the largest interquartile mean."""
    return max(RIVALS, key=lambda method: float(interquartile_mean(results.scores(method, "one"))))


def find_below_ppo(results: Results) -> list[Task]:
    """Finds the tasks on which HAEPO's interquartile mean is below the wanted share of PPO's, one setting each."""

    def middle(task: Task, method: Method) -> float:
        return float(interquartile_mean(results.of_task(task, method, "one")[None]))

    return [task for task in results.tasks if middle(task, HAEPO) < OF_PPO * middle(task, PPO)]


def measure_steps_to_solve(reported: Reported) -> np.ndarray:
    """Finds the env steps to a return of 475 on CartPole-v1 with the one setting, `[seeds]`; inf where never."""
    grid = np.linspace(0, reported.run.config["max_env_steps"], _STEPS_POINTS + 1)[1:]
    curve = reported.run.curve("episode_return", grid, failure=0.0, window=_STEPS_WINDOW)
    return find_steps_to(curve[reported.rows], grid, SOLVED)


def judge_together(results: Results, *, quick: bool) -> tuple[Claim, ...]:
    """Judges the targets that all tasks decide together."""
    ours, rival = results.scores(HAEPO, "one"), find_best_rival(results)
    return (
        judge_target(
            "With one setting for all tasks HAEPO adaptive is ahead of the best rival.",
            _SOURCE,
            "Difference of interquartile means of normalised scores over all tasks and seeds",
            {f"against {rival.label}": compare(ours, results.scores(rival, "one"))},
            quick=quick,
        ),
        judge_target(
            f"HAEPO adaptive with one setting is at {OF_TUNED:.0%} or more of what it is at tuned for each task.",
            _SOURCE,
            f"Interquartile mean of normalised scores, less {OF_TUNED} of that tuned for each task",
            {"all tasks": compare(ours, OF_TUNED * results.scores(HAEPO, "tuned"))},
            quick=quick,
        ),
        judge_target(
            f"On no task is HAEPO adaptive below {OF_PPO} of PPO, one setting each.",
            _SOURCE,
            f"Interquartile mean of normalised scores, less {OF_PPO} of PPO's, on each task where PPO is shown to be "
            "better than random play",
            {task.label: _compare_with_ppo(results, task, OF_PPO) for task in _won_by_ppo(results)},
            quick=quick,
        ),
    )


def judge_tasks(results: Results, *, quick: bool) -> tuple[Claim, ...]:
    """Judges the targets of single tasks; those that the scale leaves out have none."""
    claims = []
    if (task := results.find(FROZEN_LAKE.name)) is not None:
        claims.append(
            judge_target(
                f"On {task.label} HAEPO adaptive is at PPO's score or above, one setting each.",
                _SOURCE,
                "Difference of interquartile means of normalised scores",
                {"against PPO": _compare_with_ppo(results, task, 1.0)},
                quick=quick,
            )
        )
    for name in (UMBRELLA_CHAIN.name, DISCOUNTING_CHAIN.name):
        if (task := results.find(name)) is not None:
            ours = results.of_task(task, HAEPO, "one")[None]
            claims.append(
                judge_target(
                    f"On {task.label} HAEPO adaptive is at {OF_BEST} of the best known or above.",
                    _SOURCE,
                    f"Interquartile mean of normalised scores, less {OF_BEST}",
                    {"one setting": compare(ours, np.full_like(ours, OF_BEST))},
                    quick=quick,
                )
            )
    if (task := results.find(MOUNTAIN_CAR.name)) is not None:
        finals = results.of_task(task, HAEPO, "one", "final")
        needed = math.ceil(OF_SEEDS * finals.size)
        count = float((finals > UPHILL).sum())
        claims.append(
            judge_target(
                f"On {task.label} HAEPO adaptive is better than {UPHILL:g} on {needed} of {finals.size} seeds.",
                _SOURCE,
                "Seeds that are, counted",
                # Nothing is drawn: the bound lies between the last number that misses it and the first that does not.
                {"one setting": Comparison(Estimate(*(np.array(count),) * 3), None, tie=needed - 0.5)},
                quick=quick,
                shown=lambda made: f"{made.estimate.value:.0f} of {finals.size}",
            )
        )
    if (task := results.find(CARTPOLE.name)) is not None:
        steps = {method.name: measure_steps_to_solve(results.reported[task.name][method.name]) for method in METHODS}
        claims.append(
            judge_target(
                f"On {task.label} HAEPO adaptive is at {SOLVED:g} in fewer env steps than every rival.",
                _SOURCE,
                f"Environment steps to {SOLVED:g}, difference, infinite where one never gets there",
                {
                    f"against {rival.label}": compare(
                        steps[HAEPO.name][None],
                        steps[rival.name][None],
                        larger=False,
                        never=f"neither reaches {SOLVED:g}",
                    )
                    for rival in RIVALS
                },
                quick=quick,
            )
        )
    return tuple(claims)


def _compare_with_ppo(results: Results, task: Task, share: float) -> Comparison:
    ours, theirs = (results.of_task(task, method, "one")[None] for method in (HAEPO, PPO))
    return compare(ours, share * theirs)


def _won_by_ppo(results: Results) -> list[Task]:
    """The tasks on which PPO's interval lies above random play: of less there is no share."""
    return [task for task in results.tasks if estimate_interquartile_mean(results.of_task(task, PPO, "one")).low > 0]
