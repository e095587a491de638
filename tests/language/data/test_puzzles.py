"""The puzzles: what is in which file, that every answer given is right, and that nothing to be judged by is learnt."""

import collections
import hashlib
import json
import re

import pytest

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.puzzles import HARDER, LEVELS, make_tokenizer, write
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.rewards.puzzles import puzzle

FILES = ("examples", "train", "held_out", "test/learnt", "test/harder")
COUNTS = {"num_examples": 60, "num_train": 100, "num_held_out": 20, "num_test": 40}


def read(folder, file):
    return [json.loads(line) for line in (folder / f"{file}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("puzzles")
    write(folder, seed=1, **COUNTS)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    return {file: read(folder, file) for file in FILES}


def key(row):
    """The same for puzzles with the same answers."""
    return (tuple(sorted(row["numbers"])), row["target"]) if row["puzzle"] == "countdown" else row["prompt"]


def test_every_file_has_as_many_rows_as_asked_for_half_of_each_puzzle(rows):
    assert {file: len(found) for file, found in rows.items()} == {
        "examples": 60, "train": 100, "held_out": 20, "test/learnt": 40, "test/harder": 40,
    }  # fmt: skip
    for found in rows.values():
        kinds = collections.Counter(row["puzzle"] for row in found)
        assert kinds["arithmetic"] == kinds["countdown"] == len(found) / 2


def test_the_harder_levels_are_in_their_own_file_alone(rows):
    for file, found in rows.items():
        levels = {(row["puzzle"], row["level"]) for row in found}
        expected = HARDER if file == "test/harder" else LEVELS
        assert levels == {(kind, level) for kind, all_of in expected.items() for level in all_of}
    assert not {(kind, level) for kind, of in HARDER.items() for level in of if level in LEVELS[kind]}


def is_right(row):
    columns = [[row.get(name)] for name in ("answer", "numbers", "target")]
    return puzzle([row["prompt"]], [row["completion"]], *columns) == [1.0]


def test_every_completion_is_right_but_for_careless_examples(folder, rows, tmp_path):
    write(tmp_path, seed=1, **COUNTS, careless=0.0)
    for file in FILES:
        careful = read(tmp_path, file)
        assert all(is_right(row) for row in careful)
        assert [row["prompt"] for row in careful] == [row["prompt"] for row in rows[file]]
        assert (careful == rows[file]) == (file != "examples")
    assert 0.05 < sum(not is_right(row) for row in rows["examples"]) / 60 < 0.5


def count_in_turn(text):
    """Works an expression out as if no sign came before another."""
    value, *steps = re.findall(r"\d+|[-+*/]", text)
    for sign, number in zip(steps[::2], steps[1::2], strict=True):
        value = eval(f"({value}){sign}{number}")
    return value


def test_a_careless_example_works_from_left_to_right(tmp_path):
    write(tmp_path, seed=1, **COUNTS, careless=1.0)
    careless = {row["prompt"]: row for row in read(tmp_path, "examples")}
    write(tmp_path, seed=1, **COUNTS, careless=0.0)
    for right in read(tmp_path, "examples"):
        row = careless[right["prompt"]]
        if row["puzzle"] == "arithmetic":
            assert int(row["completion"]) == count_in_turn(row["prompt"].removesuffix("="))
            assert row["answer"] == right["completion"]
        else:
            assert row["completion"] == right["completion"].replace("(", "").replace(")", "")
    wrong = {kind: sum(not is_right(row) for row in careless.values() if row["puzzle"] == kind) for kind in LEVELS}
    assert min(wrong.values()) > 0


def test_arithmetic_asks_for_what_its_expression_is_worth(rows):
    for row in (row for found in rows.values() for row in found if row["puzzle"] == "arithmetic"):
        assert eval(row["prompt"].removesuffix("=")) == int(row["answer"])
        assert sum(sign in "+-*" for sign in row["prompt"]) == row["level"]


def test_countdown_asks_for_a_target_that_is_none_of_its_numbers(rows):
    for row in (row for found in rows.values() for row in found if row["puzzle"] == "countdown"):
        assert row["prompt"] == f"{','.join(map(str, row['numbers']))}>{row['target']}:"
        assert len(row["numbers"]) == row["level"] and row["target"] not in row["numbers"]
        assert 1 <= row["target"] <= 99


def test_no_puzzle_that_is_judged_by_is_in_another_file_and_no_prompt_there_twice(rows):
    keys = {file: {key(row) for row in found} for file, found in rows.items()}
    for file in ("held_out", "test/learnt", "test/harder"):
        assert not keys[file] & set().union(*(others for other, others in keys.items() if other != file))
    prompts = [row["prompt"] for found in rows.values() for row in found]
    assert len(set(prompts)) == len(prompts)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(folder, tmp_path):
    write(tmp_path / "again", seed=1, **COUNTS)
    write(tmp_path / "other", seed=2, **COUNTS)

    def hashes(of):
        return [hashlib.sha256((of / f"{file}.jsonl").read_bytes()).hexdigest() for file in FILES]

    assert hashes(tmp_path / "again") == hashes(folder)
    assert not set(hashes(tmp_path / "other")) & set(hashes(folder))


def test_puzzles_to_be_judged_by_are_the_same_however_many_are_learnt_from(folder, tmp_path):
    write(tmp_path, seed=1, **COUNTS | {"num_examples": 10, "num_train": 10})
    for file in ("held_out", "test/learnt", "test/harder"):
        assert read(tmp_path, file) == read(folder, file)


def test_every_text_is_tokens_of_one_character_and_comes_back_as_it_was(folder, rows):
    tokenizer = Tokenizer.from_folder(folder / "tokenizer")
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.begin_ids) == (1, 0, ())
    texts = [row["prompt"] + row["completion"] for found in rows.values() for row in found]
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert len(ids) == len(text) and tokenizer.decode(ids) == text and "<unk>" not in text
    assert tokenizer.vocab_size == make_tokenizer().vocab_size == 23


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_train": 0}, "num_train must be at least 1, got 0"),
        ({"careless": 1.5}, "careless must be a share from 0 to 1, got 1.5"),
        ({"num_examples": 20_000}, r"not so many puzzles of \w+ of level [23]"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        write(tmp_path, **COUNTS | changes)
