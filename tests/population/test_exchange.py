import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.run_folders import TINY
from helpers.settings import fixed_config
from jax.sharding import Mesh, PartitionSpec

from haepo_jax.config.members import make_members
from haepo_jax.errors import ConfigError
from haepo_jax.parallel import MEMBERS
from haepo_jax.population import make_population
from haepo_jax.population.exchange import change_settings, choose_parents, fetch_rows

RATE = "optimizer.learning_rate"
BOUNDS = (1e-4, 1e-1)
PBT = {"every": 3, "populations": 2, "fraction": 0.25, "perturb": {RATE: BOUNDS}}


CHOOSE = jax.jit(choose_parents, static_argnames="fraction")
ROWS = 24
"""Of all its calls, which so share their programs."""


def config(**changes):
    return fixed_config(TINY | {"num_seeds": 8, "num_updates": 8, "pbt": PBT} | changes)


def chosen_by_numpy(score, diverged, could_learn, population, bits, fraction):
    """The same choice, one population after the other in plain Python."""
    parents = np.arange(len(score))
    for number in sorted({*population} - {-1}):
        own = np.flatnonzero(population == number)
        if not (could_learn & ~diverged)[own].any():
            continue
        known = [k for k in own if np.isfinite(score[k]) and not diverged[k]]
        known.sort(key=lambda k: (-score[k], k))
        share = max(1, int(fraction * len(own) + 1e-4))
        worst = min(share, len(known) // 2)
        best = known[: max(1, worst)]
        for k in own:
            parent = best[int(bits[k]) % len(best)] if best else k
            is_worst = worst and k in known[-worst:] and score[k] < score[parent]
            if could_learn[k] and (diverged[k] or is_worst):
                parents[k] = parent
    return parents


def test_the_worst_copy_the_best_as_a_plain_reference_says():
    rng, met = np.random.default_rng(0), 0
    for case in range(60):
        population = np.sort(rng.integers(0, 3, 24))
        population[22:] = -1  # padding
        score = rng.integers(0, 9, 24).astype(np.float32)  # some tie
        score[rng.random(24) < 0.15] = np.nan
        diverged, could_learn = rng.random(24) < 0.15, rng.random(24) < (1.0 if case % 3 else 0.7)
        bits = rng.integers(0, 2**32, 24, dtype=np.uint32)
        fraction = (0.1, 0.25, 0.5)[case % 3]
        arguments = score, diverged, could_learn, population.astype(np.int32), bits
        _, parents = CHOOSE(*arguments, fraction=fraction)
        np.testing.assert_array_equal(parents, chosen_by_numpy(*arguments, fraction))
        met += int((parents != np.arange(24)).sum())
    assert met > 100


def choose_of_four(score, diverged, could_learn, fraction=0.25):
    """The choice in one population of four, as which of them each copies."""
    padded = [np.resize(np.asarray(values), ROWS) for values in (score, diverged, could_learn)]
    population = np.where(np.arange(ROWS) < 4, 0, -1).astype(np.int32)
    score, *flags = padded
    is_open, parents = CHOOSE(
        score.astype(np.float32), *flags, population, np.zeros(ROWS, np.uint32), fraction=fraction
    )
    assert parents[4:].tolist() == list(range(4, ROWS))
    return is_open[:4].any(), parents[:4].tolist()


def test_of_a_population_in_which_nobody_runs_any_more_nobody_copies_and_of_one_without_scores_neither():
    score, half = [0.0, 1.0, 2.0, 3.0], [True, True, False, False]
    assert choose_of_four(score, half, half) == (False, [0, 1, 2, 3])
    assert choose_of_four([np.nan] * 4, [False] * 4, [True] * 4) == (True, [0, 1, 2, 3])
    assert choose_of_four(score, half, [True] * 4) == (True, [3, 3, 3, 3])
    assert choose_of_four([5.0] * 4, [False] * 4, [True] * 4) == (True, [0, 1, 2, 3])  # none is larger


def test_rows_are_copied_bit_for_bit_between_devices():
    devices = some_devices(8)
    count = len(devices)
    rows = 3 * count
    rng = np.random.default_rng(0)
    tree = {
        "float": jnp.asarray(rng.normal(size=(rows, 2)), jnp.float32).at[::2, 0].set(-0.0).at[1::4, 1].set(jnp.nan),
        "half": jnp.asarray(rng.normal(size=rows), jnp.bfloat16),
        "whole": jnp.asarray(rng.integers(-9, 9, rows), jnp.int32),
        "flag": jnp.asarray(rng.random(rows) < 0.5),
        "key": jax.random.split(jax.random.key(0), rows),
    }
    parents = np.arange(rows)
    children = rng.permutation(rows)[: rows // 2]
    parents[children] = rng.choice(np.setdiff1d(np.arange(rows), children), rows // 2)

    def move(tree, parents):
        first = jax.lax.axis_index(MEMBERS) * 3
        return fetch_rows(tree, parents, first, num_devices=count)

    mesh = Mesh(np.array(devices), (MEMBERS,))
    specs = (PartitionSpec(MEMBERS), PartitionSpec())
    moved = jax.jit(jax.shard_map(move, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False))(
        tree, jnp.asarray(parents)
    )
    for name, leaf in tree.items():
        before, after = (jax.random.key_data(x) if name == "key" else x for x in (leaf, moved[name]))
        assert np.asarray(after).tobytes() == np.asarray(before)[parents].tobytes(), name


def test_settings_change_by_the_factor_within_their_bounds_and_whole_numbers_by_one_at_least():
    own = config(
        haepo={"reference": "periodic"},
        pbt=PBT | {"perturb": {RATE: BOUNDS, "haepo.reference_period": (1, 9)}, "factor": 2.0},
    )
    keys = jax.random.split(jax.random.key(0), 64)

    change_all = jax.jit(
        jax.vmap(lambda key, s: change_settings(own, SimpleNamespace(key=key, updates_done=3), s), in_axes=(0, None))
    )

    def change(rate, period):
        changed = change_all(keys, {RATE: np.float32(rate), "haepo.reference_period": np.int32(period)})
        return {name: sorted({*np.asarray(values).tolist()}) for name, values in changed.items()}

    found = change(0.01, 4)
    np.testing.assert_allclose(found[RATE], [0.005, 0.02], rtol=1e-6)
    assert found["haepo.reference_period"] == [2, 8]
    found = change(0.09, 1)
    np.testing.assert_allclose(found[RATE], [0.045, 0.1], rtol=1e-6)
    assert found["haepo.reference_period"] == [1, 2]
    assert all(BOUNDS[0] <= rate <= np.float32(BOUNDS[1]) for rate in found[RATE])


def trained(population, *chunks, state=None):
    state, stacked = population.init() if state is None else state, []
    for size in chunks:
        state, metrics = population.advance(state, jnp.int32(size))
        stacked.append({name: population.here(values, axis=1)[:size] for name, values in metrics.items()})
    return population.to_host(state), {name: np.concatenate([part[name] for part in stacked]) for name in stacked[0]}


def assert_identical(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def on_two_devices():
    return make_population(config(), devices=some_devices(2))


@pytest.fixture(scope="module")
def whole(on_two_devices):
    return trained(on_two_devices, 8)


def test_chunks_change_no_bit_wherever_exchanges_fall(on_two_devices, whole):
    assert_identical(whole, trained(on_two_devices, 1, 4, 1, 2))


def test_a_state_that_was_taken_to_the_host_goes_on_to_the_same_bits(on_two_devices, whole):
    for done in (2, 3, 4):  # before, at and after an exchange
        state, first = trained(on_two_devices, done)
        end, rest = trained(on_two_devices, 8 - done, state=on_two_devices.from_host(state))
        assert_identical(whole, (end, {name: np.concatenate([first[name], rest[name]]) for name in first}))


@pytest.mark.slow
def test_devices_change_no_bit_nor_does_padding(whole):
    assert_identical(whole, trained(make_population(config(), devices=some_devices(3), members_per_device=4), 8))


def test_a_member_that_copies_has_all_that_its_parent_has_learned_and_goes_its_own_way(on_two_devices):
    before, _ = trained(on_two_devices, 2)
    after, metrics = trained(on_two_devices, 3)
    parents = metrics["pbt_parent"][2]
    children = np.flatnonzero(parents >= 0)
    assert (metrics["pbt_parent"][:2] == -1).all() and len(children) == 2  # one of each population of four
    assert (np.asarray(parents)[children] // 4 == children // 4).all()
    scores = metrics["episode_return"].mean(axis=0)
    np.testing.assert_allclose(metrics["pbt_score"][2], scores, rtol=1e-6)
    for child in children:
        own = range(child // 4 * 4, child // 4 * 4 + 4)
        assert scores[child] == min(scores[list(own)]) and scores[parents[child]] == max(scores[list(own)])
        for leaf in jax.tree.leaves(after.learner):
            np.testing.assert_array_equal(leaf[child], leaf[parents[child]])
        ratio = after.settings[RATE][child] / after.settings[RATE][parents[child]]
        at_bound = after.settings[RATE][child] in np.float32(BOUNDS)
        assert np.isclose(ratio, 1.25) or np.isclose(ratio, 0.8) or at_bound
    np.testing.assert_array_equal(after.key, before.key)
    assert len(np.unique(after.key, axis=0)) == 8
    np.testing.assert_array_equal(metrics[RATE][2], before.settings[RATE])


def test_nobody_copies_after_the_last_update(whole):
    exchanged = np.flatnonzero((whole[1]["pbt_parent"] >= 0).any(axis=1))
    assert set(exchanged) <= {2, 5} and len(exchanged)


def test_a_member_that_diverged_waits_and_then_copies(on_two_devices):
    state = on_two_devices.init()
    diverged = jnp.zeros(8, bool).at[5].set(True)
    state = dataclasses.replace(state, diverged=jax.device_put(diverged, state.diverged.sharding))
    after, metrics = trained(on_two_devices, 4, state=state)
    assert metrics["diverged"][:, 5].tolist() == [True, True, True, False]
    assert metrics["env_steps"][:, 5].tolist() == [0, 0, 0, 4]
    assert metrics["pbt_parent"][2, 5] in (4, 6, 7)
    assert not after.diverged.any() and (after.diverged_at == -1).all()


def test_with_a_fraction_of_zero_nobody_copies_and_first_settings_are_the_same(on_two_devices):
    assert make_members(config(pbt=PBT | {"fraction": 0.0})) == on_two_devices.members
    assert choose_of_four([0.0, 1.0, 2.0, 3.0], [True, False, False, False], [True] * 4, 0.0)[1] == [0, 1, 2, 3]


def test_run_gives_each_seed_its_own_numbers_whatever_the_order_of_populations(on_two_devices, whole):
    result = on_two_devices.run([{}], range(8))
    np.testing.assert_array_equal(result["pbt_parent"][0].T, whole[1]["pbt_parent"])
    two = on_two_devices.run([{RATE: 0.001}, {RATE: 0.01}], range(4))
    assert {*two["pbt_parent"].ravel()} > {-1}
    np.testing.assert_array_equal(two[RATE][:, :, 0], np.float32([[0.001] * 4, [0.01] * 4]))


def test_a_metric_that_a_run_has_not_is_refused_with_those_that_it_has():
    population = make_population(config(pbt=PBT | {"metric": "episode_retrun"}), devices=some_devices(2))
    with pytest.raises(ConfigError) as raised:
        population.fingerprint()
    assert "config.pbt.metric 'episode_retrun' is no metric of this run; did you mean episode_return" in str(
        raised.value
    )


def test_a_population_that_the_devices_do_not_hold_is_refused():
    with pytest.raises(ConfigError) as raised:
        make_population(config(), devices=jax.devices()[:1], members_per_device=2)
    assert str(raised.value) == (
        "A population of 4 members trains all at once, and the devices hold 2; raise config.pbt.populations or "
        "--members_per_device, or take fewer seeds or settings."
    )


def test_waves_hold_whole_populations():
    population = make_population(
        config(num_seeds=12, pbt=PBT | {"populations": 3}), devices=jax.devices()[:1], members_per_device=10
    )
    assert population.capacity == 10 and len(population.members) == 8


POLE = {"env": "CartPole-v1", "horizon": 20, "num_updates": 10}
KINDS = {
    "tiles": (POLE, {}, True),
    "segments": (POLE | {"algorithm": "ppo", "ppo": {"num_steps": 8, "num_minibatches": 2}}, {}, False),
    "budget": (POLE | {"max_env_steps": 350}, {}, False),
    "shared trajectories": (POLE, {"trajectory_devices": 2}, False),
    "evaluated": (POLE | {"evaluate_every": 2, "pbt": PBT | {"metric": "eval_return"}}, {}, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_change_no_bit_in_any_layout_and_of_any_method(kind, monkeypatch):
    changes, placement, in_tiles = KINDS[kind]
    monkeypatch.setattr("haepo_jax.population.layout.goes_in_tiles", lambda device, steps: in_tiles)
    monkeypatch.setattr("haepo_jax.population.layout._TILE_EPISODES", 8)
    devices = some_devices(2 * placement.get("trajectory_devices", 1))
    own = {name: value for name, value in TINY.items() if name != "haepo" or "ppo" not in changes}
    population = make_population(
        fixed_config(own | {"num_seeds": 8, "pbt": PBT} | changes), devices=devices, **placement
    )
    state, metrics = trained(population, 10)
    assert (metrics["pbt_parent"] >= 0).any()
    assert_identical((state, metrics), trained(population, 1, 4, 1, 2, 2))
    if kind == "tiles":
        assert population.layout.tile == 2
    if kind == "budget":
        steps = metrics["env_steps"].cumsum(axis=0)
        over = np.vstack([np.zeros((1, 8), bool), steps[:-1] >= 350])
        assert over.any() and (metrics["env_steps"][over] == 0).all() and (metrics["pbt_parent"][over] == -1).all()
