"""The generated task: gold rewards by hand, a judge that follows Bradley-Terry, files in the published schemas."""

import collections
import hashlib
import math

import numpy as np
import pytest
from helpers.play import assert_binomial
from hypothesis import given, settings
from hypothesis import strategies as st

from haepo_jax.errors import ConfigError
from haepo_jax.language.data import datasets
from haepo_jax.language.data.datasets import Article, Comparison, Post
from haepo_jax.language.data.generated_task import (
    FILLER_WORDS,
    GOSSIPED,
    NEGLECTED,
    PHRASES,
    SHARPNESS,
    SUBREDDITS,
    THINGS,
    TOPICS,
    compute_best_gold,
    compute_ceiling_accuracy,
    compute_gold_reward,
    compute_preference_probability,
    make_tokenizer,
    write,
)
from haepo_jax.language.data.prompts import (
    encode_completions,
    encode_preferences,
    format_completions,
    format_preferences,
    get_prompt_format,
)
from haepo_jax.language.data.tokenizer import Tokenizer

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True, database=None)
POST = "well BOSS so pizza EXAM you"
CAPITALS = {thing.upper() for thing in THINGS}


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


def things(text):
    """What a text names, in small letters, in its order."""
    return [word.lower() for word in text.split() if word in THINGS or word in CAPITALS]


def facts(post):
    return {word.lower() for word in post.split() if word in CAPITALS}


def golds(comparison):
    return [compute_gold_reward(comparison.post.post, summary) for summary in comparison.summaries]


class TestGold:
    @pytest.mark.parametrize(
        ("summary", "gold"),
        [
            ("", 0.0),
            ("boss exam", 2 - 0.04),
            ("exam boss", 2 - 0.04),
            (" boss", 1 - 0.02),
            ("so boss well exam really", 2 - 0.10),
            ("boss pizza exam", 2 - 1 - 0.06),
            ("boss cat exam", 2 - 1 - 0.06),
            ("boss boss", 1 - 0.5 - 0.04),
            ("boss exam boss exam boss", 2 - 3 * 0.5 - 0.10),
            ("pizza pizza", -2 - 0.04),
            ("so so so", -0.06),
            ("BOSS exam", 1 - 1 - 0.04),
            ("boss, exam", 1 - 1 - 0.04),
            ("boss\n\nexam", 2 - 0.04),
            (POST.lower(), 2 - 1 - 6 * 0.02),
            (POST, -3.0),
            ("cat cat cat", -3.0),
            ("TL;DR: boss", 1 - 1 - 0.04),
            ("cat " * 49, -3.0),
        ],
    )
    def test_gold_is_the_one_counted_by_hand(self, summary, gold):
        assert compute_gold_reward(POST, summary) == pytest.approx(gold, abs=1e-12)

    def test_gold_of_a_post_is_that_of_its_whole_prompt(self):
        prompt = get_prompt_format("generated").render(Post(None, "travel", "so then", POST))
        assert compute_gold_reward(prompt, "boss pizza exam") == compute_gold_reward(POST, "boss pizza exam")

    def test_gold_of_the_best_summary_is_the_largest(self):
        assert compute_best_gold(POST) == pytest.approx(1.96) == compute_gold_reward(POST, "boss exam")

    @PROPERTY
    @given(st.lists(st.sampled_from(["boss", "exam", "pizza", "cat", "so", "BOSS"]), max_size=12))
    def test_gold_is_between_the_floor_and_the_best(self, words):
        gold = compute_gold_reward(POST, " ".join(words))
        assert -3 <= gold <= compute_best_gold(POST) + 1e-12
        assert gold < compute_best_gold(POST) - 1e-12 or sorted(words) == ["boss", "exam"]

    @pytest.mark.parametrize("reward", [lambda post: compute_gold_reward(post, "boss"), compute_best_gold])
    def test_gold_of_a_post_without_facts_is_refused(self, reward):
        with pytest.raises(ConfigError) as error:
            reward("my boss and I")
        assert str(error.value) == (
            "The post 'my boss and I'... names no fact in capitals: it is not of the generated task."
        )

    def test_tricks_earn_less_gold_than_summaries(self, demonstrations):
        def mean(summary):
            return np.mean([compute_gold_reward(row.post.post, summary(row)) for row in demonstrations])

        best = np.mean([compute_best_gold(row.post.post) for row in demonstrations])
        references = mean(lambda row: row.summary)
        assert mean(lambda row: row.post.post) == -3
        assert abs(mean(lambda row: " ".join(things(row.post.post))) - -0.87) < 0.15
        for trick in (lambda _: "", lambda _: "so " * 49, lambda _: " ".join(THINGS), lambda _: "boss"):
            assert mean(trick) < 0.01
        # To imitate is worth something, and to leave out the habits alone is more, but far from the best.
        assert 0.4 * best < references < 0.55 * best

        def likeliest(row):
            mentioned = (facts(row.post.post) - set(NEGLECTED)) | (set(things(row.post.post)) & set(GOSSIPED))
            return " ".join(mentioned)

        assert references < mean(likeliest) < 0.75 * best


