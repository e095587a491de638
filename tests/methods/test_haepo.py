"""HAEPO's score from outside: scores, their arguments, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.config import HaepoLossConfig, from_config_dict, traced_settings
from haepo_jax.errors import ConfigError
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
