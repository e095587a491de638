"""Components of a program in the place of those that a config names."""

import re
import sys

import jax
import numpy as np
import optax
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import with_components
from haepo_jax.environments import make
from haepo_jax.environments.random_walk import RandomWalk
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member
from haepo_jax.runs.experiment import run


def config_with(**changes):
    small = {"num_updates": 2, "num_trajectories": 4, "horizon": 10, "policy": {"hidden_sizes": (8,)}, "num_seeds": 1}
    return fixed_config(small | changes)


def power(step, num_steps, *, exponent):
    return (1 - step / num_steps) ** exponent


class Corridor(RandomWalk):
    """A random walk from outside."""


@pytest.fixture
def populations(monkeypatch):
    """One of components that its config names, and one of the same, given as objects."""
    monkeypatch.setitem(sys.modules, "my_project", sys.modules[__name__])
    settings = {"schedule_params": {"exponent": 2}, "transform_params": {"b1": 0.7}}
    by_name = {"transform": "optax:scale_by_lion", "schedule": "my_project:power"}
    named = config_with(env="my_project:Corridor", env_params={"length": 5}, optimizer=settings | by_name)
    rest = config_with(env_params={"length": 5}, optimizer=settings)
    given = {"environment": Corridor, "transform": optax.scale_by_lion, "schedule": power}
    return [make_population(named), make_population(rest, **given)]


def test_components_make_the_program_that_those_make_which_a_config_names(populations):
    named, given = populations
    assert named.fingerprint() == given.fingerprint() != make_population(config_with()).fingerprint()


@pytest.mark.slow
def test_components_give_the_numbers_of_those_that_a_config_names_and_may_be_swept(populations):
    settings = [{"optimizer.schedule_params.exponent": exponent} for exponent in (1, 3)]
    named, given = (population.run(settings, [0]) for population in populations)
    np.testing.assert_array_equal(named["loss"], given["loss"])
    assert (named["grad_norm"][0] != named["grad_norm"][1]).any()


def test_a_transform_with_a_key_in_its_state_is_saved_and_restored():
    noisy = {"transform": "optax:add_noise", "transform_kwargs": {"eta": 0.1, "gamma": 0.5, "key": 0}}
    population = make_population(config_with(env="RandomWalk-haepo", algorithm="reinforce", optimizer=noisy))
    saved = population.to_host(population.init())
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype != object for leaf in jax.tree.leaves(saved))
    restored = population.from_host(saved)
    assert jax.tree.map(lambda leaf: leaf.dtype, restored) == jax.tree.map(lambda leaf: leaf.dtype, population.init())
    jax.tree.map(np.testing.assert_array_equal, population.to_host(restored), saved)
    population.advance(restored, np.int32(1))


def test_an_environment_may_be_given_ready_made():
    for environment in (make("RandomWalk-haepo"), Corridor()):
        functions = make_member(config_with(env_params={"length": 5}), environment=environment)
        assert functions.environment.params == make("RandomWalk-haepo").params


@pytest.mark.parametrize(
    ("components", "sentence"),
    [
        ({"optimiser": power}, "optimiser is no component; allowed: "),
        ({"transform": 3}, "transform must be a component or its name, got 3."),
        ({"transform": "no_such:x"}, "config.optimizer.transform no_such:x cannot be imported: there is no module no"),
    ],
)
def test_components_that_cannot_be_used_are_refused(components, sentence):
    def first_state():
        return make_member(config_with(), **components).init(jax.random.key(0), {})

    with pytest.raises(ConfigError, match=re.escape(sentence)):
        jax.eval_shape(first_state)


def test_components_are_refused_by_a_run_which_must_name_them(tmp_path):
    of_no_module = "give it a name in a module of its own, and write package.module:attribute"
    for transform, sentence in (
        (optax.scale_by_lion, "config.optimizer.transform must be text, as config.json holds it, got <function"),
        (lambda b1=0.5: optax.scale_by_lion(b1), of_no_module),
    ):
        config = with_components(config_with(), {"transform": transform})
        with pytest.raises(ConfigError, match=sentence):
            run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
