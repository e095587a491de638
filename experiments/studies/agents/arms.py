"""The learners of self-play: each against a pool of its earlier selves, and against its newest self alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import Method
from experiments.studies.segments.methods import DEFAULT, change
from experiments.studies.suite.selection import make_settings
from experiments.studies.suite.tasks import Task

POOL, NEWEST = "pool", "newest"
OPPONENTS: Mapping[str, str] = {POOL: "with a pool", NEWEST: "against the newest self alone"}
SNAPSHOT_EVERY = 10
"""Updates between two policies that enter the pool."""
GAME = Task(
    "tic_tac_toe",
    "TicTacToe-haepo",
    {
        "env": "TicTacToe-haepo",
        "self_play.random_share": 0.2,
        "self_play.snapshot_every": SNAPSHOT_EVERY,
    },
    1.0,
    "by definition",
    budget=600_000,
    shortest=3,
)
"""The longest game has 5 of the learner's moves, and the shortest 3."""

_NETWORK: Mapping[str, Any] = {"policy.hidden_sizes": (128, 128), "policy.activation": "relu"}
_STEPS: Mapping[str, Any] = {
    **_NETWORK,
    "optimizer.schedule": "linear",
    "num_trajectories": 64,
}
EPISODES = change(
    DEFAULT,
    "episodes",
    "HAEPO",
    **{**_NETWORK, "exploration.persistences": (), "num_trajectories": 512, "min_batch_steps": None},
)
"""Whole games compete, as the default config has it."""
SEGMENTS = change(
    DEFAULT,
    "segments",
    "HAEPO with segments",
    **{
        **_STEPS,
        "min_batch_steps": None,
        "optimizer.learning_rate": 2e-3,
        "haepo.segment_length": 1,
        "haepo.num_steps": 32,
        "haepo.num_epochs": 4,
        "haepo.num_minibatches": 4,
        "haepo.bootstrap": "value",
        "haepo.gae_lambda": 0.95,
        "haepo.policy_entropy_coef": 0.1,
    },
)
PPO = Method(
    name="ppo",
    label="PPO",
    base={
        **_STEPS,
        "algorithm": "ppo",
        "optimizer.learning_rate": 1e-3,
        "ppo.num_steps": 32,
        "ppo.num_epochs": 4,
        "ppo.num_minibatches": 4,
        "ppo.entropy_coef": 0.1,
    },
    grid={},
    num_settings=1,
)
LEARNERS = (EPISODES, SEGMENTS, PPO)
"""Without a reference policy."""


def _with_reference(name: str, label: str, **more: Any) -> Method:
    coefficients = {"haepo.entropy_coef": 5e-3, "haepo.kl_coef": 5e-3}  # shares of b, half of it each
    settings = {"haepo.reference": name, **coefficients, **more}
    return change(SEGMENTS, f"segments_{name}", label, **settings)


REFERENCES = (
    _with_reference("previous", "the policy of the update before"),
    _with_reference("frozen", "the first policy"),
    _with_reference("periodic", "the newest of the pool", **{"haepo.reference_period": SNAPSHOT_EVERY}),
)
"""HAEPO with segments and a reference policy, by what that is. A copy at each snapshot is the newest of the pool."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A learner with its opponents."""

    method: Method
    opponents: str

    @property
    def name(self) -> str:
        """Of its run."""
        return f"{GAME.name}/{self.method.name}_{self.opponents}"

    def make_settings(self, budget: float) -> dict[str, Any]:
        """Makes its settings, by dotted name."""
        return {**make_settings(GAME, self.method, budget), "self_play.opponents": self.opponents}


ARMS = tuple(Arm(method, opponents) for method in (*LEARNERS, *REFERENCES) for opponents in OPPONENTS)
