"""The runs behind the comparison: the stages that all methods begin with, and those of each method."""

import numpy as np

from experiments.studies.language_runs import TUNING_SEED, LanguageRuns, Tuned, choose_setting, read_seconds
from experiments.studies.methods import Method
from experiments.studies.tldr.methods import METHODS, SETTINGS_PER_METHOD
from experiments.studies.tldr.scale import Scale
from haepo_jax.runs.files import StrPath, read_summary

_FIRST = {"sft": "fine-tuning", "reward": "reward model"}
"""The stages that all methods begin with."""


class Runs(LanguageRuns):
    """The stages under one folder."""

    def __init__(self, directory: StrPath, scale: Scale) -> None:
        """Nothing is done before it is asked for."""
        self.scale = scale
        a_method = (SETTINGS_PER_METHOD if scale.tuned else 0) + scale.seeds
        super().__init__(directory, scale.settings, len(_FIRST) + len(METHODS) * a_method)

    def prepare(self) -> None:
        """Makes the fine-tuned policy and the reward model that all methods begin with."""
        for stage, label in _FIRST.items():
            self.begin(stage, label, {}, self.directory)

    def stage_seconds(self, stage: str) -> float:
        """Returns the seconds of the stage `sft` or `reward`, compilation included."""
        return read_seconds(self.directory / stage)

    def reward_accuracy(self) -> float:
        """Returns the accuracy of the reward model on held-out comparisons."""
        return read_summary(self.directory / "reward")["held_out_accuracy"]

    def tune(self, method: Method) -> Tuned:
        """Tries every setting of the method, and takes the one whose policy ends at the most gold reward."""
        settings = method.settings()
        if not self.scale.tuned:
            return Tuned(method, settings[0], ())
        scores = []
        for number, chosen in enumerate(settings):
            name = f"tuning-{method.name}-{number}"
            self.get(name, {**method.base, **chosen, "seed": TUNING_SEED})
            scores.append(-np.inf if self.diverged(name) else float(self.looks(name, "gold")[-1]))
        return choose_setting(method, scores)

    def reported(self, tuned: Tuned) -> tuple[str, ...]:
        """Runs a tuned method on the reported seeds, and returns the names of the runs."""
        names = tuple(f"{tuned.method.name}-seed{seed}" for seed in range(self.scale.seeds))
        for seed, name in enumerate(names):
            self.get(name, {**tuned.method.base, **tuned.chosen, "seed": seed})
        return names
