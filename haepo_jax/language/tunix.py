"""HAEPO for google-tunix 0.1.7: a policy loss that its GRPO learner runs on Tunix' own models; see docs/tunix.md.

Importing this registers the loss. Nothing else here needs Tunix, which the extra `tunix` installs.
"""

import dataclasses
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from haepo_jax.config import HaepoLossConfig, from_mapping
from haepo_jax.errors import ConfigError
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.methods import StepGroup, haepo

VERSION = "0.1.7"
"""The version this is written for: on its main branch a loss has to return a `LossOutput`."""

try:
    if (installed := metadata.version("google-tunix")) != VERSION:
        raise ImportError(f"{installed} is installed")
    from tunix.rl import algo_core, common, function_registry
    from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
except ImportError as error:
    raise ImportError(
        f"haepo_jax.language.tunix needs google-tunix {VERSION} ({error}): pip install 'haepo_jax[tunix]'."
    ) from error

NAME = "haepo"
"""The name under which the loss and its advantage estimator are registered."""
METRICS = ("effective_sample_size", "max_weight", "weights_entropy", "weights_kl", "returns_sum_not_positive")
"""Metrics of the loss, each a mean over the prompts."""


@dataclasses.dataclass(kw_only=True)
class HaepoConfig(GRPOConfig):
    """The settings that Tunix' GRPO learner needs to run HAEPO.

    All else is as in `GRPOConfig`: `num_generations` is M, the number of responses to a prompt, and `num_iterations`
    that of steps on each batch. What only GRPO's own loss reads cannot be set. `temperature` is written by the
    learner, from the rollout; that of the weights is `haepo.temperature`.

    Raises:
      ConfigError: a setting in `haepo` that is out of its bounds.
    """

    haepo: HaepoLossConfig = HaepoLossConfig()
    policy_loss_fn: str = dataclasses.field(default=NAME, init=False)
    advantage_estimator: str = dataclasses.field(default=NAME, init=False)
    beta: float = dataclasses.field(init=False)
    """`haepo.kl_coef`: Tunix asks the reference policy for log-probabilities unless this is 0."""
    epsilon: float = dataclasses.field(default=GRPOConfig.epsilon, init=False)
    loss_algo: str = dataclasses.field(default=GRPOConfig.loss_algo, init=False)
    loss_agg_mode: str = dataclasses.field(default=GRPOConfig.loss_agg_mode, init=False)

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        self.haepo = from_mapping(HaepoLossConfig(), dataclasses.asdict(self.haepo), "haepo.")
        self.beta = self.haepo.kl_coef


class HaepoLearner(GRPOLearner):
    """Tunix' GRPO learner, made to log HAEPO's metrics too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes what `GRPOLearner` takes, with a `HaepoConfig` as `algo_config`."""
        super().__init__(*args, **kwargs)
        self.rl_cluster.actor_trainer.with_rl_metrics_to_log(dict.fromkeys((*METRICS, "kl"), np.mean))


@function_registry.register_advantage_estimator(NAME)
def keep_rewards(rewards: np.ndarray, num_generations: int) -> np.ndarray:
    """Returns the rewards themselves: the loss normalises them."""
    return rewards


@function_registry.register_policy_loss_fn(NAME)
def policy_loss(
    model: nnx.Module, train_example: common.TrainExample, algo_config: HaepoConfig, pad_id: int, eos_id: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes HAEPO's loss on a micro-batch, as Tunix calls it.

    Args:
      model: the policy that is trained.
      train_example: P prompts with M responses each, those of a prompt in a row: `[P * M, T]`. Its `advantages` are
        the rewards, `[P * M]`.
      algo_config: the settings.
      pad_id: the padding token; no response holds it.
      eos_id: the end-of-sequence token.

    Returns:
      `(loss, metrics)`: `METRICS`, and what the GRPO learner logs, which is `kl`, Tunix' estimate of the divergence
      from the reference policy in nats a token, and `pg_clipfrac`, always 0.

    Raises:
      ConfigError: a batch that HAEPO cannot learn from.
    """
    _check(train_example, algo_config)
    log_probs = common.compute_per_token_logps(
        *nnx.split(model),
        prompt_tokens=train_example.prompt_ids,
        completion_tokens=train_example.completion_ids,
        pad_id=pad_id,
        eos_id=eos_id,
        stop_gradient=False,
        temperature=algo_config.temperature,
    )
    behaviour, reference = train_example.old_per_token_logps, train_example.ref_per_token_logps
    if behaviour is None:  # Tunix leaves them out where there is one step on each batch, by the policy that sampled it
        behaviour = jax.lax.stop_gradient(log_probs)

    def grouped(rows: jax.Array) -> jax.Array:
        return rows.reshape(-1, algo_config.num_generations, *rows.shape[1:])

    where = grouped(train_example.completion_mask.astype(bool))
    group = StepGroup(returns=grouped(train_example.advantages), where=where, behaviour_log_probs=grouped(behaviour))
    reference_log_likelihoods = (
        None if reference is None else trajectory_log_likelihood(grouped(reference), where=where)
    )
    objective = haepo.objective(algo_config.haepo, group.sum_over_steps(), reference_log_likelihoods)
    loss, metrics = objective(trajectory_log_likelihood(grouped(log_probs), where=where))
    kl = jnp.zeros(())
    if reference is not None:
        estimates = common.compute_kl_divergence(
            log_probs, reference, algo_config.kl_loss_mode, algo_config.kl_clamp_value
        )
        kl = algo_core.masked_mean(estimates, train_example.completion_mask)
    return loss, {name: metrics[name] for name in METRICS} | {"kl": kl, "pg_clipfrac": jnp.zeros(())}


def _check(train_example: common.TrainExample, algo_config: HaepoConfig) -> None:
    if train_example.segment_ids is not None:
        raise ConfigError(
            "HAEPO cannot learn from packed sequences, which part the responses to a prompt: "
            "leave RLTrainingConfig.max_seq_token_per_tpu unset."
        )
    rows, size = train_example.completion_ids.shape[0], algo_config.num_generations
    if rows % size:
        raise ConfigError(
            f"A micro-batch of {rows} responses does not hold whole groups of num_generations {size}, "
            f"whose responses HAEPO has to see together."
        )
    # Vanilla rollouts leave the temperature out of them, which a sum over the tokens would show as a false ratio.
    tempered = train_example.old_per_token_logps is not None and algo_config.temperature != 1
    if tempered and algo_config.haepo.score == "log_ratio":
        raise ConfigError(
            f"Score log_ratio with num_iterations {algo_config.num_iterations} needs a rollout temperature of 1, got "
            f"{algo_config.temperature}: google-tunix {VERSION} takes the sampling policy's log-probabilities at 1."
        )
