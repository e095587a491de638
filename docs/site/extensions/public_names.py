"""`.. public-names:: MODULE`: every public name of a module with its docstring; one without is a warning.

Names are in sections by the file that defines them, under the first sentence of that file. A module without `__all__`
has the names that it defines itself.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from jax.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

_log = logging.getLogger(__name__)


class PublicNames(SphinxDirective):
    """Writes the entries of one module."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"no-sections": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Returns the sections and entries."""
        module = importlib.import_module(self.arguments[0])
        lines: list[str] = []
        for title, names in find_sections(module).items():
            if "no-sections" not in self.options:
                lines += [title, "-" * len(title), ""]
            for name in names:
                lines += self._write_entry(module, name)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)

    def _write_entry(self, module: ModuleType, name: str) -> list[str]:
        value, full = getattr(module, name), f"{module.__name__}.{name}"
        if not inspect.isclass(value) and not inspect.isroutine(value):
            documented = find_attribute_docs(module, name)
            if not documented:
                _log.warning("%s has no docstring.", full, location=self.get_location())
            lines = [f".. py:data:: {full}"]
            if isinstance(value, tuple | str | int | float):
                lines.append(f"   :value: {value!r}")
            return [*lines, "", *(f"   {line}" for line in documented), ""]
        for missing in find_missing_docstrings(value, full):
            _log.warning("%s has no docstring.", missing, location=self.get_location())
        if inspect.isclass(value):
            # Settings have a page of their own, and an error no members of its own.
            has_members = not issubclass(value, BaseException) and not _is_config(value)
            return [f".. autoclass:: {full}", *(["   :members:"] if has_members else []), ""]
        return [f".. autofunction:: {full}", ""]


def public_names(module: ModuleType) -> list[str]:
    """Lists the names of `__all__` that no other package offers as its own; without it, what a module defines."""
    if not hasattr(module, "__all__"):
        return [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    return [
        name
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name)) and not _is_offered_elsewhere(module, name)
    ]


def find_sections(module: ModuleType) -> dict[str, list[str]]:
    """Sorts the public names of a module by the first sentence of the file that defines each."""
    sections: dict[str, list[str]] = {}
    for name in sorted(public_names(module), key=lambda name: _rank(getattr(module, name))):
        home = find_home(module, name)
        title = (inspect.getdoc(home) or home.__name__).partition("\n")[0].partition(": ")[0].rstrip(".")
        sections.setdefault(title, []).append(name)
    return sections


def find_missing_docstrings(value: Any, full: str) -> Iterator[str]:
    """Yields the names of what has none: a class or function, and public methods that a class itself has."""
    if not value.__doc__ or value.__doc__.startswith(f"{value.__name__}("):  # as dataclasses and tuples make them
        yield full
    if inspect.isclass(value):
        for name, member in vars(value).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not name.startswith("_") and inspect.isfunction(function) and not inspect.getdoc(getattr(value, name)):
                yield f"{full}.{name}"


def find_attribute_docs(module: ModuleType, name: str) -> list[str]:
    """Finds the text below a constant, in the file that defines it."""
    analyzer = ModuleAnalyzer.for_module(find_home(module, name).__name__)
    return list(analyzer.find_attr_docs().get(("", name), []))


def find_home(module: ModuleType, name: str) -> ModuleType:
    """Finds the module that defines what another offers."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return sys.modules[value.__module__]
    candidates = [sys.modules[other] for other in sorted(sys.modules) if other.partition(".")[0] == "haepo_jax"]
    return next(
        candidate
        for candidate in [module, *candidates]
        if getattr(candidate, name, None) is value and name in _assigned_names(candidate.__name__)
    )


@functools.cache
def _assigned_names(module: str) -> set[str]:
    """The names that a module assigns to at its top level."""
    nodes_of_top = ast.parse(inspect.getsource(sys.modules[module])).body
    targets = [
        target
        for node in nodes_of_top
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _is_offered_elsewhere(module: ModuleType, name: str) -> bool:
    """Whether a name comes from another package of ours, which offers it too."""
    package = sys.modules[".".join(find_home(module, name).__name__.split(".")[:2])]
    return package.__name__ != module.__name__ and name in getattr(package, "__all__", ())


def _rank(value: Any) -> int:
    """Functions first, then classes, then constants."""
    return 0 if inspect.isroutine(value) else 1 if inspect.isclass(value) else 2


def _is_config(value: type) -> bool:
    return dataclasses.is_dataclass(value) and value.__name__.endswith("Config")


def shorten_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Writes `ArrayLike` for what it stands for, and jax's arrays by the name that users know."""

    def shorten(text: str | None) -> str | None:
        for long, short in _SHORT.items():
            text = text and text.replace(long, short)
        return text

    return shorten(signature), shorten(returned)


def _spell(kind: Any) -> list[str]:
    from sphinx.util.typing import stringify_annotation

    return [stringify_annotation(kind, "fully-qualified-except-typing"), stringify_annotation(kind, "smart")]


_SHORT = {
    **{spelling: "ArrayLike" for spelling in _spell(ArrayLike)},
    "~jax.Array": "jax.Array",
    "jax._src.basearray.Array": "jax.Array",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-signature", shorten_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
