import numpy as np
import pytest

from haepo_jax.config import from_config_dict, to_json, traced_settings
from haepo_jax.config.members import make_members
from haepo_jax.config.sweep import from_values
from haepo_jax.errors import ConfigError

RATE, ENTROPY = "optimizer.learning_rate", "haepo.entropy_coef"
PBT = {"every": 5, "perturb": {RATE: (1e-4, 1e-2)}}


def config(pbt=PBT, **changes):
    return from_config_dict({"num_seeds": 8, "pbt": pbt} | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pbt": {"every": 40}}, "config.pbt.every 40 must be below config.num_updates 40, as nobody copies after"),
        ({"pbt": PBT | {"fraction": 0.6}}, "config.pbt.fraction must be at least 0.0 and at most 0.5, got 0.6."),
        ({"pbt": PBT | {"factor": 1.0}}, "config.pbt.factor must be above 1.0, got 1.0."),
        ({"pbt": PBT | {"perturb": 3}}, "config.pbt.perturb must map settings to their bounds, got 3."),
        (
            {"pbt": PBT | {"perturb": {RATE: 0.1}}},
            f"config.pbt.perturb.{RATE} must be two numbers, the lower first, got 0.1.",
        ),
        ({"pbt": PBT | {"perturb": {RATE: (0.1, 0.01)}}}, "must be two numbers, the lower first, got [0.1, 0.01]."),
        ({"pbt": PBT | {"perturb": {RATE: (0.0, 0.01)}}}, f"config.pbt.perturb.{RATE} must be above 0.0, got 0.0."),
        (
            {"pbt": PBT | {"perturb": {"num_trajectories": (4, 8)}}},
            "config.pbt.perturb.num_trajectories cannot change within one program",
        ),
        (
            {"pbt": PBT | {"perturb": {"ppo.clip_epsilon": (0.1, 0.3)}}},
            "config.pbt.perturb.ppo.clip_epsilon has no effect, as config.algorithm is haepo.",
        ),
        (
            {"sweep": {RATE: (1e-3, 1.0)}},
            f"config.sweep.{RATE} has the value 1.0, which is not within the bounds of config.pbt.perturb.{RATE}",
        ),
        (
            {"env": "RandomWalk-haepo", "sweep": {"env_params.length": (10, 20)}},
            "config.pbt compares members by their returns, so they must play one task",
        ),
        (
            {"haepo": {"adapt": "dual"}, "pbt": PBT | {"perturb": {ENTROPY: (0.1, 1.0)}}},
            f"config.haepo.adapt dual begins with config.{ENTROPY} and moves it itself, so that population-based "
            "training would change it in vain; name other settings in config.pbt.perturb, or set config.haepo.adapt",
        ),
        (
            {"haepo": {"adapt": "meta"}, "pbt": {"every": 5}, "sweep": {ENTROPY: (0.1, 0.2)}},
            f"config.haepo.adapt meta begins with config.{ENTROPY} and moves it itself",
        ),
        (
            {
                "algorithm": "ppo",
                "ppo": {"gae_lambda": 0.4, "gae_lambda_schedule": "linear", "gae_lambda_schedule_kwargs": {"end": 2}},
                "pbt": PBT | {"perturb": {"ppo.gae_lambda": (0.3, 0.9)}},
            },
            "config.ppo.gae_lambda_schedule linear takes config.ppo.gae_lambda from 0.9 to 1.8, and it must be",
        ),
        (
            {"pbt": PBT | {"perturb": {"haepo.kl_coef": (0.0, 0.1)}}},
            "config.haepo.kl_coef 0.1 needs a reference policy, but config.haepo.reference is none",
        ),
        ({"pbt": PBT | {"metric": "eval_return"}}, "config.pbt.metric eval_return needs config.evaluate_every"),
        (
            {"pbt": PBT | {"metric": "eval_return"}, "evaluate_every": 6},
            "config.evaluate_every 6 must be at most config.pbt.every 5.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ConfigError) as raised:
        config(**changes)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pbt": PBT | {"populations": 3}}, "config.pbt.populations 3 does not divide the 8 seeds."),
        ({"pbt": {"every": 5}}, "config.pbt.every is set, and no setting can change: name one in config.pbt.perturb"),
        ({"pbt": PBT | {"populations": 8}}, "config.pbt.populations 8 makes populations of one member"),
    ],
)
def test_members_that_make_no_populations_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ConfigError) as raised:
        make_members(config(**changes))
    assert sentence in str(raised.value)


