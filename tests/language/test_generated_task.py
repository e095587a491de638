"""The generated task: gold rewards by hand, judges that follow Bradley-Terry, files in the published schemas."""

import collections
import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haepo_jax.errors import ConfigError
from haepo_jax.language import datasets
from haepo_jax.language.datasets import Article, Comparison, Post
from haepo_jax.language.generated_task import (
    CONTENT_WORDS,
    FILLER_WORDS,
    SHARPNESS,
    best_gold,
    ceiling_accuracy,
    gold_reward,
    make_tokenizer,
    preference_probability,
    write,
)
from haepo_jax.language.prompts import (
    as_completions,
    as_preferences,
    encode_completions,
    encode_preferences,
    prompt_format,
)
from haepo_jax.language.tokens import Tokenizer

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True, database=None)
POST = "well * boat so ~ lamp * bread you"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    write(folder, seed=3, num_posts=2000, num_comparisons=4000, num_held_out=200)
    return folder


@pytest.fixture(scope="module")
def demonstrations(folder):
    return datasets.read(folder / "tldr_3_filtered" / "train.jsonl", "openai_tldr")


@pytest.fixture(scope="module")
def comparisons(folder):
    return datasets.read(folder / "comparisons" / "train.jsonl", "openai_comparisons")


def golds(rows):
    return np.array([gold_reward(row.post.post, row.summary) for row in rows])


class TestGold:
    @pytest.mark.parametrize(
        ("summary", "gold"),
        [
            ("", 0.0),
            ("boat bread", 2 - 0.04),
            ("bread boat", 2 - 0.04),
            (" boat", 1 - 0.02),
            ("so boat well bread really", 2 - 0.10),
            ("boat lamp bread", 2 - 1 - 0.06),
            ("boat storm bread", 2 - 1 - 0.06),
            ("boat boat", 1 - 0.5 - 0.04),
            ("boat bread boat bread boat", 2 - 3 * 0.5 - 0.10),
            ("lamp lamp", -2 - 0.04),
            ("so so so", -0.06),
            ("* boat", 1 - 1 - 0.04),
            ("Boat bread.", -2 - 0.04),
            ("boat\n\nbread", 2 - 0.04),
            (POST, 2 - 4 - 9 * 0.02),
            ("lamp lamp lamp", -3.0),
            ("storm " * 49, -3.0),
        ],
    )
    def test_is_the_one_counted_by_hand(self, summary, gold):
        assert gold_reward(POST, summary) == pytest.approx(gold, abs=1e-12)

    def test_is_that_of_the_whole_prompt_too(self):
        prompt = prompt_format("generated").render(Post(None, "travel", "so then", POST))
        assert gold_reward(prompt, "boat lamp bread") == gold_reward(POST, "boat lamp bread")

    def test_of_the_best_summary_is_the_largest(self):
        assert best_gold(POST) == pytest.approx(1.96) == gold_reward(POST, "boat bread")

    @PROPERTY
    @given(st.lists(st.sampled_from(["boat", "bread", "lamp", "storm", "so", "*", "~"]), max_size=12))
    def test_is_between_the_floor_and_the_best(self, words):
        gold = gold_reward(POST, " ".join(words))
        assert -3 <= gold <= best_gold(POST) + 1e-12
        assert gold < best_gold(POST) - 1e-12 or sorted(words) == ["boat", "bread"]

    @pytest.mark.parametrize("reward", [lambda post: gold_reward(post, "boat"), best_gold])
    def test_of_a_post_without_marks_is_refused(self, reward):
        with pytest.raises(ConfigError) as error:
            reward("I moved out ~ lamp")
        assert str(error.value) == (
            "The post 'I moved out ~ lamp'... marks no fact with *: it is not of the generated task."
        )

    def test_is_not_to_be_had_by_tricks(self, demonstrations):
        posts = [row.post.post for row in demonstrations]
        references = golds(demonstrations).mean()
        best = np.mean([best_gold(post) for post in posts])

        def mean(trick):
            return np.mean([gold_reward(post, trick(post)) for post in posts])

        marked = [lambda post: " ".join(word for word in post.split() if word in CONTENT_WORDS)]
        tricks = [
            lambda _: "",
            lambda post: post,
            lambda _: "so " * 49,
            lambda _: " ".join(CONTENT_WORDS[:49]),
            *marked,
        ]
        assert all(mean(trick) < 0.01 for trick in tricks)
        # Imitation is worth something, and leaves room.
        assert 0.5 * best < references < 0.75 * best


