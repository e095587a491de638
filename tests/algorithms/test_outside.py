"""What a method from outside is held to while its update is traced."""

import jax
import pytest
from helpers.settings import fixed_config

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import with_settings
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError

WHERE = "helpers.own_methods"


def traced_update(name, env="CartPole-v1", **settings):
    """Traces an update, and compiles nothing."""
    config = fixed_config(
        {
            "env": env,
            "algorithm": f"{WHERE}:{name}",
            "num_trajectories": 2,
            "horizon": 4,
            "policy": {"hidden_sizes": ()},
        }
        | settings
    )
    algorithm, traced = make_algorithm(config, make(env)), with_settings(config, {})

    def update(key):
        learner = algorithm.init(traced, key)
        return algorithm.learn(traced, learner, algorithm.collect(traced, learner, key), 0, key)

    return jax.eval_shape(update, jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ONE_LOSS_EACH", r"gives float32\[2\]; it must give one real number as its loss."),
        ("FAILS", "fails at line .*own_methods.py: TypeError: "),
        ("NO_METRICS", r"gives .*; it must give \(loss, metrics by name\)."),
        ("OTHER_METRICS", "gives the metrics a, and its record names b; make them the same."),
        ("TAKEN", "has a metric 'episode_return', which is what a run itself reports under that name"),
        ("OF_A_SETTING", "has a metric 'haepo.kl_coef', which is what a run itself reports under that name"),
        ("NO_TEXT", "has a measure .*, which cannot be written as UTF-8; give it another name."),
        ("OF_THE_WALK", "has a metric 'success', which is what RandomWalk-haepo reports under that name"),
    ],
)
def test_a_slip_is_one_sentence_that_names_the_method(name, sentence):
    with pytest.raises(ConfigError, match=f"^config.algorithm {WHERE}:{name} {sentence}"):
        traced_update(name, env="RandomWalk-haepo")


def test_a_method_that_sees_segments_has_a_critic_and_continuing_environments():
    learner, metrics = traced_update("CRITIC")
    assert set(learner.params) == {"policy", "value"} and learner.environments is not None
    assert set(metrics) == {"loss", "grad_norm", "policy_loss"}


def test_a_metric_that_is_only_of_another_environment_is_free():
    with pytest.raises(ConfigError, match="gives the metrics none, and its record names success"):
        traced_update("OF_THE_WALK")


@pytest.mark.parametrize(
    ("name", "memory", "missed"),
    [
        ("PLAIN", "remat", "`valid` of its Group"),
        ("PLAIN", "recompute", "`valid` of its Group"),
        ("ON_STEPS", "remat", "`packed` of its StepGroup"),
    ],
)
def test_a_method_that_does_not_know_which_episodes_there_are_cannot_have_its_batch_counted_in_steps(
    name, memory, missed
):
    traced_update(name)
    with pytest.raises(ConfigError, match=f"^config.algorithm {WHERE}:{name} does not look at {missed}, which says"):
        traced_update(name, memory=memory, min_batch_steps=9)


def test_a_method_that_looks_where_episodes_are_may_have_its_batch_counted_in_steps():
    traced_update("ON_VALID_STEPS", min_batch_steps=9)
