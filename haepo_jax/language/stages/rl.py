"""Stage `rl`: a policy learns from reward functions or the reward model, or for DPO from the comparisons."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import (
    LanguageConfig,
    get_language_rules,
    has_own_prompts,
    has_reward_model,
    is_judged_on_host,
)
from haepo_jax.language.data import corpus
from haepo_jax.language.data.corpus import PromptSet
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.rewards.functions import load_functions
from haepo_jax.language.rewards.judge import Judge
from haepo_jax.language.stages.answering import make_answering
from haepo_jax.language.stages.context import Finish, StageContext
from haepo_jax.language.stages.fitting import fit_context
from haepo_jax.language.stages.judged_update import JudgedUpdate
from haepo_jax.language.stages.models import (
    find_policy_folder,
    fold_adapter,
    split_trainable,
    write_stage_adapter,
    write_stage_model,
)
from haepo_jax.language.stages.programs import check_update_room, compile_stage
from haepo_jax.language.stages.reward import compute_accuracy, read_reward_model
from haepo_jax.language.stages.run import Evaluation, Stage, StageResult
from haepo_jax.language.stages.samples import SamplesWriter
from haepo_jax.language.training import comparisons, rl
from haepo_jax.language.training.group_update import make_init_adaptation, make_optimizer_of
from haepo_jax.language.training.learner import LearnerState, Update, init_learner, whole
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.types import Params


def make_rl(context: StageContext) -> tuple[Stage, Finish]:
    """Makes the stage `rl`, and what finishes it.

    Raises:
      ConfigError: there is no policy to begin with or nothing that gives rewards, the reward model is worse than
        `config.rl.min_reward_accuracy`, data cannot be read, or the devices cannot hold an update.
    """
    config = context.config
    source = find_policy_folder(config, context.workdir)
    tokenizer, model = Tokenizer.from_folder(source), context.read(source)
    architecture = model.architecture
    decoder = context.decoder(architecture, context.adapter)
    base, trained = split_trainable(context, decoder, model.params)
    reference = context.read(source, config.model.frozen_dtype).params if base is None else None
    facts: dict[str, Any] = {}
    reward_decoder = reward_params = None
    if get_language_rules(config).comparisons is None and has_reward_model(config):
        reward_decoder, reward_params = _read_judge(context, tokenizer, facts)
    frozen = Frozen(base, reference, reward_params)
    learner = init_learner(
        trained,
        make_optimizer_of(config),
        seed=config.seed,
        mesh=context.mesh,
        init_adaptation=make_init_adaptation(config),
    )
    context = fit_context(context, decoder, learner, frozen)
    facts["microbatch"] = context.config.rl.microbatch
    evaluation = _make_evaluation(context, decoder, reward_decoder, tokenizer, frozen)
    make = _make_judged if is_judged_on_host(config) else _make_compiled
    stage, facts["gradient"] = make(context, decoder, reward_decoder, tokenizer, learner, frozen)

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = fold_adapter(context.adapter, lambda: context.read(source).params, result.learner.trained)
        write_stage_model(made, architecture, params, tokenizer)
        write_stage_adapter(made, architecture, context.adapter, result.learner.trained, base=str(source))
        return facts

    return stage._replace(evaluation=evaluation), finish


def make_judge(config: LanguageConfig, prompts: PromptSet) -> Judge:
    """Makes what asks the config's reward functions, held to the columns of these prompts.

    Raises:
      ConfigError: as of `load_functions`.
    """
    functions = load_functions(config.rl, prompts.columns, prompts.source)
    return Judge(functions, timeout=config.rl.reward_timeout, threads=config.rl.reward_threads)


def _read_judge(context: StageContext, tokenizer: Tokenizer, facts: dict[str, Any]) -> tuple[Decoder, Params]:
    """Reads the reward model; notes its accuracy among the facts, where there are comparisons to judge it by."""
    decoder, params = read_reward_model(context, tokenizer)
    if context.config.data.held_out_comparisons:
        held_out = corpus.read_comparisons(context.config.data, tokenizer, held_out=True)
        facts["held_out_accuracy"] = compute_accuracy(context, decoder, params, held_out)
        _check_floor(context.config, facts["held_out_accuracy"])
    return decoder, params


def _list_ways(config: LanguageConfig) -> Mapping[str, LanguageConfig]:
    """Lists the configs of the ways to compute the gradient among which memory decides."""
    ways = ("one_shot", "two_pass") if config.rl.gradient == "smallest" else (config.rl.gradient,)
    return {way: dataclasses.replace(config, rl=dataclasses.replace(config.rl, gradient=way)) for way in ways}


def _make_compiled(
    context: StageContext,
    decoder: Decoder,
    reward_decoder: Decoder | None,
    tokenizer: Tokenizer,
    learner: LearnerState,
    frozen: Frozen,
) -> tuple[Stage, str]:
    """Makes the stage with an update that the devices do alone, and the name of its way."""
    config, texts = context.config, corpus.get_format(context.config.data)
    own = has_own_prompts(config.data)
    make_update: Callable[[LanguageConfig], Update]
    if reward_decoder is None:
        examples: Any = corpus.read_comparisons(config.data, tokenizer, held_out=False)
        source, watched = config.data.comparisons, "loss"

        def make_update(config: LanguageConfig) -> Update:
            return comparisons.make_update(config, decoder, response_length=texts.comparison_length)
    else:
        found = corpus.read_prompts(config.data, tokenizer, "train")
        examples, source, watched = found.prompts, found.source, "reward"

        def make_update(config: LanguageConfig) -> Update:
            return rl.make_update(config, decoder, reward_decoder, tokenizer, response_length=texts.response_length)

    return compile_stage(
        context,
        learner,
        frozen,
        {way: make_update(of_way) for way, of_way in _list_ways(config).items()},
        examples,
        source,
        batch_size=config.rl.num_prompts,
        total=config.rl.num_updates,
        watched=watched,
        prompt_length=texts.query_length if own else None,
    )


def _make_judged(
    context: StageContext,
    decoder: Decoder,
    reward_decoder: Decoder | None,
    tokenizer: Tokenizer,
    learner: LearnerState,
    frozen: Frozen,
) -> tuple[Stage, str]:
    """Makes the stage with an update that stops for the host, and the name of its way."""
    clock = time.monotonic()
    config, length = context.config, corpus.get_format(context.config.data).response_length
    prompts, samples = (
        corpus.read_prompts(config.data, tokenizer, "train"),
        SamplesWriter(config.rl.write_samples_every),
    )
    phases = {
        way: rl.make_phases(of_way, decoder, reward_decoder, tokenizer, response_length=length)
        for way, of_way in _list_ways(config).items()
    }
    update = JudgedUpdate(context, phases, prompts, tokenizer, make_judge(config, prompts), samples)
    way, needed = update.find_way(learner, frozen)
    check_update_room(needed * context.mesh.size)
    stage = Stage(
        total=config.rl.num_updates,
        learner=learner,
        frozen=frozen,
        update=update,
        examples=update.make_examples(),
        source=prompts.source,
        batch_size=config.rl.num_prompts,
        place=update.place,
        seed=config.seed,
        compile_seconds=time.monotonic() - clock,
        watched="reward",
        prepare=update.prepare,
        samples=samples,
    )
    return stage, way


def _make_evaluation(
    context: StageContext, decoder: Decoder, reward_decoder: Decoder | None, tokenizer: Tokenizer, frozen: Frozen
) -> Evaluation | None:
    """Makes the look at a policy while it learns: its answers to the held-out prompts."""
    config = context.config
    if not config.rl.evaluate_every or not corpus.has_split(config.data, "held_out"):
        return None
    prompts = corpus.read_prompts(config.data, tokenizer, "held_out")
    judge = make_judge(config, prompts)
    answering = make_answering(context, decoder, reward_decoder, tokenizer, prompts, judge)

    def means(learner: LearnerState) -> dict[str, float]:
        return answering(whole(frozen.base, learner.trained), frozen, config.seed).means()

    functions = [f"reward/{function.short}" for function in judge.functions]
    judges = ("gold",) * context.generated + ("reward",) * bool(functions or reward_decoder is not None)
    names = (*judges, *functions, "reference_kl", "length", "ended")
    return Evaluation(config.rl.evaluate_every, means, names, may_fail=bool(functions))


def _check_floor(config: LanguageConfig, accuracy: float) -> None:
    if accuracy < config.rl.min_reward_accuracy:
        raise ConfigError(
            f"The reward model decides {accuracy:.3f} of the held-out comparisons rightly, less than "
            f"config.rl.min_reward_accuracy {config.rl.min_reward_accuracy}: a policy that learns from it may end "
            "worse than it began. Train it longer, or lower that floor."
        )
