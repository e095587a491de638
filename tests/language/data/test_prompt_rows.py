"""Prompts of one's own: any columns, text or messages, and a rule for those that are too long."""

import dataclasses

import numpy as np
import pyarrow
import pytest
from helpers.own_model import write_rows, write_tokenizer
from helpers.small_tokenizers import characters
from pyarrow import parquet

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import DataConfig
from haepo_jax.language.data import corpus
from haepo_jax.language.data.prompt_rows import encode_prompts, read_prompt_rows
from haepo_jax.language.data.tokenizer import Tokenizer

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "level": 1}


def read(path, tokenizer=None, **settings):
    return read_prompt_rows(path, DataConfig(**settings), tokenizer or characters())


def test_a_prompt_is_left_as_it_is_and_the_other_columns_go_with_it(tmp_path):
    rows = [{"id": 1, "q": "  2 + 2 =\n", "answer": "4"}, {"q": "3", "nested": {"a": [1, None]}}]
    first, second = read(write_rows(tmp_path / "a.jsonl", rows), prompt_column="q")
    assert (first.text, first.columns, first.completion) == ("  2 + 2 =\n", {"id": 1, "answer": "4"}, None)
    assert second.columns == {"nested": {"a": [1, None]}}
    assert [first.where, second.where] == [f"{tmp_path / 'a.jsonl'}, line {k}" for k in (1, 2)]
    assert first.checksum != second.checksum == second._replace(where="elsewhere").checksum


def test_parquet_files_are_read_with_all_their_columns(tmp_path):
    table = pyarrow.table({"prompt": ["a", "b"], "answer": [1, 2], "tags": [["x"], []]})
    parquet.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", completion_column="none")
    assert [row.columns for row in rows] == [{"answer": 1, "tags": ["x"]}, {"answer": 2, "tags": []}]
    assert rows[1].where == f"{tmp_path / 'a.parquet'}, row 1"


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([0, 2**62], pyarrow.timestamp("us")),
        pyarrow.array([0, 2**30], pyarrow.date32()),
        pyarrow.array([[0], [2**62]], pyarrow.list_(pyarrow.duration("s"))),
        pyarrow.array([None, 1], pyarrow.timestamp("us", "No/Where")),
    ],
    ids=["time", "date", "durations in lists", "time zone"],
)
def test_a_value_of_parquet_that_python_cannot_hold_is_refused_with_its_row(column, tmp_path):
    parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "when": column}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"a.parquet, row 1: field when holds what Python cannot: [^\n]+[^.]\.$"):
        read(tmp_path / "a.parquet")


def test_messages_are_written_by_the_template_and_the_last_of_the_assistant_is_the_completion(tmp_path):
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path / "model"))
    path = write_rows(tmp_path / "a.jsonl", [CHAT, CHAT | {"messages": CHAT["messages"][:1], "completion": "Mine"}])
    first, second = read(path, tokenizer, prompt_column="messages")
    assert first.text == second.text == "<bos>[user]Hi[assistant]"
    assert (first.completion, second.completion) == ("Ho<eos>", "Mine")
    assert first.columns == CHAT
    demonstrations = corpus.read_demonstrations(
        DataConfig(prompts=str(path), prompt_column="messages", prompt_length=32, response_length=8),
        tokenizer,
        "train",
    )
    (ho, mine) = (tokens[32:][valid[32:]].tolist() for tokens, valid in zip(*demonstrations, strict=True))
    assert tokenizer.decode(ho) == "Ho" and ho.count(1) == 1 and ho[-1] == mine[-1] == 1


def test_a_completion_of_messages_follows_those_of_the_prompt(tmp_path):
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path / "model"))
    user, assistant = ([message] for message in CHAT["messages"])
    row = {"prompt": user, "completion": assistant, "level": 1}
    (read_back,) = read(write_rows(tmp_path / "a.jsonl", [row]), tokenizer)
    assert (read_back.text, read_back.completion) == ("<bos>[user]Hi[assistant]", "Ho<eos>")
    assert read_back.columns == row
    for given, sentence in (
        ({"completion": user}, "field completion ends with a message of 'user', not of 'assistant'."),
        ({"completion": ["Ho"]}, "field completion[0] is 'Ho', not a message: an object with a role and a content."),
        ({"prompt": "Hi"}, "field completion is a list, not a string."),
    ):
        path = write_rows(tmp_path / "b.jsonl", [row | given])
        with pytest.raises(ConfigError) as error:
            read(path, tokenizer)
        assert str(error.value) == f"{path}, line 1: {sentence}"


