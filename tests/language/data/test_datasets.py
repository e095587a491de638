"""Readers: every schema from JSON lines and parquet, and a sentence with file, line and field for every bad row."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.datasets import (
    CNNDM_BATCHES,
    Article,
    Comparison,
    Demonstration,
    Post,
    Preference,
    PromptCompletion,
    read,
)

TLDR = {
    "id": "t3_1",
    "subreddit": "advice",
    "title": "Rent",
    "post": "He wants rent.\nI moved.",
    "summary": "He does.",
}
COMPARISON = {
    "info": {"id": "t3_2", "post": "I moved.", "title": "Rent", "subreddit": "advice"},
    "summaries": [
        {"text": " He wants rent.", "policy": "ref", "note": "ok"},
        {"text": " I moved.", "policy": "sup2", "note": None},
    ],
    "choice": 1,
    "worker": "w7",
    "batch": "batch3",
    "split": "train",
    "extra": {"confidence": 8},
}
ARTICLE = COMPARISON | {
    "info": {"id": "a1", "site": "cnn", "title": "Storm", "article": "A storm came."},
    "batch": "cnndm0",
    "split": "valid1",
    "extra": {},
}
COMPLETION = {"prompt": "POST: I moved.\n\nTL;DR:", "completion": " I moved."}
PREFERENCE = {"prompt": "POST: I moved.\n\nTL;DR:", "chosen": " I moved.", "rejected": " He did."}

ROWS = {
    "openai_tldr": (
        TLDR,
        Demonstration(Post("t3_1", "advice", "Rent", "He wants rent.\nI moved."), "He does."),
    ),
    "openai_comparisons": (
        COMPARISON,
        Comparison(
            Post("t3_2", "advice", "Rent", "I moved."),
            (" He wants rent.", " I moved."),
            1,
            ("ref", "sup2"),
            "w7",
            "batch3",
            "train",
            8,
        ),
    ),
    "trl_tldr": (COMPLETION, PromptCompletion("POST: I moved.\n\nTL;DR:", " I moved.")),
    "trl_tldr_preference": (PREFERENCE, Preference("POST: I moved.\n\nTL;DR:", " I moved.", " He did.")),
}


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path, *rows):
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def without(row, *names):
    """The row without a field, which may lie deeper."""
    name, *rest = names
    if isinstance(row, list):
        return [*row[:name], without(row[name], *rest), *row[name + 1 :]]
    if not rest:
        return {key: value for key, value in row.items() if key != name}
    return row | {name: without(row[name], *rest)}


def changed(row, value, *names):
    """The row with another value of a field, which may lie deeper."""
    if not names:
        return value
    name, *rest = names
    if isinstance(row, list):
        return [*row[:name], changed(row[name], value, *rest), *row[name + 1 :]]
    return row | {name: changed(row[name], value, *rest)}


def refusal(*arguments, **options):
    with pytest.raises(ConfigError) as error:
        read(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize("schema", ROWS)
class TestSchema:
    def test_every_schema_is_read_from_json_lines(self, schema, tmp_path):
        row, expected = ROWS[schema]
        assert read(write_lines(tmp_path / "a.jsonl", row, row), schema) == (expected, expected)

    def test_json_lines_may_end_in_json_as_those_of_openai_do(self, schema, tmp_path):
        row, expected = ROWS[schema]
        assert read(write_lines(tmp_path / "batch3.json", row), schema) == (expected,)

    def test_every_schema_is_read_from_parquet(self, schema, tmp_path):
        row, expected = ROWS[schema]
        assert read(write_parquet(tmp_path / "a.parquet", row, row), schema) == (expected, expected)

    def test_rows_may_have_more_fields_than_the_schema(self, schema, tmp_path):
        row, expected = ROWS[schema]
        assert read(write_lines(tmp_path / "a.jsonl", row | {"more": [1]}), schema) == (expected,)

    def test_texts_are_read_unchanged(self, schema, tmp_path):
        # Among them characters that end a line elsewhere, and one outside of the first plane.
        text = " \u00e9\u2028\u0085\r\n\t\U0001f600 "
        for names in (names for other, names in STRINGS if other == schema):
            row = changed(ROWS[schema][0], text, *names)
            for path in (write_lines(tmp_path / "a.jsonl", row), write_parquet(tmp_path / "b.parquet", row)):
                assert repr(text) in repr(read(path, schema)[0])

    def test_a_row_of_another_schema_is_refused(self, schema, tmp_path):
        for other, (row, _) in ROWS.items():
            # What is not in the schema is passed over, so that only a missing field counts.
            if not set(TEXTS[schema]) <= set(row):
                assert "is missing." in refusal(write_lines(tmp_path / f"{other}.jsonl", row), schema)


TEXTS = {
    "openai_tldr": ("post", "subreddit", "title", "summary"),
    "openai_comparisons": ("info", "summaries", "choice", "batch", "split"),
    "trl_tldr": ("prompt", "completion"),
    "trl_tldr_preference": ("prompt", "chosen", "rejected"),
}
STRINGS = [
    *(("openai_tldr", (name,)) for name in TEXTS["openai_tldr"]),
    *(("trl_tldr", (name,)) for name in TEXTS["trl_tldr"]),
    *(("trl_tldr_preference", (name,)) for name in TEXTS["trl_tldr_preference"]),
    *(
        ("openai_comparisons", names)
        for names in [
            ("info", "post"),
            ("info", "title"),
            ("info", "subreddit"),
            ("summaries", 0, "text"),
            ("summaries", 1, "text"),
            ("batch",),
            ("split",),
        ]
    ),
]


def spelt(names):
    return ".".join(str(name) for name in names).replace(".0", "[0]").replace(".1", "[1]")


@pytest.mark.parametrize(("schema", "names"), STRINGS)
class TestText:
    @pytest.fixture
    def good(self, schema):
        return ROWS[schema][0]

    def test_a_row_without_its_text_is_refused_with_its_line(self, schema, names, good, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", good, good, without(good, *names))
        assert refusal(path, schema) == f"{path}, line 3: field {spelt(names)} is missing."

    def test_a_null_text_is_refused_and_not_read_as_empty(self, schema, names, good, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", changed(good, None, *names))
        assert refusal(path, schema) == f"{path}, line 1: field {spelt(names)} is null, not a string."

    @pytest.mark.parametrize(
        ("value", "kind"),
        [(3, "a number"), (0.5, "a number"), (True, "a boolean"), (["a"], "a list"), ({"a": 1}, "an object")],
    )
    def test_a_text_of_another_type_is_refused(self, schema, names, good, value, kind, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", changed(good, value, *names))
        assert refusal(path, schema) == f"{path}, line 1: field {spelt(names)} is {kind}, not a string."

    def test_a_text_with_half_a_character_is_refused(self, schema, names, good, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", changed(good, "ab\ud83d", *names))
        sentence = f"{path}, line 1: field {spelt(names)} holds half a character at 2: '\\ud83d'."
        assert refusal(path, schema) == sentence

    def test_a_text_may_be_empty(self, schema, names, good, tmp_path):
        if names != ("batch",):
            assert "" in str(read(write_lines(tmp_path / "a.jsonl", changed(good, "", *names)), schema))

    def test_a_null_text_in_parquet_is_refused_with_its_row(self, schema, names, good, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", good, changed(good, None, *names))
        assert refusal(path, schema) == f"{path}, row 1: field {spelt(names)} is null, not a string."

    def test_a_parquet_file_without_a_text_column_is_refused(self, schema, names, good, tmp_path):
        if names[0] == "summaries":
            rows = [changed(good, [without(summary, names[2]) for summary in good["summaries"]], "summaries")]
            names = ("summaries", 0, names[2])
        else:
            rows = [without(good, *names)]
        path = write_parquet(tmp_path / "a.parquet", *rows)
        assert refusal(path, schema) == f"{path}, row 0: field {spelt(names)} is missing."


class TestComparisons:
    @pytest.mark.parametrize(
        ("names", "value", "problem"),
        [
            (("choice",), 2, "field choice is 2, not 0 or 1"),
            (("choice",), -1, "field choice is -1, not 0 or 1"),
            (("choice",), True, "field choice is a boolean, not 0 or 1"),
            (("choice",), 1.0, "field choice is a number, not 0 or 1"),
            (("choice",), "1", "field choice is a string, not 0 or 1"),
            (("choice",), None, "field choice is null, not 0 or 1"),
            (("info",), None, "field info is null, not an object"),
            (("info",), "post", "field info is a string, not an object"),
            (("summaries",), None, "field summaries is null, not a list"),
            (("summaries",), {}, "field summaries is an object, not a list"),
            (("summaries",), [], "field summaries has 0 entries, not 2"),
            (("summaries",), [{}, {}, {}], "field summaries has 3 entries, not 2"),
            (("summaries", 1), "text", "field summaries[1] is a string, not an object"),
            (("summaries", 0), None, "field summaries[0] is null, not an object"),
        ],
    )
    def test_bad_comparisons_are_refused(self, names, value, problem, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", changed(COMPARISON, value, *names))
        assert refusal(path, "openai_comparisons") == f"{path}, line 1: {problem}."

    @pytest.mark.parametrize("names", [("choice",), ("info",), ("summaries",)])
    def test_comparisons_without_a_field_are_refused(self, names, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", without(COMPARISON, *names))
        assert refusal(path, "openai_comparisons") == f"{path}, line 1: field {spelt(names)} is missing."

    @pytest.mark.parametrize("extra", [{}, None, {"confidence": None}, {"other": 1}])
    def test_comparisons_may_lack_a_confidence(self, extra, tmp_path):
        (row,) = read(write_lines(tmp_path / "a.jsonl", COMPARISON | {"extra": extra}), "openai_comparisons")
        assert row.confidence is None

    @pytest.mark.parametrize(
        ("names", "value"),
        [
            (("extra", "confidence"), 7.0),
            (("extra",), 8),
            (("worker",), 7),
            (("info", "id"), ["a"]),
            (("summaries", 1, "policy"), None),
            (("summaries", 0, "note"), 3),
        ],
    )
    def test_unused_fields_of_comparisons_are_not_checked(self, names, value, tmp_path):
        good = write_lines(tmp_path / "good.jsonl", COMPARISON)
        (row,) = read(write_lines(tmp_path / "a.jsonl", changed(COMPARISON, value, *names)), "openai_comparisons")
        (wanted,) = read(good, "openai_comparisons")
        used = [(r.post.post, r.post.title, r.post.subreddit, r.summaries, r.choice) for r in (row, wanted)]
        assert used[0] == used[1]
        if names == ("extra", "confidence"):
            assert row.confidence is None

    def test_comparisons_may_lack_fields_that_no_prompt_needs(self, tmp_path):
        bare = without(without(without(COMPARISON, "extra"), "worker"), "info", "id")
        (row,) = read(write_lines(tmp_path / "a.jsonl", bare), "openai_comparisons")
        assert (row.worker, row.post.id, row.confidence) == (None, None, None)


class TestSources:
    def test_posts_and_articles_are_never_mixed(self, tmp_path):
        articles = [ARTICLE | {"batch": batch} for batch in CNNDM_BATCHES]
        path = write_lines(tmp_path / "a.jsonl", COMPARISON, articles[0], COMPARISON, *articles[1:])
        posts = read(path, "openai_comparisons")
        assert [row.batch for row in posts] == ["batch3", "batch3"]
        assert all(isinstance(row.post, Post) for row in posts)
        found = read(path, "openai_comparisons", source="cnndm")
        assert [row.batch for row in found] == ["batch0_cnndm", "cnndm0", "cnndm2"]
        assert all(row.post == Article("a1", "cnn", "Storm", "A storm came.") for row in found)

    def test_posts_and_articles_in_parquet_differ_by_the_fields_that_are_null(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", COMPARISON, ARTICLE)
        assert [row.post.id for row in read(path, "openai_comparisons")] == ["t3_2"]
        assert [row.post.id for row in read(path, "openai_comparisons", source="cnndm")] == ["a1"]

    def test_a_source_with_the_text_of_another_is_a_bad_row(self, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", ARTICLE | {"batch": "batch9"})
        assert refusal(path, "openai_comparisons") == f"{path}, line 1: field info.subreddit is missing."
        path = write_lines(tmp_path / "a.jsonl", COMPARISON | {"batch": "cnndm2"})
        assert refusal(path, "openai_comparisons") == f"{path}, line 1: field info.article is missing."

    def test_a_source_without_rows_is_refused(self, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", COMPARISON, COMPARISON | {"batch": "batch10", "split": "valid2"})
        assert refusal(path, "openai_comparisons", source="cnndm") == (
            f"{path} holds no comparison of source cnndm; its batches: batch10, batch3; its splits: train, valid2."
        )

    def test_an_unknown_source_is_refused(self, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", COMPARISON)
        sentence = "Source 'both' is not known; allowed: tldr, cnndm."
        assert refusal(path, "openai_comparisons", source="both") == sentence


class TestSplits:
    def test_splits_are_chosen(self, tmp_path):
        rows = [
            changed(changed(COMPARISON, split, "split"), split, "worker") for split in ("train", "valid1", "valid2")
        ]
        path = write_lines(tmp_path / "a.jsonl", *rows)
        workers = [
            [row.worker for row in read(path, "openai_comparisons", splits=splits)]
            for splits in (None, ("train",), ("valid2", "valid1"))
        ]
        assert workers == [["train", "valid1", "valid2"], ["train"], ["valid1", "valid2"]]

    def test_a_split_without_rows_is_refused(self, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", COMPARISON)
        assert refusal(path, "openai_comparisons", splits=("valid1", "test")) == (
            f"{path} holds no comparison of source tldr and of split valid1 or test; its batches: batch3; "
            "its splits: train."
        )

    @pytest.mark.parametrize("options", [{"splits": ("train",)}, {"source": "cnndm"}])
    def test_only_comparisons_have_splits(self, options, tmp_path):
        path = write_lines(tmp_path / "a.jsonl", TLDR)
        assert refusal(path, "openai_tldr", **options) == (
            "Only rows of schema openai_comparisons have a source and a split, not those of openai_tldr."
        )


class TestFiles:
    def test_files_of_a_folder_are_read_in_the_order_of_their_names(self, tmp_path):
        for name in ("b.jsonl", "a.json", "c.jsonl"):
            write_lines(tmp_path / name, TLDR | {"id": name})
        (tmp_path / "README.md").write_text("no data")
        (tmp_path / "d.jsonl").mkdir()
        assert [row.post.id for row in read(tmp_path, "openai_tldr")] == ["a.json", "b.jsonl", "c.jsonl"]

    def test_hidden_files_are_not_read(self, tmp_path):
        write_lines(tmp_path / "a.jsonl", TLDR)
        (tmp_path / "._a.jsonl").write_bytes(b"\0\5\x16\7")
        (tmp_path / ".b.jsonl").write_text("{}")
        for path in (tmp_path, tmp_path / "*.jsonl", tmp_path / "[a-z.]*.jsonl"):
            assert len(read(path, "openai_tldr")) == 1

    @pytest.mark.parametrize("indent", [None, 2])
    def test_files_that_describe_others_are_skipped_with_a_message(self, indent, tmp_path, capsys):
        write_parquet(tmp_path / "train.parquet", COMPLETION)
        (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"prompt": "string"}}, indent=indent))
        (tmp_path / "state.json").write_text(json.dumps({"_fingerprint": "a"}, indent=indent))
        write_parquet(tmp_path / "index.parquet", {"row": 1})
        assert len(read(tmp_path, "trl_tldr")) == 1
        assert capsys.readouterr().err == (
            f"Passes over dataset_info.json, index.parquet, state.json in {tmp_path}: no field there is one of "
            "prompt, completion.\n"
        )

    @pytest.mark.parametrize("text", ['{"prompt": "a"', "[1]", '{"a": 1}\n{"a": 2}', '{"a": 1}\n{"prompt": "x'])
    def test_files_that_are_damaged_or_of_another_schema_are_not_skipped(self, text, tmp_path):
        write_lines(tmp_path / "a.jsonl", COMPLETION)
        (tmp_path / "b.json").write_text(text)
        assert refusal(tmp_path, "trl_tldr").startswith(f"{tmp_path / 'b.json'}, line 1: ")

    def test_a_lone_file_that_describes_others_is_refused(self, tmp_path):
        write_lines(tmp_path / "dataset_info.json", {"features": 1})
        assert refusal(tmp_path, "trl_tldr").endswith("line 1: field prompt is missing.")

    @pytest.mark.parametrize("name", ["x" * 300, "a**b.jsonl", "~nosuchuser/a.jsonl"])
    def test_impossible_file_names_are_refused(self, name, tmp_path):
        assert refusal(tmp_path / name if name[0] != "~" else name, "trl_tldr").endswith(".")

    def test_files_are_chosen_by_a_pattern(self, tmp_path):
        for name in ("train-0", "train-1", "test-0"):
            write_parquet(tmp_path / f"{name}.parquet", COMPLETION | {"completion": name})
        rows = read(tmp_path / "train-*.parquet", "trl_tldr")
        assert [row.completion for row in rows] == ["train-0", "train-1"]

    def test_missing_files_are_refused(self, tmp_path):
        assert refusal(tmp_path / "a.jsonl", "trl_tldr") == f"There is no file or folder {tmp_path / 'a.jsonl'}."
        assert refusal(tmp_path / "a*.jsonl", "trl_tldr") == f"No file fits the pattern {tmp_path / 'a*.jsonl'}."
        assert refusal(tmp_path, "trl_tldr") == (
            f"Folder {tmp_path} holds no data file; those end in .jsonl, .json, .parquet."
        )

    def test_files_of_another_ending_are_refused(self, tmp_path):
        path = write_lines(tmp_path / "a.csv", COMPLETION)
        sentence = f"{path} ends in '.csv'; data files end in .jsonl, .json, .parquet."
        assert refusal(path, "trl_tldr") == refusal(tmp_path / "*.csv", "trl_tldr") == sentence

    def test_a_folder_of_both_kinds_of_files_is_refused(self, tmp_path):
        write_lines(tmp_path / "train.jsonl", COMPLETION)
        write_parquet(tmp_path / "train.parquet", COMPLETION)
        assert refusal(tmp_path, "trl_tldr") == (
            f"{tmp_path} holds both JSON lines and parquet files, maybe of the same rows; name those to read."
        )

    def test_an_empty_file_is_refused_even_among_others(self, tmp_path):
        write_lines(tmp_path / "a.jsonl", COMPLETION)
        empty = write_lines(tmp_path / "b.jsonl")
        assert refusal(tmp_path, "trl_tldr") == f"{empty} is empty: there is no row in it."
        path = write_parquet(tmp_path / "b.parquet", COMPLETION)
        parquet.write_table(parquet.read_table(path).slice(0, 0), path)
        assert refusal(path, "trl_tldr") == f"{path} is empty: there is no row in it."

    def test_rows_of_parquet_are_counted_over_row_groups(self, tmp_path):
        rows = [COMPLETION] * 7 + [COMPLETION | {"completion": None}]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=3)
        assert refusal(tmp_path / "a.parquet", "trl_tldr") == (
            f"{tmp_path / 'a.parquet'}, row 7: field completion is null, not a string."
        )

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all, whatever its name says"])
    def test_files_that_are_no_parquet_are_refused(self, content, tmp_path):
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        assert refusal(path, "trl_tldr").startswith(f"{path} is not a whole parquet file: ")

    def test_a_binary_column_of_text_is_refused(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", COMPLETION | {"completion": b"x"})
        assert refusal(path, "trl_tldr") == f"{path}, row 0: field completion is binary data, not a string."

    def test_files_with_unused_columns_are_read(self, tmp_path):
        table = pyarrow.Table.from_pylist([COMPLETION | {"image": b"\xff", "n": 1}] * 3)
        odd = pyarrow.array([10**12] * 3).cast(pyarrow.timestamp("ns"))
        parquet.write_table(table.append_column("when", odd), tmp_path / "a.parquet")
        assert len(read(tmp_path / "a.parquet", "trl_tldr")) == 3

    def test_files_without_any_column_of_the_schema_are_refused(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"text": "a"})
        assert refusal(path, "trl_tldr") == f"{path}, row 0: field prompt is missing."

    def test_parquet_text_that_is_not_utf_8_is_refused(self, tmp_path):
        offsets, data = pyarrow.array([0, 1, 2], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"a\xff")
        column = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, data])
        path = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": column}), path)
        assert refusal(path, "trl_tldr") == f"{path}, row 1: field completion is not UTF-8."

    def test_cut_parquet_files_are_refused(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", *[COMPLETION] * 100)
        path.write_bytes(path.read_bytes()[:-20])
        assert refusal(path, "trl_tldr").startswith(f"{path} ")

    def test_unreadable_files_are_refused(self, tmp_path, monkeypatch):
        path = write_lines(tmp_path / "a.jsonl", COMPLETION)

        def fail(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(type(path), "open", fail)
        assert refusal(path, "trl_tldr") == f"{path} cannot be read: Permission denied."

    def test_blank_lines_are_allowed_and_counted(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text(f"\n{json.dumps(COMPLETION)}\n  \n{{}}\n")
        assert refusal(path, "trl_tldr") == f"{path}, line 4: field prompt is missing."
        path.write_text(f"\n{json.dumps(COMPLETION)}\n  \n")
        assert len(read(path, "trl_tldr")) == 1

    def test_files_may_lack_the_last_newline_and_have_those_of_windows(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"\r\n".join([json.dumps(COMPLETION).encode()] * 2))
        assert len(read(path, "trl_tldr")) == 2


class TestJson:
    def bad(self, tmp_path, line):
        path = tmp_path / "a.jsonl"
        path.write_bytes(json.dumps(COMPLETION).encode() + b"\n" + line + b"\n")
        sentence = refusal(path, "trl_tldr")
        assert sentence.startswith(f"{path}, line 2: ")
        return sentence.removeprefix(f"{path}, line 2: ")

    def test_broken_json_is_refused_with_its_column(self, tmp_path):
        assert self.bad(tmp_path, b'{"prompt": "a", "completion": }') == (
            "not valid JSON at column 31 (Expecting value)."
        )
        assert self.bad(tmp_path, b'{"prompt": "a') == (
            "not valid JSON at column 12 (Unterminated string starting at)."
        )

    def test_a_list_over_several_lines_is_no_json_lines(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text(json.dumps([COMPLETION] * 2, indent=1))
        assert refusal(path, "trl_tldr") == (
            f"{path}, line 1: not valid JSON at column 2 (Expecting value); a list begins here, and JSON lines have "
            "one object a line and nothing around them."
        )

    def test_json_that_is_not_utf_8_is_refused_with_its_byte(self, tmp_path):
        assert self.bad(tmp_path, b'{"prompt": "\xff"}') == "byte 13 is not UTF-8."

    def test_json_may_begin_with_a_byte_order_mark(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text(f"{json.dumps(COMPLETION)}\n" * 2, encoding="utf-8-sig")
        assert len(read(path, "trl_tldr")) == 2
        path.write_text("{\n", encoding="utf-8-sig")
        assert refusal(path, "trl_tldr").startswith(f"{path}, line 1: not valid JSON at column 2")

    def test_json_of_endless_numbers_and_nesting_is_refused(self, tmp_path):
        assert self.bad(tmp_path, b'{"prompt": ' + b"9" * 5000 + b"}") == (
            "not valid JSON: a number in it has too many digits."
        )
        assert self.bad(tmp_path, b'{"prompt": ' + b"[" * 200_000) == "not valid JSON: it is nested too deeply."

    @pytest.mark.parametrize(
        ("line", "kind"), [(b"[1]", "a list"), (b"3", "a number"), (b'"a"', "a string"), (b"null", "null")]
    )
    def test_a_row_of_json_that_is_no_object_is_refused(self, line, kind, tmp_path):
        assert self.bad(tmp_path, line) == f"a row is an object with fields, not {kind}."


def test_an_unknown_schema_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", TLDR)
    assert refusal(path, "tldr") == (
        "Schema 'tldr' is not known; allowed: openai_tldr, openai_comparisons, trl_tldr, trl_tldr_preference."
    )
