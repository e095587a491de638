"""Small environments of our interface with action masks, MultiDiscrete actions and nested observations.

In each, a target is drawn at the reset and shown; each choice that is its target earns 1, and an episode lasts 4
steps. The choice before the target's is not allowed where there is a mask.
"""

import jax
import jax.numpy as jnp

from haepo_jax.environments import Discrete, Environment, MultiDiscrete, Step
from haepo_jax.environments.observations import make_observer

NVEC = (3, 2, 4)
_THREE = MultiDiscrete(NVEC)
LENGTH = 4


def choices_of(space):
    return space.nvec if isinstance(space, MultiDiscrete) else (space.n,)


def mask_of(nvec, targets):
    """All are allowed but the one before the target."""
    return jnp.concatenate([jnp.arange(n) != (targets[k] - 1) % n for k, n in enumerate(nvec)])


def make_toy(space=_THREE, *, masked=True, image=False):
    """Makes the environment of a space, with a mask or without, its features an image or nested."""
    nvec = choices_of(space)

    def observe(state):
        targets, time = state
        shown = jnp.concatenate([jax.nn.one_hot(targets[k], n) for k, n in enumerate(nvec)])
        raw = jnp.tile(shown, (3, 1)) if image else {"b": shown, "a": {"time": time, "even": time % 2 == 0}}
        return raw, mask_of(nvec, targets) if masked else None

    def begin(key):
        return jax.random.randint(key, (len(nvec),), 0, jnp.array(nvec)), jnp.int32(0)

    observer = make_observer(*jax.eval_shape(lambda: observe(begin(jax.random.key(0)))))

    def reset(params, key):
        state = begin(key)
        return state, observer(*observe(state))

    def step(params, key, state, action):
        targets, time = state
        allowed, ends = mask_of(nvec, targets), [sum(nvec[:k]) for k in range(len(nvec))]
        taken = jnp.atleast_1d(action)
        state = (targets, time + 1)
        done = time + 1 >= LENGTH
        wrong = jnp.sum(~allowed[jnp.array(ends) + taken]).astype(jnp.float32)
        return Step(
            state,
            observer(*observe(state)),
            jnp.sum(taken == targets).astype(jnp.float32),
            done,
            jnp.bool_(False),
            {"forbidden": wrong if masked else jnp.zeros_like(wrong)},
        )

    return Environment(
        "Toy",
        observer.observation_shape,
        space,
        LENGTH,
        {},
        ("forbidden",),
        reset,
        step,
        mask_size=observer.mask_size,
        masked_shape=observer.masked_shape,
    )


def masked_discrete():
    """As a component of a config: `helpers.toy_environments:masked_discrete`."""
    return make_toy(Discrete(3))


def masked_multi_discrete():
    """As a component of a config: `helpers.toy_environments:masked_multi_discrete`."""
    return make_toy()
