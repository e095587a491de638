"""TL;DR with Pythia 1B on the data of openai/summarize_from_feedback, with all parameters trained.

python -m experiments.tldr --config=configs/tldr_pythia.py --workdir=runs/tldr_pythia --stage=sft
python -m experiments.tldr --config=configs/tldr_pythia.py --workdir=runs/tldr_pythia --stage=reward
python -m experiments.tldr --config=configs/tldr_pythia.py --workdir=runs/tldr_pythia --stage=rl

Lies beside the project: models/pythia-1b-deduped, a Hugging Face folder, and data/summarize_from_feedback with
tldr_3_filtered and comparisons; other places by --config.model.path=... and --config.data.demonstrations=... Who has
a fine-tuned policy or a reward model gives --config.sft_path=... or --config.reward_path=... and leaves its stage out.

Takes 20 GB, by arithmetic, for a billion trained parameters with gradient and optimiser, the reference policy and the
reward model, and activations besides; it has not been run, as neither weights nor data could be had. Expect no score
that was measured: learning rate, temperature, penalties and DPO's beta are those of the best known reproduction of the
task (Huang et al. 2024, arXiv 2403.17031), and HAEPO's coefficients those of the generated task.
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """64 posts an update, 8 summaries of each."""
    config = default_config()
    config.model.path = "models/pythia-1b-deduped"
    config.model.dtype = "bfloat16"
    config.model.frozen_dtype = "bfloat16"
    config.model.remat = True
    data = "data/summarize_from_feedback"
    config.data.demonstrations = f"{data}/tldr_3_filtered/train.jsonl"
    config.data.held_out_demonstrations = f"{data}/tldr_3_filtered/valid.jsonl"
    config.data.test_demonstrations = f"{data}/tldr_3_filtered/test.jsonl"
    config.data.comparisons = f"{data}/comparisons"
    config.data.held_out_comparisons = f"{data}/comparisons"
    config.data.prompt = "openai_tldr"
    config.sft.num_steps = 3600
    config.sft.optimizer.learning_rate = 3e-6
    config.reward.num_steps = 1450
    config.reward.batch_size = 64
    config.reward.pooling = "last"
    config.reward.optimizer.learning_rate = 3e-6
    config.rl.num_updates = 2000
    config.rl.num_prompts = 64
    config.rl.num_samples = 8
    config.rl.optimizer.learning_rate = 3e-6
    config.rl.temperature = 0.7
    config.rl.evaluate_every = 200
    config.rl.min_reward_accuracy = 0.6
    config.rl.chunk_size = 512
    config.haepo.kl_coef = 0.1
    config.dpo.beta = 0.05
    return config
