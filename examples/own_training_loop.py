"""The HAEPO loss in a training loop of your own: three gradient steps on each batch of sampled sequences.

python examples/own_training_loop.py

The policy is a table of logits: it samples the next of 12 tokens, out of a vocabulary of 6, by the token before. A
sequence's return is the number of tokens that differ from the one before them. Takes a few seconds, and learns from
a mean return of 10 (a uniform policy) to 12 of 12.
"""

import jax
import jax.numpy as jnp
import optax

import haepo_jax as hj

VOCABULARY, LENGTH = 6, 12
NUM_UPDATES, NUM_TRAJECTORIES, NUM_EPOCHS = 200, 32, 3
OPTIMIZER = optax.adam(0.05)


def log_probs(logits: jax.Array, sequences: jax.Array) -> jax.Array:
    """Computes the log-probability `[M, T]` of each token given the one before; `sequences` is `[M, T + 1]`."""
    return jax.nn.log_softmax(logits)[sequences[:, :-1], sequences[:, 1:]]


def sample(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Samples sequences `[M, T + 1]`, whose first token is uniform and not the policy's choice."""

    def step(tokens: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        following = jax.random.categorical(key, logits[tokens])
        return following, following

    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (NUM_TRAJECTORIES,), 0, VOCABULARY)
    _, rest = jax.lax.scan(step, first, jax.random.split(key, LENGTH))
    return jnp.concatenate([first[None], rest]).T


@jax.jit
def update(logits: jax.Array, state: optax.OptState, key: jax.Array) -> tuple[jax.Array, optax.OptState, jax.Array]:
    """Samples a batch and takes gradient steps on it; returns the mean return too."""
    sequences = sample(logits, key)
    returns = (sequences[:, 1:] != sequences[:, :-1]).sum(axis=-1)
    behaviour = hj.trajectory_log_likelihood(log_probs(logits, sequences))

    def loss_fn(logits: jax.Array) -> jax.Array:
        # The ratio to the policy that sampled corrects the later steps for how far the policy has moved.
        scores = hj.trajectory_scores(
            hj.trajectory_log_likelihood(log_probs(logits, sequences)),
            kind="log_ratio",
            behaviour_log_likelihoods=behaviour,
        )
        return hj.haepo_loss(scores, returns, entropy_coef=0.1, kl_coef=0.0)[0]

    for _ in range(NUM_EPOCHS):
        updates, state = OPTIMIZER.update(jax.grad(loss_fn)(logits), state)
        logits = optax.apply_updates(logits, updates)
    return logits, state, returns.mean()


def main() -> float:
    """Trains a policy; returns the mean return of its last batch."""
    logits = jnp.zeros((VOCABULARY, VOCABULARY))
    state = OPTIMIZER.init(logits)
    for step, key in enumerate(jax.random.split(jax.random.key(0), NUM_UPDATES)):
        logits, state, mean_return = update(logits, state, key)
        if step % 50 == 0:
            print(f"update {step}: mean return {mean_return:.2f}")
    print(f"at the end: mean return {mean_return:.2f} of {LENGTH}")
    return float(mean_return)


if __name__ == "__main__":
    main()
