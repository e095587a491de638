"""Stage `reward`: a reward model learned from comparisons."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from haepo_jax.errors import ConfigError
from haepo_jax.language.data import corpus
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.stages.context import Finish, StageContext, make_adapter
from haepo_jax.language.stages.held_out import average_over_batches
from haepo_jax.language.stages.models import (
    find_policy_folder,
    find_reward_folder,
    fold_adapter,
    split_trainable,
    write_stage_adapter,
    write_stage_model,
)
from haepo_jax.language.stages.programs import compile_stage
from haepo_jax.language.stages.run import Stage, StageResult
from haepo_jax.language.training import reward
from haepo_jax.language.training.learner import init_learner
from haepo_jax.language.training.scoring import Sequences
from haepo_jax.types import Params


def make_reward(context: StageContext) -> tuple[Stage, Finish]:
    """Makes the stage `reward`, and what finishes it.

    Raises:
      ConfigError: there is no fine-tuned policy, data cannot be read, or the devices cannot hold an update.
    """
    config, length = context.config, corpus.get_format(context.config.data).comparison_length
    source = find_policy_folder(config, context.workdir)
    tokenizer, model = Tokenizer.from_folder(source), context.read(source)
    architecture = dataclasses.replace(model.architecture, tie_embeddings=True)  # it needs no head of its own
    decoder = context.decoder(architecture)
    adapted = decoder.clone(adapter=make_adapter(config.reward))
    held, trained = split_trainable(context, adapted, _drop_head(model.params))
    base, trained = reward.init_reward_params(held, trained)
    held_out = corpus.read_comparisons(config.data, tokenizer, held_out=True)
    stage, _ = compile_stage(
        context,
        init_learner(trained, reward.make_optimizer_of(config), seed=config.seed, mesh=context.mesh),
        base,
        {"reward": reward.make_update(config, adapted, response_length=length)},
        corpus.read_comparisons(config.data, tokenizer, held_out=False),
        config.data.comparisons,
        batch_size=config.reward.batch_size,
        total=config.reward.num_steps,
        watched="accuracy",
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        trained, score = (result.learner.trained[name] for name in ("decoder", "score"))
        folded = fold_adapter(adapted.adapter, lambda: _drop_head(context.read(source).params), trained)
        params = {"decoder": folded, "score": score}
        facts = {"pooling": config.reward.pooling}
        write_stage_model(made, architecture, folded, tokenizer, score=score, facts=facts)
        write_stage_adapter(made, architecture, adapted.adapter, trained, base=str(source), score=score)
        return facts | {"held_out_accuracy": compute_accuracy(context, decoder, params, held_out)}

    return stage, finish


def _drop_head(params: Params) -> Params:
    return {name: leaf for name, leaf in params.items() if name != "head"}


def read_reward_model(context: StageContext, tokenizer: Tokenizer) -> tuple[Decoder, Params]:
    """Reads the reward model, as a decoder and its parameters.

    Raises:
      ConfigError: there is none, it has no reward head, it was made with another pooling than that of the config, or
        for another tokenizer than the policy's.
    """
    folder = find_reward_folder(context.config, context.workdir)
    model = context.read(folder, context.config.model.frozen_dtype)
    if model.score is None:
        raise ConfigError(f"{folder} is no reward model: it has no score.weight with one row.")
    pooling, wanted = model.facts.get("pooling"), context.config.reward.pooling
    if pooling not in (None, wanted):
        raise ConfigError(
            f"The reward model in {folder} was made with config.reward.pooling {pooling}, and cannot be read with "
            f"{wanted}; give --config.reward.pooling={pooling}."
        )
    if Tokenizer.from_folder(folder).backend.get_vocab() != tokenizer.backend.get_vocab():
        raise ConfigError(f"The reward model in {folder} was made for another tokenizer than the policy's.")
    return context.decoder(model.architecture), {"decoder": model.params, "score": model.score}


def compute_accuracy(context: StageContext, decoder: Decoder, params: Params, held_out: Sequences) -> float:
    """Computes the share of the held-out comparisons that the reward model decides as people did."""
    length = corpus.get_format(context.config.data).comparison_length
    accuracy = jax.jit(
        functools.partial(reward.compute_held_out_accuracy, context.config, decoder, response_length=length)
    )
    return average_over_batches(context, lambda rows: accuracy(params, rows), held_out)
