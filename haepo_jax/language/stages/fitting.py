"""The microbatch of the stage `rl`, chosen by the memory of its devices where the config leaves it open."""

import jax

from haepo_jax.language.config import LanguageConfig, get_language_rules
from haepo_jax.language.data.corpus import get_format
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.model.sharding import shard_rows
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.training.fitting import fit_to_memory
from haepo_jax.language.training.learner import LearnerState
from haepo_jax.language.training.memory import count_update_bytes
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.population.memory import device_bytes
from haepo_jax.runs.progress import report_waiting

_SHARE = 0.8
"""Of a device's memory that learning may take beside the reward model; the rest is for sampling and all else."""


def fit_context(context: StageContext, decoder: Decoder, learner: LearnerState, frozen: Frozen) -> StageContext:
    """Makes the context with gradient and microbatch decided where `rl.microbatch` is 0; the same otherwise.

    Args:
      context: of the stage.
      decoder: of the policy.
      learner: before the first update, on the devices.
      frozen: on the devices.
    """
    if context.config.rl.microbatch:
        return context
    texts = get_format(context.config.data)
    sampled = get_language_rules(context.config).comparisons is None
    length = texts.response_length if sampled else texts.comparison_length

    def count(config: LanguageConfig) -> int | None:
        rows = shard_rows(context.mesh)
        return count_update_bytes(
            config, decoder, learner, frozen, prompt_length=texts.query_length, response_length=length, rows=rows
        )

    beside = sum(leaf.nbytes for leaf in jax.tree.leaves(frozen.reward)) // context.mesh.size
    with report_waiting("Fitting the microbatch to the memory", "Fitted"):
        config = fit_to_memory(context.config, count, int(_SHARE * device_bytes()) - beside)
    return context._replace(config=config)
