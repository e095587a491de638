from haepo_jax.reports.configs import find_changed, find_differing, look_up

DEFAULTS = {"seed": 0, "env_kwargs": {}, "haepo": {"kl_coef": 0.1, "score": "sum"}}


def test_what_differs_from_the_defaults_is_found_by_dotted_name():
    config = {"seed": 0, "env_kwargs": {"size": 4}, "haepo": {"kl_coef": 0.2, "score": "sum"}, "own": [1]}
    assert find_changed(config, DEFAULTS) == {"env_kwargs.size": 4, "haepo.kl_coef": 0.2, "own": [1]}


def test_what_differs_between_configs_has_a_value_of_each():
    one, other = {"seed": 3, "haepo": {"kl_coef": 0.2}}, {"seed": 3, "env_kwargs": {"size": 4}}
    assert find_differing([one, other], DEFAULTS) == {"haepo.kl_coef": [0.2, 0.1], "env_kwargs.size": [None, 4]}
    assert find_differing([one, one], DEFAULTS) == {}


def test_a_name_that_is_not_there_has_no_value():
    assert [look_up(DEFAULTS, name) for name in ("haepo.score", "haepo.other", "seed.x")] == ["sum", None, None]
