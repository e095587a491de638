import pytest

from haepo_jax.text import visible


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
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    assert visible(text) == shown
