"""Policies of other members in the pool: who visits whom, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.run_folders import TINY
from helpers.settings import fixed_config

from haepo_jax.population import make_population
from haepo_jax.population.visitors import choose_visitors


def test_each_member_is_visited_by_another_one_of_its_population_evenly():
    population = jnp.array([1, 0, 1, 0, 1, -1, 2])
    draws = jax.random.bits(jax.random.key(0), (3000, 7), jnp.uint32)
    chosen = np.asarray(jax.vmap(choose_visitors, (None, 0))(population, draws))
    for row, others in enumerate([[2, 4], [3], [0, 4], [1], [0, 2], [5], [6]]):  # padding and one alone: its own
        numbers, counts = np.unique(chosen[:, row], return_counts=True)
        assert numbers.tolist() == others
        np.testing.assert_allclose(counts / 3000, 1 / len(others), atol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_pool_holds_policies_of_other_members_as_they_were(num_devices):
    pbt = {"every": 2, "fraction": 0.0, "perturb": {"optimizer.learning_rate": (1e-4, 1e-1)}}
    settings = {"opponents": "pool", "pool_size": 4, "snapshot_every": 1, "snapshots": "population"}
    config = TINY | {"env": "TicTacToe-haepo", "num_seeds": 4, "num_updates": 3, "pbt": pbt, "self_play": settings}
    population = make_population(fixed_config(config), devices=some_devices(num_devices))
    state, policies = population.init(), []
    for _ in range(3):
        state, _ = population.advance(state, np.int32(1))
        policies.append(population.to_host(state).learner.params)
    pool = population.to_host(state).opponents
    assert pool.update.tolist() == [[0, 1, 2, 3]] * 4
    for update in (1, 2, 3):
        for member in range(4):
            same = [
                other
                for other in range(4)
                if all(
                    np.array_equal(kept[member, update], was[other])
                    for kept, was in zip(
                        jax.tree.leaves(pool.params), jax.tree.leaves(policies[update - 1]), strict=True
                    )
                )
            ]
            assert len(same) == 1 and same != [member]
