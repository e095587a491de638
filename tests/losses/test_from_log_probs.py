"""`haepo_from_log_probs`: the recommended loss from log-probabilities of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import haepo_from_log_probs, haepo_loss
from haepo_jax.losses import from_log_probs

M, T = 6, 5


@pytest.fixture
def batch():
    """Makes log-probabilities of two groups under two policies, returns, and masks of the first steps."""
    draw = np.random.default_rng(3)
    behaviour = -draw.exponential(size=(2, M, T))
    lengths = draw.integers(1, T + 1, (2, M))
    return (
        (behaviour + 0.3 * draw.normal(size=behaviour.shape)).astype(np.float32),
        behaviour.astype(np.float32),
        draw.normal(size=(2, M)).astype(np.float32),
        np.arange(T) < lengths[..., None],
    )


def test_is_the_loss_of_summed_log_ratios_with_the_default_settings(batch):
    log_probs, behaviour, returns, where = batch
    loss, metrics = haepo_from_log_probs(log_probs, behaviour, returns, where=where)
    scores = jnp.where(where, log_probs, 0).sum(-1) - jnp.where(where, behaviour, 0).sum(-1)
    expected, _ = haepo_loss(
        scores,
        returns,
        entropy_coef=1.0,
        kl_coef=0.0,
        temperature=4.0,
        projection="forward",
        target="linear",
        target_effective_sample_size=0.5,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.target_effective_sample_size, 0.5 * M, rtol=1e-3)


def test_its_settings_are_those_of_the_default_config():
    pytest.importorskip("optax", reason="the config is part of haepo_jax[train]")
    from haepo_jax.methods.haepo import HaepoConfig

    default = HaepoConfig()
    settings = from_log_probs._SETTINGS
    assert settings.keys() >= {"temperature", "target_effective_sample_size", "projection", "target", "normalization"}
    assert {name: getattr(default, name) for name in settings} == settings
    assert (default.score, default.adapt, default.kl_coef) == ("log_ratio", "ess", 0)


def test_masked_steps_and_trajectories_without_steps_are_not_there(batch):
    log_probs, behaviour, returns, where = batch
    where = where.copy()
    where[:, -1] = False
    garbage = np.where(where, log_probs, np.nan)

    def loss_of(log_probs, behaviour, returns, where):
        return haepo_from_log_probs(log_probs, behaviour, returns, where=where)[0]

    loss, slopes = jax.value_and_grad(loss_of)(garbage, behaviour, returns, where)
    short = [x[:, :-1] for x in (log_probs, behaviour, returns, where)]
    np.testing.assert_allclose(loss, loss_of(*short), rtol=1e-6)
    np.testing.assert_array_equal(slopes[~where], 0)
    np.testing.assert_allclose(slopes[:, :-1], jax.grad(loss_of)(*short), rtol=1e-5, atol=1e-7)


def test_other_units_and_offsets_of_the_returns_change_nothing(batch):
    log_probs, behaviour, returns, where = batch
    one = haepo_from_log_probs(log_probs, behaviour, returns, where=where)[0]
    other = haepo_from_log_probs(log_probs, behaviour, 1000 * returns - 7, where=where)[0]
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_few_steps_down_raise_the_better_half(batch):
    _, behaviour, returns, where = batch
    log_probs = jnp.array(behaviour)
    for _ in range(4):
        log_probs -= jax.grad(lambda x: haepo_from_log_probs(x, behaviour, returns, where=where)[0])(log_probs)
    moved = jnp.where(where, log_probs - behaviour, 0).sum(-1)
    best, worst = jnp.argmax(returns, -1), jnp.argmin(returns, -1)
    rows = jnp.arange(2)
    assert (moved[rows, best] > 0).all()
    assert (moved[rows, worst] < 0).all()


def test_refuses_what_has_no_trajectories_or_another_shape(batch):
    log_probs, behaviour, returns, _ = batch
    with pytest.raises(ValueError, match=r"log_probs must have the shape \[..., M, T\], got \(5,\)."):
        haepo_from_log_probs(log_probs[0, 0], behaviour[0, 0], returns[0, 0])
    with pytest.raises(AssertionError):
        haepo_from_log_probs(log_probs, behaviour[:, :1], returns)
    with pytest.raises(AssertionError):
        haepo_from_log_probs(log_probs, behaviour, returns[:1])
