import runpy
from pathlib import Path

import pytest

from experiments.studies.methods import nest_settings
from experiments.studies.puzzles.methods import DAPO, HAEPO, METHODS, PANELS, SETTINGS_PER_METHOD
from experiments.studies.puzzles.scale import FULL, QUICK
from experiments.studies.puzzles.task import SETTINGS, locate_puzzles
from haepo_jax.config import from_mapping
from haepo_jax.language.config import ON_LANGUAGE, LanguageConfig, from_config_dict, unread

ROOT = Path(__file__).parents[4]


def config_of(settings):
    return from_config_dict(nest_settings({**SETTINGS, **locate_puzzles(Path("runs/puzzles/data")), **settings}))


def test_every_method_that_samples_is_there():
    there = {method.base["algorithm"] for method in METHODS}
    assert there == {name for name, method in ON_LANGUAGE.items() if method.comparisons is None}
    assert len({method.name for method in METHODS}) == len({method.label for method in METHODS}) == len(METHODS)
    assert {method.name for panel in PANELS.values() for method in panel} == {method.name for method in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_all_have_the_same_number_of_settings_and_each_is_allowed_and_read(method):
    settings = method.settings()
    assert len({tuple(chosen.items()) for chosen in settings}) == SETTINGS_PER_METHOD
    for chosen in settings:
        config = config_of({**method.base, **chosen})
        assert not {*method.base, *chosen} & unread(config).keys()


def test_the_adaptive_haepo_moves_its_sharpness_and_dapo_has_its_paper_s_settings():
    assert config_of(HAEPO.base).haepo.adapt == "dual"
    dapo = config_of(DAPO.base).dapo
    assert (dapo.clip_low, dapo.clip_high, dapo.aggregation, dapo.kl_coef) == (0.2, 0.28, "token_mean", 0.0)


def test_the_shipped_config_is_what_the_study_trains():
    made = runpy.run_path(str(ROOT / "configs" / "puzzles.py"))["get_config"]().to_dict()
    shipped, study = from_mapping(LanguageConfig(), made), config_of({})
    for section in ("model", "data", "sft", "reward", "mesh"):
        assert getattr(shipped, section) == getattr(study, section)
    tuned = {"optimizer": study.rl.optimizer}
    assert {**vars(shipped.rl), **tuned} == {**vars(study.rl), **tuned}


@pytest.mark.parametrize("scale", [FULL, QUICK])
def test_haepo_and_dapo_are_always_compared(scale):
    assert {HAEPO.name, DAPO.name} <= {method.name for method in scale.methods}
