"""The HAEPO loss in a training loop of your own: three steps on each batch of sampled sequences.

python examples/own_training_loop.py

A table of logits writes sequences of 12 letters out of 6, and earns 1 for each letter that differs from the one
before. Takes a few seconds, and gets from 10 (random) to 12 of 12.
"""

import jax
import jax.numpy as jnp
import optax

import haepo_jax as hj

LETTERS, LENGTH, SEQUENCES = 6, 12, 32
OPTIMIZER = optax.adam(0.05)


def log_probs(logits: jax.Array, sequences: jax.Array) -> jax.Array:
    """`[M, T]` log-probability of each letter after the one before; `sequences` is `[M, T + 1]`."""
    return jax.nn.log_softmax(logits)[sequences[:, :-1], sequences[:, 1:]]


def sample(logits: jax.Array, key: jax.Array) -> jax.Array:
    """`[M, T + 1]` sequences, each with its first letter given."""

    def step(letters: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        following = jax.random.categorical(key, logits[letters])
        return following, following

    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (SEQUENCES,), 0, LETTERS)
    rest = jax.lax.scan(step, first, jax.random.split(key, LENGTH))[1]
    return jnp.concatenate([first[None], rest]).T


@jax.jit
def update(logits: jax.Array, state: optax.OptState, key: jax.Array) -> tuple[jax.Array, optax.OptState, jax.Array]:
    """Samples a batch and takes three steps on it, which the score corrects for the policy's movement."""
    sequences = sample(logits, key)
    returns = (sequences[:, 1:] != sequences[:, :-1]).sum(axis=-1)
    behaviour = hj.trajectory_log_likelihood(log_probs(logits, sequences))

    def loss_fn(logits: jax.Array) -> jax.Array:
        scores = hj.trajectory_scores(
            hj.trajectory_log_likelihood(log_probs(logits, sequences)),
            kind="log_ratio",
            behaviour_log_likelihoods=behaviour,
        )
        return hj.haepo_loss(scores, returns, entropy_coef=0.1, kl_coef=0.0)[0]

    for _ in range(3):
        updates, state = OPTIMIZER.update(jax.grad(loss_fn)(logits), state)
        logits = optax.apply_updates(logits, updates)
    return logits, state, returns.mean()


def main() -> float:
    """Trains for 200 updates; returns the mean return of the last batch."""
    logits = jnp.zeros((LETTERS, LETTERS))
    state = OPTIMIZER.init(logits)
    for step, key in enumerate(jax.random.split(jax.random.key(0), 200)):
        logits, state, mean_return = update(logits, state, key)
        if step % 50 == 0:
            print(f"update {step}: mean return {mean_return:.2f}")
    print(f"at the end: mean return {mean_return:.2f} of {LENGTH}")
    return float(mean_return)


if __name__ == "__main__":
    main()
