"""The runs behind the study: a fine-tuned policy a seed, and from it one run of each method."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.studies.language_runs import TUNING_SEED, LanguageRuns, Tuned, choose_setting, read_seconds
from experiments.studies.methods import Method
from experiments.studies.puzzles.methods import SETTINGS_PER_METHOD
from experiments.studies.puzzles.scale import Scale
from experiments.studies.puzzles.task import EXAMPLES, REWARD, SETTINGS, locate_puzzles
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data import puzzles
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.json_files import read_json

PASSED = f"reward/{REWARD}"
"""The share of right answers, among the measures of held-out puzzles."""


class Runs(LanguageRuns):
    """The runs in `DIRECTORY/seedN`, named `seedN/METHOD`, on the puzzles of `DIRECTORY/data`."""

    def __init__(self, directory: StrPath, scale: Scale) -> None:
        """Nothing is done before it is asked for."""
        self.scale = scale
        self.data = Path(directory) / "data"
        tuning = scale.tuning_seeds * (1 + SETTINGS_PER_METHOD * len(scale.methods))
        settings = {**SETTINGS, **locate_puzzles(self.data), **scale.settings}
        super().__init__(directory, settings, tuning + scale.seeds * (1 + len(scale.methods)))

    def write_puzzles(self) -> None:
        """Writes the puzzles, unless all of them are there.

        Raises:
          ConfigError: those that are there are not as many as this study asks for.
        """
        done, numbers = self.data / "complete.json", dict(self.scale.puzzles)
        if not done.exists():
            with storage_errors(self.data):
                puzzles.write(self.data, **numbers)
                write_json(done, numbers)
        elif read_json(done, dict) != numbers:
            raise ConfigError(
                f"{self.data} holds the puzzles of a {'full' if self.scale.quick else 'quick'} study, and this one is "
                f"{'quick' if self.scale.quick else 'full'}; give it another --workdir."
            )

    def place(self, name: str) -> tuple[Path, str]:
        """Returns where a run is done: the work folder of its seed, and its name there."""
        seed, _, own_name = name.partition("/")
        return self.directory / seed, own_name

    def config_of(self, seed: int) -> LanguageConfig:
        """Returns the config of a seed's work folder."""
        return self.config({"seed": seed})

    @property
    def tuning_seeds(self) -> range:
        """The seeds that settings are tried on."""
        return range(TUNING_SEED, TUNING_SEED + self.scale.tuning_seeds)

    def fine_tune(self, seed: int) -> None:
        """Makes the fine-tuned policy of a seed, that all methods begin with."""
        settings = {"seed": seed, "data.prompts": str(self.data / EXAMPLES)}
        self.begin("sft", f"seed{seed}/fine-tuning", settings, self.directory / f"seed{seed}")

    def fine_tuning_seconds(self, seed: int) -> float:
        """Returns the seconds that fine-tuning took, compilation included."""
        return read_seconds(self.directory / f"seed{seed}" / "sft")

    def tune(self, method: Method) -> Tuned:
        """Tries every setting of the method, and takes the one with the most right answers towards the end.

        That is the mean over the tuning seeds and the last third of the looks at the held-out puzzles, as a single
        look is noisy, and a single seed too.
        """
        settings = method.settings()
        if not self.tuning_seeds:
            return Tuned(method, settings[0], ())
        scores = [
            float(np.mean([self._score(method, number, chosen, seed) for seed in self.tuning_seeds]))
            for number, chosen in enumerate(settings)
        ]
        return choose_setting(method, scores)

    def _score(self, method: Method, number: int, chosen: Mapping[str, float], seed: int) -> float:
        name = f"seed{seed}/{method.name}-{number}"
        self.get(name, {**method.base, **chosen, "seed": seed})
        looks = self.looks(name, PASSED)
        return -np.inf if self.diverged(name) else float(looks[-max(len(looks) // 3, 1) :].mean())

    def report(self, tuned: Tuned) -> tuple[str, ...]:
        """Runs a tuned method on the reported seeds, and returns the names of the runs."""
        names = tuple(f"seed{seed}/{tuned.method.name}" for seed in range(self.scale.seeds))
        for seed, name in enumerate(names):
            self.get(name, {**tuned.method.base, **tuned.chosen, "seed": seed})
        return names
