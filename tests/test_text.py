import io

import pytest
from rich.console import Console

from haepo_jax.text import add_row, fit_table, format_settings, format_value, make_table, shorten_keys, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CartPole-v1, ü and 日本", "CartPole-v1, ü and 日本"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\udce9", "\\udce9"),
        (ValueError("\x1b]0;title\x07"), "\\x1b]0;title\\x07"),
    ],
)
def test_characters_that_a_terminal_would_obey_are_shown_as_escapes(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.1 + 0.2, 6, "0.3"),
        (0.1 + 0.2, None, "0.30000000000000004"),
        (0.00123456, 3, "0.00123"),
        (0.999999, 3, "0.999999"),
        (4096.0, 3, "4096"),
        (1_000_000, 6, "1000000"),
        (True, 6, "True"),
        ("sum", 6, "sum"),
        ([64, 64], 6, "64x64"),
        ((0.5, 0.00123456), 3, "0.5x0.00123"),
    ],
)
def test_the_value_of_a_setting_is_formatted_in_so_many_digits(value, digits, text):
    assert format_value(value, digits) == text


def test_settings_are_formatted_as_name_and_value():
    assert format_settings({"haepo.kl_coef": 0.5, "haepo.score": "sum"}) == "haepo.kl_coef=0.5, haepo.score=sum"


def test_names_are_shortened_only_where_no_two_of_them_share_the_last_part():
    shortened = shorten_keys({"haepo.kl_coef": 1, "haepo.num_epochs": 2, "ppo.num_epochs": 3})
    assert shortened == {"kl_coef": 1, "haepo.num_epochs": 2, "ppo.num_epochs": 3}


ROWS = (
    ("learning_rate=0.003, kl_coef=0.3", "16", "499.9", "0.1234", "497.8", "500.0", "0"),
    ("learning_rate=0.001, kl_coef=0.1", "16", "12,345,678.9", "0.1", "9.5", "12,345,679.25", "1"),
)


def show(columns):
    table = make_table("CartPole-v1: mean return", ("setting", "seeds", "mean", "std", "worst", "best", "diverged"))
    for row in ROWS:
        add_row(table, row)
    console = Console(file=io.StringIO(), width=columns)
    console.print(fit_table(table, console))
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [30, 40, 80, 120])
def test_no_cell_of_a_table_is_cut_in_a_narrow_terminal(columns):
    shown = show(columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert all(cell in shown for row in ROWS for cell in row[1:])
    assert "…" not in shown and "diverged" in shown


def test_a_table_that_fits_is_a_table_and_else_each_row_is_a_block():
    assert "┃" in show(120)
    assert [line.rstrip() for line in show(40).splitlines()][:4] == [
        "CartPole-v1: mean return",
        "setting   learning_rate=0.003,",
        "          kl_coef=0.3",
        "seeds     16",
    ]