def test_a_template_that_writes_answers_otherwise_leaves_the_content_as_the_completion(tmp_path):
    template = "{% if add_generation_prompt %}A{% else %}B{% endif %}"
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path / "model", template))
    (row,) = read(write_rows(tmp_path / "a.jsonl", [CHAT]), tokenizer, prompt_column="messages")
    assert (row.text, row.completion) == ("A", "Ho")


@pytest.mark.parametrize(
    ("row", "settings", "sentence"),
    [
        ({"q": "x", "a": 1}, {}, "field prompt is missing (config.data.prompt_column); there are: q, a."),
        ({"prompt": 3}, {}, "field prompt is a number, not text or a list of messages."),
        ({"prompt": "\ud800"}, {}, "field prompt holds half a character at 0: '\\ud800'."),
        ({"prompt": "x", "completion": 3}, {}, "field completion is a number, not a string."),
        (
            {"prompt": [{"role": "user", "content": "a\udc00"}]},
            {},
            "field prompt holds half a character at 12: '\\udc00'.",
        ),
        (
            {"prompt": [CHAT["messages"][0], {"role": "assistant", "content": "\ud800"}]},
            {},
            "field prompt holds half a character at 0: '\\ud800'.",
        ),
        ({"prompt": CHAT["messages"][1:]}, {}, "the only message is the assistant's, so that there is no prompt."),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_field(row, settings, sentence, tmp_path):
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path / "model"))
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(ConfigError) as error:
        read(path, tokenizer, **settings)
    assert str(error.value) == f"{path}, line 2: {sentence}"


def encode(texts, length, long_prompts="drop", tokenizer=None):
    where = [(f"a.jsonl, line {k}", text) for k, text in enumerate(texts, 1)]
    return encode_prompts(where, tokenizer or characters(), length=length, long_prompts=long_prompts, source="a.jsonl")


def decode(tokens, valid):
    return [characters().decode(row[there]) for row, there in zip(tokens, valid, strict=True)]


def test_long_prompts_are_left_out_with_a_count(capsys):
    tokens, valid, kept = encode(["abc", "abcdef", "abcd"], 4)
    assert decode(tokens, valid) == ["abc", "abcd"] and kept.tolist() == [0, 2]
    np.testing.assert_array_equal(valid[0], [False, True, True, True])
    assert capsys.readouterr().err == (
        "Leaves out 1 of 3 prompts of a.jsonl, which have more than 4 tokens (config.data.prompt_length).\n"
    )


def test_or_they_are_cut_at_their_beginning_behind_the_tokens_that_begin_a_text(capsys):
    tokens, valid, kept = encode(["abc", "abcdef"], 4, "cut_left")
    assert decode(tokens, valid) == ["abc", "cdef"] and kept.tolist() == [0, 1]
    assert capsys.readouterr().err.startswith("Cuts the beginning of 1 of 2 prompts of a.jsonl, which have more")
    begins = dataclasses.replace(characters(), begin_ids=(3,))
    tokens, valid, _ = encode(["abc", "abcdef"], 4, "cut_left", begins)
    assert decode(tokens, valid) == ["abc", "def"] and tokens[:, 0].tolist() == [3, 3]


def test_prompts_of_which_none_is_left_and_an_empty_one_are_refused():
    with pytest.raises(
        ConfigError, match=r"^a.jsonl has no prompt of at most 2 tokens \(config.data.prompt_length\);"
    ):
        encode(["abc"], 2)
    with pytest.raises(ConfigError, match=r"^a.jsonl, line 2: the prompt is empty\.$"):
        encode(["a", ""], 2)


