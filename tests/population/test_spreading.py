"""Members over devices, and the trajectories of one member over several: what the compiler makes of it."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "collective-broadcast",
)


def config(**changes):
    values = {
        "env": "CartPole-v1",
        "num_seeds": 4,
        "num_updates": 4,
        "num_trajectories": 12,
        "horizon": 20,
        "policy": {"hidden_sizes": (6,)},
        "haepo": {"num_epochs": 2, "score": "log_ratio", "kl_coef": 0.01},
    }
    return fixed_config(values | changes)


def compiled(population):
    return population.advance.lower(population.init(), jnp.int32(1)).compile().as_text()


def collectives(text):
    found = re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", text)
    return Counter(found)


@pytest.mark.hlo
@pytest.mark.parametrize("algorithm", ["haepo", pytest.param("ppo", marks=pytest.mark.slow)])
def test_devices_with_members_of_their_own_never_communicate(algorithm):
    population = make_population(config(algorithm=algorithm, num_seeds=16))
    assert population.mesh.size == 8
    assert collectives(compiled(population)) == {}


@pytest.fixture(scope="module")
def spread():
    """Four members on two groups of four devices each."""
    return make_population(config(), devices=some_devices(8), trajectory_devices=4)


@pytest.fixture(scope="module")
def population():
    """Two members at once on each of two devices."""
    return make_population(config(), devices=some_devices(2), members_per_device=2)


class TestSharedTrajectories:
    @pytest.mark.slow
    @pytest.mark.hlo
    def test_trajectories_are_divided_among_the_devices_that_share_them(self, spread):
        assert dict(spread.mesh.shape) == {"members": 2, "trajectories": 4}
        text = compiled(spread)
        # Two members of three trajectories each, wherever a step's observations are.
        assert re.search(r"f32\[2,3,4\]", text) and not re.search(r"f32\[2,12,4\]", text)

    @pytest.mark.hlo
    def test_devices_communicate_only_for_the_softmax_and_the_gradient(self, spread):
        """Neither in the loop that plays the episodes nor in those over the pieces of the gradient."""
        text = compiled(spread)
        assert set(collectives(text)) == {"all-reduce"}
        places = re.findall(r" all-reduce(?:-start)?\(.*op_name=\"([^\"]*)\"", text)
        assert len(places) == collectives(text)["all-reduce"]
        for place in places:
            # Of the update, or of a gradient step within it.
            assert place.count("while/body") == 1 or (place.count("while/body") == 2 and "jvp" in place), place

    @pytest.mark.hlo
    def test_each_gradient_step_adds_one_gradient_up(self, spread):
        """The kernel of the first layer, 4 by 6, of two members crosses devices once."""
        lines = [line for line in compiled(spread).splitlines() if re.search(r" all-reduce(-start)?\(", line)]
        assert sum(re.split(r" all-reduce(?:-start)?\(", line)[0].count("f32[2,4,6]") for line in lines) == 1

    def test_shared_trajectories_give_the_numbers_of_one_device(self, spread):
        alone = make_population(config(), devices=some_devices(2))
        (state, metrics), (expected, expected_metrics) = (
            population.advance(population.init(), jnp.int32(3)) for population in (spread, alone)
        )
        np.testing.assert_array_equal(
            spread.here(metrics["episode_return"], axis=1)[:3],
            alone.here(expected_metrics["episode_return"], axis=1)[:3],
        )
        for left, right in zip(
            jax.tree.leaves(spread.to_host(state).learner),
            jax.tree.leaves(alone.to_host(expected).learner),
            strict=True,
        ):
            np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize(
    ("devices", "sentence"),
    [
        (3, "--trajectory_devices=3 does not divide the 8 devices."),
        (8, "--trajectory_devices=8 does not divide config.num_trajectories 12."),
    ],
)
def test_trajectory_devices_that_do_not_divide_devices_or_trajectories_are_refused(devices, sentence):
    with pytest.raises(ConfigError) as raised:
        make_population(config(num_trajectories=12), devices=some_devices(8), trajectory_devices=devices)
    assert str(raised.value) == sentence


class TestRun:
    """`population.run`: settings x seeds, for a search of one's own."""

    SETTINGS = ({"haepo.kl_coef": 0.0}, {"haepo.kl_coef": 0.5, "optimizer.learning_rate": 1e-2}, {})

    def test_run_gives_every_metric_by_setting_seed_and_update(self, population):
        metrics = population.run(self.SETTINGS, [3, 4])
        assert metrics["episode_return"].shape == metrics["loss"].shape == (3, 2, 4)
        alone = population.run(self.SETTINGS[1:2], [4])
        np.testing.assert_array_equal(alone["loss"][0, 0], metrics["loss"][1, 1])
        assert not np.array_equal(metrics["loss"][0], metrics["loss"][1])

    def test_run_gives_the_trained_parameters_by_setting_and_seed(self, population):
        trained = population.run(self.SETTINGS, [3, 4])
        one = population.with_members([Member(0, 4, dict(self.SETTINGS[1]))])
        state, _ = one.advance(one.init(), jnp.int32(4))
        expected = one.to_host(state).learner.params
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1, 1], b[0]), trained.params, expected)
        assert {leaf.shape[:2] for leaf in jax.tree.leaves(trained.params)} == {(3, 2)}

    def test_run_compiles_once_for_any_settings_and_seeds(self, population):
        population.run(self.SETTINGS, [0])
        compiled = population.advance._cache_size()
        population.run(self.SETTINGS[:1], [1, 2, 3, 4, 5])
        assert population.advance._cache_size() == compiled

    def test_run_refuses_a_setting_that_is_not_traced(self, population):
        with pytest.raises(ConfigError, match=r"haepo.score cannot be set within one program; allowed: "):
            population.run([{"haepo.score": 1.0}], [0])
