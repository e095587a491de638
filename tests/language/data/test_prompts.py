"""Prompt formats: how they read, what is cut, and what the arrays hold."""

import dataclasses
import functools
import string

import numpy as np
import pytest
import tokenizers
from helpers.small_tokenizers import characters, subwords
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.datasets import Article, Comparison, Demonstration, Post, Preference, PromptCompletion
from haepo_jax.language.data.prompts import (
    FORMATS,
    PromptFormat,
    encode_completions,
    encode_preferences,
    encode_queries,
    encode_responses,
    format_completions,
    format_preferences,
    get_prompt_format,
)
from haepo_jax.language.data.tokenizer import Tokenizer

PROPERTY = settings(deadline=None, max_examples=200, derandomize=True, database=None)
POST = Post("t3_1", "advice", "Rent", "One.\nTwo.\nThree.")
OPENAI = FORMATS["openai_tldr"]
SHORT = PromptFormat(
    "short", "T: {title}\n\nP: {post}\n\nS:", "post", query_length=24, response_length=6, comparison_length=9
)
"""Its frame around title and post is 12 characters."""


def texts(queries, valid, tokenizer=None):
    return [(tokenizer or characters()).decode(row[mask]) for row, mask in zip(queries, valid, strict=True)]


def encoded(prompt, fmt=SHORT, tokenizer=None):
    """The text that is left of a prompt."""
    tokenizer = tokenizer or characters()
    return texts(*encode_queries([prompt], tokenizer, fmt), tokenizer)[0]


def short(title, post):
    return SHORT.render(Post(None, "", title, post))


class TestPresets:
    def test_presets_have_the_published_lengths(self):
        lengths = {f.name: (f.query_length, f.response_length, f.comparison_length) for f in FORMATS.values()}
        assert lengths == {
            "openai_tldr": (512, 53, 169),
            "openai_cnndm": (1919, 128, 155),
            "generated": (32, 50, 50),
        }

    @pytest.mark.parametrize("name", ["openai_tldr", "generated"])
    def test_prompts_of_posts_read_as_published(self, name):
        assert get_prompt_format(name).render(POST) == (
            "SUBREDDIT: r/advice\n\nTITLE: Rent\n\nPOST: One.\nTwo.\nThree.\n\nTL;DR:"
        )

    def test_prompts_of_articles_read_as_published(self):
        article = Article("a", None, None, "A storm.")
        assert get_prompt_format("openai_cnndm").render(article) == "Article:\nA storm.\n\nTL;DR:\n"

    def test_braces_in_a_post_are_kept(self):
        assert "POST: {title} {0}\n" in OPENAI.render(dataclasses.replace(POST, post="{title} {0}"))

    def test_an_unknown_format_is_refused(self):
        with pytest.raises(ConfigError) as error:
            get_prompt_format("tldr")
        assert str(error.value) == (
            "Prompt format 'tldr' is not known; allowed: openai_tldr, openai_cnndm, generated."
        )

    def test_a_format_refuses_a_text_of_the_other_kind(self):
        with pytest.raises(ConfigError) as error:
            OPENAI.render(Article("a", "cnn", "t", "A storm."))
        assert str(error.value) == "Prompt format openai_tldr has the field subreddit, and an article has none."
        with pytest.raises(
            ConfigError, match=r"^Prompt format openai_cnndm has the field article, and a post has none.$"
        ):
            get_prompt_format("openai_cnndm").render(POST)


class TestParts:
    @pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
    @pytest.mark.parametrize("text", ["a\nb", "", "\n\nPOST: again\n\nTL;DR:", " x "])
    def test_a_prompt_is_split_around_its_long_field(self, fmt, text):
        post = Article("a", None, None, text) if fmt.long_field == "article" else dataclasses.replace(POST, post=text)
        head, body, tail = fmt.parts(fmt.render(post))
        assert body == text
        assert head + body + tail == fmt.render(post)

    @pytest.mark.parametrize("prompt", ["x" * 30, "T: a\n\nP: " + "x" * 30, "T: " + "x" * 30 + "\n\nS:", "\n\nP: S:"])
    def test_a_prompt_of_another_format_is_not_split(self, prompt):
        with pytest.raises(ConfigError) as error:
            SHORT.parts(prompt)
        assert str(error.value) == (
            f"The prompt {prompt[:40]!r}... is longer than 24 tokens, and not in the format short, which would say "
            r"what to cut: '\n\nP: ' before and '\n\nS:' at its end."
        )


