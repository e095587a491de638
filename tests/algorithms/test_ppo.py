"""PPO: advantages, minibatches and settings in one update, and environments that continue from update to update."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import approx, assert_close
from helpers.updates import arrays_of, assert_identical, by_hand, distance, shifted

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import traced_settings, with_settings
from haepo_jax.environments import make
from haepo_jax.methods import ppo
from haepo_jax.population.member import make_member, total_steps

N, S, HORIZON = 4, 16, 8
ENVIRONMENT = make("CartPole-v1")


def config_with(*, discount=0.9, optimizer=None, num_updates=5, **settings):
    """CartPole with strong pushes: episodes of a segment end by themselves and at the horizon."""
    return fixed_config(
        {
            "env_params": {"force_mag": 40.0},
            "algorithm": "ppo",
            "num_updates": num_updates,
            "num_trajectories": N,
            "horizon": HORIZON,
            "discount": discount,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.01} | (optimizer or {}),
            "ppo": {"num_steps": S, "num_epochs": 1, "num_minibatches": 1} | settings,
        }
    )


ALGORITHM = make_algorithm(config_with(), ENVIRONMENT)


@functools.cache
def started():
    """A learner whose value function has something to say, and the first segment that its policy plays."""
    config = config_with()
    learner = jax.jit(lambda key: ALGORITHM.init(config, key))(jax.random.key(0))
    learner = dataclasses.replace(learner, params=shifted(learner.params, 0.2))
    segment = jax.jit(lambda learner, key: ALGORITHM.collect(config, learner, key))(learner, jax.random.key(1))
    # Behaviour some way off, so that ratios and clips act.
    return learner, segment._replace(log_probs=segment.log_probs + 0.3 * jnp.sin(jnp.arange(N * S)).reshape(N, S))


PROGRAMS = {}


def learn(config, segment=None, key=0, learner=None):
    """One update. Configs that differ in traced settings alone share one compiled program."""
    settings = arrays_of(traced_settings(config))
    name = str(with_settings(config, dict.fromkeys(settings, "traced")))
    if name not in PROGRAMS:

        def traced(settings, *inputs):
            changed = with_settings(config, settings)
            return make_algorithm(config, ENVIRONMENT).learn(changed, *inputs)

        PROGRAMS[name] = jax.jit(traced)
    learner = started()[0] if learner is None else learner
    segment = started()[1] if segment is None else segment
    return PROGRAMS[name](settings, learner, segment, jnp.int32(0), jax.random.key(key))


def value(params, observations):
    return value_network(params["value"], observations)


@jax.jit
def value_network(params, observations):
    hidden, last = params["Dense_0"], params["Dense_1"]
    return (jnp.tanh(observations @ hidden["kernel"] + hidden["bias"]) @ last["kernel"] + last["bias"])[..., 0]


def advantages_by_hand(segment, values, next_values, discount, gae_lambda):
    """GAE step by step, from the back; an episode that terminated is worth nothing after, one that was cut is."""
    advantages = np.zeros((N, S))
    for n in range(N):
        later = 0.0
        for t in reversed(range(S)):
            rest = 0.0 if segment.terminated[n, t] else next_values[n, t]
            if segment.done[n, t]:
                later = 0.0
            later = segment.rewards[n, t] + discount * rest - values[n, t] + discount * gae_lambda * later
            advantages[n, t] = later
    return advantages


def samples_by_hand(config, params, segment):
    """The steps in one row: observations, actions, log-probabilities, values, advantages, targets."""
    host = jax.device_get(segment)
    values = np.asarray(value(params, host.observations))
    next_values = np.asarray(value(params, host.next_observations))
    advantages = advantages_by_hand(host, values, next_values, config.discount, config.ppo.gae_lambda)
    steps = (host.observations, host.actions, host.log_probs, values, advantages, advantages + values)
    rows = [np.reshape(leaf, (N * S, *leaf.shape[2:])) for leaf in steps]
    return [jnp.asarray(leaf, leaf.dtype if leaf.dtype != np.float64 else jnp.float32) for leaf in rows]


def loss_by_hand(config):
    """PPO's loss of a minibatch from its definition."""
    settings = config.ppo
    low, high = 1 - settings.clip_epsilon, 1 + settings.clip_epsilon

    def loss(params, observations, actions, log_probs, values, advantages, targets):
        scaled = (advantages - advantages.mean()) / advantages.std()
        distribution = ALGORITHM.policy.apply(params, observations)
        ratio = jnp.exp(distribution.log_prob(actions) - log_probs)
        policy_loss = -jnp.minimum(ratio * scaled, jnp.clip(ratio, low, high) * scaled).mean()
        now = value(params, observations)
        bound = np.inf if settings.value_clip_epsilon is None else settings.value_clip_epsilon
        near = values + jnp.clip(now - values, -bound, bound)
        value_loss = 0.5 * jnp.maximum((now - targets) ** 2, (near - targets) ** 2).mean()
        return policy_loss + settings.value_coef * value_loss - settings.entropy_coef * distribution.entropy().mean()

    return loss


