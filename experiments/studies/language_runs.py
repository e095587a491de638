"""The runs behind a study of language models, each in a folder of its own and done once: what an earlier call finished
is kept.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.countdown import Countdown
from experiments.studies.methods import Method, nest_settings
from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, from_config_dict
from haepo_jax.language.stages import stages
from haepo_jax.reports.page import ConfigListing
from haepo_jax.runs.files import StrPath, is_complete, read_attempts, read_summary
from haepo_jax.runs.metrics.reader import read_metric

TUNING_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A method with its chosen settings."""

    method: Method
    chosen: Mapping[str, float]
    """By dotted name."""
    tried: tuple[tuple[Mapping[str, float], float], ...]
    """Every setting with its score on tuning seeds, -inf where it diverged; empty if nothing was tuned."""


def choose_setting(method: Method, scores: list[float]) -> Tuned:
    """Chooses the setting of a method that has the largest score, the first of those that tie."""
    settings = method.settings()
    return Tuned(method, settings[int(np.argmax(scores))], tuple(zip(settings, scores, strict=True)))


def list_configs(done: Mapping[str, LanguageConfig], command: str) -> tuple[ConfigListing, ...]:
    """Lists the configs of runs by name, with the command that does them."""
    defaults = dataclasses.asdict(LanguageConfig())
    return tuple(
        ConfigListing(name, f"{config.algorithm}, seed {config.seed}", dataclasses.asdict(config), command, defaults)
        for name, config in sorted(done.items())
    )


class LanguageRuns:
    """The stages under one folder."""

    def __init__(self, directory: StrPath, settings: Mapping[str, Any], total: int) -> None:
        """Nothing is done before it is asked for.

        Args:
          directory: of the study.
          settings: of all runs, by dotted name.
          total: how many stages there will be.
        """
        self.directory = Path(directory)
        self.done: dict[str, LanguageConfig] = {}
        """The configs of the runs of stage `rl` asked for so far, by name."""
        self._settings = settings
        self._countdown = Countdown(total)

    def config(self, settings: Mapping[str, Any]) -> LanguageConfig:
        """Makes the config with these settings, by dotted name."""
        return from_config_dict(nest_settings({**self._settings, **settings}))

    def place(self, name: str) -> tuple[Path, str]:
        """Returns where a run of stage `rl` is done: the work folder, and its name there."""
        return self.directory, name

    def begin(self, stage: str, label: str, settings: Mapping[str, Any], workdir: Path) -> None:
        """Does a stage that comes before `rl`.

        Args:
          stage: `sft` or `reward`.
          label: for people.
          settings: by dotted name.
          workdir: the work folder.
        """
        run = {"sft": stages.run_sft, "reward": stages.run_reward}[stage]
        if not is_complete(workdir / stage):
            print(f"{label} ({self._countdown.words()})", flush=True)
        run(self.config(settings), workdir)
        self._countdown.finished(read_seconds(workdir / stage))

    def get(self, name: str, settings: Mapping[str, Any]) -> None:
        """Does a run of stage `rl`.

        Raises:
          ConfigError: as of `stages.run_rl`, with the name of the run.
        """
        workdir, own_name = self.place(name)
        config = self.config({**settings, "name": own_name})
        if not is_complete(self._folder(name)):
            print(f"{name} ({self._countdown.words()})", flush=True)
        try:
            stages.run_rl(config, workdir)
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
        """Returns a measure of the held-out prompts at each look at them, `[looks]`."""
        values = self.metric(name, f"held_out_{measure}")
        return values[~np.isnan(values)]

    def seconds(self, name: str) -> float:
        """Returns the seconds of compilation and updates, without looks at held-out prompts."""
        return read_seconds(self._folder(name))

    def tokens(self, name: str) -> int:
        """Returns the number of response tokens that the run learned from."""
        return read_summary(self._folder(name))["tokens"]

    def provenance(self, name: str) -> list[dict[str, Any]]:
        """Returns the attempts of the run."""
        return read_attempts(self._folder(name))

    def _folder(self, name: str) -> Path:
        workdir, own_name = self.place(name)
        return workdir / "rl" / own_name


def count_finished(directory: Path) -> int:
    """Counts the stages under the folder of a study that are complete."""
    return sum(1 for _ in directory.glob("**/summary.json"))


def read_seconds(folder: Path) -> float:
    """Reads the seconds of compilation and updates of a stage's folder."""
    clock = read_summary(folder)["wall_clock"]
    return clock["compile_seconds"] + clock["run_seconds"]
