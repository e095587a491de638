"""Runs HAEPO in Tunix on a tiny random Qwen3 and writes what came of it, for test_tunix.py, as JSON.

python tunix_steps.py TUNIX.MD RESULTS.JSON, under an interpreter that has google-tunix.
"""

import dataclasses
import itertools
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.models.qwen3 import model as qwen3
from tunix.rl import function_registry, rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOLearner, TrainExample
from tunix.rl.rollout.base_rollout import RolloutConfig

from haepo_jax.config import HaepoLossConfig
from haepo_jax.language.tunix import METRICS, HaepoConfig, HaepoLearner
from haepo_jax.losses import SCORES, haepo_loss

PAD, EOS, LETTERS = 0, 1, "abcdefghijklmn"
GENERATIONS, RESPONSE, LEARNING_RATE = 4, 6, 0.1
POSTS = [{"prompts": np.array(["abc", "fghij"])}, {"prompts": np.array(["kl", "mnab"])}]


class Letters:
    """A token for each letter."""

    def encode(self, text):
        return [LETTERS.index(letter) + 2 for letter in text]

    def decode(self, ids):
        return "".join(LETTERS[index - 2] for index in ids if index >= 2)

    def bos_id(self):
        return PAD  # Tunix' word for none

    def eos_id(self):
        return EOS

    def pad_id(self):
        return PAD


def reward(prompts, completions, **_):
    return [sum(map(LETTERS.index, text)) / 10 for text in completions]


def policy(seed, **changes):
    sizes = {"num_layers": 2, "embed_dim": 16, "hidden_dim": 32, "num_heads": 2, "head_dim": 8, "num_kv_heads": 1}
    others = {"vocab_size": len(LETTERS) + 2, "rope_theta": 10_000, "norm_eps": 1e-6, "use_tied_embedding": True}
    model = qwen3.Qwen3(qwen3.ModelConfig(**(sizes | others | changes)), rngs=nnx.Rngs(seed))
    # Tunix starts all three projections of the feed-forward layers at 0, where they have no gradient.
    leaves, structure = jax.tree.flatten(nnx.state(model))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    nnx.update(model, jax.tree.unflatten(structure, noisy))
    return model


def parameters(model):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(nnx.state(model))])


def make_cluster(*, temperature=1.0, microbatch=1, seed=0):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    roles = rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT
    config = rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(roles, mesh),
        training_config=rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.sgd(LEARNING_RATE),
            eval_every_n_steps=1000,
            max_steps=1000,
            mini_batch_size=2,
            train_micro_batch_size=microbatch,
        ),
        rollout_config=RolloutConfig(
            max_tokens_to_generate=RESPONSE, max_prompt_length=8, kv_cache_size=16, temperature=temperature
        ),
    )
    return rl_cluster.RLCluster(
        actor=policy(seed), reference=policy(seed + 1), tokenizer=Letters(), cluster_config=config
    )


def history(cluster, name):
    return np.asarray(cluster.actor_trainer.metrics_logger.get_metric_history("actor", name, "train")).tolist()


def watched(learner):
    """The list that the learner's batches will be in."""
    batches, generate = [], learner._generate_and_compute_advantage

    def generate_and_keep(*args, **kwargs):
        batches.append(generate(*args, **kwargs))
        return batches[-1]

    learner._generate_and_compute_advantage = generate_and_keep
    return batches


def log_probs_by_hand(model, prompts, responses, temperature):
    tokens = jnp.concatenate([prompts, responses], axis=1)
    valid = tokens != PAD
    causal = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
    logits, _ = model(tokens, jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0), None, causal & valid[:, None])
    of_responses = jax.nn.log_softmax(logits[:, prompts.shape[1] - 1 : -1] / temperature)
    return jnp.take_along_axis(of_responses, responses[..., None], axis=-1)[..., 0]


def loss_by_hand(model, batch, settings, temperature):
    """The mean of the prompts' losses, each on the rows that are its responses'."""
    losses = []
    log_probs = log_probs_by_hand(model, batch.prompt_ids, batch.completion_ids, temperature)
    for start in range(0, len(batch.prompt_ids), GENERATIONS):
        rows = slice(start, start + GENERATIONS)
        where = batch.completion_ids[rows] != PAD

        def likelihood(values, rows=rows, where=where):
            return jnp.where(where, values[rows], 0).sum(axis=1)

        old = batch.old_per_token_logps
        behaviour = likelihood(jax.lax.stop_gradient(log_probs) if old is None else old)
        score = {
            "sum": lambda values: values,
            "mean": lambda values, where=where: values / where.sum(axis=1),
            "log_ratio": lambda values, behaviour=behaviour: values - behaviour,
        }[settings.score]
        reference = batch.ref_per_token_logps
        losses.append(
            haepo_loss(
                score(likelihood(log_probs)),
                batch.advantages[rows],
                None if reference is None else score(likelihood(reference)),
                entropy_coef=settings.entropy_coef,
                kl_coef=settings.kl_coef,
                temperature=settings.temperature,
                normalization=settings.normalization,
            )[0]
        )
    return jnp.stack(losses).mean()


