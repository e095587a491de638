"""A record refuses what cannot be one, before anything is trained."""

import ast
from pathlib import Path

import pytest

import haepo_jax
from haepo_jax.methods import (
    METHODS,
    EpochsConfig,
    HaepoConfig,
    Method,
    NoSettings,
    ReferenceConfig,
    Sees,
    SegmentConfig,
    count_gradient_steps,
    get_reference_rule,
)


@pytest.mark.parametrize("settings", [SegmentConfig, {"num_epochs": 2}, None])
def test_settings_that_are_no_instance_of_a_dataclass_are_refused(settings):
    with pytest.raises(TypeError, match="settings must be an instance of a frozen dataclass, such as MyConfig"):
        Method(lambda *_: None, Sees.SUMS, settings)


def test_segments_need_the_settings_of_segments():
    with pytest.raises(TypeError, match="must be a SegmentConfig, got EpochsConfig"):
        Method(lambda *_: None, Sees.SEGMENTS, EpochsConfig())


def test_steps_and_reference_follow_from_the_settings():
    assert [count_gradient_steps(s) for s in (NoSettings(), EpochsConfig(3), SegmentConfig(num_epochs=3))] == [
        1,
        3,
        12,
    ]
    assert [get_reference_rule(s) for s in (NoSettings(), ReferenceConfig(), HaepoConfig(reference="ema"))] == [
        "none",
        "previous",
        "ema",
    ]


HOUSE = Path(haepo_jax.__file__).parent
OF_HAEPO = ("methods", "losses", "language/tunix.py", "language/training/memory.py")
"""Where methods are, and what is of HAEPO alone."""


def test_no_other_file_knows_a_method_by_name():
    known = {}
    for path in sorted(path.relative_to(HOUSE).as_posix() for path in HOUSE.rglob("*.py")):
        if not path.startswith(OF_HAEPO):
            nodes = list(ast.walk(ast.parse((HOUSE / path).read_text())))
            texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
            sections = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            known[path] = (texts | sections) & METHODS.keys()
    # What learns where a config names nothing.
    assert {path: names for path, names in known.items() if names} == {
        "config/settings.py": {"haepo"},
        "language/config.py": {"haepo"},
    }