def recorded_minibatches(config, monkeypatch, key=0):
    """The steps of each gradient step in turn, as `[steps, minibatch]` indices, and the result of the update."""
    known = np.asarray(samples_by_hand(config, started()[0].params, started()[1])[3])
    assert np.diff(np.sort(known)).min() > 1e-6  # a step is known by its value
    seen, original = [], ppo.clipped_value_loss

    def recording(values, behaviour_values, targets, **options):
        jax.debug.callback(lambda rows: seen.append(np.asarray(rows)), behaviour_values, ordered=True)
        return original(values, behaviour_values, targets, **options)

    monkeypatch.setattr(ppo, "clipped_value_loss", recording)
    algorithm, (learner, segment) = make_algorithm(config, ENVIRONMENT), started()
    result = jax.jit(lambda key: algorithm.learn(config, learner, segment, jnp.int32(0), key))(jax.random.key(key))
    jax.block_until_ready(result)
    jax.effects_barrier()
    return np.array([[np.abs(known - row).argmin() for row in rows] for rows in seen]), result


class TestSegment:
    def test_the_segment_holds_episodes_of_every_end(self):
        segment = jax.device_get(started()[1])
        cut = segment.done & ~segment.terminated
        assert segment.terminated.sum() > 1 and cut.sum() > 1
        assert not segment.done[:, -1].all()


class TestAgainstTheLossByHand:
    @pytest.mark.parametrize(
        "settings",
        [
            {"num_epochs": 3, "gae_lambda": 0.7, "value_coef": 2.0, "entropy_coef": 0.3},
            pytest.param({"gae_lambda": 0.0, "clip_epsilon": 0.05, "discount": 1.0}, marks=pytest.mark.slow),
            pytest.param({"gae_lambda": 1.0, "optimizer": {"max_grad_norm": 100.0}}, marks=pytest.mark.slow),
            {"num_epochs": 3, "value_clip_epsilon": 0.01},
        ],
        ids=str,
    )
    def test_an_update_on_the_whole_segment_equals_the_composition(self, settings):
        config, (learner, segment) = config_with(**settings), started()
        samples = samples_by_hand(config, learner.params, segment)
        expected, history = by_hand(config, learner.params, loss_by_hand(config), [samples] * config.ppo.num_epochs)
        after, metrics = learn(config)
        assert_close(after.params, expected)
        assert_close({name: metrics[name] for name in history[-1]}, history[-1], rtol=1e-3)

    def test_an_update_in_minibatches_equals_the_composition(self, monkeypatch):
        """Advantages and targets are from before the update, and normalised in each minibatch."""
        config = config_with(num_epochs=2, num_minibatches=4)
        minibatches, (after, metrics) = recorded_minibatches(config, monkeypatch)
        samples = samples_by_hand(config, started()[0].params, started()[1])
        inputs = [[leaf[rows] for leaf in samples] for rows in minibatches]
        expected, history = by_hand(config, started()[0].params, loss_by_hand(config), inputs)
        assert_close(after.params, expected)
        assert metrics["loss"] == approx(np.mean([step["loss"] for step in history[-4:]]), rel=1e-3)

    def test_the_loss_of_the_whole_batch_is_that_of_one_minibatch(self):
        config, (learner, segment) = config_with(), started()
        loss, metrics = jax.jit(lambda learner, segment: ALGORITHM.loss(config, learner, segment)(learner.params))(
            learner, segment
        )
        _, learned = learn(config)
        assert loss == approx(float(learned["loss"]), rel=1e-5)
        assert_close(metrics, {name: learned[name] for name in metrics})


