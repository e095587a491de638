"""What every loss does to one small batch: how hard it pushes each of four trajectories, and which way.

python examples/compare_losses.py

The four are responses to one prompt, two good ones (return 1) and two bad ones (return 0). The policy has moved since
it sampled them: not on the first, and on the others by the ratio of a step in the column's head. The reference
is the policy that sampled. A number is minus the slope of the loss in the log-probability of a step, averaged over the
trajectory's steps: positive makes the trajectory likelier. Each row is divided by its largest size. Takes seconds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import haepo_jax as hj
from haepo_jax.losses import presets

LENGTHS = jnp.array([4, 8, 4, 8])
RATIOS = jnp.array([1.0, 1.4, 0.7, 1.4])
RETURNS = jnp.array([1.0, 1.0, 0.0, 0.0])
COLUMNS = ("good, unmoved", "good, raised", "bad, lowered", "bad, raised")

WHERE = jnp.arange(8) < LENGTHS[:, None]
BEHAVIOUR = jnp.where(WHERE, -1.0, 0.0)
LOG_PROBS = BEHAVIOUR + jnp.where(WHERE, jnp.log(RATIOS)[:, None], 0)
SAMPLED = hj.trajectory_log_likelihood(BEHAVIOUR, where=WHERE)
PAIRS = hj.preference_pairs(RETURNS)

Loss = Callable[[jax.Array], jax.Array]
"""Log-probabilities `[M, T]` of the policy to a scalar."""


def ratio_losses() -> dict[str, Loss]:
    """Makes the losses on steps."""
    advantages = hj.group_relative_advantages(RETURNS)
    named = {name: getattr(presets, name) for name in presets.__all__}
    return {
        name: lambda x, preset=preset: preset(x, BEHAVIOUR, advantages, where=WHERE)[0]  # type: ignore[misc]
        for name, preset in named.items()
    }


def trajectory_losses() -> dict[str, Loss]:
    """Makes the losses on whole trajectories, as functions of their log-likelihoods `[M]`."""
    advantages = hj.group_relative_advantages(RETURNS)

    def haepo(x: jax.Array, **options: object) -> jax.Array:
        return hj.haepo_loss(x - SAMPLED, RETURNS, entropy_coef=0.0, kl_coef=0.0, **options)[0]  # type: ignore[arg-type]

    def of_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.broadcast_to(x[:, None], PAIRS.shape), jnp.broadcast_to(x[None], PAIRS.shape)

    def simpo(x: jax.Array) -> jax.Array:
        return hj.simpo_loss(*of_pairs(x), *of_pairs(LENGTHS), beta=2.0, margin=0.5, where=PAIRS)[0]

    return {
        "reinforce": lambda x: hj.reinforce_loss(x, advantages)[0],
        "haepo, reverse": lambda x: haepo(x, target_effective_sample_size=0.5),
        "haepo, forward": lambda x: haepo(x, target_effective_sample_size=0.5, projection="forward"),
        "gvpo": lambda x: hj.gvpo_loss(x, SAMPLED, RETURNS, beta=0.1)[0],
        "vmpo": lambda x: hj.vmpo_loss(x, RETURNS, temperature=1.0, temperature_bound=0.1)[0],
        "dpo": lambda x: hj.dpo_loss(*of_pairs(x), *of_pairs(SAMPLED), beta=0.1, where=PAIRS)[0],
        "listwise": lambda x: hj.listwise_preference_loss(x, SAMPLED, RETURNS, beta=0.1)[0],
        "ipo": lambda x: hj.ipo_loss(*of_pairs(x), *of_pairs(SAMPLED), beta=0.1, where=PAIRS)[0],
        "simpo": simpo,
        "kto": lambda x: hj.kto_loss(x, SAMPLED, RETURNS > 0, beta=0.1, kl=0.0)[0],
    }


@jax.jit
def slopes() -> dict[str, jax.Array]:
    """Computes each loss's slope in the log-probability of a step, averaged over each trajectory."""
    found = {name: jax.grad(loss)(LOG_PROBS).sum(-1) / LENGTHS for name, loss in ratio_losses().items()}
    log_likelihoods = hj.trajectory_log_likelihood(LOG_PROBS, where=WHERE)
    return found | {name: jax.grad(loss)(log_likelihoods) for name, loss in trajectory_losses().items()}


def table() -> str:
    """Writes minus the slopes, in shares of the loss's largest, as a table."""
    heads = [f"{name} ({ratio:.1f})" for name, ratio in zip(COLUMNS, RATIOS.tolist(), strict=True)]
    rows = [["loss", *heads], ["---"] * 5]
    found = slopes()
    for name in (*ratio_losses(), *trajectory_losses()):
        pushes = (-found[name] / jnp.abs(found[name]).max()).tolist()
        rows.append([name, *(f"{push:.2f}".replace("-0.00", "0.00") for push in pushes)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
