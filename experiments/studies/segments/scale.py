"""How large the study is: as reported, or quick for a look."""

import dataclasses

from experiments.studies.segments.methods import METHODS
from experiments.studies.segments.tasks import BREAKOUT, GAMES, MEMORY, SHORT_CHAIN, MemoryTask
from experiments.studies.suite.tasks import Task


@dataclasses.dataclass(frozen=True)
class Scale:
    """Tasks, seeds and lengths of the study."""

    quick: bool
    games: tuple[Task, ...]
    seeds: int
    """Reported seeds of a game and of a memory task, counted from 0."""
    cnn_seeds: int
    """Reported seeds of a game with the convolutional network; 0 leaves it out."""
    part_seeds: int
    """Of the sweep of a segment's length and of the comparison of sharpness; the first of those reported."""
    tuning_seeds: int
    """Seeds of each setting while it is tried, counted from 1000: none is ever reported."""
    budget: float
    """Share of each task's environment steps."""
    lengths: tuple[int, ...]
    """Steps of a segment; the first is that of the games."""
    memory: tuple[MemoryTask, ...]
    episodes: int
    """Of random play, for each task."""

    @property
    def runs(self) -> int:
        """The runs that the study asks for in all."""
        games = len(METHODS) * len(self.games) * (3 if self.cnn_seeds else 2)  # tuned, and with each network
        sharpness = 4  # another controller, and three numbers that stay
        return games + len(self.lengths) - 1 + sharpness + 2 * len(self.memory)


CNN_SEEDS = 4
FULL = Scale(
    quick=False,
    games=GAMES,
    seeds=8,
    cnn_seeds=0,
    part_seeds=5,
    tuning_seeds=4,
    budget=1.0,
    lengths=(1, 2, 4, 8, 16, 32, 64, 128),
    memory=MEMORY,
    episodes=1024,
)
QUICK = Scale(
    quick=True,
    games=(BREAKOUT,),
    seeds=3,
    cnn_seeds=0,
    part_seeds=3,
    tuning_seeds=1,
    budget=0.1,
    lengths=(1, 8, 128),
    memory=(SHORT_CHAIN,),
    episodes=128,
)
