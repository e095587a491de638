"""Stage `rl`: the fine-tuned policy learns from the reward model, or for DPO from the comparisons."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig, get_language_rules
from haepo_jax.language.data import corpus
from haepo_jax.language.data.prompts import get_prompt_format
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.stages.answering import make_answering
from haepo_jax.language.stages.context import Finish, StageContext
from haepo_jax.language.stages.models import (
    find_policy_folder,
    fold_adapter,
    split_trainable,
    write_stage_adapter,
    write_stage_model,
)
from haepo_jax.language.stages.programs import compile_stage
from haepo_jax.language.stages.reward import compute_accuracy, read_reward_model
from haepo_jax.language.stages.run import Evaluation, Stage, StageResult
from haepo_jax.language.training import comparisons, rl
from haepo_jax.language.training.group_update import make_init_adaptation, make_optimizer_of
from haepo_jax.language.training.learner import LearnerState, Update, init_learner, whole
from haepo_jax.language.training.rollout import Frozen


def make_rl(context: StageContext) -> tuple[Stage, Finish]:
    """Makes the stage `rl`, and what finishes it.

    Raises:
      ConfigError: there is no fine-tuned policy or reward model, the reward model is worse than
        `config.rl.min_reward_accuracy`, data cannot be read, or the devices cannot hold an update.
    """
    config, texts = context.config, get_prompt_format(context.config.data.prompt)
    source = find_policy_folder(config, context.workdir)
    tokenizer, model = Tokenizer.from_folder(source), context.read(source)
    architecture = model.architecture
    decoder = context.decoder(architecture, context.adapter)
    base, trained = split_trainable(context, decoder, model.params)
    reference = context.read(source, config.model.frozen_dtype).params if base is None else None
    facts: dict[str, Any] = {}
    reward_decoder = reward_params = None
    from_comparisons = get_language_rules(config).comparisons is not None
    if from_comparisons:
        examples: Any = corpus.read_comparisons(config.data, tokenizer, held_out=False)
        make_update: Callable[[LanguageConfig], Update] = functools.partial(
            comparisons.make_update, decoder=decoder, response_length=texts.comparison_length
        )
    else:
        reward_decoder, reward_params = read_reward_model(context, tokenizer)
        held_out = corpus.read_comparisons(config.data, tokenizer, held_out=True)
        facts["held_out_accuracy"] = compute_accuracy(context, reward_decoder, reward_params, held_out)
        _check_floor(config, facts["held_out_accuracy"])
        examples = corpus.read_queries(config.data, tokenizer, "train")
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
        context,
        init_learner(
            trained,
            make_optimizer_of(config),
            seed=config.seed,
            mesh=context.mesh,
            init_adaptation=make_init_adaptation(config),
        ),
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
        evaluation=_make_evaluation(context, decoder, reward_decoder, tokenizer, frozen),
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = fold_adapter(context.adapter, lambda: context.read(source).params, result.learner.trained)
        write_stage_model(made, architecture, params, tokenizer)
        write_stage_adapter(made, architecture, context.adapter, result.learner.trained, base=str(source))
        return facts

    return stage, finish


def _make_evaluation(
    context: StageContext, decoder: Decoder, reward_decoder: Decoder | None, tokenizer: Tokenizer, frozen: Frozen
) -> Evaluation | None:
    """Makes the look at a policy while it learns: its answers to the held-out posts."""
    if not context.config.rl.evaluate_every:
        return None
    answering = make_answering(context, decoder, reward_decoder, tokenizer, "held_out")

    def means(learner: LearnerState) -> dict[str, float]:
        return answering(whole(frozen.base, learner.trained), frozen, context.config.seed).means()

    judges = ("gold",) * context.generated + ("reward",) * (reward_decoder is not None)
    return Evaluation(context.config.rl.evaluate_every, means, (*judges, "reference_kl", "length", "ended"))


def _check_floor(config: LanguageConfig, accuracy: float) -> None:
    if accuracy < config.rl.min_reward_accuracy:
        raise ConfigError(
            f"The reward model decides {accuracy:.3f} of the held-out comparisons rightly, less than "
            f"config.rl.min_reward_accuracy {config.rl.min_reward_accuracy}: a policy that learns from it may end "
            "worse than it began. Train it longer, or lower that floor."
        )
