import runpy
from pathlib import Path

import jax
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "optuna_search.py"


@pytest.mark.slow
def test_the_search_returns_its_best_setting_and_the_parameters_of_its_seeds():
    pytest.importorskip("optuna")
    study, params = runpy.run_path(str(EXAMPLE))["search"](rounds=2, batch=2)
    assert len(study.trials) == 4
    assert study.best_value == max(trial.value for trial in study.trials) >= -1
    assert all(leaf.shape[0] == 4 for leaf in jax.tree.leaves(params))  # seeds
