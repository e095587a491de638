"""Methods of segments whose networks remember: what they replay is what was played, in rows that stay whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose
from helpers.updates import arrays_of, distance, shifted

from haepo_jax.config import PolicyConfig, traced_settings, with_settings
from haepo_jax.errors import ConfigError
from haepo_jax.networks import make_torso, make_value
from haepo_jax.population.member import make_member

N, S = 4, 16
GRU = {"network": "gru", "hidden_sizes": (6, 5)}


def config_of(algorithm="ppo", **own):
    """CartPole with strong pushes: episodes of a segment end by themselves and at the horizon."""
    small = {"num_steps": S, "num_epochs": 1, "num_minibatches": 1}
    settings = {"env_params": {"force_mag": 40.0}, "num_trajectories": N, "horizon": 8, "policy": GRU}
    return fixed_config(settings | {"algorithm": algorithm, "num_updates": 5, algorithm: small | own})


@functools.cache
def two_segments(*given, **own):
    """A run, its learner before the first segment and after it, and both segments."""
    config = config_of(*given, **own)
    run = make_member(config)

    @jax.jit
    def play(settings):
        state = run.init(jax.random.key(0), settings)
        state = dataclasses.replace(
            state, learner=dataclasses.replace(state.learner, params=shifted(state.learner.params, 0.3))
        )
        first, before = run.collect(state), state.learner
        state, _ = run.learn(state, first)
        return before, first, state.learner, run.collect(state)

    return config, run, *play(arrays_of(traced_settings(config)))


def metrics_of(config, run, learner, segment):
    """The metrics of the loss of a segment at the parameters that played it."""

    def metrics(settings, learner, segment):
        return run.algorithm.loss(with_settings(config, settings), learner, segment)(learner.params)[1]

    return jax.jit(metrics)(arrays_of(traced_settings(config)), learner, segment)


@pytest.mark.slow
def test_a_segment_is_replayed_from_the_memory_that_the_one_before_left():
    config, run, _, _, learner, second = two_segments()
    assert second.done.any() and not second.done[:, -1].all()
    assert metrics_of(config, run, learner, second)["approx_kl"] == pytest.approx(0, abs=1e-6)
    moved = dataclasses.replace(learner.environments, carry=learner.environments.carry + 1)
    assert metrics_of(config, run, dataclasses.replace(learner, environments=moved), second)["approx_kl"] > 1e-5


@pytest.mark.slow
def test_what_the_critic_remembers_passes_from_segment_to_segment():
    _, _, before, first, learner, _ = two_segments()
    critic = make_value((4,), make_torso=make_torso(PolicyConfig(**GRU), (4,)))
    ends = jnp.pad(first.done[:, :-1], ((0, 0), (1, 0)))
    carry, _ = critic.unroll(before.params["value"], critic.start(N), first.observations, ends)
    expected = np.where(first.done[:, -1:], 0, carry)
    assert_allclose(learner.environments.value_carry, expected, rtol=1e-5, atol=1e-6)
    assert first.done[:, -1].any() and not first.done[:, -1].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        {"bootstrap": "value", "num_minibatches": 2},
        {"group_by": "time", "num_minibatches": 2},
        {"segments_from": "episodes", "num_minibatches": 2},
    ],
    ids=str,
)
def test_segments_that_compete_are_replayed_as_they_were_played(own):
    config, run, before, _, learner, second = two_segments("haepo", segment_length=2, **own)
    metrics = metrics_of(config, run, learner, second)
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert all(np.isfinite(value) for value in metrics.values())
    assert distance(before.params, learner.params) > 1e-4


@pytest.mark.parametrize(
    ("algorithm", "own", "sentence"),
    [
        ("ppo", {"num_minibatches": 8}, "config.ppo.num_minibatches 8 must divide num_trajectories 4."),
        (
            "haepo",
            {"segment_length": 2, "group_by": "time", "num_minibatches": 4},
            "leaves one to each, whose segments of a time have none to compete with; it may be at most 2.",
        ),
    ],
)
def test_minibatches_that_would_cut_a_row_are_refused(algorithm, own, sentence):
    with pytest.raises(ConfigError) as raised:
        make_member(config_of(algorithm, **own))
    assert "config.policy.network gru remembers, so that each minibatch holds whole environments" in str(raised.value)
    assert str(raised.value).endswith(sentence)