class TestValueClip:
    def test_values_are_unclipped_by_default(self):
        assert config_with().ppo.value_clip_epsilon is None

    def test_values_move_as_far_as_they_must_whatever_bounds_the_ratio(self):
        """Targets far away, as where returns are in the hundreds: a bound of 0.2 holds every value that has moved."""
        learner, segment = started()
        far = segment._replace(rewards=segment.rewards - 50.0)
        before, moved = value(learner.params, segment.observations), {}
        for bound in (None, 0.2):
            config = config_with(num_epochs=60, clip_epsilon=0.2, value_clip_epsilon=bound)
            after, _ = learn(config, far)
            moved[bound] = float(jnp.abs(value(after.params, segment.observations) - before).mean())
        assert moved[0.2] < 1 < 3 * moved[0.2] < moved[None]

    def test_value_clip_is_swept_in_one_program_even_if_unset_in_the_config(self):
        config = fixed_config(
            {"algorithm": "ppo", "sweep": {"ppo": {"value_clip_epsilon": (0.1, 0.3)}}},
        )
        assert config.ppo.value_clip_epsilon is None
        assert traced_settings(config)["ppo.value_clip_epsilon"] == 0.1
        assert "ppo.value_clip_epsilon" not in traced_settings(fixed_config({"algorithm": "ppo"}))


class TestEnds:
    """What the value of the last observation counts for."""

    @staticmethod
    def gradient_norm(**changes):
        segment = started()[1]
        return float(learn(config_with(gae_lambda=0.5), segment._replace(**changes))[1]["grad_norm"])

    def test_the_observation_after_an_end_counts_after_a_cut_and_not_after_a_termination(self):
        segment = jax.device_get(started()[1])
        other = np.array(segment.next_observations)
        other[segment.terminated] += 10.0
        assert self.gradient_norm(next_observations=other) == pytest.approx(self.gradient_norm(), rel=1e-6)
        cut = segment.done & ~segment.terminated
        other[cut] += 10.0
        assert self.gradient_norm(next_observations=other) != pytest.approx(self.gradient_norm(), rel=1e-2)

    def test_a_cut_is_no_termination(self):
        assert self.gradient_norm(terminated=started()[1].done) != pytest.approx(self.gradient_norm(), rel=1e-2)


class TestMinibatches:
    @pytest.mark.parametrize(("num_epochs", "num_minibatches"), [(1, 4), (3, 8), (2, 1)])
    def test_minibatches_cover_every_step_once_an_epoch(self, monkeypatch, num_epochs, num_minibatches):
        config = config_with(num_epochs=num_epochs, num_minibatches=num_minibatches)
        minibatches, _ = recorded_minibatches(config, monkeypatch)
        assert minibatches.shape == (num_epochs * num_minibatches, N * S // num_minibatches)
        epochs = minibatches.reshape(num_epochs, N * S)
        np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(N * S), (num_epochs, 1)))
        assert len({tuple(epoch) for epoch in epochs}) == num_epochs  # each in an order of its own
        assert not (epochs == np.arange(N * S)).all(axis=1).any()

    def test_minibatches_are_shuffled_by_the_key(self):
        config = config_with(num_minibatches=4)
        first, same, other = (learn(config, key=key)[0].params for key in (0, 0, 1))
        assert_identical(first, same)
        assert distance(first, other) > 1e-4

    def test_a_minibatch_of_the_whole_segment_depends_on_the_key_by_rounding_alone(self):
        first, other = (learn(config_with(), key=key)[0].params for key in (0, 1))
        assert_close(first, other)


class TestMetrics:
    def test_metrics_are_means_over_the_last_epoch(self):
        """With a step that moves nothing every epoch is alike, and a mean over minibatches is one over steps."""
        still = {"learning_rate": 1e-30}
        _, whole = learn(config_with(optimizer=still))
        _, parts = learn(config_with(optimizer=still, num_epochs=2, num_minibatches=4))
        for name in ("value_loss", "approx_kl"):
            assert parts[name] == approx(float(whole[name]), rel=1e-4)
            assert whole[name] > 1e-3
        assert 0 < whole["clip_fraction"] < 1


