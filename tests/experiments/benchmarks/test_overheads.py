"""That the right things are compared; how long they take is for the command."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from experiments.benchmarks import overheads
from haepo_jax.config.sweep import of_experiment
from haepo_jax.population.member import make_member

CONFIG = fixed_config(
    {
        "env": "Catch-bsuite",
        "num_seeds": 2,
        "num_updates": 3,
        "num_trajectories": 2,
        "policy": {"hidden_sizes": (4,)},
    }
)


def names(rows):
    return [row["what"] for row in rows]


@pytest.mark.slow
def test_without_the_guard_a_finite_member_learns_the_same():
    functions = make_member(CONFIG)
    state = functions.init(jax.random.key(0), {})
    batch = functions.collect(state)
    left, right = functions.learn(state, batch), functions.learn_unguarded(state, batch)
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_without_the_guard_a_member_is_lost():
    functions = make_member(CONFIG)
    state = functions.init(jax.random.key(0), {"optimizer.learning_rate": jnp.float32(jnp.nan)})
    batch = functions.collect(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(functions.learn(state, batch)[0].learner.params))
    params = functions.learn_unguarded(state, batch)[0].learner.params
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_each_part_compares_the_programs_that_it_names(tmp_path):
    guard = overheads.measure_guard(CONFIG, repeats=1)
    assert names(guard) == ["without the divergence guard", "with it"]
    assert guard[1]["ratio"] == pytest.approx(guard[1]["seconds"] / guard[0]["seconds"])
    evaluation = overheads.measure_evaluation(dataclasses.replace(CONFIG, num_updates=10), repeats=1)
    assert names(evaluation) == ["without evaluation", "every 10 updates", "every update"]
    twice = dataclasses.replace(CONFIG, haepo=dataclasses.replace(CONFIG.haepo, num_epochs=2))
    adapting = overheads.measure_adapting(twice, repeats=1)
    assert names(adapting) == ["fixed", "ess", "dual", "meta"]
    networks = overheads.measure_networks(CONFIG, repeats=1)
    assert names(networks) == ["mlp", "gru", "lstm"]
    one_call, run = overheads.measure_run(CONFIG, repeats=1)
    assert one_call["ratio"] == 1 and 0 < run["share_of_checkpoints"] < 1
    few, many = overheads.measure_checkpoints(of_experiment(dataclasses.replace(CONFIG, num_updates=40)), repeats=1)
    assert many["seconds_each"] == pytest.approx((many["seconds"] - few["seconds"]) / many["more_checkpoints"])
    compiling = overheads.measure_compiling(CONFIG, repeats=1)
    assert names(compiling) == ["compile", "read from the cache", "trace, in both cases"]
    scale_out = overheads.measure_scale_out(CONFIG, members_per_device=2, repeats=1)
    assert names(scale_out) == ["1 device", "2 devices", "4 devices", "8 devices"]
    assert [row["members"] for row in scale_out] == [2, 4, 8, 16]