def made_up_batch(*, reference, behaviour, rows=2 * GENERATIONS, **changes):
    """Two prompts of unequal length, responses that end early or not at all."""
    random = np.random.default_rng(5)
    prompts = np.repeat([[PAD, PAD, 3, 4], [PAD, 5, 6, 7]], GENERATIONS, axis=0)[:rows]
    responses = random.integers(2, len(LETTERS) + 2, (rows, RESPONSE))
    for response, length in zip(responses, itertools.cycle([6, 2, 4, 6, 1]), strict=False):
        response[length - 1 :] = [EOS, *[PAD] * (RESPONSE - length)] if length < RESPONSE else response[-1]
    return TrainExample(
        prompt_ids=jnp.asarray(prompts),
        prompt_mask=jnp.asarray(prompts != PAD),
        completion_ids=jnp.asarray(responses),
        completion_mask=jnp.asarray(responses != PAD),
        advantages=jnp.asarray(random.uniform(0.1, 1, rows), jnp.float32),
        ref_per_token_logps=jnp.asarray(random.uniform(-3, -2, responses.shape), jnp.float32) if reference else None,
        old_per_token_logps=jnp.asarray(random.uniform(-3, -2, responses.shape), jnp.float32) if behaviour else None,
        **changes,
    )


def haepo_config(settings, **changes):
    config = HaepoConfig(num_generations=GENERATIONS, haepo=settings, **changes)
    config.temperature = 1.0  # as the learner does
    return config


def value_and_gradient(function, model):
    value, gradient = nnx.jit(nnx.value_and_grad(function))(model)
    return float(value), np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def against_hand():
    """Loss and gradient of the registered function beside those by hand, in each case that Tunix can make."""
    model, registered, results = policy(0, num_layers=1), function_registry.get_policy_loss_fn("haepo"), []
    for score, reference, behaviour in itertools.product(SCORES, (False, True), (False, True)):
        settings = HaepoLossConfig(
            score=score,
            normalization="sum" if behaviour else "zscore",
            temperature=2.0,
            entropy_coef=0.1,
            kl_coef=0.3 if reference else 0.0,
        )
        config, batch = haepo_config(settings), made_up_batch(reference=reference, behaviour=behaviour)
        if not behaviour:
            config.temperature = 0.7

        def ours(model, config=config, batch=batch):
            return registered(model, batch, algo_config=config, pad_id=PAD, eos_id=EOS)[0]

        def by_hand(model, config=config, batch=batch, settings=settings):
            return loss_by_hand(model, batch, settings, config.temperature)

        loss, gradient = value_and_gradient(ours, model)
        hand_loss, hand_gradient = value_and_gradient(by_hand, model)
        results.append(
            {
                "case": f"{score} reference={reference} behaviour={behaviour}",
                "loss": [loss, hand_loss],
                "gradient_norm": float(np.linalg.norm(hand_gradient)),
                "gradient_error": float(np.linalg.norm(gradient - hand_gradient)),
            }
        )
    return results


def metrics_of_a_batch():
    config = haepo_config(HaepoLossConfig(score="sum", kl_coef=0.3))
    batch = made_up_batch(reference=True, behaviour=False)
    registered = function_registry.get_policy_loss_fn("haepo")
    _, metrics = registered(policy(0), batch, algo_config=config, pad_id=PAD, eos_id=EOS)
    log_probs = log_probs_by_hand(policy(0), batch.prompt_ids, batch.completion_ids, 1.0)
    likelihoods = np.where(batch.completion_mask, log_probs, 0).sum(axis=1, dtype=np.float64)
    weights = np.exp(likelihoods.reshape(2, GENERATIONS))
    weights /= weights.sum(axis=1, keepdims=True)
    by_hand = {
        "effective_sample_size": np.mean(1 / (weights**2).sum(axis=1)),
        "max_weight": weights.max(axis=1).mean(),
        "weights_entropy": -(weights * np.log(weights)).sum(axis=1).mean(),
        "kl": (log_probs - batch.ref_per_token_logps)[np.asarray(batch.completion_mask)].mean(),
    }
    return {name: float(value) for name, value in metrics.items()}, {
        name: float(value) for name, value in by_hand.items()
    }


