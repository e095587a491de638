"""The tasks of the suite, with what random play and the best known policy stand for on each.

Left out, of the environments that gymnax and this package have:

- MemoryChain-bsuite, MetaMaze-misc, SimpleBandit-bsuite: a policy without memory does hardly better than chance (the
  first asks for what was to be seen steps ago, the second has a goal that is to be found again, the third draws its
  arms again before each pull).
- Swimmer-misc: nobody has published a score, and no bound of it is known that a policy comes near.
- Pong-misc and MinAtar: their observations are images, on which a fully connected network takes minutes a seed.
- MNISTBandit-bsuite: it downloads its data.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

STEPS = 200_000
SHORT_STEPS = 100_000  # where learning is fast or gets nowhere: all tasks fit two hours so
BANDIT_STEPS = 50_000  # about 49 updates of PPO, by when the choice of one arm is learnt
_GYMNAX = "gymnax's own checkpoint"
_DEFINITION = "by definition"


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that all methods learn under the same conditions."""

    name: str
    """For folders."""
    label: str
    """For people."""
    settings: Mapping[str, Any]
    """The environment, by dotted name."""
    best: float
    """Score of the best known policy, or a bound of it; it counts as 1."""
    source: str
    """Where that is from."""
    budget: int = STEPS
    """Environment steps of a member."""
    shortest: int = 1
    """Steps of its shortest episode, or fewer."""
    metric: str = "episode_return"
    sign: int = 1
    """-1 where the metric is a cost, whose negative is the score."""

    def normalize(self, scores: np.ndarray, random: float) -> np.ndarray:
        """Computes normalised scores `[...]`: 0 is random play, 1 the best known policy; nothing is clipped."""
        return (scores - random) / (self.best - random)


CARTPOLE = Task("cartpole", "CartPole-v1", {"env": "CartPole-v1"}, 500.0, "its time limit", shortest=8)
MOUNTAIN_CAR = Task("mountain_car", "MountainCar-v0", {"env": "MountainCar-v0"}, -100.8, "RL Zoo, DQN", shortest=80)
DISCOUNTING_CHAIN = Task(
    "discounting_chain",
    "DiscountingChain-bsuite",
    {"env": "DiscountingChain-bsuite"},
    1.1,
    _DEFINITION,
    shortest=100,
)
UMBRELLA_CHAIN = Task(
    "umbrella_chain", "UmbrellaChain-bsuite", {"env": "UmbrellaChain-bsuite"}, 1.0, _DEFINITION, shortest=10
)
FROZEN_LAKE = Task(
    "frozen_lake", "FrozenLake-misc", {"env": "FrozenLake-misc"}, 0.744, "dynamic programming over 100 steps"
)

REPORTED = (
    CARTPOLE,
    MOUNTAIN_CAR,
    Task(
        "mountain_car_continuous",
        "MountainCarContinuous-v0",
        {"env": "MountainCarContinuous-v0"},
        94.7,
        "RL Zoo, SAC",
        shortest=40,
    ),
    Task("pendulum", "Pendulum-v1", {"env": "Pendulum-v1"}, -130.0, _GYMNAX, shortest=200),
    Task("deep_sea", "DeepSea-bsuite, size 8", {"env": "DeepSea-bsuite"}, 0.99, _DEFINITION, shortest=8),
    DISCOUNTING_CHAIN,
    UMBRELLA_CHAIN,
    FROZEN_LAKE,
    Task(
        "frozen_lake_8",
        "FrozenLake-misc, 8x8",
        {"env": "FrozenLake-misc", "env_kwargs.map_name": "8x8"},
        0.913,
        "dynamic programming over 200 steps",
    ),
    # Chance gets there in 45% of the episodes of 500 steps that the environment allows, in 3% of those of 100.
    Task(
        "four_rooms",
        "FourRooms-misc, 100 steps",
        {"env": "FourRooms-misc", "horizon": 100},
        1.0,
        "a bound by definition",
        budget=SHORT_STEPS,
    ),
    Task(
        "reacher",
        "Reacher-misc",
        {"env": "Reacher-misc"},
        98.1,
        "a bound: at the goal all along",
        shortest=100,
        budget=SHORT_STEPS,
    ),
    Task(
        "bernoulli_bandit",
        "BernoulliBandit-misc",
        {"env": "BernoulliBandit-misc"},
        90.0,
        "by definition, knowing the better arm",
        shortest=100,
        budget=SHORT_STEPS,
    ),
    Task(
        "gaussian_bandit",
        "GaussianBandit-misc",
        {"env": "GaussianBandit-misc"},
        8.33,
        "by definition, knowing the better arm",
        shortest=100,
        budget=SHORT_STEPS,
    ),
    Task(
        "gaussian_arms",
        "GaussianBandit-haepo, 10 arms",
        {"env": "GaussianBandit-haepo"},
        0.0,
        _DEFINITION,
        budget=BANDIT_STEPS,
        metric="regret",
        sign=-1,
    ),
    Task("walk", "RandomWalk-haepo", {"env": "RandomWalk-haepo"}, 1.0, _DEFINITION, shortest=50, budget=SHORT_STEPS),
    Task(
        "long_chain",
        "LongChain-haepo, 50 cells, 500 steps",
        {"env": "LongChain-haepo", "env_params.length": 50, "horizon": 500},
        1.0,
        _DEFINITION,
        shortest=50,
        budget=SHORT_STEPS,
    ),
)
"""Those that the page compares the methods on."""

TUNING = (
    Task("acrobot", "Acrobot-v1", {"env": "Acrobot-v1"}, -73.5, "RL Zoo, PPO", shortest=40),
    Task(
        "catch",
        "Catch-bsuite",
        {"env": "Catch-bsuite", "horizon": 9},
        1.0,
        _DEFINITION,
        shortest=9,
        budget=SHORT_STEPS,
    ),
    Task("point_robot", "PointRobot-misc", {"env": "PointRobot-misc"}, 10.0, _GYMNAX, shortest=100),
    Task(
        "bernoulli_arms",
        "BernoulliBandit-haepo, 10 arms",
        {"env": "BernoulliBandit-haepo"},
        0.0,
        _DEFINITION,
        budget=BANDIT_STEPS,
        metric="regret",
        sign=-1,
    ),
)
"""Those that each method's one setting is chosen on, of four kinds: a cost for each step until a goal, a short episode
with one outcome, real-valued actions, and single choices."""