class TestSettings:
    @pytest.mark.parametrize("changes", [{"num_epochs": 2}, {"num_minibatches": 4}], ids=str)
    def test_numbers_of_optimizer_steps_change_the_update(self, changes):
        assert distance(learn(config_with())[0].params, learn(config_with(**changes))[0].params) > 1e-3

    def test_value_coef_of_0_leaves_the_value_function_and_entropy_alone_moves_the_policy(self):
        start = started()[0].params
        after, _ = learn(config_with(value_coef=0.0))
        assert distance(after.params["value"], start["value"]) == 0 < distance(after.params["policy"], start["policy"])

    def test_entropy_coef_widens_the_policy(self):
        observations = started()[1].observations
        entropies = {}
        for entropy_coef in (0.0, 10.0):
            after, _ = learn(config_with(entropy_coef=entropy_coef))
            entropies[entropy_coef] = float(ALGORITHM.policy.apply(after.params, observations).entropy().mean())
        assert entropies[10.0] > entropies[0.0] + 1e-3

    def test_the_schedule_ends_with_the_last_minibatch_of_the_last_update(self):
        config = config_with(num_epochs=2, num_minibatches=2, optimizer={"schedule": "linear"}, num_updates=2)
        learner, steps = started()[0], []
        for _ in range(3):
            after, _ = learn(config, learner=learner)
            steps.append(distance(after.params, learner.params))
            learner = after
        assert steps[0] > steps[1] > 1e-3
        assert steps[2] < 1e-6 * steps[0]


class Trained:
    """A member that trains, compiled."""

    def __init__(self, config):
        self.functions = make_member(config)
        settings = arrays_of(traced_settings(config))
        self.start = jax.jit(lambda key: self.functions.init(key, settings))(jax.random.key(0))
        self.collect, self.learn = jax.jit(self.functions.collect), jax.jit(self.functions.learn)


class TestEnvironments:
    def test_environments_continue_from_update_to_update(self):
        config = dataclasses.replace(config_with(num_minibatches=2), horizon=None, env_params={})
        member = Trained(config)
        state, segments, history = member.start, [], []
        for _ in range(4):
            batch = member.collect(state)
            state, metrics = member.learn(state, batch)
            assert_identical(state.learner.environments, batch.running)
            segments.append(jax.device_get(batch))
            history.append(metrics)
        for before, after in itertools.pairwise(segments):
            np.testing.assert_array_equal(before.running.observation, after.observations[:, 0])
            continues = ~before.done[:, -1]
            assert continues.any()
            np.testing.assert_array_equal(after.observations[continues, 0], before.next_observations[continues, -1])
        done = np.concatenate([segment.done for segment in segments], axis=1)
        rewards = np.concatenate([segment.rewards for segment in segments], axis=1)
        newest = []
        for ends, row in zip(done, rewards, strict=True):
            borders = [-1, *np.flatnonzero(ends)]
            newest += [row[borders[-2] + 1 : borders[-1] + 1].sum()] if len(borders) > 1 else []
        assert max(newest) > S  # longer than a segment: it was not begun anew in between
        assert history[-1]["episode_return"] == pytest.approx(np.mean(newest))
        assert history[-1]["env_steps"] == N * S
        assert total_steps(np.asarray(state.env_steps)) == 4 * N * S

    def test_environments_begin_once_with_the_seed(self):
        config = config_with()
        learners = [ALGORITHM.init(config, jax.random.key(seed)) for seed in (0, 0, 1)]
        first, same, other = (learner.environments.observation for learner in learners)
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)
        assert np.unique(np.asarray(first), axis=0).shape[0] == N
        assert learners[0].reference is None


def test_a_short_walk_is_learned():
    """From 28 steps on average to the six that are needed; the reward comes at the end alone."""
    config = fixed_config(
        {
            "env": "RandomWalk-haepo",
            "env_params": {"length": 6},
            "algorithm": "ppo",
            "num_updates": 40,
            "num_trajectories": 8,
            "horizon": 40,
            "discount": 0.9,
            "policy": {"hidden_sizes": (8,)},
            "optimizer": {"learning_rate": 0.02},
            "ppo": {"num_steps": 32},
        }
    )
    member = Trained(config)

    def update(state, _):
        return member.functions.learn(state, member.functions.collect(state))

    state, metrics = jax.jit(lambda state: jax.lax.scan(update, state, length=40))(member.start)
    assert not state.diverged
    assert metrics["episode_length"][:2].mean() > 15
    assert metrics["success"][-5:].mean() > 0.99
    assert metrics["episode_length"][-5:].mean() < 7
    assert metrics["value_loss"][-5:].mean() < 0.5 * metrics["value_loss"][:5].mean()
