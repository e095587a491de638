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

_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Returns a document with the text of each of its blocks replaced by what stands for it now.

    Args:
      text: the document.
      blocks: Markdown by the name of the block.

    Raises:
      ConfigError: the document names a block that does not exist.
    """

    def block(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in blocks:
            raise ConfigError(f"There is no block {name!r}{nearest(name, list(blocks)) or '.'}")
        return f"{begin}{blocks[name]}{end}"

    return _BLOCK.sub(block, text)


def without_blocks(text: str) -> str:
    """Returns what a document says outside of its blocks."""
    return _BLOCK.sub("", text)


def documents(root: Path) -> Iterator[Path]:
    """Yields the documents of a project that hold blocks."""
    for path in [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]:
        if _BLOCK.search(path.read_text(encoding="utf-8")):
            yield path
