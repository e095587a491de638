"""Methods and scores as a user hands them in, some of them with a slip."""

import dataclasses

import jax.numpy as jnp
from helpers.settings import FIXED

from haepo_jax.fields import count, number
from haepo_jax.methods import (
    Adaptation,
    EpochsConfig,
    HaepoConfig,
    Method,
    OnLanguage,
    ReferenceConfig,
    Sees,
    SegmentConfig,
)


@dataclasses.dataclass(frozen=True)
class OwnConfig(EpochsConfig, ReferenceConfig):
    """One setting of each kind."""

    weight: float = number(1.0, above=0.0, high=10.0)
    window: int = count(3, low=1, high=8, traced=True)
    width: int = count(2, low=1)
    power: "float" = 0.5
    kind: str = "plain"


def _weighted(settings, group, reference):
    del reference
    return lambda log_likelihoods: (-settings.weight * jnp.mean(group.returns * log_likelihoods), {})


def _objective_that_gives(found):
    return lambda *_: found


def _critic(settings, samples):
    def loss(evaluated):
        policy = -jnp.mean(evaluated.log_probs * samples.advantages)
        return policy + jnp.mean((evaluated.values - samples.targets) ** 2), {"policy_loss": policy}

    return loss


@dataclasses.dataclass(frozen=True)
class OwnLossConfig:
    """Those of the loss alone."""

    weight: float = number(1.0, above=0.0, high=10.0)
    kl_coef: float = number(0.0, low=0.0)


PLAIN = Method(_weighted, Sees.SUMS, OwnConfig())
ON_LANGUAGE = Method(_weighted, Sees.SUMS, OwnConfig(), language=OnLanguage(OwnLossConfig(), sampled_kl="kl_coef"))
LIKE_HAEPO = Method(_weighted, Sees.SUMS, HaepoConfig(**FIXED["haepo"]))
CRITIC = Method(_critic, Sees.SEGMENTS, SegmentConfig(num_steps=8, num_minibatches=2), metrics=("policy_loss",))
ONE_LOSS_EACH = Method(_objective_that_gives(lambda values: (values, {})), Sees.SUMS)
NO_METRICS = Method(_objective_that_gives(lambda values: values.sum()), Sees.SUMS)
OTHER_METRICS = Method(_objective_that_gives(lambda values: (values.sum(), {"a": values})), Sees.SUMS, metrics=("b",))
FAILS = Method(_objective_that_gives(lambda values: values["nothing"]), Sees.SUMS)
TAKEN = Method(_weighted, Sees.SUMS, OwnConfig(), metrics=("episode_return",))
OF_A_SETTING = Method(_weighted, Sees.SUMS, OwnConfig(), metrics=("haepo.kl_coef",))
NO_TEXT = Method(_weighted, Sees.SUMS, OwnConfig(), metrics=("half\ud800",))
OF_THE_WALK = Method(_weighted, Sees.SUMS, OwnConfig(), metrics=("success",))


@dataclasses.dataclass(frozen=True)
class FadingConfig(EpochsConfig):
    """A weight that halves with every batch, unless it is plain."""

    weight: float = number(1.0)
    kind: str = "fading"


def _fade(settings):
    if settings.kind == "plain":
        return None
    return Adaptation(
        init=lambda settings, params: settings.weight,
        begin=lambda settings, state, batch: (dataclasses.replace(settings, weight=state), state),
        end=lambda settings, state, batch, metrics: 0.5 * metrics["weight"],
    )


def _faded(settings, group, reference):
    loss_of = _weighted(settings, group, reference)
    return lambda log_likelihoods: (loss_of(log_likelihoods)[0], {"weight": settings.weight})


def _fading(adaptation):
    return Method(_faded, Sees.SUMS, FadingConfig(), metrics=("weight",), adaptation=adaptation)


FADING = _fading(_fade)
FADES_TO_NOTHING = _fading(lambda settings: 3)
OTHER_STATE = _fading(lambda settings: dataclasses.replace(_fade(settings), end=lambda *_: jnp.zeros(2)))
OTHER_SETTINGS = _fading(
    lambda settings: dataclasses.replace(_fade(settings), begin=lambda settings, state, batch: (1.0, state))
)
UNBOUNDED = _fading(
    lambda settings: dataclasses.replace(_fade(settings), end=lambda settings, state, *_: state / jnp.zeros(()))
)
FAILING_STATE = _fading(lambda settings: dataclasses.replace(_fade(settings), end=lambda *_: 1 / 0))


def _on_steps(settings, group, reference):
    """Over the steps alone, whichever episode they are of."""
    return lambda log_probs: (-jnp.mean(log_probs, where=group.where), {})


def _on_valid_steps(settings, group, reference):
    """The same, but for episodes that are not there."""
    assert group.valid is None or group.valid.shape == group.returns.shape
    return _on_steps(settings, group, reference)


ON_STEPS = Method(_on_steps, Sees.STEPS)
ON_VALID_STEPS = Method(_on_valid_steps, Sees.STEPS)


def score(log_likelihoods, group, *, power=1, scale):
    """Between the sum (power 0) and the mean (power 1), times a number that may be swept."""
    return scale * log_likelihoods / group.lengths**power


def score_of_the_group(log_likelihoods, group):
    """One for all, which is none."""
    return (log_likelihoods + group.returns).mean()