class TestJudge:
    def test_prefers_as_bradley_and_terry_say(self):
        assert preference_probability(2.0, 2.0) == 0.5
        assert preference_probability(1.0, 0.0) == pytest.approx(1 / (1 + math.exp(-SHARPNESS)))
        assert preference_probability(-1.0, 1.5) + preference_probability(1.5, -1.0) == pytest.approx(1)

    def test_prefers_as_often_as_the_formula_says(self, comparisons):
        first = np.array(
            [
                preference_probability(*(gold_reward(row.post.post, text) for text in row.summaries))
                for row in comparisons
            ]
        )
        preferred = np.array([row.choice == 0 for row in comparisons])
        bins = np.digitize(first, [0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95])
        assert len(set(bins)) == 8
        for number in range(8):
            chances, drawn = first[bins == number], preferred[bins == number]
            deviation = np.sqrt((chances * (1 - chances)).sum())
            assert abs(drawn.sum() - chances.sum()) < 4.5 * deviation

    def test_is_followed_by_nobody_better_than_the_ceiling(self, comparisons):
        def comparison(*summaries):
            return Comparison(Post(None, "", "", POST), summaries, 0, ("", ""), None, "generated", "train", None)

        assert ceiling_accuracy([comparison("boat", " boat")]) == 0.5
        one = ceiling_accuracy([comparison("boat", "boat bread")])
        assert one == ceiling_accuracy([comparison("boat bread", "boat")])
        assert one == pytest.approx(1 / (1 + math.exp(-SHARPNESS * 0.98)))
        two = [comparison("boat", "boat"), comparison("boat", "boat bread")]
        assert ceiling_accuracy(two) == pytest.approx((0.5 + one) / 2)
        # Who knows gold is right as often as the ceiling says, 0.85.
        ceiling = ceiling_accuracy(comparisons)
        assert abs(ceiling - 0.85) < 0.015
        right = [
            gold_reward(row.post.post, row.summaries[row.choice])
            > gold_reward(row.post.post, row.summaries[1 - row.choice])
            for row in comparisons
        ]
        assert abs(np.mean(right) - ceiling) < 0.02

    def test_does_not_judge_articles(self):
        row = Comparison(Article(None, None, None, POST), ("", ""), 0, ("", ""), None, "cnndm0", "train", None)
        with pytest.raises(ConfigError) as error:
            ceiling_accuracy([row])
        assert str(error.value) == "The gold reward is that of posts of the generated task, not of articles."


class TestPosts:
    def test_mark_eight_words_of_which_two_to_five_are_facts(self, demonstrations):
        counts = collections.Counter()
        for row in demonstrations:
            words = row.post.post.split()
            marks = [word for word in words if word in "*~"]
            content = [word for word in words if word in CONTENT_WORDS]
            assert len(marks) == len(content) == len(set(content)) == 8
            assert all(words[i + 1] in CONTENT_WORDS for i, word in enumerate(words) if word in "*~")
            assert set(words) <= {*CONTENT_WORDS, *FILLER_WORDS, "*", "~"}
            counts[marks.count("*")] += 1
        assert sorted(counts) == [2, 3, 4, 5]
        assert all(abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for count in counts.values())

    def test_are_different_in_every_file(self, folder):
        files = [
            *(datasets.read(path, "openai_tldr") for path in sorted((folder / "tldr_3_filtered").iterdir())),
            *(datasets.read(path, "openai_comparisons") for path in sorted((folder / "comparisons").iterdir())),
        ]
        assert sorted(len(rows) for rows in files) == [200, 200, 200, 2000, 4000]
        posts = [row.post.post for rows in files for row in rows]
        assert len(set(posts)) == len(posts)
        ids = [row.post.id for rows in files for row in rows]
        assert len(set(ids)) == len(ids)

    def test_do_not_tell_facts_by_place_or_word(self, demonstrations):
        places, words = np.zeros(8), collections.Counter()
        for row in demonstrations:
            text = row.post.post.split()
            marks = [word for word in text if word in "*~"]
            places += np.array(marks) == "*"
            words.update(text[i + 1] for i, word in enumerate(text) if word == "*")
        np.testing.assert_allclose(places / len(demonstrations), 3.5 / 8, atol=0.06)
        assert set(words) == set(CONTENT_WORDS)


class TestReferences:
    def test_are_noisy_in_every_way(self, demonstrations):
        omitting = asides = inventions = repetitions = fillers = perfect = 0
        for row in demonstrations:
            text, told = row.post.post.split(), row.summary.split()
            facts = {text[i + 1] for i, word in enumerate(text) if word == "*"}
            content = [word for word in told if word in CONTENT_WORDS]
            omitting += not facts <= set(told)
            asides += bool(set(content) & set(text) - facts)
            inventions += bool(set(content) - set(text))
            repetitions += len(content) > len(set(content))
            fillers += len(told) > len(content)
            perfect += gold_reward(row.post.post, row.summary) == best_gold(row.post.post)
        for count in (omitting, asides, inventions, repetitions, fillers):
            assert 0.05 < count / len(demonstrations) < 0.95
        assert perfect / len(demonstrations) < 0.1

    def test_vary_in_length_up_to_the_most_that_fits(self, demonstrations):
        lengths = np.array([len(row.summary.split()) for row in demonstrations])
        assert lengths.max() == 49
        assert lengths.min() <= 2
        quantiles = np.quantile(lengths, [0.1, 0.5, 0.9])
        assert quantiles[2] > 3 * quantiles[0]

    def test_have_no_leading_space_and_compared_ones_do(self, demonstrations, comparisons):
        assert not any(row.summary.startswith(" ") for row in demonstrations)
        assert all(text.startswith(" ") and not text.startswith("  ") for row in comparisons for text in row.summaries)

    def test_are_as_good_as_their_writer_is_careful(self, comparisons):
        by_policy = collections.defaultdict(list)
        for row in comparisons:
            for text, policy in zip(row.summaries, row.policies, strict=True):
                by_policy[policy].append(gold_reward(row.post.post, text))
        means = {policy: np.mean(values) for policy, values in by_policy.items()}
        assert means["careful"] > means["reference"] + 0.3 > means["careless"] + 0.6


