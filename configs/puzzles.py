"""Puzzles: a decoder of three layers learns arithmetic and countdown from nothing, by a reward that programs compute.

python -m experiments.puzzles --workdir=runs/puzzles --data_only
python -m experiments.tldr --config=configs/puzzles.py --workdir=runs/puzzle --stage=sft \
    --config.data.prompts=runs/puzzles/data/examples.jsonl
python -m experiments.tldr --config=configs/puzzles.py --workdir=runs/puzzle --stage=rl --config.algorithm=dapo
python -m experiments.tldr --config=configs/puzzles.py --workdir=runs/puzzle --stage=evaluate \
    --config.evaluation.num_samples=16 --config.data.test_prompts=runs/puzzles/data/test/learnt.jsonl

Takes about 2 minutes for `sft` and 1 for `rl` on 2 idle CPU cores. Expect that `sft` solves 0.22 of the test puzzles
by answers that it samples, and `rl` 0.24 after it; docs/puzzles.md has each method's.
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """An update has 16 puzzles with 8 answers each, whose reward is 1 or 0."""
    config, puzzles = default_config(), "runs/puzzles/data"
    config.model.tokenizer = f"{puzzles}/tokenizer"
    config.model.num_layers = 3
    config.data.prompts = f"{puzzles}/train.jsonl"
    config.data.held_out_prompts = f"{puzzles}/held_out.jsonl"
    config.data.test_prompts = f"{puzzles}/test"
    config.data.prompt_length = 9
    config.data.response_length = 8
    config.data.num_held_out = 1024
    config.sft.num_steps = 1000
    config.sft.batch_size = 64
    config.rl.rewards = ("haepo_jax.language.rewards.puzzles:puzzle",)
    config.rl.num_updates = 120
    config.rl.num_prompts = 16
    config.rl.optimizer.learning_rate = 2e-4
    config.rl.missing_eos_penalty = 0.0  # a wrong answer earns nothing already
    config.rl.kl_penalty = 0.0
    config.rl.evaluate_every = 12
    config.rl.gradient = "one_shot"
    config.rl.microbatch = 128  # all at once
    return config
