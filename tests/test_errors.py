"""Messages about names: the nearest known ones, or all of them."""

import pytest

from haepo_jax.errors import ConfigError, choose, nearest

FEW = ("haepo", "reinforce")
MANY = ("Acrobot-v1", "CartPole-v1", "Catch-bsuite", "DeepSea-bsuite", "Pendulum-v1", "Pong-misc", "a", "b", "c")


class TestNearest:
    def test_names_the_nearest(self):
        assert nearest("CartPole-v2", MANY) == "; did you mean CartPole-v1?"

    def test_ignores_case_and_keeps_the_spelling_of_the_known_name(self):
        assert nearest("cartpole-V1", MANY) == "; did you mean CartPole-v1?"

    def test_names_several_that_are_near(self):
        assert nearest("name", ("name1", "seed", "name2")) == "; did you mean name1 or name2?"

    def test_names_at_most_three(self):
        assert nearest("name", ("name1", "name2", "name3", "name4")).count("name") == 3

    def test_says_nothing_when_none_is_near(self):
        assert nearest("zzz", MANY) == ""

    def test_says_nothing_when_nothing_is_known(self):
        assert nearest("zzz", ()) == ""


class TestChoose:
    def test_returns_a_known_choice(self):
        assert choose("algorithm", "haepo", FEW) == "haepo"

    def test_is_strict_about_case(self):
        with pytest.raises(ConfigError, match="algorithm 'HAEPO' is not known; allowed: haepo, reinforce"):
            choose("algorithm", "HAEPO", FEW)

    def test_lists_all_of_a_few_choices(self):
        with pytest.raises(ConfigError) as error:
            choose("algorithm", "haepp", FEW)
        assert str(error.value) == "algorithm 'haepp' is not known; allowed: haepo, reinforce."

    def test_names_the_nearest_of_many_choices(self):
        with pytest.raises(ConfigError) as error:
            choose("env", "CartPole", MANY)
        assert str(error.value) == "env 'CartPole' is not known; did you mean CartPole-v1?"

    def test_lists_many_choices_when_none_is_near(self):
        with pytest.raises(ConfigError, match=f"allowed: {', '.join(MANY)}"):
            choose("env", "zzz", MANY)

    @pytest.mark.parametrize("value", [None, 3, ["haepo"], True])
    def test_refuses_what_is_not_text(self, value):
        with pytest.raises(ConfigError, match="is not known; allowed: haepo, reinforce"):
            choose("algorithm", value, FEW)

    def test_is_a_value_error(self):
        assert issubclass(ConfigError, ValueError)
