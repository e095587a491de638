"""Tokenizers: which tokens end and pad, what is refused, and texts that come back as they were."""

import json
import sys

import numpy as np
import pytest
import tokenizers
from helpers.small_tokenizers import backend, characters, subwords
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, processors

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.tokenizer import Tokenizer

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True, database=None)
VOCABULARY = ["<pad>", "<eos>", "<unk>", "<end>", " ", *"abc"]


def write_folder(folder, vocabulary=VOCABULARY, *, made=None, **files):
    """A folder with `tokenizer.json` and the given files, whose names lack `.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (made or backend(vocabulary)).save(str(folder / "tokenizer.json"))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


def refusal(folder):
    with pytest.raises(ConfigError) as error:
        Tokenizer.from_folder(folder)
    return str(error.value)


class TestEndOfSequence:
    @pytest.mark.parametrize(
        "files",
        [
            {"tokenizer_config": {"eos_token": "<end>"}},
            {"tokenizer_config": {"eos_token": {"content": "<end>", "special": True}}},
            {"special_tokens_map": {"eos_token": "<end>"}},
            {"generation_config": {"eos_token_id": 3}},
            {"generation_config": {"eos_token_id": [3, 1]}},
            {"config": {"eos_token_id": 3}},
            # The earlier file decides.
            {"tokenizer_config": {"eos_token": "<end>"}, "special_tokens_map": {"eos_token": "<eos>"}},
            {"special_tokens_map": {"eos_token": "<end>"}, "generation_config": {"eos_token_id": 1}},
            {"generation_config": {"eos_token_id": 3}, "config": {"eos_token_id": 1}},
            {"tokenizer_config": {"eos_token": None}, "config": {"eos_token_id": 3}},
            {"generation_config": {"eos_token_id": []}, "config": {"eos_token_id": 3}},
        ],
    )
    def test_the_end_of_sequence_token_is_found(self, files, tmp_path):
        assert Tokenizer.from_folder(write_folder(tmp_path, **files)).eos_id == 3

    def test_a_folder_that_names_no_end_of_sequence_is_refused(self, tmp_path):
        assert refusal(write_folder(tmp_path, config={"pad_token_id": 0})) == (
            f"{tmp_path} names no end-of-sequence token: eos_token in tokenizer_config.json or "
            "special_tokens_map.json, or eos_token_id in generation_config.json or config.json."
        )

    @pytest.mark.parametrize("token", ["</s>", 3, {"content": "</s>"}])
    def test_an_end_of_sequence_token_that_the_tokenizer_lacks_is_refused(self, token, tmp_path):
        spelt = token["content"] if isinstance(token, dict) else token
        assert refusal(write_folder(tmp_path, tokenizer_config={"eos_token": token})) == (
            f"{tmp_path / 'tokenizer_config.json'}: eos_token {spelt!r} is not in tokenizer.json."
        )

    @pytest.mark.parametrize("number", [99, -1, "3", 3.0, True])
    def test_an_end_of_sequence_id_that_the_tokenizer_lacks_is_refused(self, number, tmp_path):
        assert refusal(write_folder(tmp_path, config={"eos_token_id": number})) == (
            f"{tmp_path / 'config.json'}: eos_token_id {number!r} is not in tokenizer.json."
        )


class TestPadding:
    @pytest.mark.parametrize(
        "files",
        [
            {"tokenizer_config": {"eos_token": "<eos>", "pad_token": "<pad>"}},
            {"special_tokens_map": {"eos_token": "<eos>", "pad_token": {"content": "<pad>"}}},
            {"config": {"eos_token_id": 1, "pad_token_id": 0}},
            {"generation_config": {"eos_token_id": 1, "pad_token_id": 0}},
        ],
    )
    def test_the_padding_token_is_found(self, files, tmp_path):
        tokenizer = Tokenizer.from_folder(write_folder(tmp_path, **files))
        assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (1, 0, len(VOCABULARY))

    @pytest.mark.parametrize(
        "files",
        [
            {"tokenizer_config": {"eos_token": "<eos>"}},
            {"tokenizer_config": {"eos_token": "<eos>", "pad_token": "<eos>"}},
            {"config": {"eos_token_id": 1, "pad_token_id": 1, "vocab_size": len(VOCABULARY) + 1}},
        ],
    )
    def test_padding_that_is_absent_or_ends_texts_is_added_behind_the_last_id(self, files, tmp_path):
        tokenizer = Tokenizer.from_folder(write_folder(tmp_path, **files))
        assert tokenizer.pad_id == len(VOCABULARY) == tokenizer.vocab_size - 1
        assert tokenizer.backend.id_to_token(tokenizer.pad_id) == "[PAD]"
        assert tokenizer.decode([tokenizer.pad_id, 5, tokenizer.pad_id]) == "a"

    def test_a_padding_token_of_the_vocabulary_is_used(self, tmp_path):
        folder = write_folder(tmp_path, ["a", "[PAD]", "<eos>", "<unk>"], config={"eos_token_id": 2, "vocab_size": 4})
        tokenizer = Tokenizer.from_folder(folder)
        assert (tokenizer.pad_id, tokenizer.vocab_size) == (1, 4)

    def test_padding_that_does_not_fit_in_the_model_is_refused(self, tmp_path):
        assert refusal(write_folder(tmp_path, config={"eos_token_id": 1, "vocab_size": 8})) == (
            f"{tmp_path} has no padding token other than its end-of-sequence token, and [PAD] would get id 8, but "
            "vocab_size in config.json is 8; name a token that texts do not hold as pad_token in "
            "tokenizer_config.json."
        )

    def test_a_padding_token_that_the_tokenizer_lacks_is_refused(self, tmp_path):
        assert refusal(write_folder(tmp_path, tokenizer_config={"eos_token": "<eos>", "pad_token": "[X]"})) == (
            f"{tmp_path / 'tokenizer_config.json'}: pad_token '[X]' is not in tokenizer.json."
        )


class TestFiles:
    def test_missing_tokenizer_files_are_refused(self, tmp_path):
        assert refusal(tmp_path) == f"{tmp_path} holds no tokenizer.json."

    def test_a_file_that_is_no_tokenizer_is_refused(self, tmp_path):
        path = tmp_path / "tokenizer.json"
        path.write_text('{"model": ')
        assert refusal(tmp_path).startswith(f"{path} is not a tokenizer that the tokenizers library can read: ")

    def test_files_that_are_not_json_are_refused(self, tmp_path):
        folder = write_folder(tmp_path, config='{"eos_token_id": ')
        assert refusal(folder).startswith(f"{folder / 'config.json'} is not valid JSON: ")
        assert (
            refusal(write_folder(tmp_path, config="[1]")) == f"{folder / 'config.json'} does not hold a JSON object."
        )

    def test_a_tokenizer_with_more_ids_than_the_model_is_refused(self, tmp_path):
        folder = write_folder(tmp_path, config={"eos_token_id": 1, "pad_token_id": 0, "vocab_size": 7})
        assert refusal(folder) == (f"{folder / 'tokenizer.json'} has ids up to 7, but vocab_size in config.json is 7.")

    def test_truncation_and_padding_of_the_file_are_switched_off(self, tmp_path):
        made = backend(VOCABULARY)
        made.enable_truncation(2)
        made.enable_padding(length=4, pad_id=0, pad_token="<pad>")
        tokenizer = Tokenizer.from_folder(write_folder(tmp_path, made=made, config={"eos_token_id": 1}))
        assert tokenizer.encode(["abcab", "a"]) == [[5, 6, 7, 5, 6], [5]]

    def test_a_saved_tokenizer_is_read_back_as_the_same(self, tmp_path):
        first = Tokenizer.from_folder(write_folder(tmp_path / "a", config={"eos_token_id": 1}))
        first.save(tmp_path / "deep" / "b")
        again = Tokenizer.from_folder(tmp_path / "deep" / "b")
        assert (again.eos_id, again.pad_id, again.vocab_size) == (first.eos_id, first.pad_id, first.vocab_size)
        assert again.encode(["ab c"]) == first.encode(["ab c"])

    def test_an_empty_vocabulary_is_refused(self, tmp_path):
        made = tokenizers.Tokenizer(models.WordLevel({}, unk_token="<unk>"))
        assert refusal(write_folder(tmp_path, made=made, config={"eos_token_id": 0})) == (
            f"{tmp_path / 'tokenizer.json'}: model.vocab is empty; a model needs tokens."
        )

    def test_a_tokenizer_that_cannot_encode_a_text_is_refused(self, tmp_path):
        made = tokenizers.Tokenizer(models.WordLevel({"<eos>": 0, "<pad>": 1, "a": 2}, unk_token="<unk>"))
        made.add_special_tokens(["<eos>", "<pad>"])
        tokenizer = Tokenizer.from_folder(write_folder(tmp_path, made=made, config={"eos_token_id": 0}))
        with pytest.raises(ConfigError, match=rf"^{tmp_path / 'tokenizer.json'} cannot encode a text: .*\.$"):
            tokenizer.encode(["b"])

    @pytest.mark.parametrize("name", ["config", "tokenizer_config", "special_tokens_map", "generation_config"])
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[" * 100_000, "is not valid JSON: it is nested too deeply."),
            ('{"a": ' * 100_000, "is not valid JSON: it is nested too deeply."),
            ('{"a": ' + "9" * 5000 + "}", "is not valid JSON: a number in it has too many digits."),
            ("\ufeff[]", "does not hold a JSON object."),
        ],
    )
    def test_damaged_files_beside_the_tokenizer_are_refused(self, name, text, problem, tmp_path):
        assert refusal(write_folder(tmp_path, **{name: text})) == f"{tmp_path / name}.json {problem}"

    @pytest.mark.parametrize("size", ["9", 9.5, True, 0, -1, [9], 10**12])
    def test_an_impossible_vocab_size_is_refused(self, size, tmp_path):
        folder = write_folder(tmp_path, config={"eos_token_id": 1, "vocab_size": size})
        assert refusal(folder).startswith(f"{tmp_path / 'config.json'}: vocab_size is {size!r}; it must be ")

    @pytest.mark.parametrize("token", ["\ud800", "x" * 10_000, ["<eos>"], {"content": {}}])
    def test_impossible_tokens_are_refused_in_one_line(self, token, tmp_path):
        sentence = refusal(write_folder(tmp_path, tokenizer_config={"eos_token": token}))
        assert sentence.startswith(f"{tmp_path / 'tokenizer_config.json'}: eos_token ")
        assert len(sentence) < 400 and sentence.isprintable()

    def test_the_tokenizers_library_is_needed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        assert refusal(tmp_path) == (
            "Language models need the tokenizers library; install it with pip install 'haepo_jax[language]'."
        )


SPELT = {"eos_token": {"content": "<eos>", "special": True}, "pad_token": {"content": "<eos>"}}
KINDS = {
    "no padding, as Pythia": {"tokenizer_config": {"eos_token": "<eos>"}},
    "the end as padding": {"tokenizer_config": SPELT, "special_tokens_map": SPELT, "config": {"vocab_size": 20}},
    "numbers alone": {"config": {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 3}},
    "no padding, and numbers alone": {"generation_config": {"eos_token_id": 1, "pad_token_id": 1}},
    "several ends": {"generation_config": {"eos_token_id": [1, 3], "bos_token_id": 4, "temperature": 0.6}},
    "several ends, one of them padding": {
        "tokenizer_config": {"eos_token": "<end>", "pad_token": "<pad>", "bos_token": None},
        "generation_config": {"eos_token_id": [3, 0], "pad_token_id": 0},
        "config": {"eos_token_id": 1, "bos_token_id": 0},
    },
}


class TestSaved:
    @pytest.mark.parametrize("kind", KINDS)
    def test_saved_tokenizers_are_read_back_equal(self, kind, tmp_path):
        first = Tokenizer.from_folder(write_folder(tmp_path / "a", **KINDS[kind]))
        again = first
        for name in ("b", "c"):  # as one stage reads what another wrote
            assert "tokenizer.json" in again.save(tmp_path / name)
            ids = {"eos_token_id": list(again.eos_ids), "pad_token_id": again.pad_id, "bos_token_id": again.bos_id}
            (tmp_path / name / "config.json").write_text(json.dumps(ids | {"vocab_size": 9}))
            again = Tokenizer.from_folder(tmp_path / name)
            assert (again.eos_ids, again.pad_id, again.bos_id) == (first.eos_ids, first.pad_id, first.bos_id)
            assert again.begin_ids == first.begin_ids
            assert again.encode(["a bc"]) == first.encode(["a bc"])
            assert again.decode([again.pad_id, 5, again.pad_id]) == "a"

    def test_added_padding_is_named_for_other_programs(self, tmp_path):
        files = KINDS["the end as padding"] | {"generation_config": {"eos_token_id": 1, "pad_token_id": 1, "top_k": 3}}
        Tokenizer.from_folder(write_folder(tmp_path / "a", **files)).save(tmp_path / "b")
        saved = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "b").glob("*.json")}
        assert saved["tokenizer_config"] == SPELT | {"pad_token": "[PAD]"} == saved["special_tokens_map"]
        assert saved["generation_config"] == {"eos_token_id": 1, "pad_token_id": 8, "top_k": 3}
        assert [token["content"] for token in saved["tokenizer"]["added_tokens"]][-1] == "[PAD]"

    def test_files_that_need_no_change_are_copied_to_the_byte(self, tmp_path):
        files = {"tokenizer_config": {"eos_token": "<eos>", "pad_token": "<pad>"}, "generation_config": {"top_k": 3}}
        Tokenizer.from_folder(write_folder(tmp_path / "a", **files)).save(tmp_path / "b")
        for path in (tmp_path / "b").iterdir():
            assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
        assert len(list((tmp_path / "b").iterdir())) == 3


class TestEnds:
    def test_every_end_token_that_the_files_name_ends_a_response(self, tmp_path):
        files = {
            "tokenizer_config": {"eos_token": "<end>"},
            "generation_config": {"eos_token_id": [1, 3]},
            "config": {"eos_token_id": 2},
        }
        tokenizer = Tokenizer.from_folder(write_folder(tmp_path, **files))
        assert tokenizer.eos_ids == (3, 1, 2)
        assert tokenizer.decode_response([5, 1, 6]) == tokenizer.decode_response([5, 3]) == "a"

    @pytest.mark.parametrize("numbers", [[1, 99], [1, "3"], [1, -1], [1, 2**70], [1, True]])
    def test_end_ids_that_the_tokenizer_lacks_are_refused(self, numbers, tmp_path):
        folder = write_folder(tmp_path, generation_config={"eos_token_id": numbers})
        assert refusal(folder).endswith(f"eos_token_id {numbers[1]!r} is not in tokenizer.json.")


class TestBeginning:
    @pytest.mark.parametrize(
        ("template", "expected"), [("<bos> $A", (3,)), ("<bos> $A <eos>", (3,)), ("$A <eos>", ()), ("$A", ())]
    )
    def test_begin_ids_are_what_the_tokenizer_puts_before_a_text(self, template, expected, tmp_path):
        made = backend(["<pad>", "<eos>", "<unk>", "<bos>", *"abc"])
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<bos>", 3), ("<eos>", 1)]
        )
        tokenizer = Tokenizer.from_folder(
            write_folder(tmp_path, made=made, config={"eos_token_id": 1, "pad_token_id": 0})
        )
        assert tokenizer.begin_ids == expected
        assert tokenizer.encode(["ab"]) == [[4, 5]]


class TestText:
    @PROPERTY
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def test_text_comes_back_from_byte_pairs(self, text):
        (ids,) = subwords().encode([text])
        assert subwords().decode(ids) == text.replace("<|endoftext|>", "").replace("<|padding|>", "")

    def test_a_decoded_response_stops_at_the_first_end(self):
        tokenizer = characters()
        (ids,) = tokenizer.encode([" abc"])
        assert tokenizer.decode_response([*ids, 1, *ids, 0, 0]) == " abc"
        assert tokenizer.decode_response(np.array([*ids, 0, 0], np.int32)) == " abc"
        assert tokenizer.decode_response([1]) == ""
        assert tokenizer.decode([0, 0, *ids, 1, *ids]) == " abc abc"

    def test_no_ids_decode_to_an_empty_text(self):
        assert characters().encode([]) == [] and characters().encode([""]) == [[]]
        assert characters().decode([]) == ""
