"""A policy of another run as the opponent in a two-player game."""

from collections.abc import Callable

import jax

from haepo_jax.errors import ConfigError
from haepo_jax.runs.policies import load_policy
from haepo_jax.runs.states import LAST, Checkpoint


def make_trained_player(
    workdir: str, *, member: int = 0, checkpoint: Checkpoint = LAST, greedy: bool = False
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Makes the player that plays as a member of a run, which stays as it is.

    A config names it, with its arguments in `self_play.opponents_kwargs`:
    `self_play.opponents = "haepo_jax.runs.opponents:make_trained_player"`.

    Args:
      workdir: of that run, of the same game.
      member: its index.
      checkpoint: which policy, see `haepo_jax.runs.states.load_states`.
      greedy: whether it plays its likeliest move instead of a sample.

    Returns:
      `(observation, key) -> action`.

    Raises:
      ConfigError: as of `load_policy`; or the policy remembers the episode, or knows another game.
    """
    try:
        policy = load_policy(workdir, member, checkpoint)
    except ConfigError as error:
        raise ConfigError(f"The opponent of config.self_play.opponents_kwargs cannot be loaded: {error}") from error
    if policy.remembers:
        raise ConfigError(
            f"The policy of member {member} of {workdir} remembers the episode, which an opponent from another run "
            "cannot; take a run whose config.policy.network is mlp or cnn."
        )
    return lambda observation, key: policy.act(observation, key, greedy=greedy)
