"""TL;DR with Qwen3 0.6B on trl-lib/tldr and trl-lib/tldr-preference, with low-rank adapters.

python -m experiments.tldr --config=configs/tldr_qwen3.py --workdir=runs/tldr_qwen3 --stage=sft
python -m experiments.tldr --config=configs/tldr_qwen3.py --workdir=runs/tldr_qwen3 --stage=reward
python -m experiments.tldr --config=configs/tldr_qwen3.py --workdir=runs/tldr_qwen3 --stage=rl

Lies beside the project: models/Qwen3-0.6B, a Hugging Face folder, and the parquet files of the two data sets in
data/tldr and data/tldr-preference; other places by --config.model.path=... and --config.data.demonstrations=...

Takes 10 GB, by arithmetic, for the reward model, all of whose 0.6 billion parameters are trained, 3 GB for the other
stages, and activations besides; it has not been run, as neither weights nor data could be had. Expect no score that
was measured: the learning rates are usual ones for adapters, and HAEPO's coefficients those of the generated task.
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 posts an update, 8 summaries of each; the reference policy is the model with its adapters off."""
    config = default_config()
    config.model.path = "models/Qwen3-0.6B"
    config.model.dtype = "bfloat16"
    config.model.frozen_dtype = "bfloat16"
    config.model.remat = True
    config.model.adapter_rank = 16
    config.model.adapter_alpha = 32.0
    config.data.demonstrations = "data/tldr/train-*.parquet"
    config.data.held_out_demonstrations = "data/tldr/validation-*.parquet"
    config.data.test_demonstrations = "data/tldr/test-*.parquet"
    config.data.demonstrations_schema = "trl_tldr"
    config.data.comparisons = "data/tldr-preference/train-*.parquet"
    config.data.held_out_comparisons = "data/tldr-preference/validation-*.parquet"
    config.data.comparisons_schema = "trl_tldr_preference"
    config.data.prompt = "openai_tldr"
    config.sft.num_steps = 3600
    config.sft.optimizer.learning_rate = 1e-4
    config.reward.num_steps = 1450
    config.reward.batch_size = 64
    config.reward.pooling = "last"
    config.reward.optimizer.learning_rate = 5e-6
    config.rl.num_updates = 1000
    config.rl.num_prompts = 16
    config.rl.num_samples = 8
    config.rl.optimizer.learning_rate = 1e-5
    config.rl.temperature = 0.7
    config.rl.evaluate_every = 100
    config.rl.min_reward_accuracy = 0.6
    config.rl.microbatch = 4
    config.rl.chunk_size = 256
    config.haepo.kl_coef = 0.1
    config.dpo.beta = 0.05
    return config
