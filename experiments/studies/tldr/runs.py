"""The runs behind the comparison, each in a folder of its own and done once: what an earlier call finished is kept."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.countdown import Countdown
from experiments.studies.methods import Method, nest_settings
from experiments.studies.tldr.methods import METHODS, SETTINGS_PER_METHOD
from experiments.studies.tldr.scale import Scale
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, from_config_dict
from haepo_jax.language.stages import stages
from haepo_jax.runs.files import StrPath, is_complete, read_attempts, read_summary
from haepo_jax.runs.metrics.reader import read_metric

TUNING_SEED = 1000
_FIRST = {"sft": "fine-tuning", "reward": "reward model"}
"""The stages that all methods begin with."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A method with its chosen settings."""

    method: Method
    chosen: Mapping[str, float]
    """By dotted name."""
    tried: tuple[tuple[Mapping[str, float], float], ...]
    """Every setting with the gold reward that it ends at, -inf where it diverged; empty if nothing was tuned."""


class Runs:
    """The stages under one folder."""

    def __init__(self, directory: StrPath, scale: Scale) -> None:
        """Nothing is done before it is asked for."""
        self.directory, self.scale = Path(directory), scale
        self.done: dict[str, LanguageConfig] = {}
        """The configs of the runs of stage `rl` asked for so far, by name."""
        a_method = (SETTINGS_PER_METHOD if scale.tuned else 0) + scale.seeds
        self._countdown = Countdown(len(_FIRST) + len(METHODS) * a_method)

    def config(self, settings: Mapping[str, Any]) -> LanguageConfig:
        """Makes the config with these settings, by dotted name, at this scale."""
        return from_config_dict(nest_settings({**self.scale.settings, **settings}))

    def prepare(self) -> None:
        """Makes the fine-tuned policy and the reward model that all methods begin with."""
        run = {"sft": stages.run_sft, "reward": stages.run_reward}
        for stage, name in _FIRST.items():
            if not is_complete(self.directory / stage):
                print(f"{name} ({self._countdown.words()})", flush=True)
            run[stage](self.config({}), self.directory)
            self._countdown.finished(self.stage_seconds(stage))

    def stage_seconds(self, stage: str) -> float:
        """Returns the seconds of the stage `sft` or `reward`, compilation included."""
        return _read_seconds(self.directory / stage)

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
            self._get(name, {**method.base, **chosen, "seed": TUNING_SEED})
            scores.append(-np.inf if self.diverged(name) else float(self.looks(name, "gold")[-1]))
        best = settings[int(np.argmax(scores))]
        return Tuned(method, best, tuple(zip(settings, scores, strict=True)))

    def reported(self, tuned: Tuned) -> tuple[str, ...]:
        """Runs a tuned method on the reported seeds, and returns the names of the runs."""
        names = tuple(f"{tuned.method.name}-seed{seed}" for seed in range(self.scale.seeds))
        for seed, name in enumerate(names):
            self._get(name, {**tuned.method.base, **tuned.chosen, "seed": seed})
        return names

    def _get(self, name: str, settings: Mapping[str, Any]) -> None:
        config = self.config({**settings, "name": name})
        if not is_complete(self._folder(name)):
            print(f"{name} ({self._countdown.words()})", flush=True)
        try:
            stages.run_rl(config, self.directory)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        if name not in self.done:
            self._countdown.finished(self.seconds(name))
        self.done[name] = config

    def diverged(self, name: str) -> bool:
        """Returns whether the run met a loss or gradient that was not finite."""
        return read_summary(self._folder(name))["status"] == "diverged"

    def metric(self, name: str, metric: str) -> np.ndarray:
        """Returns a metric, `[updates]`."""
        return read_metric(self._folder(name), metric)[0]

    def looks(self, name: str, measure: str) -> np.ndarray:
        """Returns a measure of the held-out posts at each look at them, `[looks]`."""
        values = self.metric(name, f"held_out_{measure}")
        return values[~np.isnan(values)]

    def seconds(self, name: str) -> float:
        """Returns the seconds of compilation and updates, without looks at held-out posts."""
        return _read_seconds(self._folder(name))

    def tokens(self, name: str) -> int:
        """Returns the number of response tokens that the run learned from."""
        return read_summary(self._folder(name))["tokens"]

    def provenance(self, name: str) -> list[dict[str, Any]]:
        """Returns the attempts of the run."""
        return read_attempts(self._folder(name))

    def _folder(self, name: str) -> Path:
        return self.directory / "rl" / name


def count_finished(directory: Path) -> int:
    """Counts the stages under the folder of the comparison that are complete."""
    return sum(1 for _ in directory.glob("**/summary.json"))


def _read_seconds(folder: Path) -> float:
    clock = read_summary(folder)["wall_clock"]
    return clock["compile_seconds"] + clock["run_seconds"]
