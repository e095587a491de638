"""Environments of other libraries have names of prefix and id; where one cannot be had, one sentence says so."""

import importlib.util
import sys

import pytest

from haepo_jax.config import from_config_dict
from haepo_jax.config.libraries import LIBRARIES
from haepo_jax.config.method import components_of
from haepo_jax.environments import make
from haepo_jax.errors import ConfigError


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as raised:
        call(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("prefix", LIBRARIES)
def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(prefix, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    library = LIBRARIES[prefix]
    assert refusal(make, f"{prefix}:Thing-v0") == (
        f"env {prefix}:Thing-v0 needs the library {library.package}, which is not installed: pip install "
        f"{library.install}."
    )


def test_a_library_that_cannot_be_imported_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setitem(sys.modules, "navix", None)
    monkeypatch.delitem(sys.modules, "haepo_jax.environments.libraries.navix", raising=False)
    sentence = refusal(make, "navix:Navix-Empty-5x5-v0")
    assert sentence.startswith("env navix:Navix-Empty-5x5-v0 needs the library navix, which cannot be imported (")
    assert sentence.endswith("pip install 'haepo_jax[navix]' installs a version that can.")


def test_a_config_names_one_by_prefix_and_id_and_it_is_no_component_from_outside():
    config = from_config_dict({"env": "navix:Navix-DoorKey-8x8-v0"})
    assert config.env == "navix:Navix-DoorKey-8x8-v0" and not components_of(config)
    assert components_of(from_config_dict({"env": "navy:Ship"})) == {"env": "navy:Ship"}


def test_an_id_after_an_unknown_prefix_is_refused_with_the_prefixes_that_there_are():
    assert refusal(from_config_dict, {"env": "navx:Navix-DoorKey-8x8-v0"}) == (
        "config.env 'navx:Navix-DoorKey-8x8-v0' names nothing that can be imported; it is written as "
        "package.module:attribute, such as my_project.maze:Maze, or as an id after a library: "
        f"{', '.join(f'{prefix}:' for prefix in LIBRARIES)}."
    )


def test_a_prefix_that_is_nearly_one_is_refused_with_the_right_one():
    assert refusal(make, "jumanjy:Snake").endswith("those of PYTHONPATH; did you mean jumanji?")
