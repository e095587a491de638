"""Responses as reward functions read them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.small_tokenizers import characters

from haepo_jax.language.config import from_config_dict
from haepo_jax.language.data.corpus import PromptSet
from haepo_jax.language.data.prompt_rows import PromptRow
from haepo_jax.language.stages.judged_update import JudgedUpdate, ask_about, make_columns
from haepo_jax.language.stages.samples import SamplesWriter, read_samples
from haepo_jax.language.training.sampling import Samples
from haepo_jax.language.training.scoring import Prompts

ROWS = [PromptRow(f"a.jsonl, line {k}", f"prompt {k}", {"answer": k}, None) for k in (1, 2)]
TOKENIZER = dataclasses.replace(characters(), other_eos_ids=(3,))  # 1 and 3 end a response, 0 is padding
A, B = characters().encode(["ab"])[0]


def ask(responses):
    """Of each its tokens before the padding."""
    tokens, lengths = np.zeros((len(responses), 4), np.int32), np.array([len(row) for row in responses])
    for row, ids in zip(tokens, responses, strict=True):
        row[: len(ids)] = ids
    valid = np.arange(4) < lengths[:, None]
    nothing = np.zeros(tokens.shape, np.float32)
    ended = np.array([row[-1] in (1, 3) for row in responses])
    return ask_about(ROWS, Samples(tokens, valid, nothing, nothing, ended), TOKENIZER)


def test_a_text_ends_before_whichever_token_ends_it_and_holds_no_padding():
    first, second = ask([[A, B, 1], [A, 3], [A, B, B, A], [B, A, 1]])
    assert (first.completions, first.num_tokens, first.ended) == (["ab", "a"], [3, 2], [True, True])
    assert (second.completions, second.num_tokens, second.ended) == (["abba", "ba"], [4, 3], [False, True])
    assert (second.where, second.prompt, second.columns) == ("a.jsonl, line 2", "prompt 2", {"answer": 2})


def test_an_empty_completion_is_judged_as_an_empty_text():
    first, _ = ask([[1], [3], [A, 1], [A, 1]])
    assert (first.completions, first.num_tokens, first.ended) == (["", ""], [1, 1], [True, True])


def test_padding_that_is_sampled_within_a_response_is_no_text_and_what_stands_behind_is():
    first, _ = ask([[A, 0, B, 1], [0, 0, 1], [A, 1], [A, 1]])
    assert first.completions == ["ab", ""] and first.num_tokens == [4, 3]


@pytest.mark.parametrize(("lengths", "width"), [((3, 8), 8), ((3, 9), 16), ((64, 1), 64)])
def test_a_batch_is_placed_in_parts_as_wide_as_its_longest_prompt_needs(lengths, width):
    valid = np.arange(64) >= 64 - np.array(lengths)[:, None]
    tokens = np.where(valid, np.arange(64) + 5, 0)
    settings = {"rewards": "format", "num_prompts": 2, "sampling_parts": 2}
    context = SimpleNamespace(config=from_config_dict({"rl": settings}), place=lambda part: part)
    update = JudgedUpdate(context, {}, PromptSet(Prompts(tokens, valid), ROWS, "a.jsonl"), TOKENIZER, None, None)
    examples = update.make_examples()
    batch = update.place(examples)
    assert batch.rows.tolist() == [0, 1] and len(set(examples.checksum.tolist())) == 2
    assert [part.tokens.shape for part in batch.parts] == [(1, width)] * 2
    for part, length in zip(batch.parts, lengths, strict=True):
        assert part.valid.sum() == length and part.tokens[0, -1] == 68


def test_rows_of_a_file_whose_name_is_no_text_are_written(tmp_path):
    first, _ = ask([[A, 1], [B, 1], [A, 1], [A, 1]])
    asked = [dataclasses.replace(first, where="a\udcff.jsonl, line 1")]  # of a byte that is not UTF-8
    samples = SamplesWriter(1)
    samples.add(0, make_columns(asked, np.zeros(2), {}, np.zeros(2, np.float32)))
    samples.write(tmp_path)
    assert read_samples(tmp_path)["row"].to_pylist() == ["a\\udcff.jsonl, line 1"] * 2
