"""Puts the blocks into the documents that hold them.

A document holds a block between two comments, which a reader does not see:

    <!-- results: shipped -->
    ...
    <!-- end -->
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from haepo_jax.errors import ConfigError, nearest

BLOCK = re.compile(r"(?P<begin><!-- results: (?P<name>\w+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL)
"""A block with its comments; its last line feed is part of its text."""


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Returns a document with the text of each of its blocks replaced by what stands for it now.

    Args:
      text: the document.
      blocks: Markdown by the name of the block.

    Raises:
      ConfigError: the document names a block that does not exist.
    """

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in blocks:
            raise ConfigError(f"There is no block {name!r}{nearest(name, list(blocks)) or '.'}")
        return f"{found['begin']}{blocks[name]}{found['end']}"

    return BLOCK.sub(block, text)


def documents(root: Path) -> Iterator[Path]:
    """Yields the documents of a project that hold blocks."""
    for path in [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]:
        if BLOCK.search(path.read_text(encoding="utf-8")):
            yield path
