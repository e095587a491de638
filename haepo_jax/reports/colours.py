"""The colours of figures on a white ground, and what each becomes on a dark one. Nothing here draws."""

import re
from collections.abc import Iterable, Mapping

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#16191d"
_IN_THE_DARK = "@media (prefers-color-scheme: dark)"

IN_THE_DARK: Mapping[str, str] = {
    # Those of curves and rows, as `figures.style` has them.
    "#0072b2": "#3d9be0",
    "#c94f00": "#f07830",
    "#009e73": "#2bc29a",
    "#cc79a7": "#eaa6cd",
    "#c98500": "#e6b52e",
    "#2d9bdb": "#9ad4fa",
    "#332288": "#8573ff",
    "#882255": "#cc5590",
    "#000000": "#e4e7eb",
    "#777777": "#8f979f",
    "#737000": "#8a8600",
    "#44546a": "#93a7c4",
    "#3a9a89": "#5fbfae",
    "#aa4499": "#d97ccb",
    "#8c510a": "#c98b4a",
    "#84842c": "#b4b460",
    "#5588bb": "#7fb0e0",
    "#661100": "#c4604e",
    # Words and lines beside the data, axes, the grid, places without data, every other group of rows, the ground.
    "#555555": "#a3abb5",
    "#888888": "#7b838c",
    "#cccccc": "#4a525b",
    "#ececec": "#2b3138",
    "#f5f5f5": "#1e2329",
    LIGHT_GROUND: DARK_GROUND,
}
"""Colours by what they are on white. A drawing's other colours stay as they are, such as those of a heat map."""


def write_dark_rules(within: str, used: Iterable[str] = tuple(IN_THE_DARK)) -> str:
    """Writes the CSS that turns a drawing of matplotlib dark where the reader prefers that.

    Args:
      within: selects the `svg` element.
      used: the colours that occur, as of `IN_THE_DARK`.
    """
    rules = [f"{within} {{ fill: {IN_THE_DARK['#000000']} }}"]  # of letters, which say no colour of their own
    for colour in used:
        for what in ("fill", "stroke"):
            rules.append(f'{within} [style*="{what}: {colour}"] {{ {what}: {IN_THE_DARK[colour]} !important }}')
    return f"{_IN_THE_DARK} {{\n" + "\n".join(rules) + "\n}"


def add_dark_rules(svg: str) -> str:
    """Adds to a drawing of matplotlib what turns it dark where its reader prefers that; once, if it is called again.

    Args:
      svg: the text of the file.
    """
    if _IN_THE_DARK in svg:
        return svg
    # Where a marker is used it has its whole style; that of its definition would win, and not turn dark.
    svg = re.sub(r'(<path id="m\w+" d="[^"]*") style="[^"]*"', r"\1", svg)
    rules = write_dark_rules("svg", [colour for colour in IN_THE_DARK if f": {colour}" in svg])
    return svg.replace("</style>", f"\n{rules}</style>", 1)
