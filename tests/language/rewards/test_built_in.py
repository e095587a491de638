import pytest

from haepo_jax.language.rewards.built_in import exact_match, match_format, penalize_length, regular_expression


@pytest.mark.parametrize(
    ("completion", "arguments", "reward"),
    [
        ("Paris", {}, 1.0),
        ("  Paris\n", {}, 1.0),
        ("paris", {}, 0.0),
        ("paris", {"ignore_case": True}, 1.0),
        ("It is Paris", {}, 0.0),
        ("#### Rome, no, #### Paris", {"after": "####"}, 1.0),
        ("Paris", {"after": "####"}, 0.0),
        ("", {}, 0.0),
    ],
)
def test_an_exact_match_is_of_the_whole_answer(completion, arguments, reward):
    assert exact_match(["?"], [completion], answer=["Paris"], **arguments) == [reward]


def test_an_answer_behind_its_mark_is_compared_without_what_stands_before_it():
    answers = ["He is in Paris, #### no, #### Paris"] * 3
    completions = ["so #### Paris", "#### He is in Paris, #### no,", "Paris"]
    assert exact_match(["?"] * 3, completions, after="####", answer=answers) == [1.0, 0.0, 0.0]
    assert exact_match(["?"], ["Paris"], answer=answers[:1]) == [0.0]


def test_an_answer_that_is_a_number_is_compared_as_it_is_written():
    assert exact_match(["?", "?"], ["12", "12.0"], column="right", right=[12, 12]) == [1.0, 0.0]


def test_a_row_without_an_answer_has_no_right_one():
    assert exact_match(["?"] * 2, ["None", ""], answer=[None, None]) == [0.0, 0.0]
    options = {"pattern": r"(\w+)", "column": "answer", "answer": [None]}
    assert regular_expression(["?"], ["None"], **options) == [0.0]


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"^the data have no column answer; there are: a, b$"):
        exact_match(["?"], ["x"], a=[1], b=[2])


def test_a_regular_expression_is_found_anywhere_or_equals_a_column_where_it_matches_last():
    texts = ["x = 3", "x = 3, no, x = 4", "nothing"]
    assert regular_expression([""] * 3, texts, pattern=r"= \d") == [1.0, 1.0, 0.0]
    found = regular_expression([""] * 3, texts, pattern=r"= (\d)", column="answer", answer=["4", 4, "4"])
    assert found == [0.0, 1.0, 0.0]


def test_a_format_is_of_the_completion_from_its_beginning_to_its_end():
    texts = ["<think>a\nb</think><answer>4</answer>", "so <think></think><answer>4</answer>", "<answer>4</answer>"]
    assert match_format([""] * 3, texts) == [1.0, 0.0, 0.0]
    assert match_format([""] * 2, ["12", "1 2"], pattern=r"\d+") == [1.0, 0.0]


def test_length_costs_nothing_at_first_and_1_at_most():
    assert penalize_length([""] * 4, [""] * 4, [5, 10, 12, 99], free=10, limit=20) == [0.0, 0.0, -0.2, -1.0]
    with pytest.raises(ValueError, match="limit must be above free, got 5 and 5"):
        penalize_length([""], [""], [1], free=5, limit=5)
