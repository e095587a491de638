"""Text for a terminal: what comes from files, flags and names is shown, and never obeyed."""

from rich.text import Text


def visible(text: object) -> str:
    r"""Returns text in one line in which nothing moves the cursor, changes colours or reorders letters.

    Control characters, line breaks and marks that turn the direction of writing are written as escapes.

    Example:
      >>> visible("plain, \x1b[2J and \n")
      'plain, \\x1b[2J and \\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def cell(text: object) -> Text:
    """Returns text for a table of rich, with neither escapes nor the markup of rich obeyed."""
    return Text(visible(text))
