"""Renders maths to MathML as the site is built, so that pages need neither a script nor a font from elsewhere."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_log = logging.getLogger(__name__)

_SPACE = '<mspace width="0.17em"/>'
_FUNCTION = re.compile(r"(<mi>(?:log|exp|max|min)</mi>)")


def to_mathml(latex: str, *, display: bool) -> str:
    """Converts LaTeX to a `math` element.

    Args:
      latex: without dollars; rows that `&` aligns are set below one another.
      display: whether it stands by itself.

    Raises:
      ValueError: a command of it is unknown to the converter.
    """
    if display and re.search(r"\\\\|(?<!\\)&", latex) and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    mathml = convert(latex, display="block" if display else "inline")
    if unknown := re.search(r"\\[a-zA-Z]+", re.sub(r"<annotation.*?</annotation>", "", mathml)):
        raise ValueError(f"{unknown[0]} is no command of LaTeX that can be converted.")
    return _FUNCTION.sub(rf"{_SPACE}\1{_SPACE}", mathml)


def _convert(node: nodes.Element, *, display: bool) -> str:
    try:
        return to_mathml(node.astext(), display=display)
    except Exception as error:  # of any kind, as the converter has no kind of its own
        _log.warning("Maths cannot be converted: %s (%s)", node.astext(), error, location=node)
        return ""


def _visit_inline(translator: HTML5Translator, node: nodes.Element) -> None:
    translator.body.append(_convert(node, display=False))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.Element) -> None:
    translator.body.append(f'<div class="maths">{_convert(node, display=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer and chooses it."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