def one_step():
    """A step of Tunix' own GRPO learner, and the step by hand on the batch that it sampled."""
    cluster = make_cluster(temperature=0.8)
    settings = HaepoLossConfig(score="mean", kl_coef=0.2)
    learner = GRPOLearner(
        rl_cluster=cluster,
        algo_config=HaepoConfig(num_generations=GENERATIONS, haepo=settings),
        reward_fns=reward,
    )
    batches, before = watched(learner), parameters(cluster.actor_trainer.model)
    learner.train(POSTS[:1])
    step = parameters(cluster.actor_trainer.model) - before
    batch = jax.tree.map(lambda *rows: jnp.concatenate(rows), *batches)
    _, gradient = value_and_gradient(lambda model: loss_by_hand(model, batch, settings, 0.8), policy(0))
    return {
        "step": float(np.linalg.norm(step)),
        "error": float(np.linalg.norm(step + LEARNING_RATE * gradient)),
        "microbatches": [len(batch.prompt_ids) for batch in batches],
        "prompts": np.asarray(batch.prompt_ids).tolist(),
        "rewards": np.asarray(batch.advantages).tolist(),
        "kl": history(cluster, "kl"),
    }


def documented_steps(document):
    """The example of the document, on a cluster of ours."""
    cluster = make_cluster()
    model, reference = cluster.actor_trainer.model, cluster.inference_worker.get_model("reference")
    before, reference_before = parameters(model), parameters(reference)
    (example,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    exec(example, names := {"cluster": cluster, "reward": reward, "posts": POSTS})
    after = parameters(model)
    return {
        "learner": type(names["learner"]).__name__,
        "finite": bool(np.isfinite(after).all()),
        "moved": float(np.mean(after != before)),
        "reference_moved": bool((parameters(reference) != reference_before).any()),
        "metrics": {name: history(cluster, name) for name in ("loss", "grad_norm", "kl", *METRICS)},
    }


def refusals():
    """Collects the error of each bad batch or setting."""
    loss = function_registry.get_policy_loss_fn("haepo")
    log_ratio = HaepoLossConfig(score="log_ratio")
    tempered = haepo_config(log_ratio, num_iterations=2)
    tempered.temperature = 0.9
    whole = {"reference": False, "behaviour": False}
    sampled = {"reference": False, "behaviour": True}
    calls = {
        "packed": lambda: loss(
            policy(0), made_up_batch(**whole, segment_ids=jnp.ones((8, 6))), haepo_config(log_ratio), PAD, EOS
        ),
        "rows": lambda: loss(policy(0), made_up_batch(**whole, rows=6), haepo_config(log_ratio), PAD, EOS),
        "temperature": lambda: loss(policy(0), made_up_batch(**sampled), tempered, PAD, EOS),
        "setting": lambda: HaepoConfig(haepo=dataclasses.replace(log_ratio, score="ratio")),
        "epsilon": lambda: HaepoConfig(epsilon=0.1),
    }
    messages = {}
    for name, call in calls.items():
        try:
            call()
        except (TypeError, ValueError) as error:
            messages[name] = f"{type(error).__name__}: {error}"
    return messages


def facts():
    """What the document says of Tunix itself."""
    tokens, positions = jnp.array([[2, 3, 4, 5]]), jnp.arange(4)[None]
    mask = jnp.tril(jnp.ones((1, 4, 4), bool))
    logits = [policy(0, rope_theta=theta)(tokens, positions, None, mask)[0] for theta in (100, 1_000_000)]

    cluster = make_cluster(temperature=0.5)
    rollouts = [cluster.generate(["abc", "fg"]) for _ in range(2)]
    batch = made_up_batch(reference=False, behaviour=False)
    old = cluster.get_old_per_token_logps(batch.prompt_ids, batch.completion_ids)
    at_one = log_probs_by_hand(policy(0), batch.prompt_ids, batch.completion_ids, 1.0)
    valid = np.asarray(batch.completion_mask)

    without = make_cluster()
    learner = HaepoLearner(
        rl_cluster=without,
        algo_config=HaepoConfig(num_generations=GENERATIONS, haepo=HaepoLossConfig(kl_coef=0.0)),
        reward_fns=reward,
    )
    batches = watched(learner)
    learner.train(POSTS[:1])
    return {
        "rope_theta_is_ignored": bool((logits[0] == logits[1]).all()),
        "rollouts_repeat": rollouts[0].text == rollouts[1].text,
        "old_log_probs_are_at_temperature_one": bool(np.allclose(old[valid], at_one[valid], atol=1e-4)),
        "reference_without_kl": [batch.ref_per_token_logps is not None for batch in batches],
    }


def main(document, results):
    metrics, metrics_by_hand = metrics_of_a_batch()
    measured = {
        "against_hand": against_hand(),
        "metrics": metrics,
        "metrics_by_hand": metrics_by_hand,
        "one_step": one_step(),
        "documented_steps": documented_steps(document),
        "refusals": refusals(),
        "facts": facts(),
    }
    results.write_text(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
