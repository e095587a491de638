import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import read_json


@pytest.mark.parametrize(("value", "shape"), [(1, bool), (True, int)])
def test_a_truth_is_no_number_and_a_number_no_truth(value, shape, tmp_path):
    write_json(tmp_path / "it.json", {"quick": value})
    with pytest.raises(ConfigError, match="quick is"):
        read_json(tmp_path / "it.json", {"quick": shape})


def test_a_truth_is_read(tmp_path):
    write_json(tmp_path / "it.json", {"quick": True})
    assert read_json(tmp_path / "it.json", {"quick": bool}) == {"quick": True}
