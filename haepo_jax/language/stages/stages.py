"""The stages of fine-tuning, each a run in a folder of its own: WORKDIR/sft, WORKDIR/reward, WORKDIR/rl/NAME.

The modules `sft`, `reward` and `rl` put each stage together, and `run` runs it. A stage leaves a Hugging Face folder
`model` beside the metrics of its run, or where the run diverged, its newest checkpoint as `model_before_divergence`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from haepo_jax.language.config import LanguageConfig, count_sampling_parts, get_group_size, name_run, stage_settings
from haepo_jax.language.data.corpus import get_format
from haepo_jax.language.stages.context import Finish, StageContext, make_context, remove_data_if_refused
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.reward import make_reward
from haepo_jax.language.stages.rl import make_rl
from haepo_jax.language.stages.run import Stage, run
from haepo_jax.language.stages.sft import make_sft
from haepo_jax.language.stages.speed import make_utilisation
from haepo_jax.language.stages.status import LAST_FINITE, MODEL, is_finished
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.runs.component_files import add_recorded_folders, describe_components, report_changes
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.identity import check_run, holds_run, open_run
from haepo_jax.runs.loggers import MakeLogger, make_request
from haepo_jax.runs.programs import record_programs
from haepo_jax.runtime import startup
from haepo_jax.runtime.precision import computing_products

_BYTES_A_TOKEN = 5  # int32, and a boolean whether it counts


def find_folder(stage: str, config: LanguageConfig, workdir: StrPath) -> Path:
    """Finds the run folder of a stage."""
    workdir = Path(workdir)
    return workdir / "rl" / name_run(config) if stage == "rl" else workdir / stage


def run_sft(
    config: LanguageConfig,
    workdir: StrPath,
    *,
    checkpoint_seconds: float = 30.0,
    loggers: Sequence[str | MakeLogger] = (),
) -> bool:
    """Fine-tunes the model on reference summaries; writes `WORKDIR/sft/model`.

    Args:
      config: the settings.
      workdir: holds the folders of all stages.
      checkpoint_seconds: least time between two checkpoints.
      loggers: what shows metrics elsewhere too, as `haepo_jax.runs.loggers.make_request` takes it.

    Returns:
      False if it was finished already, or had diverged, and nothing was done. Where its summary or its model is
      missing, it is made again from the newest checkpoint.

    Raises:
      ConfigError: a setting, a folder or data that cannot be used.
      StorageError: the folder could not be written any more.
      Interrupted: SIGTERM or SIGINT.
    """
    return _run("sft", config, workdir, make_sft, checkpoint_seconds, loggers)


def run_reward(
    config: LanguageConfig,
    workdir: StrPath,
    *,
    checkpoint_seconds: float = 30.0,
    loggers: Sequence[str | MakeLogger] = (),
) -> bool:
    """Trains the reward model on comparisons, from the fine-tuned policy; writes `WORKDIR/reward/model`.

    Arguments, result and errors as of `run_sft`.
    """
    return _run("reward", config, workdir, make_reward, checkpoint_seconds, loggers)


def run_rl(
    config: LanguageConfig,
    workdir: StrPath,
    *,
    checkpoint_seconds: float = 30.0,
    loggers: Sequence[str | MakeLogger] = (),
) -> bool:
    """Trains the fine-tuned policy or the first model by the config's algorithm; writes `WORKDIR/rl/NAME/model`.

    Arguments, result and errors as of `run_sft`; besides, a reward model whose held-out accuracy is below
    `config.rl.min_reward_accuracy` is refused, before anything is written.
    """
    return _run("rl", config, workdir, make_rl, checkpoint_seconds, loggers)


def _run(
    name: str,
    config: LanguageConfig,
    workdir: StrPath,
    make: Callable[[StageContext], tuple[Stage, Finish]],
    checkpoint_seconds: float,
    loggers: Sequence[str | MakeLogger],
) -> bool:
    with computing_products(config.precision):
        return _run_stage(name, config, workdir, make, checkpoint_seconds, loggers)


def _run_stage(
    name: str,
    config: LanguageConfig,
    workdir: StrPath,
    make: Callable[[StageContext], tuple[Stage, Finish]],
    checkpoint_seconds: float,
    loggers: Sequence[str | MakeLogger],
) -> bool:
    requested = make_request(loggers, (0,), 1)
    startup.check_flags()
    workdir = Path(workdir)
    folder = find_folder(name, config, workdir)
    batch_size = {"sft": config.sft.batch_size, "reward": config.reward.batch_size, "rl": config.rl.num_prompts}[name]
    _check_batch(config, batch_size * _count_responses(config, name))
    shared = batch_size // count_sampling_parts(config) if name == "rl" else batch_size
    add_recorded_folders(folder)
    components = describe_components([_config_of_stage(config, name)])
    settings, members = stage_settings(config, name), [{"index": 0, "seed": config.seed, "settings": {}}]
    defaults = dataclasses.asdict(LanguageConfig())
    if holds_run(folder):  # refused before a model is read and compiled, which takes minutes
        check_run(folder, settings, members, defaults)
    # Before the folder is made, as what a stage needs may not be there.
    with remove_data_if_refused(workdir):
        parts = None if is_finished(folder) else make(make_context(config, workdir, batch_size=shared))
    with open_run(folder, settings, members, defaults):
        if parts is None:
            return False
        stage, finish = parts
        base = stage.frozen.base if isinstance(stage.frozen, Frozen) else stage.frozen
        utilisation = make_utilisation(name, base, stage.learner.trained, config.model.dtype)
        stage = stage._replace(utilisation=utilisation)
        report_changes(folder, components)
        with storage_errors(folder):
            record_programs(folder, {}, components)
        result = run(stage, folder, components, checkpoint_seconds=checkpoint_seconds, loggers=requested)
        rate = result.tokens / result.run_seconds if result.run_seconds else None
        made = folder / (MODEL if result.diverged_at is None else LAST_FINITE)
        summary = {
            "stage": name,
            "status": "ok" if result.diverged_at is None else "diverged",
            "diverged_at": result.diverged_at,
            "updates": int(result.learner.updates_done),
            "tokens": result.tokens,
            "wall_clock": {"compile_seconds": result.compile_seconds, "run_seconds": result.run_seconds},
            "tokens_per_second": rate,
            "flop_utilisation": None if rate is None else utilisation(rate),
            **finish(result, made),
        }
        with storage_errors(folder):
            write_json(folder / "summary.json", summary)
    return True


def _config_of_stage(config: LanguageConfig, stage: str) -> LanguageConfig:
    """Makes the config with the defaults of what the stage does not read."""
    return dataclasses.replace(
        LanguageConfig(), **{name: getattr(config, name) for name in stage_settings(config, stage)}
    )


def _count_responses(config: LanguageConfig, stage: str) -> int:
    """Responses of an update for each row of its batch."""
    if stage == "rl":
        return get_group_size(config)
    return 2 if stage == "reward" else 1


def _check_batch(config: LanguageConfig, responses: int) -> None:
    """Refuses a batch whose tokens alone do not fit, as no program can be compiled for it."""
    texts = get_format(config.data)
    length = texts.query_length + texts.response_length
    check_room(responses * length * _BYTES_A_TOKEN, f"A batch of {responses} responses", "make it smaller")
