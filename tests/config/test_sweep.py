import itertools
import json

import numpy as np
import pytest
from helpers.settings import add_fixed

from configs import cartpole
from configs.sweeps import beta_lambda
from haepo_jax.config import from_config_dict, to_json
from haepo_jax.config.sweep import (
    DISTRIBUTIONS,
    from_record,
    from_values,
    of_experiment,
    sweep_setting_names,
    with_search,
)
from haepo_jax.errors import ConfigError

BETA, LAMBDA, RATE, SCORE = "haepo.entropy_coef", "haepo.kl_coef", "optimizer.learning_rate", "haepo.score"


def sweep(choices=None, *, search=None, **settings):
    values = {"num_seeds": 2, **settings, "sweep": choices or {}, "search": search or {}}
    return from_values(add_fixed(values))


def points(made):
    """The settings of the first seed of each point, in order."""
    return [member.settings for member in made.members if member.seed == 0]


class TestGrid:
    def test_a_grid_is_every_combination_with_every_seed(self):
        made = sweep({BETA: (0.0, 0.1), LAMBDA: (0.0, 0.2, 0.4)})
        assert [group.name for group in made.groups] == ["all"]
        expected = [
            ({BETA: beta, LAMBDA: weight}, seed)
            for beta, weight in itertools.product((0.0, 0.1), (0.0, 0.2, 0.4))
            for seed in (0, 1)
        ]
        assert [(member.settings, member.seed) for member in made.members] == expected
        assert [member.index for member in made.members] == list(range(12))

    def test_an_empty_grid_is_the_config_itself(self):
        made = sweep()
        assert [(member.settings, member.seed) for member in made.members] == [({}, 0), ({}, 1)]

    def test_names_may_be_nested(self):
        assert sweep({"haepo": {"kl_coef": (0.0, 0.1)}}).members == sweep({LAMBDA: (0.0, 0.1)}).members

    def test_a_value_given_twice_is_run_once(self):
        assert len(sweep({BETA: (0.1, 0.1, 0.2)}).members) == 4

    def test_a_value_written_in_two_ways_is_run_once(self):
        made = sweep({"policy.hidden_sizes": ((8,), 8, (8, 4), [8, 4]), "env_params.slip": (1, 1.0)}, num_seeds=1)
        assert [group.name for group in made.groups] == ["policy.hidden_sizes=8", "policy.hidden_sizes=8x4"]
        assert [len(group.members) for group in made.groups] == [1, 1]

    def test_whole_numbers_become_real_ones_where_the_setting_is_real(self):
        assert [type(member.settings[BETA]) for member in sweep({BETA: (0, 1)}).members] == [float] * 4


class TestGroups:
    def test_groups_separate_what_one_program_cannot_hold(self):
        made = sweep({SCORE: ("sum", "mean"), BETA: (0.0, 0.1), "num_trajectories": (4, 8)})
        assert [group.name for group in made.groups] == [
            "haepo.score=sum,num_trajectories=4",
            "haepo.score=sum,num_trajectories=8",
            "haepo.score=mean,num_trajectories=4",
            "haepo.score=mean,num_trajectories=8",
        ]
        for group in made.groups:
            assert {member.group for member in group.members} == {group.name}
            for member in group.members:
                assert member.settings[SCORE] == group.config.haepo.score
                assert member.settings["num_trajectories"] == group.config.num_trajectories
            assert len(group.members) == 4
        assert [member.index for member in made.members] == list(range(16))

    def test_groups_may_differ_in_environment_algorithm_and_width(self):
        made = sweep(
            {
                "env": ("CartPole-v1", "Catch-bsuite"),
                "algorithm": ("haepo", "grpo"),
                "policy.hidden_sizes": ((8,), (8, 8)),
            }
        )
        configs = [
            (group.config.env, group.config.algorithm, group.config.policy.hidden_sizes) for group in made.groups
        ]
        assert configs == list(itertools.product(("CartPole-v1", "Catch-bsuite"), ("haepo", "grpo"), ((8,), (8, 8))))
        assert made.groups[-1].name == "env=Catch-bsuite,algorithm=grpo,policy.hidden_sizes=8x8"

    def test_numbers_of_the_environment_are_traced_and_its_arguments_are_not(self):
        made = sweep(
            {"env_params.slip": (0.0, 0.5), "env_kwargs.size": (4, 5)}, env="DeepSea-bsuite", env_kwargs={"size": 8}
        )
        assert [(group.name, group.config.env_kwargs) for group in made.groups] == [
            ("env_kwargs.size=4", {"size": 4}),
            ("env_kwargs.size=5", {"size": 5}),
        ]


