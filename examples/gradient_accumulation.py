"""The gradient of the HAEPO loss with the graph of one trajectory in memory at a time, however many compete.

python examples/gradient_accumulation.py

The softmax couples all trajectories of a group, yet the derivative of the loss in each score, `haepo_coefficients`, is
a function of scalars. So a first pass computes the scores without a graph, and a second one adds up coefficient times
gradient of the score, trajectory by trajectory: the same gradient as at once, in the memory of one. Takes seconds.
"""

import jax
import jax.numpy as jnp

import haepo_jax as hj

NUM_TRAJECTORIES, LENGTH, FEATURES, ACTIONS = 64, 200, 8, 4
SETTINGS = {"entropy_coef": 0.1, "kl_coef": 0.0, "temperature": 4.0}

Batch = dict[str, jax.Array]
"""Observations `[M, T, F]`, actions `[M, T]`, which steps are valid `[M, T]`, returns `[M]`."""


def sample_batch(key: jax.Array) -> Batch:
    """Samples a batch as a rollout would leave it, of trajectories of different lengths."""
    keys = jax.random.split(key, 4)
    lengths = jax.random.randint(keys[2], (NUM_TRAJECTORIES, 1), 1, LENGTH + 1)
    return {
        "observations": jax.random.normal(keys[0], (NUM_TRAJECTORIES, LENGTH, FEATURES)),
        "actions": jax.random.randint(keys[1], (NUM_TRAJECTORIES, LENGTH), 0, ACTIONS),
        "where": jnp.arange(LENGTH) < lengths,
        "returns": jax.random.normal(keys[3], (NUM_TRAJECTORIES,)),
    }


def score(params: jax.Array, trajectories: Batch) -> jax.Array:
    """Computes the scores `[...]` of trajectories `[..., T]` under a linear softmax policy `[F, A]`."""
    log_probs = jax.nn.log_softmax(trajectories["observations"] @ params)
    taken = jnp.take_along_axis(log_probs, trajectories["actions"][..., None], axis=-1)[..., 0]
    where = trajectories["where"]
    return hj.trajectory_scores(
        hj.trajectory_log_likelihood(taken, where=where), kind="mean", lengths=where.sum(axis=-1)
    )


def gradient_at_once(params: jax.Array, batch: Batch) -> jax.Array:
    """Computes the gradient of the loss with the graph of all trajectories."""
    return jax.grad(lambda params: hj.haepo_loss(score(params, batch), batch["returns"], **SETTINGS)[0])(params)


def gradient_in_pieces(params: jax.Array, batch: Batch) -> jax.Array:
    """Computes the same with the graph of one trajectory at a time."""
    scores = jax.lax.map(lambda trajectory: score(params, trajectory), batch)
    coefficients = hj.haepo_coefficients(scores, batch["returns"], **SETTINGS)

    def add(total: jax.Array, piece: tuple[jax.Array, Batch]) -> tuple[jax.Array, None]:
        coefficient, trajectory = piece
        return total + coefficient * jax.grad(score)(params, trajectory), None

    return jax.lax.scan(add, jnp.zeros_like(params), (coefficients, batch))[0]


def main() -> tuple[jax.Array, jax.Array]:
    """Computes both; returns them."""
    params = 0.1 * jax.random.normal(jax.random.key(0), (FEATURES, ACTIONS))
    batch = sample_batch(jax.random.key(1))
    at_once, in_pieces = jax.jit(gradient_at_once)(params, batch), jax.jit(gradient_in_pieces)(params, batch)
    print(f"largest entry of the gradient {jnp.abs(at_once).max():.3g}, ", end="")
    print(f"largest difference in pieces {jnp.abs(at_once - in_pieces).max():.1g}")
    return at_once, in_pieces


if __name__ == "__main__":
    main()
