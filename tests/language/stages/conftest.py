"""What all stages' tests share."""

import pytest

from haepo_jax.language.training import sampling


@pytest.fixture(scope="module", autouse=True)
def one_shape_of_sampling():
    """Sampling in one shape, whatever the batch: others draw the same (`test_sampling.py`) and take seconds more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_MANY", 10**9)
        yield
