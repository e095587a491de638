"""Drawings as a part of a page: what of an SVG is a drawing, under names that no other on the page has."""

from collections.abc import Iterator
from html import escape as escape_markup
from xml.etree import ElementTree

from haepo_jax.text import visible

_TAGS = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "image"}
_KEPT = ("d", "style", "transform", "x", "y", "width", "height", "viewBox", "data-readings")
_SHAPES = ("d", "transform")
_SERIES = "series-"


def inline(svg: bytes, prefix: str, alt: str, kind: str) -> str:
    """Writes an SVG as an element of a page.

    Elements and attributes that draw nothing are left out. The part of a curve or a row, whose id in the file is
    `series-NUMBER-PART`, gets the classes `series` and `series-NUMBER`, by which a script finds it.

    Args:
      svg: a file of `reports.figures`.
      prefix: begins every name in it, so that drawings on one page share none.
      alt: what is to be seen.
      kind: a class of the element.
    """
    root = ElementTree.fromstring(svg)
    referred = set(_find_references(root))
    attributes = f' class="{kind}" role="img" aria-label="{escape_markup(visible(alt))}"'
    return "".join(_write(root, prefix, referred, attributes))


def _find_references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href") and value.startswith("#"):
                yield value[1:]
            elif value.startswith("url(#"):
                yield value[5:-1]


def _write(element: ElementTree.Element, prefix: str, referred: set[str], attributes: str = "") -> Iterator[str]:
    tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if tag not in _TAGS:
        return
    yield f"<{tag}{attributes}"
    for name, value in element.attrib.items():
        yield _write_attribute(tag, name.rpartition("}")[2], value, prefix, referred)
    inside = "".join(part for child in element for part in _write(child, prefix, referred))
    yield f">{inside}</{tag}>" if inside else "/>"


def _write_attribute(tag: str, name: str, value: str, prefix: str, referred: set[str]) -> str:
    if tag == "svg" and name in ("width", "height"):  # the page decides
        return ""
    if name == "id":
        named = f' id="{prefix}{escape_markup(value)}"' if value in referred else ""
        if value.startswith(_SERIES):
            number, _, part = value.removeprefix(_SERIES).partition("-")
            named += f' class="series series-{int(number)} {escape_markup(part)}"'
        elif value.startswith("box-"):
            named += ' class="box"'
        return named
    if name == "href":
        if value.startswith("#"):
            return f' href="#{prefix}{escape_markup(value[1:])}"'
        return f' href="{escape_markup(value)}"' if tag == "image" and value.startswith("data:image/png") else ""
    if name == "clip-path":
        return f' clip-path="url(#{prefix}{escape_markup(value[5:-1])})"'
    if name in _SHAPES:
        value = " ".join(value.split())
    return f' {name}="{escape_markup(value)}"' if name in _KEPT else ""