def test_no_setting_need_change_where_nobody_copies():
    members = make_members(config(pbt={"every": 5, "fraction": 0.0}))
    assert [member.seed for member in members] == list(range(8)) and {member.population for member in members} == {0}


def test_what_a_method_moves_itself_may_differ_between_members_that_change_something_else():
    own = {"adapt": "dual", "entropy_coef": 0.1}
    assert config(haepo=own, sweep={ENTROPY: (0.1, 0.2)}).pbt.perturb == PBT["perturb"]
    drawn = {"perturb": {ENTROPY: (0.1, 1.0)}}
    assert config(PBT | drawn, haepo={"adapt": "ess"}).pbt.perturb == drawn["perturb"]
    assert config(PBT | drawn | {"fraction": 0.0}, haepo=own).pbt.perturb == drawn["perturb"]  # nobody copies


def test_members_draw_their_first_settings_log_uniformly_within_the_bounds():
    rates = np.array([member.settings[RATE] for member in make_members(config(num_seeds=400))])
    assert ((rates >= 1e-4) & (rates <= 1e-2)).all() and len({*rates}) == 400
    assert np.isclose(np.log10(rates).mean(), -3, atol=0.1)
    assert all(rate == float(np.float32(rate)) for rate in rates)


def test_the_settings_of_a_seed_do_not_follow_from_how_many_others_there_are():
    alone = {member.seed: member.settings for member in make_members(config(num_seeds=4, seed=2))}
    others = {member.seed: member.settings for member in make_members(config(pbt=PBT | {"populations": 2}))}
    assert alone == {seed: others[seed] for seed in (2, 3, 4, 5)}


def test_populations_are_made_of_seeds_and_hold_every_point():
    members = make_members(config(pbt=PBT | {"populations": 4}, sweep={ENTROPY: (0.0, 0.1)}))
    assert [member.population for member in members] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert [(m.seed, m.settings[ENTROPY]) for m in members[:4]] == [(0, 0.0), (1, 0.0), (0, 0.1), (1, 0.1)]
    assert len({member.settings[RATE] for member in members}) == 16


def test_a_swept_setting_begins_at_its_own_values_and_is_not_drawn():
    members = make_members(config(sweep={RATE: (1e-3, 3e-3)}))
    assert [member.settings for member in members] == [{RATE: 1e-3}] * 8 + [{RATE: 3e-3}] * 8


def test_populations_of_a_random_search_hold_its_points():
    values = {"num_seeds": 2, "pbt": {"every": 5, "populations": 2}, "search": {"num_samples": 3}}
    sweep = from_values(values | {"sweep": {RATE: {"log_uniform": (1e-4, 1e-2)}}})
    assert [(member.population, member.seed) for member in sweep.members] == [(0, 0)] * 3 + [(1, 1)] * 3
    points = [member.settings for member in sweep.members]
    assert points[:3] == points[3:] and len({point[RATE] for point in points}) == 3


def test_an_argument_that_is_drawn_alone_is_a_setting_of_the_program():
    name = "optimizer.transform_params.b1"
    assert name in traced_settings(config(pbt={"every": 5, "perturb": {name: (0.5, 0.99)}}))


def test_members_of_other_runs_are_listed_as_before():
    plain = from_config_dict({"num_seeds": 1})
    assert make_members(plain)[0].to_json() == {"index": 0, "seed": 0, "settings": {}, "group": "all"}


def test_a_config_comes_back_from_json_as_it_was():
    assert from_config_dict(to_json(config())) == config()