class TestRandom:
    CHOICES = {RATE: {"log_uniform": (1e-4, 1e-2)}, BETA: {"uniform": (0.0, 1.0)}, SCORE: ("sum", "mean")}  # noqa: RUF012

    def test_random_points_begin_with_the_config_itself_and_stay_within_bounds(self):
        made = points(sweep(self.CHOICES, search={"num_samples": 200}))
        assert len(made) == 200
        drawn = made[1:]
        default = [point for point in made if point[RATE] == 3e-3]
        assert default == [{RATE: 3e-3, BETA: 5e-3, SCORE: "sum"}]  # log_ratio is not among the scores
        rates = np.array([point[RATE] for point in drawn if point[RATE] != 3e-3])
        assert rates.min() >= 1e-4 and rates.max() <= 1e-2
        assert 0.35 < np.mean(rates < 1e-3) < 0.65  # half of the logarithms lie below
        betas = np.array([point[BETA] for point in drawn])
        assert 0 <= betas.min() < 0.1 and 0.9 < betas.max() <= 1

    def test_random_points_depend_on_their_seed_alone(self):
        one, again, other = (
            sweep(self.CHOICES, search={"num_samples": 5, "seed": seed}).record | {"members": None}
            for seed in (1, 1, 2)
        )
        del one["search"], again["search"], other["search"]
        a, b, c = (points(sweep(self.CHOICES, search={"num_samples": 5, "seed": seed})) for seed in (1, 1, 2))
        assert a == b != c and one == again == other

    def test_more_samples_begin_with_those_of_fewer(self):
        few, many = (sweep({RATE: self.CHOICES[RATE]}, search={"num_samples": n}) for n in (5, 9))
        assert points(many)[:5] == points(few)

    def test_a_repeated_sample_keeps_its_first_place(self):
        made = points(sweep({"haepo.num_epochs": {"integer": (1, 3)}}, search={"num_samples": 60}))
        assert made[0] == {"haepo.num_epochs": 4}  # the config's own, which comes first
        few = points(sweep({"haepo.num_epochs": {"integer": (1, 3)}}, search={"num_samples": 3}))
        assert made[: len(few)] == few

    def test_whole_numbers_include_both_ends(self):
        made = points(sweep({"haepo.num_epochs": {"integer": (1, 3)}}, search={"num_samples": 60}))
        assert {point["haepo.num_epochs"] for point in made} == {1, 2, 3, 4}  # 4 is the default


