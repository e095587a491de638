"""What a resumed run is held to: its frozen parameters and its data."""

import numpy as np
import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.language.stages.frozen_inputs import check_examples, check_frozen
from haepo_jax.language.training.scoring import Prompts

DATA = Prompts(np.arange(12, dtype=np.int32).reshape(4, 3), np.ones((4, 3), bool))


def held(data, tmp_path):
    check_examples(data, "data/train.jsonl", tmp_path)


def test_the_same_examples_are_taken_again(tmp_path):
    for _ in range(2):
        held(DATA, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        DATA._replace(tokens=DATA.tokens[::-1]),  # as many rows, in another order
        DATA._replace(tokens=DATA.tokens + (DATA.tokens == 5)),
        DATA._replace(valid=DATA.tokens != 0),
        Prompts(DATA.tokens[:3], DATA.valid[:3]),
    ],
)
def test_other_examples_are_refused_and_their_file_is_named(tmp_path, changed):
    held(DATA, tmp_path)
    for _ in range(2):  # as nothing of the refused ones is noted
        with pytest.raises(ConfigError, match=rf"^data/train\.jsonl has changed since {tmp_path} was started: .*\.$"):
            held(changed, tmp_path)
    held(DATA, tmp_path)


def test_other_frozen_parameters_are_refused(tmp_path):
    check_frozen({"reward": np.ones(3)}, tmp_path)
    check_frozen({"reward": np.ones(3)}, tmp_path)
    with pytest.raises(
        ConfigError, match=r"was started with another reference policy or reward model \(reward differs"
    ):
        check_frozen({"reward": np.zeros(3)}, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10**5])
def test_damaged_checksums_are_refused(tmp_path, text):
    held(DATA, tmp_path)
    (tmp_path / "examples.json").write_text(text)
    with pytest.raises(ConfigError, match=r"examples\.json is damaged: "):
        held(DATA, tmp_path)