def test_a_row_without_anything_to_imitate_is_refused_by_sft(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}])
    with pytest.raises(ConfigError, match=rf"^{path}, line 2: there is nothing to imitate, no column completion "):
        corpus.read_demonstrations(DataConfig(prompts=str(path)), characters(), "train")


def test_lengths_are_those_of_the_config_or_else_of_the_format():
    def lengths(**settings):
        found = corpus.get_format(DataConfig(**settings))
        return found.query_length, found.response_length, found.comparison_length

    assert lengths() == (32, 50, 50) and lengths(prompt="openai_tldr") == (512, 53, 169)
    assert lengths(prompt="openai_tldr", prompt_length=100) == (100, 53, 169)
    assert lengths(prompts="a.jsonl") == (512, 256, 256)
    assert lengths(prompts="a.jsonl", prompt_length=7, response_length=9) == (7, 9, 9)


def test_comparisons_of_ones_own_are_left_as_they_are_and_those_with_long_prompts_go(tmp_path, capsys):
    rows = [{"prompt": p, "chosen": " x", "rejected": "y "} for p in ("ab", "abcde")]
    path = str(write_rows(tmp_path / "pairs.jsonl", rows))
    data = DataConfig(
        prompts="p.jsonl",
        comparisons=path,
        comparisons_schema="trl_tldr_preference",
        prompt_length=3,
        response_length=4,
    )
    tokens, valid = corpus.read_comparisons(data, characters(), held_out=False)
    assert tokens.shape == (1, 2, 7)
    assert decode(tokens[0], valid[0]) == ["ab x", "aby "] and "Leaves out 1 of 2 prompts" in capsys.readouterr().err


def test_an_empty_prompt_among_comparisons_is_named_by_its_line(tmp_path):
    (tmp_path / "pairs").mkdir()
    path = tmp_path / "pairs" / "b.jsonl"
    path.write_text(
        '{"prompt": "a", "chosen": "x", "rejected": "y"}\n\n{"prompt": "", "chosen": "x", "rejected": "y"}\n'
    )
    data = DataConfig(
        prompts="p.jsonl", comparisons=str(path.parent), comparisons_schema="trl_tldr_preference", prompt_length=3
    )
    with pytest.raises(ConfigError, match=rf"^{path}, line 3: the prompt is empty\.$"):
        corpus.read_comparisons(data, characters(), held_out=False)


def test_responses_of_ones_own_that_are_cut_are_counted(tmp_path, capsys):
    rows = [{"prompt": "a", "completion": text} for text in ("bcd", "bc", "bcde", "")]
    path = str(write_rows(tmp_path / "a.jsonl", rows))
    sequences = corpus.read_demonstrations(
        DataConfig(prompts=path, prompt_length=1, response_length=3), characters(), "train"
    )
    assert decode(*sequences) == ["abcd", "abc", "abcd", "a"] and sequences.valid.sum() == 4 + 4 + 4 + 2
    assert capsys.readouterr().err == (
        f"Cuts the ends of 2 of 4 responses of {path}, which have more than 3 tokens (config.data.response_length).\n"
    )


def test_of_many_prompts_to_be_judged_by_the_first_are_taken_with_a_word(tmp_path, capsys):
    path = str(write_rows(tmp_path / "a.jsonl", [{"prompt": text} for text in "abc"]))
    data = DataConfig(prompts=path, test_prompts=path, num_held_out=2)
    assert [row.text for row in corpus.read_prompts(data, characters(), "test").rows] == ["a", "b"]
    assert capsys.readouterr().err == f"Takes the first 2 of 3 prompts of {path} (config.data.num_held_out).\n"
    assert len(corpus.read_prompts(data, characters(), "train").rows) == 3
    data = dataclasses.replace(data, num_held_out=3)
    assert len(corpus.read_prompts(data, characters(), "test").rows) == 3 and not capsys.readouterr().err


def test_prompts_that_are_not_given_are_asked_for():
    with pytest.raises(
        ConfigError, match=r"^config.data.prompts is empty, and there are no other prompts for this\.$"
    ):
        corpus.read_prompts(DataConfig(test_prompts="a.jsonl"), characters(), "train")