class TestList:
    def test_a_list_of_points_is_run_in_its_order(self):
        made = sweep(search={"points": [{BETA: 0.1, "haepo": {"kl_coef": 0.2}}, {BETA: 0.3, LAMBDA: 0.0}]})
        assert points(made) == [{BETA: 0.1, LAMBDA: 0.2}, {BETA: 0.3, LAMBDA: 0.0}]

    def test_a_list_keeps_points_that_write_their_settings_in_another_order(self):
        made = sweep(search={"points": [{LAMBDA: 0.1, BETA: 0.2}, {BETA: 0.1, LAMBDA: 0.2}, {BETA: 0.2, LAMBDA: 0.1}]})
        assert points(made) == [{LAMBDA: 0.1, BETA: 0.2}, {LAMBDA: 0.2, BETA: 0.1}]
        assert {tuple(point) for point in points(made)} == {(LAMBDA, BETA)}

    def test_a_list_groups_points_by_their_values_in_any_order_and_writing(self):
        width = "policy.hidden_sizes"
        made = sweep(
            search={"points": [{width: 8, SCORE: "sum"}, {SCORE: "mean", width: (8,)}, {SCORE: "sum", width: [8]}]}
        )
        assert [group.name for group in made.groups] == [f"{width}=8,{SCORE}=sum", f"{width}=8,{SCORE}=mean"]
        assert [point[width] for point in points(made)] == [8, 8]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"sweep": {"haepo.kl_coeff": (1.0,)}},
            "config.sweep.haepo.kl_coeff is not a setting that can be swept; did you",
        ),
        ({"sweep": {"seed": (1, 2)}}, "config.sweep.seed is not a setting that can be swept"),
        ({"sweep": {BETA: 0.1}}, "config.sweep.haepo.entropy_coef must be a tuple of values, or one of uniform"),
        ({"sweep": {BETA: ()}}, "config.sweep.haepo.entropy_coef must be a tuple of values"),
        ({"sweep": {BETA: (-1.0,)}}, "config.sweep.haepo.entropy_coef must be at least 0.0, got -1.0."),
        (
            {"sweep": {SCORE: ("sum", "total")}},
            "config.sweep.haepo.score 'total' is not known; allowed: sum, mean, log_ratio, or one of",
        ),
        ({"sweep": {BETA: {"uniform": (0.0, 1.0)}}}, "belongs to a random search: set config.search.num_samples."),
        (
            {"sweep": {BETA: {"uniform": (1.0, 0.0)}}, "search": {"num_samples": 3}},
            "must be two numbers, the lower first",
        ),
        ({"sweep": {BETA: {"log_uniform": (0.0, 1.0)}}, "search": {"num_samples": 3}}, "must have bounds above 0"),
        ({"sweep": {BETA: {"integer": (0.5, 1.0)}}, "search": {"num_samples": 3}}, "whole numbers as its bounds"),
        (
            {"search": {"num_samples": 3}},
            "config.search.num_samples needs config.sweep, which says what to draw from.",
        ),
        ({"search": {"num_samples": 0}}, "config.search.num_samples must be at least 1, got 0."),
        ({"search": {"samples": 3}}, "config.search.samples is not a setting"),
        ({"search": {"points": ({BETA: 0.1}, {LAMBDA: 0.1})}}, "must all set the same settings"),
        ({"search": {"points": ({"haepo.beta": 0.1},)}}, "config.search.points[0].haepo.beta is not a setting"),
        ({"search": {"points": ({BETA: 0.1},)}, "sweep": {LAMBDA: (0.1,)}}, "config.search.points names every point"),
        ({"search": {"points": "all"}}, "config.search.points must be a tuple of points"),
        ({"search": 3}, "config.search is a group of settings, got 3."),
        ({"sweep": 3}, "config.sweep must map settings to their values, got 3."),
        (
            {"sweep": {"ppo.clip_epsilon": (0.1, 0.2)}},
            "config.sweep.ppo.clip_epsilon has no effect, as config.algorithm",
        ),
        (
            {"sweep": {"env_params.slip": {"uniform": (0.0, 1.0)}}, "search": {"num_samples": 2}},
            "config.env_params.slip must be set, as it is the first sample",
        ),
    ],
)
def test_a_sweep_without_sense_is_refused_in_a_sentence(values, sentence):
    with pytest.raises(ConfigError) as raised:
        from_values(values)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sweep": {LAMBDA: (0.1,), "haepo": {"kl_coef": (0.2,)}}}, f"config.sweep.{LAMBDA} is given twice"),
        ({"sweep": {"haepo": {"kl_coef": (0.2,)}, LAMBDA: (0.1,)}}, f"config.sweep.{LAMBDA} is given twice"),
        (
            {"search": {"points": ({LAMBDA: 0.1}, {LAMBDA: 0.1, "haepo": {"kl_coef": 0.2}})}},
            f"config.search.points[1].{LAMBDA} is given twice",
        ),
        (
            {"sweep": {RATE: {"uniform": (0.1, 0.2), "log_uniform": (0.1, 0.2)}}, "search": {"num_samples": 2}},
            f"config.sweep.{RATE} is given two sets of values to choose from",
        ),
        (
            {"sweep": {RATE: {"uniform": (0.1, 0.2)}, "optimizer": {"learning_rate": (0.1,)}}},
            f"config.sweep.{RATE} is given two sets of values to choose from",
        ),
    ],
)
def test_a_setting_given_twice_is_refused_by_its_name(values, sentence):
    with pytest.raises(ConfigError) as raised:
        from_values(values)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"sweep": {"env_kwargs.size": (2, "2")}}, "config.sweep"),
        ({"search": {"points": ({"env_kwargs.size": 2}, {"env_kwargs.size": "2"})}}, "config.search.points"),
    ],
)
def test_two_groups_of_one_name_are_refused(values, where):
    with pytest.raises(ConfigError, match=f"{where} makes two groups with the name env_kwargs.size=2, as"):
        from_values({"env": "DeepSea-bsuite", **values})


