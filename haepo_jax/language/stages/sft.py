"""Stage `sft`: supervised fine-tuning on reference summaries."""

import functools
from pathlib import Path
from typing import Any

import jax

from haepo_jax.language.config import has_own_prompts
from haepo_jax.language.data import corpus
from haepo_jax.language.stages.context import Finish, StageContext
from haepo_jax.language.stages.held_out import average_over_batches
from haepo_jax.language.stages.models import (
    fold_adapter,
    make_first_model,
    split_trainable,
    write_stage_adapter,
    write_stage_model,
)
from haepo_jax.language.stages.programs import compile_stage
from haepo_jax.language.stages.run import Stage, StageResult
from haepo_jax.language.training import sft
from haepo_jax.language.training.learner import init_learner


def make_sft(context: StageContext) -> tuple[Stage, Finish]:
    """Makes the stage `sft`, and what finishes it.

    Raises:
      ConfigError: there is no model to begin with, data cannot be read, or the devices cannot hold an update.
    """
    config, texts = context.config, corpus.get_format(context.config.data)
    length, own = texts.response_length, has_own_prompts(context.config.data)
    model, tokenizer = make_first_model(context)
    architecture = model.architecture
    decoder = context.decoder(architecture, context.adapter)
    base, trained = split_trainable(context, decoder, model.params)
    held_out = None  # read now, as bad rows are better seen early
    if corpus.has_split(config.data, "held_out"):
        held_out = corpus.read_demonstrations(config.data, tokenizer, "held_out")
    stage, _ = compile_stage(
        context,
        init_learner(trained, sft.make_optimizer_of(config), seed=config.seed, mesh=context.mesh),
        base,
        {"sft": sft.make_update(config, decoder, response_length=length)},
        corpus.read_demonstrations(config.data, tokenizer, "train"),
        config.data.prompts if own else config.data.demonstrations,
        batch_size=config.sft.batch_size,
        total=config.sft.num_steps,
        watched="loss",
        prompt_length=texts.query_length if own else None,
    )

    def finish(result: StageResult, made: Path) -> dict[str, Any]:
        params = fold_adapter(context.adapter, lambda: make_first_model(context)[0].params, result.learner.trained)
        write_stage_model(made, architecture, params, tokenizer)
        write_stage_adapter(made, architecture, context.adapter, result.learner.trained, base=config.model.path)
        if held_out is None:
            return {}
        nll = jax.jit(functools.partial(sft.compute_nll, context.decoder(architecture), response_length=length))
        return {"held_out_nll": average_over_batches(context, lambda rows: nll(params, rows), held_out)}

    return stage, finish
