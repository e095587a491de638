"""Which responses of an update the loss counts."""

import jax.numpy as jnp
import pytest

from haepo_jax.language.config import from_config_dict
from haepo_jax.language.training.rl import _find_counted
from haepo_jax.language.training.sampling import Samples

ENDED = [True, True, False, True, True, False]
REWARDS = [1.0, 0.0, 0.0, 0.5, 0.5, 0.5]  # of two groups, of which the second has no variance


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ({"filter_groups": True}, [1, 1, 1, 0, 0, 0]),
        ({"mask_truncated": True}, ENDED),
        ({"filter_groups": True, "mask_truncated": True}, [1, 1, 0, 0, 0, 0]),
    ],
)
def test_groups_without_variance_and_truncated_responses_are_left_out_where_that_is_asked_for(settings, counted):
    config = from_config_dict({"rl": {"num_samples": 3, **settings}})
    nothing = jnp.zeros((6, 2))
    samples = Samples(nothing, nothing, nothing, nothing, jnp.array(ENDED))
    assert _find_counted(config, samples, jnp.array(REWARDS)).tolist() == [bool(one) for one in counted]


def test_all_responses_count_otherwise():
    assert _find_counted(from_config_dict({}), None, None) is None
