"""Text for a terminal: what comes from files, flags and names is shown, and never obeyed."""

from collections.abc import Sequence

from rich.table import Table
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


def make_table(title: str, headings: Sequence[str]) -> Table:
    """Makes a table, its first column to the left and the others to the right. Fill it by `add_row`.

    The first column gives way where the terminal is narrow, by line breaks; no number is ever cut.
    """
    table = Table(title=cell(title), title_justify="left")
    for k, heading in enumerate(headings):
        table.add_column(
            cell(heading),
            justify="right" if k else "left",
            no_wrap=bool(k),
            overflow="ellipsis" if k else "fold",
        )
    return table


def add_row(table: Table, cells: Sequence[str]) -> None:
    """Adds a row of plain text."""
    table.add_row(*map(cell, cells))
