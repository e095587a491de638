"""The stages of fine-tuning, each a run in a folder of its own: WORKDIR/sft, WORKDIR/reward, WORKDIR/rl/NAME.

A stage is put together here; what it gives is a Hugging Face folder `model` beside the metrics of the run, or where
the run diverged, its newest checkpoint as `model_before_divergence`.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, group_size, on_language, run_name, stage_settings
from haepo_jax.language.data import corpus
from haepo_jax.language.data.prompts import prompt_format
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.stages.answering import make_answering
from haepo_jax.language.stages.assembly import (
    Setting,
    average_over_batches,
    compile_stage,
    find_policy_folder,
    find_reward_folder,
    fold_adapter,
    make_first_model,
    make_setting,
    remove_data_if_refused,
    split_trainable,
    write_stage_model,
)
from haepo_jax.language.stages.memory_check import check_room
from haepo_jax.language.stages.run import Evaluation, Stage, StageResult, run
from haepo_jax.language.stages.status import LAST_FINITE, MODEL, is_finished
from haepo_jax.language.training import comparisons, reward, rl, sft
from haepo_jax.language.training.group_update import make_optimizer_of
from haepo_jax.language.training.learner import LearnerState, Update, start, whole
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.runs.component_files import add_recorded_folders, describe_components, report_changes
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runs.identity import open_run, record_programs
from haepo_jax.runtime import startup
from haepo_jax.types import Params

_BYTES_A_TOKEN = 5  # int32, and a boolean whether it counts

Finish = Callable[[StageResult, Path], dict[str, Any]]
"""Writes what the stage has made into a folder, and gives what its summary says of it."""


def find_folder(stage: str, config: LanguageConfig, workdir: StrPath) -> Path:
    """The run folder of a stage."""
    workdir = Path(workdir)
    return workdir / "rl" / run_name(config) if stage == "rl" else workdir / stage


def run_sft(config: LanguageConfig, workdir: StrPath, *, checkpoint_seconds: float = 30.0) -> bool:
    """Fine-tunes the model on reference summaries; writes `WORKDIR/sft/model`.

    Args:
      config: the settings.
      workdir: holds the folders of all stages.
      checkpoint_seconds: least time between two checkpoints.

    Returns:
      False if it was finished already, or had diverged, and nothing was done. Where its summary or its model is
      missing, it is made again from the newest checkpoint.

    Raises:
      ConfigError: a setting, a folder or data that cannot be used.
      StorageError: the folder could not be written any more.
      Interrupted: SIGTERM or SIGINT.
    """
    return _run("sft", config, workdir, _make_sft, checkpoint_seconds)


def run_reward(config: LanguageConfig, workdir: StrPath, *, checkpoint_seconds: float = 30.0) -> bool:
    """Trains the reward model on comparisons, from the fine-tuned policy; writes `WORKDIR/reward/model`.

    Arguments, result and errors as of `run_sft`.
    """
    return _run("reward", config, workdir, _make_reward, checkpoint_seconds)


def run_rl(config: LanguageConfig, workdir: StrPath, *, checkpoint_seconds: float = 30.0) -> bool:
    """Trains the fine-tuned policy by the config's algorithm; writes `WORKDIR/rl/NAME/model`.

    Arguments, result and errors as of `run_sft`; besides, a reward model whose held-out accuracy is below
    `config.rl.min_reward_accuracy` is refused, before anything is written.
    """
    return _run("rl", config, workdir, _make_rl, checkpoint_seconds)


def _run(
    name: str,
    config: LanguageConfig,
    workdir: StrPath,
    make: Callable[[Setting], tuple[Stage, Finish]],
    checkpoint_seconds: float,
) -> bool:
    startup.check_flags()
    workdir = Path(workdir)
    folder = find_folder(name, config, workdir)
    batch_size = {"sft": config.sft.batch_size, "reward": config.reward.batch_size, "rl": config.rl.num_prompts}[name]
    _check_batch(config, batch_size * _count_responses(config, name))
    add_recorded_folders(folder)
    components = describe_components([_config_of_stage(config, name)])
    # Before the folder is made, as what a stage needs may not be there.
    with remove_data_if_refused(workdir):
        parts = None if is_finished(folder) else make(make_setting(config, workdir, batch_size=batch_size))
    with open_run(folder, stage_settings(config, name), [{"index": 0, "seed": config.seed, "settings": {}}]):
        if parts is None:
            return False
        stage, finish = parts
        report_changes(folder, components)
        with storage_errors(folder):
            record_programs(folder, {}, components)
        result = run(stage, folder, components, checkpoint_seconds=checkpoint_seconds)
        made = folder / (MODEL if result.diverged_at is None else LAST_FINITE)
        summary = {
            "stage": name,
            "status": "ok" if result.diverged_at is None else "diverged",
            "diverged_at": result.diverged_at,
            "updates": int(result.learner.updates_done),
            "tokens": result.tokens,
            "wall_clock": {"compile_seconds": result.compile_seconds, "run_seconds": result.run_seconds},
            **finish(result, made),
        }
        with storage_errors(folder):
            write_json(folder / "summary.json", summary)
    return True


def _config_of_stage(config: LanguageConfig, stage: str) -> LanguageConfig:
    """The config with the defaults of what the stage does not read."""
    return dataclasses.replace(
        LanguageConfig(), **{name: getattr(config, name) for name in stage_settings(config, stage)}
    )


def _count_responses(config: LanguageConfig, stage: str) -> int:
    """Responses of an update for each row of its batch."""
    if stage == "rl":
        return group_size(config)
    return 2 if stage == "reward" else 1


def _check_batch(config: LanguageConfig, responses: int) -> None:
    """Refuses a batch whose tokens alone do not fit, as no program can be compiled for it."""
    texts = prompt_format(config.data.prompt)
    length = texts.query_length + texts.response_length
    check_room(responses * length * _BYTES_A_TOKEN, f"A batch of {responses} responses", "make it smaller")


def _make_sft(setting: Setting) -> tuple[Stage, Finish]:
    config, length = setting.config, prompt_format(setting.config.data.prompt).response_length
    model, tokenizer = make_first_model(setting)
    architecture = model.architecture
    decoder = setting.decoder(architecture, setting.adapter)
    base, trained = split_trainable(setting, decoder, model.params)
    held_out = corpus.demonstrations(config.data, tokenizer, "held_out")  # now, as a bad row is better seen at once
    stage, _ = compile_stage(
        setting,
        start(trained, sft.make_optimizer_of(config), seed=config.seed, mesh=setting.mesh),
        base,
        {"sft": sft.make_update(config, decoder, response_length=length)},
        corpus.demonstrations(config.data, tokenizer, "train"),
        config.data.demonstrations,
        batch_size=config.sft.batch_size,
        total=config.sft.num_steps,
        watched="loss",
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = fold_adapter(setting, lambda: make_first_model(setting)[0].params, result.learner.trained)
        write_stage_model(made, architecture, params, tokenizer)
        nll = jax.jit(functools.partial(sft.nll, setting.decoder(architecture), response_length=length))
        return {"held_out_nll": average_over_batches(setting, lambda rows: nll(params, rows), held_out)}

    return stage, finish


def _make_reward(setting: Setting) -> tuple[Stage, Finish]:
    config, length = setting.config, prompt_format(setting.config.data.prompt).comparison_length
    source = find_policy_folder(config, setting.workdir)
    tokenizer, model = Tokenizer.from_folder(source), setting.read(source)
    architecture = dataclasses.replace(model.architecture, tie_embeddings=True)  # it needs no head of its own
    params = reward.init_reward_params({name: leaf for name, leaf in model.params.items() if name != "head"})
    decoder = setting.decoder(architecture)
    held_out = corpus.comparisons(config.data, tokenizer, held_out=True)
    stage, _ = compile_stage(
        setting,
        start(params, reward.make_optimizer_of(config), seed=config.seed, mesh=setting.mesh),
        None,
        {"reward": reward.make_update(config, decoder, response_length=length)},
        corpus.comparisons(config.data, tokenizer, held_out=False),
        config.data.comparisons,
        batch_size=config.reward.batch_size,
        total=config.reward.num_steps,
        watched="accuracy",
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = result.learner.trained
        facts = {"pooling": config.reward.pooling}
        write_stage_model(made, architecture, params["decoder"], tokenizer, score=params["score"], facts=facts)
        return facts | {"held_out_accuracy": _compute_accuracy(setting, decoder, params, held_out)}

    return stage, finish


def _make_rl(setting: Setting) -> tuple[Stage, Finish]:
    config, texts = setting.config, prompt_format(setting.config.data.prompt)
    source = find_policy_folder(config, setting.workdir)
    tokenizer, model = Tokenizer.from_folder(source), setting.read(source)
    architecture = model.architecture
    decoder = setting.decoder(architecture, setting.adapter)
    base, trained = split_trainable(setting, decoder, model.params)
    reference = setting.read(source, config.model.frozen_dtype).params if base is None else None
    facts: dict[str, Any] = {}
    reward_decoder = reward_params = None
    from_comparisons = on_language(config).comparisons is not None
    if from_comparisons:
        examples: Any = corpus.comparisons(config.data, tokenizer, held_out=False)
        make_update: Callable[[LanguageConfig], Update] = functools.partial(
            comparisons.make_update, decoder=decoder, response_length=texts.comparison_length
        )
    else:
        reward_decoder, reward_params = read_reward_model(setting, tokenizer)
        held_out = corpus.comparisons(config.data, tokenizer, held_out=True)
        facts["held_out_accuracy"] = _compute_accuracy(setting, reward_decoder, reward_params, held_out)
        _check_floor(config, facts["held_out_accuracy"])
        examples = corpus.queries(config.data, tokenizer, "train")
        make_update = functools.partial(
            rl.make_update,
            decoder=decoder,
            reward_decoder=reward_decoder,
            tokenizer=tokenizer,
            response_length=texts.response_length,
        )
    frozen = Frozen(base, reference, reward_params)
    ways = ("one_shot", "two_pass") if config.rl.gradient == "smallest" else (config.rl.gradient,)
    stage, facts["gradient"] = compile_stage(
        setting,
        start(trained, make_optimizer_of(config), seed=config.seed, mesh=setting.mesh),
        frozen,
        {
            way: make_update(dataclasses.replace(config, rl=dataclasses.replace(config.rl, gradient=way)))
            for way in ways
        },
        examples,
        config.data.comparisons if from_comparisons else config.data.demonstrations,
        batch_size=config.rl.num_prompts,
        total=config.rl.num_updates,
        watched="loss" if from_comparisons else "reward",
        evaluation=_make_evaluation(setting, decoder, reward_decoder, tokenizer, frozen),
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = fold_adapter(setting, lambda: setting.read(source).params, result.learner.trained)
        write_stage_model(made, architecture, params, tokenizer)
        return facts

    return stage, finish


def _make_evaluation(
    setting: Setting, decoder: Decoder, reward_decoder: Decoder | None, tokenizer: Tokenizer, frozen: Frozen
) -> Evaluation | None:
    """Watches a policy while it learns: its answers to the held-out posts."""
    if not setting.config.rl.evaluate_every:
        return None
    answering = make_answering(setting, decoder, reward_decoder, tokenizer, "held_out")

    def means(learner: LearnerState) -> dict[str, float]:
        return answering(whole(frozen.base, learner.trained), frozen, setting.config.seed).means()

    judges = ("gold",) * setting.generated + ("reward",) * (reward_decoder is not None)
    return Evaluation(setting.config.rl.evaluate_every, means, (*judges, "reference_kl", "length", "ended"))


def read_reward_model(setting: Setting, tokenizer: Tokenizer) -> tuple[Decoder, Params]:
    """The reward model, as a decoder and its parameters.

    Raises:
      ConfigError: there is none, it has no reward head, it was made with another pooling than that of the config, or
        for another tokenizer than the policy's.
    """
    folder = find_reward_folder(setting.config, setting.workdir)
    model = setting.read(folder, setting.config.model.frozen_dtype)
    if model.score is None:
        raise ConfigError(f"{folder} is no reward model: it has no score.weight with one row.")
    pooling, wanted = model.facts.get("pooling"), setting.config.reward.pooling
    if pooling not in (None, wanted):
        raise ConfigError(
            f"The reward model in {folder} was made with config.reward.pooling {pooling}, and cannot be read with "
            f"{wanted}; give --config.reward.pooling={pooling}."
        )
    if Tokenizer.from_folder(folder).backend.get_vocab() != tokenizer.backend.get_vocab():
        raise ConfigError(f"The reward model in {folder} was made for another tokenizer than the policy's.")
    return setting.decoder(model.architecture), {"decoder": model.params, "score": model.score}


def _compute_accuracy(setting: Setting, decoder: Decoder, params: Params, held_out: Sequences) -> float:
    """Share of the held-out comparisons that the reward model decides as people did."""
    length = prompt_format(setting.config.data.prompt).comparison_length
    accuracy = jax.jit(functools.partial(reward.held_out_accuracy, setting.config, decoder, response_length=length))
    return average_over_batches(setting, lambda rows: accuracy(params, rows), held_out)


def _check_floor(config: LanguageConfig, accuracy: float) -> None:
    if accuracy < config.rl.min_reward_accuracy:
        raise ConfigError(
            f"The reward model decides {accuracy:.3f} of the held-out comparisons rightly, less than "
            f"config.rl.min_reward_accuracy {config.rl.min_reward_accuracy}: a policy that learns from it may end "
            "worse than it began. Train it longer, or lower that floor."
        )
