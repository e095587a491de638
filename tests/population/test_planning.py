import jax
import pytest
from helpers.devices import some_devices
from helpers.settings import add_fixed

from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError
from haepo_jax.population import memory, planning

VALUES = {
    "env": "Catch-bsuite",
    "num_seeds": 5,
    "num_updates": 10,
    "num_trajectories": 4,
    "policy": {"hidden_sizes": (8,)},
    "sweep": {"haepo.kl_coef": (0.0, 0.1)},
}


@pytest.mark.slow
def test_a_plan_places_and_compiles_each_group_of_a_sweep():
    some_devices(8)  # which a plan takes all of
    sweep = from_values(add_fixed(VALUES | {"sweep": {"haepo.score": ("sum", "mean"), "haepo.kl_coef": (0.0, 0.1)}}))
    plans = planning.plan(sweep, members_per_device=None, trajectory_devices=1)
    assert [plan.group.name for plan in plans] == ["haepo.score=sum", "haepo.score=mean"]
    assert [(plan.members_per_device, plan.waves) for plan in plans] == [(2, 1)] * 2  # ten members on eight devices
    assert all(plan.bytes_per_device > 0 for plan in plans)


@pytest.mark.slow
def test_more_members_on_a_device_need_more_memory_and_fewer_waves():
    one, many = (
        planning.plan(
            from_values(add_fixed(VALUES | {"num_seeds": 40})), members_per_device=number, trajectory_devices=1
        )[0]
        for number in (2, 10)
    )
    assert (one.waves, many.waves) == (5, 1)
    assert 2 < many.bytes_per_device / one.bytes_per_device < 10  # a part does not depend on the members


@pytest.mark.slow
def test_a_device_that_is_short_of_memory_gets_fewer_members_and_more_waves(monkeypatch):
    sweep = from_values(add_fixed(VALUES | {"num_seeds": 400}))
    (whole,) = planning.plan(sweep, members_per_device=None, trajectory_devices=1)
    assert whole.waves == 1
    monkeypatch.setattr(planning, "device_bytes", lambda: whole.bytes_per_device // 3)
    (short,) = planning.plan(sweep, members_per_device=None, trajectory_devices=1)
    assert short.waves > 1
    assert short.bytes_per_device <= whole.bytes_per_device // 3
    (given,) = planning.plan(sweep, members_per_device=whole.members_per_device, trajectory_devices=1)
    assert given == whole  # a number that is given is kept


@pytest.mark.slow
def test_a_program_that_the_compiler_finds_too_large_is_tried_with_fewer_members(monkeypatch):
    real = planning._bytes_per_device
    tried = []

    def refusing(population):
        tried.append(population.members_per_device)
        return None if population.members_per_device > 20 else real(population)

    monkeypatch.setattr(planning, "_bytes_per_device", refusing)
    monkeypatch.setattr(planning, "_is_small", lambda population: False)
    (group,) = from_values(add_fixed(VALUES | {"num_seeds": 400})).groups
    assert planning.place_group(group, None, 1).members_per_device <= 20
    assert tried[0] == 100 and tried == sorted(tried, reverse=True)


def test_the_compiler_is_asked_where_groups_of_segments_need_more_than_many_times_the_batch(monkeypatch):
    own = {"segment_length": 1, "num_steps": 256, "reference": "none", "kl_coef": 0.0}
    asked = []
    monkeypatch.setattr(planning, "_bytes_per_device", lambda population: asked.append(population) or 0)
    monkeypatch.setattr(planning, "device_bytes", lambda: 2**28)
    for group_by, times in (("minibatch", 0), ("start_state", 1)):
        values = {key: value for key, value in VALUES.items() if key != "sweep"}
        values |= {"num_seeds": 24, "haepo": own | {"group_by": group_by}}
        (group,) = from_values(add_fixed(values)).groups
        planning.place_group(group, None, 1)
        assert len(asked) == times


def test_a_resumed_run_keeps_the_memory_setting_that_it_was_started_with(monkeypatch):
    (group,) = from_values(add_fixed(VALUES)).groups
    whole_at_once = "store" if jax.default_backend() == memory.GPU else "remat"
    assert planning.place_group(group, None, 1).config.memory == whole_at_once
    monkeypatch.setattr(memory, "device_bytes", lambda: 100)
    assert planning.place_group(group, 2, 1).config.memory == "recompute"
    assert planning.place_group(group, 2, 1, {"memory": "remat"}).config.memory == "remat"


def test_a_device_without_memory_statistics_has_its_share_of_the_machine():
    assert 2**27 < planning.device_bytes() < 2**42


@pytest.mark.parametrize(
    ("members", "devices", "name"), [(0, 1, "members_per_device"), (None, "2", "trajectory_devices")]
)
def test_a_plan_refuses_what_is_no_number_of_members_or_of_devices(members, devices, name):
    with pytest.raises(ConfigError, match=f"{name} must be a whole number of at least 1, got "):
        planning.plan(from_values(add_fixed(VALUES)), members_per_device=members, trajectory_devices=devices)