class TestQueries:
    def test_queries_are_padded_on_the_left(self):
        queries, valid = encode_queries([short("ab", "xyz"), short("a", "")], characters(), SHORT)
        assert queries.dtype == np.int32 and valid.dtype == np.bool_
        assert queries.shape == valid.shape == (2, 24)
        np.testing.assert_array_equal(valid.sum(axis=1), [17, 13])
        np.testing.assert_array_equal(valid, np.sort(valid, axis=1))
        assert (queries[~valid] == characters().pad_id).all()
        assert texts(queries, valid) == ["T: ab\n\nP: xyz\n\nS:", "T: a\n\nP: \n\nS:"]

    def test_queries_that_just_fit_are_whole(self):
        assert encoded(short("a", "p" * 11)) == short("a", "p" * 11)

    @pytest.mark.parametrize(
        ("post", "left"),
        [
            ("aaaa\nbbbb\ncccc", "aaaa\nbbbb"),
            ("aaaaaa\nbbbbbb\ncccccc", "aaaaaa"),
            ("aaaaaaaaaaa\nbb", "aaaaaaaaaaa"),
            ("aaaaaaaaaa\n\nb", "aaaaaaaaaa\n"),
            # No newline is left where it would fit: as many characters as do.
            ("a" * 30, "a" * 11),
            ("a" * 12 + "\nb", "a" * 11),
            ("\n" + "a" * 30, ""),
        ],
    )
    def test_queries_that_are_too_long_lose_the_end_of_their_post(self, post, left):
        assert encoded(short("a", post)) == short("a", left)

    def test_queries_that_fit_only_without_their_post_lose_all_of_it(self):
        assert encoded(short("t" * 12, "post")) == short("t" * 12, "")
        assert encoded(short("t" * 11, "post")) == short("t" * 11, "p")

    def test_queries_whose_title_alone_is_too_long_are_refused(self):
        with pytest.raises(ConfigError) as error:
            encode_queries([short("t" * 13, "post")], characters(), SHORT)
        assert str(error.value) == (
            "The prompt 'T: ttttttttttttt\\n\\nP: post\\n\\nS:'... has 25 tokens without its post, and format "
            "short holds 24."
        )

    def test_formatted_prompts_are_cut_like_rows(self):
        (row,) = format_completions([PromptCompletion(short("a", "bb\n" + "c" * 20), " s")], SHORT)
        assert encoded(row.prompt) == short("a", "bb")

    def test_short_queries_may_be_in_any_format(self):
        assert encoded("Summarise: x") == "Summarise: x"

    def test_queries_begin_with_the_tokens_of_the_model_which_count(self):
        tokenizer = dataclasses.replace(characters(), begin_ids=(3,))
        queries, valid = encode_queries([short("a", "pp"), short("a", "p" * 30)], tokenizer, SHORT)
        np.testing.assert_array_equal(valid.sum(axis=1), [16, 24])
        assert queries[0, 8] == queries[1, 0] == 3
        assert (queries == 3).sum() == 2
        assert texts(queries, valid)[1] == short("a", "p" * 10)

    def test_queries_that_spell_out_the_beginning_do_not_begin_twice(self):
        tokenizer = dataclasses.replace(characters(), begin_ids=(3,))
        texts = [f"<bos>{short('a', 'pp')}", f"<bos>{short('a', 'p' * 30)}", "a<bos>"]
        queries, valid = encode_queries(texts, tokenizer, SHORT)
        np.testing.assert_array_equal(valid.sum(axis=1), [16, 24, 3])
        assert queries[0, 8] == queries[1, 0] == 3
        np.testing.assert_array_equal((queries == 3).sum(axis=1), [1, 1, 2])
        two = dataclasses.replace(characters(), begin_ids=(1, 3))
        queries, valid = encode_queries(["<bos>a", "<eos><bos>a", "a"], two, SHORT)
        expected = [1, 3, *characters().encode(["a"])[0]]
        assert [list(row[mask]) for row, mask in zip(queries, valid, strict=True)] == [expected] * 3

    @pytest.mark.parametrize("lines", [2_000, 20_000])
    def test_queries_of_many_lines_are_cut_in_a_few_steps(self, lines, monkeypatch):
        seen, encode = [], Tokenizer.encode

        def counted(tokenizer, texts):
            seen.extend(map(len, texts))
            return encode(tokenizer, texts)

        monkeypatch.setattr(Tokenizer, "encode", counted)
        assert encoded(short("a", "x\n" * lines)) == short("a", "x\nx\nx\nx\nx\nx")
        assert len(seen) < 20 and sum(seen[1:]) < 1000

    def test_empty_queries_and_no_queries_are_refused(self):
        with pytest.raises(ConfigError, match=r"^Prompt 1 \(the first is 0\) is empty.$"):
            encode_queries(["a", ""], characters(), SHORT)
        with pytest.raises(ConfigError, match=r"^There are no examples to encode.$"):
            encode_queries([], characters(), SHORT)

    # Some titles are too long for their prompt to fit at all.
    @PROPERTY
    @given(
        st.text("ab \n", max_size=14),
        st.text(st.sampled_from("abcXYZ é\n"), max_size=120),
        st.sampled_from(["characters", "subwords"]),
    )
    def test_queries_of_any_post_fit_and_keep_all_that_they_can(self, title, post, kind):
        tokenizer = {"characters": characters, "subwords": subwords}[kind]()
        post = post if kind == "subwords" else post.replace("é", "e")
        prompt = short(title, post)
        (without_post,) = tokenizer.encode([short(title, "")])
        if len(without_post) > 24:
            with pytest.raises(ConfigError, match="tokens without its post"):
                encode_queries([prompt], tokenizer, SHORT)
            return
        queries, valid = encode_queries([prompt], tokenizer, SHORT)
        assert queries.shape == (1, 24) and valid.any()
        np.testing.assert_array_equal(valid, np.sort(valid, axis=1))
        (text,) = texts(queries, valid, tokenizer)
        head, left, tail = SHORT.parts(text)
        assert (head, tail) == (SHORT.parts(prompt)[0], "\n\nS:")
        whole = SHORT.parts(prompt)[1]
        assert whole.startswith(left)
        if left == whole:
            return

        def too_long(end):
            return len(tokenizer.encode([head + whole[:end] + tail])[0]) > 24

        if whole[len(left)] == "\n":
            # It was cut at a newline, and the next newline, or the end, would have been too far.
            following = whole.find("\n", len(left) + 1)
            assert too_long(following if following >= 0 else len(whole))
        else:
            assert "\n" not in left
            assert too_long(len(left) + 1)