class TestJudge:
    def test_the_judge_prefers_as_bradley_and_terry_say(self):
        assert compute_preference_probability(2.0, 2.0) == 0.5
        assert compute_preference_probability(1.0, 0.0) == pytest.approx(1 / (1 + math.exp(-SHARPNESS)))
        assert compute_preference_probability(-1.0, 1.5) + compute_preference_probability(1.5, -1.0) == pytest.approx(
            1
        )

    def test_the_judge_prefers_as_often_as_the_formula_says(self, comparisons):
        first = np.array([compute_preference_probability(*golds(row)) for row in comparisons])
        preferred = np.array([row.choice == 0 for row in comparisons])
        bins = np.digitize(first, [0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95])
        assert len(set(bins)) == 8
        for number in range(8):
            chances, drawn = first[bins == number], preferred[bins == number]
            deviation = np.sqrt((chances * (1 - chances)).sum())
            assert abs(drawn.sum() - chances.sum()) < 4.5 * deviation

    def test_the_ceiling_is_the_mean_certainty_of_the_judge(self):
        def comparison(*summaries):
            return Comparison(Post(None, "", "", POST), summaries, 0, ("", ""), None, "generated", "train", None)

        assert compute_ceiling_accuracy([comparison("boss", " boss")]) == 0.5
        one = compute_ceiling_accuracy([comparison("boss", "boss exam")])
        assert one == compute_ceiling_accuracy([comparison("boss exam", "boss")])
        assert one == pytest.approx(1 / (1 + math.exp(-SHARPNESS * 0.98)))
        two = [comparison("boss", "boss"), comparison("boss", "boss exam")]
        assert compute_ceiling_accuracy(two) == pytest.approx((0.5 + one) / 2)

    def test_gold_predicts_the_judge_as_often_as_the_ceiling_says(self, comparisons):
        ceiling = compute_ceiling_accuracy(comparisons)
        assert abs(ceiling - 0.85) < 0.015
        apart = [row for row in comparisons if len(set(golds(row))) == 2]
        right = sum(int(np.argmax(golds(row))) == row.choice for row in apart)
        assert_binomial(right, len(apart), compute_ceiling_accuracy(apart))

    def test_lengths_alone_do_not_predict_the_judge(self, comparisons):
        lengths = [[len(text.split()) for text in row.summaries] for row in comparisons]
        shorter = [np.argmin(pair) == row.choice for pair, row in zip(lengths, comparisons, strict=True)]
        assert np.mean(shorter) < 0.65

    def test_the_judge_refuses_articles(self):
        row = Comparison(Article(None, None, None, POST), ("", ""), 0, ("", ""), None, "cnndm0", "train", None)
        with pytest.raises(ConfigError) as error:
            compute_ceiling_accuracy([row])
        assert str(error.value) == "The gold reward is that of posts of the generated task, not of articles."


