"""A meta-gradient: the entropy coefficient of the HAEPO loss, learned through three steps of SGD on it.

python examples/meta_gradients.py

Losses are plain JAX, so that a step of SGD may be differentiated as anything else. A policy over ten arms takes three
steps on one batch; how much it then earns is a function of the coefficient, whose derivative is exact, as finite
differences in double precision show. Gradient ascent on it finds a better coefficient. Takes seconds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import haepo_jax as hj

NUM_ARMS, NUM_PULLS, NUM_STEPS = 10, 32, 3
LEARNING_RATE, META_RATE, META_STEPS = 1.0, 2.0, 20


class Batch(NamedTuple):
    """A batch of pulls of a uniform policy, each a trajectory of one step."""

    arms: jax.Array
    """`[M]`."""
    returns: jax.Array
    """`[M]`."""


def loss(logits: jax.Array, batch: Batch, entropy_coef: jax.Array) -> jax.Array:
    """Computes the loss of a policy with these logits `[A]`."""
    scores = hj.trajectory_scores(
        jax.nn.log_softmax(logits)[batch.arms],
        kind="log_ratio",
        behaviour_log_likelihoods=jnp.full(NUM_PULLS, -jnp.log(1.0 * NUM_ARMS)),
    )
    return hj.haepo_loss(scores, batch.returns, entropy_coef=entropy_coef, kl_coef=0.0)[0]


def earned(log_entropy_coef: jax.Array, batch: Batch, means: jax.Array) -> jax.Array:
    """Computes the expected reward of the policy after its steps on the batch."""
    logits = jnp.zeros(NUM_ARMS)
    for _ in range(NUM_STEPS):
        logits -= LEARNING_RATE * jax.grad(loss)(logits, batch, jnp.exp(log_entropy_coef))
    return jax.nn.softmax(logits) @ means


def main() -> tuple[float, float, list[float]]:
    """Compares the derivative with finite differences, then learns; returns both, and what was earned on the way."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        means = jax.random.normal(keys[0], (NUM_ARMS,))
        arms = jax.random.randint(keys[1], (NUM_PULLS,), 0, NUM_ARMS)
        batch = Batch(arms, means[arms] + jax.random.normal(keys[2], (NUM_PULLS,)))
        evaluate = jax.jit(jax.value_and_grad(earned))

        start, width = jnp.log(0.3), 1e-5
        _, exact = evaluate(start, batch, means)
        above, below = (evaluate(start + sign * width, batch, means)[0] for sign in (1, -1))
        differences = (above - below) / (2 * width)
        print(f"derivative {exact:.10f}, by finite differences {differences:.10f}")

        log_entropy_coef, rewards = start, []
        for _ in range(META_STEPS):
            reward, slope = evaluate(log_entropy_coef, batch, means)
            rewards.append(float(reward))
            log_entropy_coef += META_RATE * slope
        print(
            f"earned {rewards[0]:.4f} with the coefficient 0.3, {rewards[-1]:.4f} with {jnp.exp(log_entropy_coef):.3f}"
        )
        return float(exact), float(differences), rewards


if __name__ == "__main__":
    main()
