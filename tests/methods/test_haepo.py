"""HAEPO's objective: scores from outside, how sharp its target is, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import HaepoLossConfig, from_config_dict, traced_settings
from haepo_jax.config.reads import set_and_unread, unread
from haepo_jax.errors import ConfigError
from haepo_jax.losses import haepo_coefficients, haepo_loss, normalize_returns, target_temperature
from haepo_jax.methods import Group, haepo

OWN = "helpers.own_methods:score"
LOG_LIKELIHOODS = jnp.array([[-3.0, -8.0, -5.0], [-1.0, -2.0, -9.0]])
GROUP = Group(
    returns=jnp.array([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]]),
    lengths=jnp.array([[3, 8, 5], [2, 4, 9]]),
    behaviour_log_likelihoods=LOG_LIKELIHOODS - 0.1,
)


def loss_and_slopes(**settings):
    config = dataclasses.replace(HaepoLossConfig(), **settings)
    loss = haepo.objective(config, GROUP, 0.9 * LOG_LIKELIHOODS)
    (value, _), slopes = jax.value_and_grad(loss, has_aux=True)(LOG_LIKELIHOODS)
    return float(value), slopes


def test_a_score_from_outside_gives_the_loss_of_the_built_in_one_that_it_equals():
    built_in = loss_and_slopes(score="mean")
    own = loss_and_slopes(score=OWN, score_params={"scale": 1.0})
    assert own[0] == pytest.approx(built_in[0], rel=1e-6)
    np.testing.assert_allclose(own[1], built_in[1], rtol=1e-5)
    itself = loss_and_slopes(score=lambda log_likelihoods, group: log_likelihoods / group.lengths)
    assert itself[0] == pytest.approx(built_in[0], rel=1e-6)


def test_arguments_reach_a_score_from_outside_constant_and_traced():
    as_sum, doubled = (
        loss_and_slopes(score=OWN, score_kwargs={"power": 0}, score_params={"scale": scale}) for scale in (1.0, 2.0)
    )
    assert as_sum[0] == pytest.approx(loss_and_slopes(score="sum")[0], rel=1e-6)
    assert doubled[0] == pytest.approx(loss_and_slopes(score="sum", temperature=0.5)[0], rel=1e-5)
    config = from_config_dict({"haepo": {"score": OWN}, "sweep": {"haepo.score_params.scale": (1.0, 2.0)}})
    assert traced_settings(config)["haepo.score_params.scale"] == 1.0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"score": OWN}, "score needs the argument scale: give config.haepo.score_kwargs.scale or"),
        (
            {"score": OWN, "score_params": {"scale": 1.0, "powr": 2.0}},
            "config.haepo.score_params.powr is not an argument of score; did you mean power?",
        ),
        ({"score": "helpers.own_methods:scores"}, "config.haepo.score helpers.own_methods:scores: "),
    ],
)
def test_unknown_and_missing_arguments_of_a_score_are_refused_with_the_config(settings, sentence):
    with pytest.raises(ConfigError) as caught:
        from_config_dict({"haepo": settings})
    assert str(caught.value).startswith(sentence)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"gives .*; it must give real numbers of the shape of the log-li"):
        loss_and_slopes(score="helpers.own_methods:score_of_the_group")


def by_hand(group, **options):
    """Loss and slopes of one group of `GROUP`, by the loss itself."""
    scores, reference = (scale * LOG_LIKELIHOODS[group] - BEHAVIOUR[group] for scale in (1.0, 0.9))
    loss, terms = haepo_loss(scores, GROUP.returns[group], reference, **options)
    return loss, haepo_coefficients(scores, GROUP.returns[group], reference, **options), terms


BEHAVIOUR = GROUP.behaviour_log_likelihoods


@pytest.mark.parametrize("projection", ["reverse", "forward"])
def test_ess_is_the_loss_whose_coefficients_share_the_temperature_that_rho_asks_for(projection):
    settings = {"adapt": "ess", "target_effective_sample_size": 0.6, "entropy_coef": 3e-4, "kl_coef": 1e-4}
    value, slopes = loss_and_slopes(projection=projection, **settings)
    losses = []
    for group, returns in enumerate(GROUP.returns):
        b = target_temperature(normalize_returns(returns), effective_sample_size=0.6)
        loss, expected, _ = by_hand(group, entropy_coef=0.75 * b, kl_coef=0.25 * b, projection=projection)
        np.testing.assert_allclose(2 * slopes[group], expected, rtol=2e-4, atol=1e-6)
        losses.append(float(loss))
    assert value == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_linear_target_is_the_loss_with_one_and_only_the_forward_projection_has_it():
    settings = {"adapt": "ess", "target_effective_sample_size": 0.6, "entropy_coef": 0.1, "kl_coef": 0.0}
    boltzmann, linear = (loss_and_slopes(projection="forward", target=name, **settings)[1] for name in haepo.TARGETS)
    scores = LOG_LIKELIHOODS - BEHAVIOUR, GROUP.returns
    options = {"entropy_coef": 0.1, "kl_coef": 0, "projection": "forward", "target_effective_sample_size": 0.6}
    np.testing.assert_allclose(linear, haepo_coefficients(*scores, target="linear", **options), atol=1e-6)
    assert np.abs(linear - boltzmann).max() > 1e-2
    reverse = [loss_and_slopes(target=name, **settings)[1] for name in haepo.TARGETS]
    np.testing.assert_array_equal(*reverse)


def test_the_target_is_unread_with_the_reverse_projection_and_with_segments():
    linear = {"haepo": {"target": "linear"}}
    assert "haepo.target" not in unread(from_config_dict({"haepo": {"projection": "forward"}}))
    reverse = unread(fixed_config(linear))["haepo.target"]
    assert reverse == "config.haepo.projection is reverse; it belongs to forward"
    in_segments = unread(from_config_dict({"haepo": {"target": "linear", "segment_length": 8}}))["haepo.target"]
    assert in_segments == "config.haepo.segment_length is set, and it belongs to whole episodes"


@pytest.mark.parametrize("projection", ["reverse", "forward"])
def test_segments_keep_the_boltzmann_target(projection):
    config = from_config_dict({"haepo": {"segment_length": 8, "segment_projection": projection}}).haepo
    group = GROUP._replace(valid=jnp.ones((2, 3), bool))
    values = []
    for name in haepo.TARGETS:
        settings = dataclasses.replace(config, projection="forward", target=name)
        values.append(haepo._of_segments(settings, group, None, jnp.mean)(LOG_LIKELIHOODS)[0])
    assert values[0] == values[1] != 0


def test_fixed_is_the_loss_of_the_coefficients_to_the_last_bit():
    found = haepo.objective(HaepoLossConfig(entropy_coef=0.1, kl_coef=0.2), GROUP, 0.9 * LOG_LIKELIHOODS)
    scores = LOG_LIKELIHOODS - BEHAVIOUR, GROUP.returns, 0.9 * LOG_LIKELIHOODS - BEHAVIOUR
    assert found(LOG_LIKELIHOODS)[0] == haepo_loss(*scores, entropy_coef=0.1, kl_coef=0.2)[0]


def test_metrics_say_how_sharp_the_target_is_and_how_its_temperature_is_shared():
    _, fixed = haepo.objective(HaepoLossConfig(entropy_coef=0.1, kl_coef=0.3), GROUP, LOG_LIKELIHOODS)(LOG_LIKELIHOODS)
    assert fixed["target_temperature"] == pytest.approx(0.4)
    assert (fixed["entropy_weight"], fixed["kl_weight"]) == (pytest.approx(0.1), pytest.approx(0.3))
    settings = HaepoLossConfig(adapt="ess", target_effective_sample_size=0.6, entropy_coef=0.1, kl_coef=0.3)
    _, ess = haepo.objective(settings, GROUP, LOG_LIKELIHOODS)(LOG_LIKELIHOODS)
    b = target_temperature(normalize_returns(GROUP.returns), effective_sample_size=0.6).mean()
    assert ess["target_temperature"] == pytest.approx(float(b), rel=1e-4)
    assert ess["kl_weight"] / ess["entropy_weight"] == pytest.approx(3, rel=1e-4)
    _, alone = haepo.objective(dataclasses.replace(settings, kl_coef=0.0), GROUP, None)(LOG_LIKELIHOODS)
    assert alone["target_effective_sample_size"] == pytest.approx(0.6 * 3, rel=1e-3) and alone["kl_weight"] == 0


def test_what_the_chosen_adapt_does_not_read_is_named():
    rho = {"target_effective_sample_size": 0.3}
    config = fixed_config({"haepo": rho})
    reason = "config.haepo.adapt is fixed; it belongs to ess or dual"
    assert set_and_unread(config, unread(config)) == {reason: ["haepo.target_effective_sample_size"]}
    config = fixed_config({"haepo": rho | {"adapt": "ess"}})
    assert set_and_unread(config, unread(config)) == {}
    with pytest.raises(
        ConfigError, match=f"config.sweep.haepo.target_effective_sample_size has no effect, as {reason}"
    ):
        fixed_config({"sweep": {"haepo.target_effective_sample_size": (0.3, 0.6)}})


def test_a_forward_projection_without_a_temperature_is_refused():
    neither = {"haepo.entropy_coef": (0.0, 0.1), "haepo.kl_coef": (0.1, 0.0)}
    forward = {"projection": "forward"}
    for own, sweep in ({"entropy_coef": 0.0, "kl_coef": 0.0}, {}), ({}, neither):
        with pytest.raises(ConfigError, match="0 with kl_coef 0 leaves the target of projection forward without"):
            fixed_config({"haepo": own | forward, "sweep": sweep})
        assert fixed_config({"haepo": own | forward | {"adapt": "ess"}, "sweep": sweep}).haepo.adapt == "ess"