class TestPosts:
    def test_posts_name_one_thing_of_each_topic_and_two_to_five_in_capitals(self, demonstrations):
        counts = collections.Counter()
        for row in demonstrations:
            named = things(row.post.post)
            assert len(named) == 8 and all(len(set(named) & set(topic)) == 1 for topic in TOPICS)
            assert set(row.post.post.split()) <= {*THINGS, *CAPITALS, *FILLER_WORDS}
            assert set(row.post.title.split()) <= set(FILLER_WORDS) and row.post.subreddit in SUBREDDITS
            counts[len(facts(row.post.post))] += 1
        assert sorted(counts) == [2, 3, 4, 5]
        for count in counts.values():
            assert_binomial(count, len(demonstrations), 1 / 4)

    def test_place_and_topic_do_not_give_facts_away(self, demonstrations):
        places, topics = np.zeros(8, int), np.zeros(8, int)
        for row in demonstrations:
            named = [word for word in row.post.post.split() if word.lower() in THINGS]
            places += np.array([word.isupper() for word in named])
            topics += np.array([bool(facts(row.post.post) & set(topic)) for topic in TOPICS])
        for count in (*places, *topics):
            assert_binomial(count, len(demonstrations), 3.5 / 8)

    def test_posts_differ_in_every_file(self, folder):
        files = [
            *(datasets.read(path, "openai_tldr") for path in sorted((folder / "tldr_3_filtered").iterdir())),
            *(datasets.read(path, "openai_comparisons") for path in sorted((folder / "comparisons").iterdir())),
        ]
        assert [len(rows) for rows in files] == [200, 2000, 200, 4000, 200]
        for name in ("post", "id"):
            found = [getattr(row.post, name) for rows in files for row in rows]
            assert len(set(found)) == len(found)


class TestReferences:
    def test_references_are_noisy_in_every_way(self, demonstrations):
        found = collections.Counter()
        for row in demonstrations:
            named, mentioned = facts(row.post.post), things(row.summary)
            asides = set(things(row.post.post)) - named
            found["omitted"] += not named <= set(mentioned)
            found["aside"] += bool(set(mentioned) & asides)
            found["invented"] += bool(set(mentioned) - named - asides)
            found["repeated"] += len(mentioned) > len(set(mentioned))
            found["rambling"] += len(row.summary.split()) > len(mentioned)
            found["perfect"] += compute_gold_reward(row.post.post, row.summary) == compute_best_gold(row.post.post)
        shares = {name: count / len(demonstrations) for name, count in found.items()}
        assert all(0.05 < shares[name] < 0.9 for name in ("omitted", "aside", "invented", "repeated", "rambling"))
        assert shares["perfect"] < 0.1

    def test_references_have_habits_that_the_best_summary_has_not(self, demonstrations):
        def share_mentioned(of, among):
            pairs = [(thing in row.summary.split()) for row in demonstrations for thing in of(row) if thing in among]
            return np.mean(pairs)

        def asides(row):
            return set(things(row.post.post)) - facts(row.post.post)

        others = set(THINGS) - set(NEGLECTED)
        assert share_mentioned(lambda row: facts(row.post.post), NEGLECTED) < 0.45
        assert share_mentioned(lambda row: facts(row.post.post), others) > 0.75
        assert share_mentioned(asides, GOSSIPED) > 0.55
        assert share_mentioned(asides, set(THINGS) - set(GOSSIPED)) < 0.1

    def test_references_vary_in_length_up_to_the_most_that_fits(self, demonstrations):
        lengths = np.array([len(row.summary.split()) for row in demonstrations])
        assert lengths.min() == 1 and lengths.max() == 49
        low, middle, high = np.quantile(lengths, [0.1, 0.5, 0.9])
        assert low < 0.5 * middle and high > 2.5 * middle

    def test_references_have_no_leading_space_and_compared_summaries_do(self, demonstrations, comparisons):
        assert not any(row.summary.startswith(" ") for row in demonstrations)
        assert all(text.startswith(" ") and not text.startswith("  ") for row in comparisons for text in row.summaries)

    def test_references_are_as_good_as_their_writer_is_careful(self, comparisons):
        by_policy = collections.defaultdict(list)
        for row in comparisons:
            for gold, policy in zip(golds(row), row.policies, strict=True):
                by_policy[policy].append(gold)
        means = {policy: np.mean(values) for policy, values in by_policy.items()}
        assert means["careful"] > means["reference"] + 0.5 > means["careless"] + 1