class TestTokenizer:
    def test_is_small_and_written_with_the_task(self, folder):
        tokenizer = Tokenizer.from_folder(folder)
        assert tokenizer.vocab_size <= 256
        assert (tokenizer.eos_id, tokenizer.pad_id) == (make_tokenizer().eos_id, make_tokenizer().pad_id) == (1, 0)
        assert tokenizer.begin_ids == ()

    def test_gives_every_text_back_as_it_was(self, folder, demonstrations, comparisons):
        tokenizer, fmt = Tokenizer.from_folder(folder), prompt_format("generated")
        texts = [fmt.render(row.post) for row in (*demonstrations, *comparisons)]
        texts += [text for row in comparisons for text in row.summaries]
        ids = tokenizer.encode(texts)
        assert [tokenizer.decode(row) for row in ids] == texts
        unknown = tokenizer.backend.token_to_id("<unk>")
        assert not any(unknown in row for row in ids)

    def test_shows_what_it_does_not_know(self, folder):
        tokenizer = Tokenizer.from_folder(folder)
        (ids,) = tokenizer.encode([" boat elephant\nbread"])
        assert tokenizer.decode(ids) == " boat<unk><unk><unk>"

    def test_brings_all_texts_within_the_lengths_of_the_format(self, folder, demonstrations, comparisons):
        tokenizer, fmt = Tokenizer.from_folder(folder), prompt_format("generated")
        texts = [fmt.render(row.post) for row in (*demonstrations, *comparisons)]
        lengths = [len(row) for row in tokenizer.encode(texts)]
        assert max(lengths) <= fmt.query_length and min(lengths) < fmt.query_length - 10
        arrays = encode_completions(as_completions(demonstrations, fmt), tokenizer, fmt)
        ends = (arrays.responses == tokenizer.eos_id).sum(axis=1)
        np.testing.assert_array_equal(ends, 1)
        words = [len(row.summary.split()) for row in demonstrations]
        np.testing.assert_array_equal(arrays.response_valid.sum(axis=1), np.array(words) + 1)
        compared = encode_preferences(as_preferences(comparisons, fmt), tokenizer, fmt)
        for tokens in (compared.chosen, compared.rejected):
            np.testing.assert_array_equal((tokens == tokenizer.eos_id).sum(axis=1), 1)

    def test_knows_as_many_words_as_there_are(self):
        assert len(set(CONTENT_WORDS)) == len(CONTENT_WORDS) == 96
        assert len(set(FILLER_WORDS)) == len(FILLER_WORDS) == 24
        assert not set(CONTENT_WORDS) & set(FILLER_WORDS)


class TestWrite:
    def digest(self, folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def test_gives_the_same_bytes_for_the_same_seed(self, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            write(tmp_path / name, seed=seed, num_posts=30, num_comparisons=30, num_held_out=10)
        assert self.digest(tmp_path / "a") == self.digest(tmp_path / "b")
        assert sorted(self.digest(tmp_path / "a")) == [
            "comparisons/train.jsonl",
            "comparisons/valid.jsonl",
            "tldr_3_filtered/test.jsonl",
            "tldr_3_filtered/train.jsonl",
            "tldr_3_filtered/valid.jsonl",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        first, other = self.digest(tmp_path / "a"), self.digest(tmp_path / "c")
        assert all((first[name] == other[name]) == name.startswith("tokenizer") for name in first)

    def test_of_more_posts_begins_with_the_same_ones(self, tmp_path):
        write(tmp_path / "few", num_posts=5, num_comparisons=7, num_held_out=3)
        write(tmp_path / "many", num_posts=9, num_comparisons=8, num_held_out=3)
        for name in ("tldr_3_filtered/train.jsonl", "comparisons/train.jsonl"):
            assert (tmp_path / "many" / name).read_text().startswith((tmp_path / "few" / name).read_text())

    def test_names_splits_as_the_published_files_do(self, folder):
        rows = datasets.read(folder / "comparisons", "openai_comparisons")
        assert collections.Counter(row.split for row in rows) == {"train": 4000, "valid1": 200}
        assert len(datasets.read(folder / "comparisons", "openai_comparisons", splits=("valid1",))) == 200

    @pytest.mark.parametrize("name", ["num_posts", "num_comparisons", "num_held_out"])
    def test_refuses_to_write_nothing(self, name, tmp_path):
        with pytest.raises(ConfigError, match=f"^{name} must be at least 1, got 0.$"):
            write(tmp_path, **{name: 0})
        assert list(tmp_path.iterdir()) == []
