import shutil
import types

import jax
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import ALGORITHMS
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError
from haepo_jax.population import sizes
from haepo_jax.population.member import make_member
from haepo_jax.population.memory import device_bytes
from haepo_jax.population.network_sizes import network_sizes

MACHINE = 64 * 2**30
"""Memory of each device, and free disk."""


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(sizes, "device_bytes", lambda: MACHINE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(total=2**40, free=MACHINE))


def check(values, num_members=32, **options):
    sizes.check(fixed_config({"env": "CartPole-v1"} | values), num_members, **options)


BY_STATE = {"segment_length": 4, "group_by": "start_state", "num_steps": 2**8, "reference": "none", "kl_coef": 0.0}
TOO_LARGE = {
    "wide layers": ({"policy": {"hidden_sizes": (100_000, 100_000)}}, {}, "lower config.policy.hidden_sizes."),
    "members": (
        {},
        {"members_per_device": 2**31},
        "of 2,147,483,648 members, and it has 64.0 GiB; lower --member",
    ),
    "steps that are kept": (
        {"num_trajectories": 3_000_000, "memory": "remat"},
        {},
        "for the episodes of an update, and it has 64.0 GiB; lower config.num_trajectories or the horizon.",
    ),
    "steps of a method that must keep them": (
        {"num_trajectories": 3_000_000, "algorithm": "grpo"},
        {},
        "the horizon.",
    ),
    "segments": (
        {"num_trajectories": 2**20, "algorithm": "ppo", "ppo": {"num_steps": 2**10}},
        {},
        "for the episodes of an update",
    ),
    "trajectories": ({"num_trajectories": 2**30, "horizon": 1}, {}, "for the episodes of an update"),
    "pairs": (
        {"num_trajectories": 2**19, "horizon": 1, "algorithm": "dpo"},
        {},
        "256.0 GiB of it for the pairs of its episodes",
    ),
    "lanes of a batch counted in steps": (
        {"min_batch_steps": 2**27, "memory": "remat"},
        {},
        "for the episodes of an update, and it has 64.0 GiB; lower config.min_batch_steps, config.num_trajectories or",
    ),
    "pairs of many rounds": (
        {"num_trajectories": 2**16, "horizon": 1, "algorithm": "dpo", "min_batch_steps": 2**26},
        {},
        "4.0 TiB of it for the pairs of its episodes",
    ),
    "segments of one state in a minibatch": (
        {"num_trajectories": 2**12, "haepo": BY_STATE | {"segment_adapt": "ess", "num_minibatches": 4}},
        {},
        "512.0 GiB of it for the groups of segments that begin in one state, and it has 64.0 GiB; lower "
        "config.num_trajectories or config.haepo.num_steps.",
    ),
    "segments of one state in an update, all of which the temperature is found from": (
        {"num_trajectories": 2**12, "haepo": BY_STATE | {"num_minibatches": 4}},
        {},
        "8.0 TiB of it for the groups of segments that begin in one state",
    ),
    "segments of one state in a batch counted in steps": (
        {"num_trajectories": 2**12, "haepo": BY_STATE | {"num_steps": 4}, "min_batch_steps": 2**20},
        {},
        "lower config.num_trajectories or config.min_batch_steps.",
    ),
    "segments of one state in whole episodes": (
        {"num_trajectories": 2**12, "horizon": 2**8, "haepo": BY_STATE | {"segments_from": "episodes"}},
        {},
        "512.0 GiB of it for the groups of segments that begin in one state, and it has 64.0 GiB; lower "
        "config.num_trajectories or the horizon.",
    ),
    "held-out episodes": (
        {"evaluate_every": 1, "evaluate_episodes": 2**31 - 1},
        {},
        "of it for held-out episodes, and it has 64.0 GiB; lower config.evaluate_episodes.",
    ),
    "epochs": (
        {"num_updates": 1, "haepo": {"num_epochs": 2**31 - 1}},
        {},
        "lower config.haepo.num_epochs.",
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_an_experiment_that_no_device_holds_is_refused_with_the_memory_it_needs(case, monkeypatch):
    values, options, sentence = TOO_LARGE[case]
    if case == "epochs":
        monkeypatch.setattr(sizes, "device_bytes", lambda: MACHINE // 4)
    with pytest.raises(ConfigError, match=r"A device would need at least .* of memory, .* of it for") as raised:
        check(values, **options)
    assert sentence in str(raised.value)


def test_a_new_run_whose_checkpoints_exceed_the_free_disk_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"The checkpoints of 3,000,000 members would need at least .* GiB of disk"):
        check({}, 3_000_000, workdir=tmp_path / "not" / "there")
    check({}, 3_000_000)  # a dry run writes nothing
    (tmp_path / "config.json").touch()
    check({}, 3_000_000, workdir=tmp_path)  # a run that is resumed has them


def test_members_that_fit_in_waves_are_not_refused(tmp_path):
    check({"policy": {"hidden_sizes": (8,)}}, 3_000_000, workdir=tmp_path)
    check({"num_trajectories": 30_000}, 10_000)
    check({"num_trajectories": 3_000_000, "horizon": 10})
    check({"env": "LongChain-haepo", "horizon": 10_000, "num_trajectories": 4096})  # of which nothing is kept


def test_groups_of_segments_that_fit_are_not_refused():
    check({"num_trajectories": 2**12, "haepo": BY_STATE | {"group_by": "minibatch"}})
    few = BY_STATE | {"segment_adapt": "ess", "num_minibatches": 2**8}
    check({"num_trajectories": 2**12, "haepo": few})
    check({"num_trajectories": 2**12, "haepo": BY_STATE | {"segment_adapt": "ess"}}, trajectory_devices=64)


@pytest.mark.slow
@pytest.mark.parametrize("own", [{"segment_adapt": "ess"}, {}, {"segments_from": "episodes"}], ids=str)
def test_the_groups_of_one_state_take_a_member_at_least_as_much_as_is_counted_and_few_times_more(own):
    """By the compiler's account, beside an update whose segments compete with all others."""
    temporaries = []
    for group_by in ("minibatch", "start_state"):
        settings = BY_STATE | {"group_by": group_by, "num_steps": 2**6, "num_minibatches": 2} | own
        values = {"env": "FrozenLake-misc", "num_trajectories": 8, "horizon": 2**8, "haepo": settings}
        config = fixed_config(values)
        functions = make_member(config)
        state = jax.eval_shape(lambda functions=functions: functions.init(jax.random.key(0), {}))
        update = jax.jit(lambda state, functions=functions: functions.learn(state, functions.collect(state)))
        temporaries.append(update.lower(state).compile().memory_analysis().temp_size_in_bytes)
    counted = sizes.extra_bytes(config, functions.environment)
    assert counted <= temporaries[1] - temporaries[0] <= 10 * counted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_least_bytes_of_a_member_are_nearly_those_of_its_learner(algorithm):
    """What is held besides is little, such as counters and environments."""
    config = fixed_config({"env": "Pendulum-v1", "algorithm": algorithm, "num_trajectories": 2})
    functions = make_member(config)
    learner = jax.eval_shape(lambda: functions.init(jax.random.key(0), {}).learner)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(learner))
    assert (
        0.98 * held
        < sizes._state_bytes(config, functions.environment, network_sizes(config, functions.environment))
        <= held
    )


def test_the_best_policy_is_counted_where_one_is_kept():
    config = fixed_config({"evaluate_every": 1})
    functions = make_member(config)
    state = jax.eval_shape(lambda: functions.init(jax.random.key(0), {}))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state.learner, state.best)))
    assert (
        0.98 * held
        < sizes._state_bytes(config, functions.environment, network_sizes(config, functions.environment))
        <= held
    )


