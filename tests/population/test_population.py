import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config

from configs import cartpole
from haepo_jax.config.members import make_members
from haepo_jax.errors import ConfigError
from haepo_jax.population import Trained, make_population
from haepo_jax.population.member import make_member, total_steps

ONE = jax.devices()[:1]
EXACT_PRODUCTS = functools.partial(jax.default_matmul_precision, "float32")
"""For batches of other sizes: with fewer bits some action differs after an update or two, and then all does."""


def config(**changes):
    small = {
        "env": "CartPole-v1",
        "num_seeds": 5,
        "num_updates": 6,
        "num_trajectories": 4,
        "horizon": 30,
        "policy": {"hidden_sizes": (8,)},
        "haepo": {"num_epochs": 2},
    }
    return fixed_config(small | changes)


def trained(population, *chunks, start=None):
    """The state on the host and the metrics, stacked, after chunks of these lengths."""
    state, stacked = population.init() if start is None else start, []
    for size in chunks:
        state, metrics = population.advance(state, jnp.int32(size))
        stacked.append(jax.tree.map(lambda rows, size=size: np.asarray(rows)[:size], metrics))
    return population.to_host(state), jax.tree.map(lambda *rows: np.concatenate(rows), *stacked)


def assert_identical(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def spread():
    """Five members over three devices, the last of which holds one member and one copy."""
    return make_population(config(), devices=some_devices(3))


def laid_out(*, one_by_one, config=config(), **options):  # noqa: B008
    """A population, compiled, whose members learn one after the other or all together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haepo_jax.population.layout.goes_in_tiles", lambda device, steps: one_by_one)
        population = make_population(config, **options)
        trained(population, 1, 1)
    return population


@pytest.fixture(scope="module")
def on_one_device():
    return laid_out(one_by_one=False, devices=ONE)


@pytest.fixture(scope="module")
def one_by_one():
    return laid_out(one_by_one=True, devices=ONE)


@pytest.fixture(params=["together", "one by one"])
def layout(request, on_one_device, one_by_one):
    """The five members on one device, in each of the two ways to learn."""
    return {"together": on_one_device, "one by one": one_by_one}[request.param]


def test_all_local_devices_are_used():
    assert make_population(config()).mesh.size == len(some_devices(jax.local_device_count()))


def test_members_are_every_setting_with_every_seed():
    swept = config(seed=7, num_seeds=2, sweep={"haepo.kl_coef": (0.0, 0.1)})
    assert [(member.index, member.seed, member.settings["haepo.kl_coef"]) for member in make_members(swept)] == [
        (0, 7, 0.0),
        (1, 8, 0.0),
        (2, 7, 0.1),
        (3, 8, 0.1),
    ]


@pytest.mark.parametrize(
    ("settings", "seeds", "sentence"),
    [
        ([{"optimizer.learning_rate": -1}], [0], "config.optimizer.learning_rate must be above 0.0, got -1.0."),
        ([{"discount": "high"}], [0], "config.discount must be a number, got 'high'."),
        ([{"discount": float("nan")}], [0], "config.discount must be finite in float32"),
        ([{"haepo.reference_period": 2.9}], [0], "config.haepo.reference_period must be a whole number, got 2.9."),
        (
            [{}, {"haepo.reference_period": 2}],
            [0],
            "config.haepo.reference_period has no effect, as config.haepo.",
        ),
        (
            [{"ppo.clip_epsilon": 0.1}],
            [0],
            "config.ppo.clip_epsilon has no effect, as config.algorithm is haepo.",
        ),
        ([{"env_params.gravity": 1e39}], [0], "env_params.gravity cannot be set within one program"),
        ([{"haepo.score": 1.0}], [0], "haepo.score cannot be set within one program; allowed: discount"),
        ([], [0], "settings must hold at least one setting"),
        (None, [0], "settings must be a list of settings such as [{'haepo.kl_coef': 0.1}], got None."),
        ({"haepo.kl_coef": 0.1}, [0], "settings must be a list of settings"),
        ("ab", [0], "settings must be a list of settings such as [{'haepo.kl_coef': 0.1}], got 'ab'."),
        ([None], [0], "settings[0] must map settings to their values, got None."),
        ([{}, 3], [0], "settings[1] must map settings to their values, got 3."),
        ([{}], 0, "seeds must be a list of whole numbers such as [0, 1], got 0."),
        ([{}], np.array(3), "seeds must be a list of whole numbers such as [0, 1], got array(3)."),
        ([{}], None, "seeds must be a list of whole numbers such as [0, 1], got None."),
        ([{}], "01", "seeds must be a list of whole numbers such as [0, 1], got '01'."),
        ([{}], {0: 1}, "seeds must be a list of whole numbers such as [0, 1], got {0: 1}."),
        ([{}], [], "seeds must hold at least one whole number."),
        ([{}], [0.5], "seeds must be whole numbers from 0 to 4294967295, got 0.5."),
        ([{}], [True], "seeds must be whole numbers from 0 to 4294967295, got True."),
        ([{}], [-1], "seeds must be whole numbers from 0 to 4294967295, got -1."),
        ([{}], [2**32], "seeds must be whole numbers from 0 to 4294967295, got 4294967296."),
    ],
)
def test_run_refuses_settings_and_seeds_that_flags_would_refuse(spread, settings, seeds, sentence):
    with pytest.raises(ConfigError) as raised:
        spread.run(settings, seeds)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"devices": []}, "devices must be one device or more, such as jax.devices(), got []."),
        ({"devices": 2}, "devices must be one device or more, such as jax.devices(), got 2."),
        ({"devices": ["cpu"]}, "devices must be one device or more, such as jax.devices(), got ['cpu']."),
        ({"members": []}, "members must hold at least one member"),
        *(
            ({name: value}, f"{name} must be a whole number of at least 1, got {value!r}.")
            for name in ("members_per_device", "trajectory_devices")
            for value in (0, -1, 2.5, "2", True)
        ),
    ],
)
def test_a_population_without_members_or_devices_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(ConfigError) as raised:
        make_population(config(), **options)
    assert sentence in str(raised.value)


def test_a_population_of_a_dictionary_is_refused_with_the_way_to_make_a_config():
    with pytest.raises(ConfigError, match=r"config must be an ExperimentConfig, got {}; from_config_dict makes one\."):
        make_population({})


def test_run_refuses_a_real_number_for_an_env_param_that_the_program_holds_as_a_whole_one():
    population = make_population(config(env_params={"gravity": 10}), devices=ONE)
    with pytest.raises(ConfigError, match=r"config.env_params.gravity is a whole number in this program, got 9.5."):
        population.run([{"env_params.gravity": 9.5}], [0])


def test_run_refuses_env_params_out_of_their_limits():
    population = make_population(config(env="RandomWalk-haepo", env_params={"length": 3}), devices=ONE)
    with pytest.raises(ConfigError, match=r"config.env_params.length of RandomWalk-haepo must be at least 1, got 0."):
        population.run([{"env_params.length": 0}], [0])


@pytest.mark.parametrize("memory", ["auto", "recompute"])
def test_a_member_is_built_once_after_its_memory_is_chosen(monkeypatch, memory):
    built = []

    def recording(config, **options):
        built.append(config.memory)
        return make_member(config, **options)

    monkeypatch.setattr("haepo_jax.population.population.make_member", recording)
    population = make_population(config(memory=memory), devices=ONE)
    assert built == [population.config.memory] == [{"auto": "remat", "recompute": "recompute"}[memory]]


def test_the_result_of_a_run_shows_names_and_shape_and_picks_a_members_parameters():
    params = {"bias": np.arange(12).reshape(2, 3, 2)}
    result = Trained({"episode_return": np.zeros((2, 3, 40)), "loss": np.zeros((2, 3, 40))}, params)
    assert repr(result) == "Trained(episode_return, loss: [2, 3, 40]; params)"
    np.testing.assert_array_equal(result.member_params(setting=1, seed=2)["bias"], [10, 11])


@pytest.mark.slow
def test_the_same_run_twice_is_identical(on_one_device):
    assert_identical(trained(on_one_device, 6), trained(on_one_device, 6))


def test_the_division_of_a_run_into_chunks_changes_no_bit(layout):
    assert_identical(trained(layout, 6), trained(layout, 1, 2, 3))


def test_chunks_of_all_lengths_share_one_compiled_program(on_one_device):
    trained(on_one_device, 1, 2)
    compiled = on_one_device.advance._cache_size()
    trained(on_one_device, 3, 2, 1)
    assert on_one_device.advance._cache_size() == compiled


@pytest.mark.slow
def test_many_devices_give_the_numbers_of_one(spread, on_one_device):
    with EXACT_PRODUCTS():
        (state, metrics), (expected, expected_metrics) = trained(spread, 3), trained(on_one_device, 3)
    for left, right in zip(jax.tree.leaves(state.learner), jax.tree.leaves(expected.learner), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)
    np.testing.assert_array_equal(metrics["episode_return"][:, :5], expected_metrics["episode_return"])


@pytest.mark.slow
def test_members_per_device_decide_the_bits_and_the_number_of_devices_does_not(spread):
    two = make_population(config(num_seeds=4), devices=some_devices(2))
    assert (two.members_per_device, two.mesh.size, spread.members_per_device, spread.mesh.size) == (2, 2, 2, 3)
    few, many = trained(two, 6)[0], trained(spread, 6)[0]
    assert_identical(few, jax.tree.map(lambda leaf: leaf[:4], many))


@pytest.mark.parametrize("member", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_seed_alone_equals_that_seed_in_a_population(on_one_device, member):
    alone = make_population(config(seed=member, num_seeds=1), devices=ONE)
    with EXACT_PRODUCTS():
        (state, metrics), (whole, whole_metrics) = trained(alone, 5), trained(on_one_device, 5)
    np.testing.assert_array_equal(metrics["episode_return"][:, 0], whole_metrics["episode_return"][:, member])
    for left, right in zip(jax.tree.leaves(state.learner), jax.tree.leaves(whole.learner), strict=True):
        np.testing.assert_allclose(left[0], right[member], atol=2e-5)


@pytest.mark.slow
def test_each_of_32_cartpole_seeds_trains_as_it_does_alone():
    shipped = cartpole.get_config()
    shipped.num_updates = 5
    with EXACT_PRODUCTS():
        whole, whole_metrics = trained(make_population(fixed_config(shipped), devices=ONE), 5)
    for member in range(0, 32, 5):
        shipped.seed, shipped.num_seeds = member, 1
        with EXACT_PRODUCTS():
            alone, metrics = trained(make_population(fixed_config(shipped), devices=ONE), 5)
        np.testing.assert_array_equal(metrics["episode_return"][:, 0], whole_metrics["episode_return"][:, member])
        for left, right in zip(jax.tree.leaves(alone.learner), jax.tree.leaves(whole.learner), strict=True):
            np.testing.assert_allclose(left[0], right[member], atol=2e-5)


def test_padding_is_never_reported(spread):
    state = spread.to_host(spread.init())
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(state))
    seeds = spread.map_members(lambda member: member.updates_done, spread.init())
    assert seeds.shape == (5,)


def with_setting(population, member, name, value):
    """The population before its first update, with this setting changed for one member."""
    host = population.to_host(population.init())
    host.settings[name][member] = value
    return population.from_host(host)


@pytest.mark.parametrize("rate", [np.inf, np.nan])
def test_a_diverged_member_leaves_its_neighbours_bit_for_bit(layout, rate):
    poisoned = with_setting(layout, 2, "optimizer.learning_rate", rate)
    (state, metrics), (clean, clean_metrics) = trained(layout, 6, start=poisoned), trained(layout, 6)
    others = np.array([0, 1, 3, 4])
    pick = lambda tree: jax.tree.map(lambda leaf: leaf[others], tree)  # noqa: E731
    assert_identical(pick(dataclasses.replace(state, settings={})), pick(dataclasses.replace(clean, settings={})))
    assert_identical(*(jax.tree.map(lambda rows: rows[:, others], m) for m in (metrics, clean_metrics)))
    assert list(state.diverged) == [False, False, True, False, False]
    assert list(state.diverged_at) == [-1, -1, 0, -1, -1]
    assert np.isnan(metrics["episode_return"][1:, 2]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner))


def test_members_learn_the_same_one_by_one_as_all_together(on_one_device, one_by_one):
    with EXACT_PRODUCTS():
        (state, metrics), (expected, expected_metrics) = (trained(p, 3) for p in (one_by_one, on_one_device))
    np.testing.assert_array_equal(metrics["episode_return"][:, :5], expected_metrics["episode_return"][:, :5])
    for left, right in zip(jax.tree.leaves(state.learner), jax.tree.leaves(expected.learner), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


LIMIT = 300


@pytest.fixture(scope="module")
def limited_on_one_device():
    return laid_out(one_by_one=False, config=config(max_env_steps=LIMIT), devices=ONE)


@pytest.fixture(scope="module")
def limited_one_by_one():
    return laid_out(one_by_one=True, config=config(max_env_steps=LIMIT), devices=ONE)


@pytest.fixture(params=["on_one_device", pytest.param("one_by_one", marks=pytest.mark.slow)])
def limited(request):
    """The five members in both layouts, each with the most environment steps that it may take."""
    return request.getfixturevalue(f"limited_{request.param}")


def ends_of(metrics):
    """The number of updates after which each member is at the limit, whether or not it stops there."""
    return (metrics["env_steps"][:, :5].cumsum(0) < LIMIT).sum(0) + 1


@pytest.fixture
def free(request, limited):
    """The same population without the limit."""
    return request.getfixturevalue(request.node.callspec.params["limited"])


class TestMaxEnvSteps:
    def test_a_member_stops_after_the_update_that_reaches_its_budget(self, limited):
        state, metrics = trained(limited, 6)
        steps, ends = metrics["env_steps"][:, :5], ends_of(metrics)
        assert len(set(ends)) > 1 and ends.max() < 6
        for member, end in enumerate(ends):
            assert (steps[:end, member] > 0).all() and np.isfinite(metrics["episode_return"][:end, member]).all()
            for name, rows in metrics.items():
                rest = rows[end:, member]
                assert (rest == 0).all() if name == "env_steps" else np.isnan(rest).all()
        taken = total_steps(state.env_steps)
        np.testing.assert_array_equal(taken, steps.sum(0))
        assert (taken >= LIMIT).all() and (taken - metrics["env_steps"].max() < LIMIT).all()
        assert not state.diverged.any() and (state.updates_done == 6).all()

    @pytest.mark.slow
    def test_until_then_its_metrics_are_those_of_a_member_without_a_budget(self, limited, free):
        metrics, expected = trained(limited, 6)[1], trained(free, 6)[1]
        for member, end in enumerate(ends_of(expected)):
            for name, rows in metrics.items():
                np.testing.assert_array_equal(rows[:end, member], expected[name][:end, member])

    @pytest.mark.slow
    def test_a_stopped_member_keeps_its_learner_and_its_neighbours_continue_bit_for_bit(self, limited, free):
        state, ends = trained(limited, 6)[0], ends_of(trained(free, 6)[1])
        for end in set(ends):
            expected, there = trained(free, end)[0], ends == end
            pick = lambda tree, there=there: jax.tree.map(lambda leaf: leaf[there], tree)  # noqa: E731
            assert_identical(pick(state.learner), pick(expected.learner))

    def test_chunks_of_members_with_a_budget_change_no_bit(self, limited):
        whole = trained(limited, 6)
        assert_identical(whole, trained(limited, 1, 2, 3))
        assert_identical(whole, trained(limited, 2, 4))
        halfway = limited.from_host(trained(limited, 3)[0])
        assert_identical(whole[0], limited.to_host(limited.advance(halfway, jnp.int32(3))[0]))

    def test_a_device_works_until_its_last_member_has_stopped(self, monkeypatch):
        """Two devices: as many updates on each as its own members need, whatever chunk is asked for."""
        calls = []

        def counting(config, **options):
            functions = make_member(config, **options)

            def collect(state):
                jax.debug.callback(lambda seed: calls.append(int(seed)), jax.random.key_data(state.key)[-1])
                return functions.collect(state)

            return functions._replace(collect=collect)

        monkeypatch.setattr("haepo_jax.population.population.make_member", counting)
        population = make_population(config(num_seeds=4, max_env_steps=LIMIT), devices=some_devices(2))
        _, metrics = trained(population, 6)
        jax.effects_barrier()
        ran = np.count_nonzero(metrics["env_steps"], axis=0)
        expected = np.repeat([ran[:2].max(), ran[2:].max()], 2)
        assert expected.min() < 6
        assert [calls.count(seed) for seed in range(4)] == expected.tolist()


def test_a_device_does_no_more_work_once_all_its_members_have_diverged(on_one_device):
    start = on_one_device.to_host(on_one_device.init())
    start.settings["optimizer.learning_rate"][:] = np.nan
    state, metrics = trained(on_one_device, 6, start=on_one_device.from_host(start))
    assert state.diverged.all() and (state.diverged_at == 0).all() and (state.updates_done == 6).all()
    assert (metrics["env_steps"][0] > 0).all() and not metrics["env_steps"][1:].any()


@pytest.mark.slow
def test_swept_parameters_of_the_environment_reach_their_members_in_one_program():
    walk = {"env": "RandomWalk-haepo", "env_params": {"length": 3}, "num_seeds": 2}
    swept = make_population(config(**walk, sweep={"env_params.slip": (0.0, 0.5, 1.0)}), devices=ONE)
    _, metrics = trained(swept, 3)
    assert swept.advance._cache_size() == 1
    lengths = metrics["episode_length"][:, :6].reshape(3, 3, 2)
    assert not np.array_equal(lengths[:, 0], lengths[:, 1]) and not np.array_equal(lengths[:, 1], lengths[:, 2])
    assert (metrics["success"] > 0).any()
    alone = make_population(config(**walk | {"env_params": {"length": 3, "slip": 0.5}}), devices=ONE)
    _, expected = trained(alone, 3)
    np.testing.assert_array_equal(metrics["episode_return"][:, 2:4], expected["episode_return"][:, :2])
    np.testing.assert_array_equal(lengths[:, 1], expected["episode_length"][:, :2])


@pytest.mark.slow
def test_swept_settings_reach_their_members_in_one_program():
    swept = make_population(config(num_seeds=1, sweep={"optimizer.learning_rate": (1e-3, 1e-9, 1e-3)}), devices=ONE)
    start, (end, _) = swept.to_host(swept.init()), trained(swept, 2)
    change = jax.tree.map(lambda a, b: np.abs(a - b), start.learner.params, end.learner.params)
    fast, slow, again = (max(leaf[k].max() for leaf in jax.tree.leaves(change)) for k in range(3))
    assert fast == again > 1e-4
    assert slow < 1e-6


def test_a_state_copied_to_the_host_and_back_is_the_same(spread):
    state = spread.to_host(trained_state(spread))
    assert_identical(spread.to_host(spread.from_host(state)), state)


def trained_state(population):
    return population.advance(population.init(), jnp.int32(2))[0]


def test_a_run_continued_from_the_host_is_bit_identical(on_one_device):
    halfway = on_one_device.from_host(trained(on_one_device, 3)[0])
    resumed = on_one_device.to_host(on_one_device.advance(halfway, jnp.int32(3))[0])
    assert_identical(resumed, trained(on_one_device, 6)[0])


@pytest.mark.hlo
def test_nothing_calls_the_host_within_a_chunk(on_one_device):
    state = on_one_device.init()
    program = on_one_device.advance.lower(state, jnp.int32(1)).as_text()
    assert "while" in program
    assert "callback" not in program
    assert "infeed" not in program and "outfeed" not in program