class Odd:
    """Neither hashed, nor compared, nor written."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError

    def __repr__(self):
        raise RuntimeError


TYPES = (
    Odd(),
    np.array([1, "a"], object),
    {1, 2},
    {"a": 1},
    [[8], [8]],
    None,
    "text",
    b"x",
    object(),
    lambda: 1,
    10**400,
    1e400,
    float("nan"),
    1j,
    True,
)
SETTINGS = (BETA, RATE, SCORE, "env", "env_kwargs.size", "env_params.slip", "policy.hidden_sizes", "num_trajectories")
WELL = (("env", "text"), ("env_kwargs.size", "text"), ("env_kwargs.size", True), ("env_kwargs.size", [[8], [8]]))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", TYPES, ids=lambda value: type(value).__name__)
def test_a_point_of_any_other_type_is_refused_by_the_name_of_its_setting(name, value):
    """As values of a grid, as points, and as the bounds of what is drawn."""
    if not isinstance(value, str | bool | list) or (name, value) not in WELL:
        for values in (
            {"sweep": {name: (value,)}},
            {"search": {"points": ({name: value},)}},
        ):
            with pytest.raises(ConfigError, match=f"config.*{name}"):
                from_values(values)
    for kind in DISTRIBUTIONS:
        with pytest.raises(ConfigError, match=f"config.sweep.{name}"):
            from_values({"sweep": {name: {kind: (0, value)}}, "search": {"num_samples": 3}})


@pytest.mark.parametrize(
    ("name", "kind", "bounds", "sentence"),
    [
        (RATE, "uniform", (1.0, 1e39), "must be finite in float32"),
        (RATE, "log_uniform", (1, 10**400), "must be finite in float32"),
        ("haepo.num_epochs", "integer", (1, 2**63), "must be at least 1 and at most 2147483647"),
        ("haepo.num_epochs", "uniform", (1, 3), "draws real numbers, and config.haepo.num_epochs is a whole one"),
        (RATE, "integer", (1, 2**63), "must have bounds of 64 bits"),
        ("discount", "uniform", (0.5, 1.5), "must be at least 0.0 and at most 1.0, got 1.5."),
        ("env_params.slip", "integer", (0, 2**31), "at most 2147483647"),
        ("env_kwargs.size", "integer", (0, 2**31), "at most 2147483647"),
        (SCORE, "uniform", (0, 1), "draws numbers, and config.haepo.score is none; give a tuple of its values."),
    ],
)
def test_bounds_that_the_setting_cannot_have_are_refused(name, kind, bounds, sentence):
    with pytest.raises(ConfigError, match=f"config.sweep.{name}.{kind}") as raised:
        from_values({"sweep": {name: {kind: bounds}}, "search": {"num_samples": 3}})
    assert sentence in str(raised.value)


def test_a_bound_that_is_never_drawn_need_not_be_allowed():
    values = {"sweep": {RATE: {"uniform": (0.0, 0.1)}}, "search": {"num_samples": 50}}
    assert all(0 < point[RATE] <= 0.1 for point in points(from_values(values)))


@pytest.mark.parametrize("values", [{1: (0.1,)}, {"haepo": {2: (0.1,)}}, {("a",): (0.1,)}])
def test_names_that_are_no_text_are_refused(values):
    with pytest.raises(ConfigError, match=r"has the name .*, and names are text"):
        from_values({"sweep": values})


def test_a_sweep_of_what_nothing_reads_is_refused_though_it_needs_programs_of_its_own():
    for values, where in (
        ({"sweep": {SCORE: ("sum", "mean")}}, "config.sweep"),
        ({"search": {"points": ({SCORE: "sum"}, {SCORE: "mean"})}}, "config.search.points"),
    ):
        with pytest.raises(ConfigError, match=f"{where}.{SCORE} has no effect, as config.algorithm is rloo"):
            from_values({"algorithm": "rloo", **values})


@pytest.mark.parametrize(
    "values",
    [
        {"num_seeds": 2**31 - 1},
        {"search": {"num_samples": 2**31 - 1}, "sweep": {RATE: {"uniform": (0.1, 0.2)}}},
        {"sweep": dict.fromkeys(("haepo.kl_coef", BETA, RATE, "discount"), tuple(np.linspace(0.1, 0.9, 1000)))},
    ],
)
def test_more_members_than_the_machine_can_list_are_refused_at_once(values):
    with pytest.raises(ConfigError, match=r"members, whose list alone takes about .* and this machine has"):
        from_values(values)


@pytest.mark.parametrize(
    "values",
    [
        {"sweep": {SCORE: ("sum", "mean"), BETA: (0.0, 0.1), "policy.hidden_sizes": ((4,), (4, 4))}},
        {"sweep": TestRandom.CHOICES, "search": {"num_samples": 7, "seed": 3}},
        {"search": {"points": ({BETA: 0.1}, {BETA: 0.3})}},
    ],
)
def test_the_record_gives_the_sweep_back(values):
    made = from_values(values)
    record = json.loads(json.dumps(made.record))
    assert from_record(record).groups == made.groups
    assert json.loads(json.dumps(from_record(record).record)) == record


def test_an_experiment_is_a_sweep_of_one_group():
    config = from_config_dict({"num_seeds": 2, "sweep": {BETA: (0.0, 0.1)}})
    made = of_experiment(config)
    assert made.record == to_json(config)
    assert made.groups[0].config == config
    assert made.members == sweep({BETA: (0.0, 0.1)}).members
    assert from_record(json.loads(json.dumps(made.record))).groups == made.groups


def test_a_config_file_may_set_and_sweep_everything():
    config = with_search(cartpole.get_config())
    config.sweep = {"haepo": {"score": ("sum", "mean")}, "optimizer": {"learning_rate": {"log_uniform": (1e-4, 1e-2)}}}
    config.search.num_samples = 3
    assert len(from_values(config.to_dict()).members) == 3 * 32
    assert {"search.num_samples", "haepo.kl_coef"} < set(sweep_setting_names())


def test_the_shipped_grid_has_1152_members_in_one_program():
    made = from_values(beta_lambda.get_config().to_dict())
    assert len(made.groups) == 1 and len(made.members) == 6 * 6 * 32


def test_arguments_of_components_are_swept_in_any_section():
    swept = {"optimizer.transform_params.b1": (0.8, 0.9), "policy.network_kwargs.sizes": ((8,), (8, 8))}
    made = from_values({"num_seeds": 1, "policy": {"network": "my.nets:Net"}, "sweep": swept})
    assert [group.name for group in made.groups] == [f"policy.network_kwargs.sizes={name}" for name in ("8", "8x8")]
    assert [group.config.policy.network_kwargs for group in made.groups] == [{"sizes": (8,)}, {"sizes": (8, 8)}]
    assert [member.settings["optimizer.transform_params.b1"] for member in made.members] == [0.8, 0.9] * 2
    assert from_values(json.loads(json.dumps(made.record))) == made