@pytest.mark.parametrize("algorithm", ["haepo", "ppo"])
def test_the_parameters_of_a_network_are_counted_by_its_shapes(algorithm):
    network = {"network": "cnn", "network_kwargs": {"channels": 2, "dense_size": 7}}
    config = fixed_config({"env": "Catch-bsuite", "algorithm": algorithm, "policy": network})
    sizes_of_it = network_sizes(config, make("Catch-bsuite"))
    torso = (9 + 1) * 2 + (100 + 1) * 7
    assert sizes_of_it.params == torso + 8 * 3 + (torso + 8 if algorithm == "ppo" else 0)
    assert sizes_of_it.widths == [100, 7, 3]
    assert sizes_of_it.setting == "config.policy.network_kwargs"


def test_an_update_that_takes_hours_is_announced_with_its_steps():
    config = fixed_config({"num_trajectories": 3_000_000})
    expected = "An update plays up to 48,000,000,000 steps (32 members), which takes 13.3 hours at a million a second."
    assert sizes.describe_long_updates(config, 32) == expected
    assert sizes.describe_long_updates(fixed_config({}), 32) is None


def test_an_evaluation_of_more_episodes_than_memory_holds_is_refused():
    config, environment = fixed_config({}), make("CartPole-v1")
    with pytest.raises(ConfigError, match=r"--episodes=2147483647 would need at least .* more than .* never fit\."):
        sizes.check_episodes(config, environment, 2**31 - 1, 16)
    sizes.check_episodes(config, environment, 10_000, 16)
    assert device_bytes() > 0