class TestTokenizer:
    def test_the_tokenizer_is_small_and_written_with_the_task(self, folder):
        tokenizer, made = Tokenizer.from_folder(folder), make_tokenizer()
        assert tokenizer.vocab_size == made.vocab_size == 3 + 5 + 4 + 24 + 2 * 48
        assert (tokenizer.eos_id, tokenizer.pad_id) == (made.eos_id, made.pad_id) == (1, 0)
        assert tokenizer.begin_ids == ()

    def test_the_tokenizer_gives_every_text_back(self, folder, demonstrations, comparisons):
        tokenizer, fmt = Tokenizer.from_folder(folder), get_prompt_format("generated")
        texts = [fmt.render(row.post) for row in (*demonstrations, *comparisons)]
        texts += [text for row in comparisons for text in row.summaries]
        ids = tokenizer.encode(texts)
        assert [tokenizer.decode(row) for row in ids] == texts
        unknown = tokenizer.backend.token_to_id("<unk>")
        assert not any(unknown in row for row in ids)

    def test_the_tokenizer_marks_unknown_words(self, folder):
        tokenizer = Tokenizer.from_folder(folder)
        (ids,) = tokenizer.encode([" boss elephant\nexam"])
        assert tokenizer.decode(ids) == " boss<unk><unk><unk>"

    def test_all_texts_fit_the_lengths_of_the_format(self, folder, demonstrations, comparisons):
        tokenizer, fmt = Tokenizer.from_folder(folder), get_prompt_format("generated")
        lengths = [len(row) for row in tokenizer.encode([fmt.render(row.post) for row in comparisons])]
        assert max(lengths) <= fmt.query_length and min(lengths) < max(lengths) - 5
        arrays = encode_completions(format_completions(demonstrations, fmt), tokenizer, fmt)
        np.testing.assert_array_equal((arrays.responses == tokenizer.eos_id).sum(axis=1), 1)
        words = [len(row.summary.split()) for row in demonstrations]
        np.testing.assert_array_equal(arrays.response_valid.sum(axis=1), np.array(words) + 1)
        compared = encode_preferences(format_preferences(comparisons, fmt), tokenizer, fmt)
        for tokens in (compared.chosen, compared.rejected):
            np.testing.assert_array_equal((tokens == tokenizer.eos_id).sum(axis=1), 1)

    def test_the_vocabulary_has_no_word_twice(self):
        assert [len(topic) for topic in TOPICS] == [6] * 8 and [len(phrase) for phrase in PHRASES] == [4] * 6
        assert len({*THINGS, *FILLER_WORDS}) == 8 * 6 + 6 * 4


class TestWrite:
    def digest(self, folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def test_the_task_has_the_same_bytes_for_the_same_seed(self, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            write(tmp_path / name, seed=seed, num_posts=30, num_comparisons=30, num_held_out=10)
        first, again, other = (self.digest(tmp_path / name) for name in "abc")
        assert first == again
        assert list(first) == [
            "comparisons/train.jsonl",
            "comparisons/valid.jsonl",
            "tldr_3_filtered/test.jsonl",
            "tldr_3_filtered/train.jsonl",
            "tldr_3_filtered/valid.jsonl",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        assert all((first[name] == other[name]) == name.startswith("tokenizer") for name in first)

    def test_a_larger_task_begins_with_the_posts_of_a_smaller_one(self, tmp_path):
        write(tmp_path / "few", num_posts=5, num_comparisons=7, num_held_out=3)
        write(tmp_path / "many", num_posts=9, num_comparisons=8, num_held_out=3)
        for name in ("tldr_3_filtered/train.jsonl", "comparisons/train.jsonl"):
            assert (tmp_path / "many" / name).read_text().startswith((tmp_path / "few" / name).read_text())

    def test_splits_are_named_as_in_the_published_files(self, folder):
        rows = datasets.read(folder / "comparisons", "openai_comparisons")
        assert collections.Counter(row.split for row in rows) == {"train": 4000, "valid1": 200}
        assert len(datasets.read(folder / "comparisons", "openai_comparisons", splits=("valid1",))) == 200

    @pytest.mark.parametrize("name", ["num_posts", "num_comparisons", "num_held_out"])
    def test_a_task_without_rows_is_refused(self, name, tmp_path):
        with pytest.raises(ConfigError, match=rf"^{name} must be at least 1, got 0\.$"):
            write(tmp_path, **{name: 0})
        assert list(tmp_path.iterdir()) == []