_LETTERS = ["▁", *string.ascii_letters, *":;.()\n1"]


@functools.cache
def llama_2():
    """Byte pairs with a space put before every text, as Llama 2 and Mistral have them."""
    vocabulary = ["<unk>", "</s>", "<pad>", *_LETTERS, "th", "the", "▁the", "\n▁"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("\n", "▁")]
    made = tokenizers.Tokenizer(
        models.BPE({token: i for i, token in enumerate(vocabulary)}, merges, unk_token="<unk>")
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["</s>", "<pad>"])
    return Tokenizer(made, eos_id=1, pad_id=2)


@functools.cache
def metaspace(scheme):
    """Pieces with a space put before the first text, or before each part, as T5 and newer Llama 2 have them."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("<pad>", 0.0), ("▁the", -2.0), *((letter, -3.0) for letter in _LETTERS)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made.add_special_tokens(["</s>", "<pad>"])
    return Tokenizer(made, eos_id=1, pad_id=2)


KINDS = {
    "characters": characters,
    "byte pairs": subwords,
    "a space before every text": llama_2,
    "a space before the first text": lambda: metaspace("first"),
    "a space before every part": lambda: metaspace("always"),
}


class TestResponses:
    def rows(self, *responses, length=6, tokenizer=None, prompt="P:"):
        tokens, valid = encode_responses([prompt] * len(responses), responses, tokenizer or characters(), length)
        assert tokens.dtype == np.int32 and valid.dtype == np.bool_
        assert tokens.shape == valid.shape == (len(responses), length)
        # Padded on the right, and only there.
        np.testing.assert_array_equal(valid, -np.sort(-valid.astype(int), axis=1))
        assert (tokens[~valid] == (tokenizer or characters()).pad_id).all()
        return [list(row[mask]) for row, mask in zip(tokens, valid, strict=True)]

    def ids(self, text):
        return characters().encode([text])[0]

    def test_responses_are_kept_and_ended(self):
        assert self.rows("ab", " ab", "  ab", "\n ab", "ab \n") == [
            [*self.ids(text), 1] for text in ("ab", " ab", "  ab", "\n ab", "ab \n")
        ]

    def test_responses_that_just_fit_are_ended(self):
        assert self.rows(" abcd") == [[*self.ids(" abcd"), 1]]

    def test_responses_that_are_too_long_are_cut_and_not_ended(self):
        assert self.rows(" abcde", " abcdefgh") == [self.ids(" abcde")] * 2

    def test_empty_responses_end_at_once(self):
        assert self.rows("") == [[1]]

    def test_responses_that_spell_an_end_stop_there(self):
        assert self.rows("a<eos>", "a<eos>b", "a<eos><eos>") == [[*self.ids("a"), 1]] * 3
        assert self.rows("<eos>") == [[1]]

    def test_responses_that_spell_another_end_stop_there(self):
        tokenizer = dataclasses.replace(characters(), other_eos_ids=(3,))
        assert self.rows("a<bos>b", "a<eos>b<bos>", tokenizer=tokenizer) == [[*self.ids("a"), 3], [*self.ids("a"), 1]]

    def test_responses_do_not_begin_as_prompts_do(self):
        tokenizer = dataclasses.replace(characters(), begin_ids=(3,))
        assert self.rows("ab", tokenizer=tokenizer) == [[*self.ids("ab"), 1]]

    @PROPERTY
    @given(st.lists(st.text("abc de\n", max_size=30), min_size=1, max_size=5), st.integers(1, 30))
    def test_responses_of_any_text_decode_to_it_up_to_their_length(self, responses, length):
        for response, row in zip(responses, self.rows(*responses, length=length), strict=True):
            assert characters().decode_response(row) == response[:length]
            assert (row[-1] == 1) == (len(response) < length)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("prompt", ["the dog TL;DR:", "the dog (", "the dog TL;DR:\n", "the dog "])
    @pytest.mark.parametrize("text", ["the dog", " the dog", "\n    return x\n", ") the cat", "\n"])
    def test_responses_are_tokenized_as_they_continue_the_prompt(self, kind, prompt, text):
        tokenizer = KINDS[kind]()
        (row,) = self.rows(text, length=60, tokenizer=tokenizer, prompt=prompt)
        (head,) = tokenizer.encode([prompt])
        assert row[-1] == tokenizer.eos_id
        assert tokenizer.decode([*head, *row]) == prompt + text

    @pytest.mark.parametrize("kind", ["a space before every text", "a space before every part"])
    def test_responses_have_no_space_that_their_text_has_not(self, kind):
        tokenizer = KINDS[kind]()
        (row,) = self.rows(" the", tokenizer=tokenizer, prompt="dog:")
        assert [tokenizer.backend.id_to_token(i) for i in row] == ["▁the", "</s>"]


ROWS = [Demonstration(POST, "Rent."), PromptCompletion("P:", "\n s")]
COMPARED = Comparison(POST, (" first", " second"), 1, ("a", "b"), None, "batch3", "train", None)


class TestRows:
    def test_rows_to_imitate_take_one_form(self):
        assert format_completions(ROWS, OPENAI) == (
            PromptCompletion(OPENAI.render(POST), " Rent."),
            PromptCompletion("P:", "\n s"),
        )

    @pytest.mark.parametrize("text", ["ab \n", " ab \n", "  ab \n", "\n ab \n"])
    def test_formatted_summaries_have_one_leading_space(self, text):
        (row,) = format_completions([Demonstration(POST, text)], OPENAI)
        assert row.completion == " ab \n"

    @pytest.mark.parametrize("text", ["", " ", "\n"])
    def test_formatted_summaries_may_be_empty(self, text):
        assert format_completions([Demonstration(POST, text)], OPENAI)[0].completion == ""

    def test_rows_to_compare_take_one_form(self):
        other = dataclasses.replace(COMPARED, choice=0)
        assert format_preferences([COMPARED, other, Preference("P:", "c", "r")], OPENAI) == (
            Preference(OPENAI.render(POST), " second", " first"),
            Preference(OPENAI.render(POST), " first", " second"),
            Preference("P:", "c", "r"),
        )

    def test_rows_of_the_other_kind_are_refused(self):
        with pytest.raises(ConfigError) as error:
            format_completions([COMPARED], OPENAI)
        assert str(error.value) == (
            "Completions come from schema openai_tldr or trl_tldr; these rows are comparisons."
        )
        with pytest.raises(ConfigError) as error:
            format_preferences(ROWS, OPENAI)
        assert str(error.value) == (
            "Preferences come from schema openai_comparisons or trl_tldr_preference; these rows are not compared."
        )


class TestArrays:
    def test_completions_are_encoded_into_padded_arrays(self):
        arrays = encode_completions([PromptCompletion(short("a", "b"), " xy")] * 3, characters(), SHORT)
        assert arrays.queries.shape == arrays.query_valid.shape == (3, 24)
        assert arrays.responses.shape == arrays.response_valid.shape == (3, 6)
        assert texts(arrays.queries, arrays.query_valid) == [short("a", "b")] * 3
        assert texts(arrays.responses, arrays.response_valid) == [" xy"] * 3

    def test_preferences_have_room_for_longer_responses(self):
        arrays = encode_preferences([Preference(short("a", "b"), " chosen", " rejected!")], characters(), SHORT)
        assert arrays.queries.shape == arrays.query_valid.shape == (1, 24)
        for tokens, valid, text in (
            (arrays.chosen, arrays.chosen_valid, " chosen"),
            (arrays.rejected, arrays.rejected_valid, " rejected"),
        ):
            assert tokens.shape == valid.shape == (1, 9)
            assert texts(tokens, valid) == [text]
        assert arrays.chosen[0, 7] == 1
        assert 1 not in arrays.rejected
