"""Text for people: settings and their values, and text that a terminal shows and never obeys."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10**6  # columns


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


def format_value(value: object, digits: int | None = 6) -> str:
    """Formats the value of a setting.

    Args:
      value: a number, a truth value, text, or a list of such.
      digits: significant digits of a real number; None for all of them. A number that is short anyway keeps its
        digits, and fewer than six round none to a whole number that it is not.

    Example:
      >>> [format_value(value, 3) for value in (0.003, 0.00123456, 0.999999, 4096, "sum", [64, 64])]
      ['0.003', '0.00123', '0.999999', '4096', 'sum', '64x64']
      >>> format_value(0.1 + 0.2), format_value(0.1 + 0.2, digits=None)
      ('0.3', '0.30000000000000004')
    """
    return "x".join(_format_item(item, digits) for item in (value if isinstance(value, list | tuple) else [value]))


def _format_item(item: object, digits: int | None) -> str:
    if not isinstance(item, float) or digits is None:
        return str(item)
    whole, rounded = f"{item:g}", f"{item:.{digits}g}"
    return rounded if len(whole) > 6 and "." in rounded else whole


def format_setting(name: str, value: object, digits: int | None = 6) -> str:
    """Formats a setting as `name=value`; for `digits` see `format_value`."""
    return f"{name}={format_value(value, digits)}"


def format_settings(settings: Mapping[str, object], digits: int | None = 6) -> str:
    """Formats settings as `name=value, name=value`; for `digits` see `format_value`.

    Example:
      >>> format_settings({"haepo.kl_coef": 0.1 + 0.2, "haepo.score": "sum"})
      'haepo.kl_coef=0.3, haepo.score=sum'
    """
    return ", ".join(format_setting(name, value, digits) for name, value in settings.items())


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Returns the last part of each dotted name, where no two share it.

    Example:
      >>> shorten_names(["haepo.kl_coef", "haepo.num_epochs", "ppo.num_epochs"])
      {'haepo.kl_coef': 'kl_coef', 'haepo.num_epochs': 'haepo.num_epochs', 'ppo.num_epochs': 'ppo.num_epochs'}
    """
    counts = Counter(name.rpartition(".")[2] for name in names)
    return {name: last if counts[last := name.rpartition(".")[2]] == 1 else name for name in names}


def shorten_keys(settings: Mapping[str, object]) -> dict[str, object]:
    """Returns settings under their names as of `shorten_names`."""
    names = shorten_names(list(settings))
    return {names[name]: value for name, value in settings.items()}


def make_cell(text: object) -> Text:
    """Returns text for a table of rich, with neither escapes nor the markup of rich obeyed."""
    return Text(visible(text))


def make_table(title: str, headings: Sequence[str]) -> Table:
    """Makes a table, its first column to the left and the others to the right. Fill it by `add_row`.

    The first column gives way where the terminal is narrow, by line breaks; no number is ever cut.
    """
    table = Table(title=make_cell(title), title_justify="left")
    for k, heading in enumerate(headings):
        table.add_column(
            make_cell(heading),
            justify="right" if k else "left",
            no_wrap=bool(k),
            overflow="ellipsis" if k else "fold",
        )
    return table


def add_row(table: Table, cells: Sequence[str]) -> None:
    """Adds a row of plain text."""
    table.add_row(*map(make_cell, cells))


def fit_table(table: Table, console: Console) -> RenderableType:
    """Returns a table as it is where the console holds it, else each of its rows as a block of one cell a line.

    Example:
      >>> table = make_table("Last updates", ("setting", "mean"))
      >>> add_row(table, ("all", "500"))
      >>> narrow = Console(width=16)
      >>> narrow.print(fit_table(table, narrow))
      Last updates
      setting  all
      mean     500
    """
    first = [str(cell) for cell in (table.columns[0].header, *table.columns[0].cells)]
    could_give_way = max(map(cell_len, first)) - max(cell_len(word) for text in first for word in text.split() or [""])
    unlimited = console.options.update(max_width=_UNLIMITED)
    if console.measure(table, options=unlimited).maximum - could_give_way <= console.width:
        return table
    headings = [str(column.header) for column in table.columns]
    blocks: list[RenderableType] = [make_cell(table.title)]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        if len(blocks) > 1:
            blocks.append("")
        block = Table.grid("", "", padding=(0, 2))
        block.columns[0].no_wrap, block.columns[1].overflow = True, "fold"
        for heading, cell in zip(headings, cells, strict=True):
            block.add_row(make_cell(heading), cell)
        blocks.append(block)
    return Group(*blocks)
